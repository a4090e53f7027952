//! Files that a node starts with: accounts in agave's JSON format, program ELFs, keypairs that stand for their address.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use osvm_bank::{Program, ProgramLoader};
use serde::Deserialize;
use solana_account::AccountSharedData;
use solana_account_decoder::UiAccount;
use solana_address::Address;

/// A file or an address is not what it should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FixtureError {
    /// Not readable.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Not an account file.
    #[error("{} is no account file as `solana account --output json` writes it", path.display())]
    Account {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The data's encoding.
    #[error("{} holds account data or an owner that cannot be decoded; use base64", .0.display())]
    Data(PathBuf),
    /// Neither an address nor a keypair.
    #[error("{0:?} is neither an address in base58 nor a keypair file")]
    Address(String),
}

#[derive(Deserialize)]
struct AccountFile {
    pubkey: String,
    account: UiAccount,
}

fn read(path: &Path) -> Result<Vec<u8>, FixtureError> {
    fs::read(path).map_err(|source| FixtureError::Read { path: path.to_owned(), source })
}

/// An address in base58, or the path of a keypair file.
pub(crate) fn address(text: &str) -> Result<Address, FixtureError> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let keypair: Option<Vec<u8>> = fs::read(text).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    // Seed, then public key.
    let public =
        keypair.as_deref().filter(|bytes| bytes.len() == 64).and_then(|bytes| Address::try_from(&bytes[32..]).ok());
    public.ok_or_else(|| FixtureError::Address(text.to_owned()))
}

/// An account from a file, under the address given, or under the file's own for `-`.
pub(crate) fn account(at: &str, path: &Path) -> Result<(Address, AccountSharedData), FixtureError> {
    let bytes = read(path)?;
    let file: AccountFile =
        serde_json::from_slice(&bytes).map_err(|source| FixtureError::Account { path: path.to_owned(), source })?;
    let address = address(if at == "-" { &file.pubkey } else { at })?;
    let account = file.account.to_account_shared_data().ok_or_else(|| FixtureError::Data(path.to_owned()))?;
    Ok((address, account))
}

/// Every `.json` file of a folder, in the order of their names.
pub(crate) fn accounts_in(folder: &Path) -> Result<Vec<(Address, AccountSharedData)>, FixtureError> {
    let failed = |source| FixtureError::Read { path: folder.to_owned(), source };
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            paths.push(path);
        }
    }
    paths.sort_unstable();
    paths.iter().map(|path| account("-", path)).collect()
}

/// A program from its ELF file.
pub(crate) fn program(at: &str, path: &Path, loader: ProgramLoader) -> Result<Program, FixtureError> {
    Ok(Program { address: address(at)?, elf: read(path)?, loader })
}

#[cfg(test)]
mod tests {
    use solana_account::ReadableAccount;

    use super::*;

    #[test]
    fn an_account_file_is_read_under_its_own_or_another_address() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        let owner = "11111111111111111111111111111111";
        let own = "SysvarC1ock11111111111111111111111111111111";
        let text = format!(
            r#"{{"pubkey":"{own}","account":{{"lamports":7,"data":["AQI=","base64"],"owner":"{owner}","executable":false,
            "rentEpoch":18446744073709551615,"space":2}}}}"#
        );
        fs::write(&path, text).unwrap();
        let (at, found) = account("-", &path).unwrap();
        assert_eq!((at.to_string().as_str(), found.lamports(), found.data()), (own, 7, &[1, 2][..]));
        assert_eq!(account(owner, &path).unwrap().0.to_string(), owner);
        assert_eq!(accounts_in(folder.path()).unwrap().len(), 1);
    }

    #[test]
    fn what_is_no_account_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        fs::write(&path, "{}").unwrap();
        assert!(account("-", &path).unwrap_err().to_string().contains("a.json"));
        assert!(accounts_in(&folder.path().join("none")).is_err());
        assert!(address("none").is_err());
    }
}
