//! How the loaders keep a program: v1 and v2 in the account itself, v3 in a second one behind a head.

use osvm_solana::Client;

use crate::failure::Failure;

const LOADER_1: &str = "BPFLoader1111111111111111111111111111111111";
const LOADER_2: &str = "BPFLoader2111111111111111111111111111111111";
const LOADER_3: &str = "BPFLoaderUpgradeab1e11111111111111111111111";
/// Loader v3's `ProgramData`: state, slot, whether there is an authority, the authority.
const HEAD: usize = 4 + 8 + 1 + 32;
const PROGRAM: u32 = 2;
const PROGRAM_DATA: u32 = 3;

/// A program as the cluster holds it.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) loader: &'static str,
    pub(super) authority: Option<[u8; 32]>,
    pub(super) slot: Option<u64>,
    /// The file, and zeros behind it.
    pub(super) elf: Vec<u8>,
}

/// The program, or why nothing can be said of it. That the cluster cannot be asked is a failure.
pub(super) async fn fetch(client: &Client, id: &str, commitment: &str) -> Result<Result<Loaded, String>, Failure> {
    let failed = |error: osvm_solana::Error| {
        Failure::new(format!("cannot read the program from {}", client.target())).because(&error)
    };
    let Some(account) = client.account(id, commitment).await.map_err(failed)? else {
        return Ok(Err(format!("there is no account {id} at {}", client.target())));
    };
    let plain = |loader, data| Loaded { loader, authority: None, slot: None, elf: data };
    match account.owner.as_str() {
        LOADER_1 => return Ok(Ok(plain("loader v1", account.data))),
        LOADER_2 => return Ok(Ok(plain("loader v2", account.data))),
        LOADER_3 => {}
        owner => return Ok(Err(format!("{id} is owned by {owner}, which is no loader that is known here"))),
    }
    let Some(address) = program(&account.data) else {
        return Ok(Err(format!("{id} belongs to the upgradeable loader but is no program")));
    };
    let address = bs58::encode(address).into_string();
    let data = client.account(&address, commitment).await.map_err(failed)?;
    let Some(data) = data.filter(|data| data.owner == LOADER_3) else {
        return Ok(Err(format!("the program {id} was closed")));
    };
    Ok(program_data(data.data).ok_or_else(|| format!("the program {id} was closed")))
}

/// Where the program's file is.
fn program(data: &[u8]) -> Option<[u8; 32]> {
    let (state, rest) = data.split_first_chunk::<4>()?;
    (u32::from_le_bytes(*state) == PROGRAM).then(|| rest.first_chunk::<32>().copied()).flatten()
}

fn program_data(data: Vec<u8>) -> Option<Loaded> {
    let (state, rest) = data.split_first_chunk::<4>()?;
    let (slot, rest) = rest.split_first_chunk::<8>()?;
    let (some, rest) = rest.split_first()?;
    let (key, _) = rest.split_first_chunk::<32>()?;
    if u32::from_le_bytes(*state) != PROGRAM_DATA {
        return None;
    }
    let authority = match some {
        0 => None,
        1 => Some(*key),
        _ => return None,
    };
    let slot = Some(u64::from_le_bytes(*slot));
    Some(Loaded { loader: "loader v3 (upgradeable)", authority, slot, elf: data.get(HEAD..)?.to_vec() })
}

/// Reads any bytes as accounts; for the property tests.
#[cfg(test)]
pub(super) fn robust(bytes: &[u8]) {
    let _ = program(bytes);
    let _ = program_data(bytes.to_vec());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn program_data_is_read_and_what_is_cut_or_strange_is_refused() {
        let mut data = vec![3, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 1];
        data.extend([9; 32]);
        data.extend(*b"ELF");
        let loaded = program_data(data.clone()).unwrap();
        assert_eq!((loaded.slot, loaded.authority, loaded.elf.as_slice()), (Some(7), Some([9; 32]), &b"ELF"[..]));
        data[12] = 0;
        assert_eq!(program_data(data.clone()).unwrap().authority, None);
        data[12] = 2;
        assert!(program_data(data.clone()).is_none());
        for cut in 0..HEAD {
            assert!(program_data(data[..cut].to_vec()).is_none());
        }
        assert_eq!(program(&[2, 0, 0, 0]), None);
        assert_eq!(program(&[[2, 0, 0, 0].as_slice(), &[5; 32]].concat()), Some([5; 32]));
    }
}
