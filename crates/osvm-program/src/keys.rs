//! Keys in files: the JSON arrays of Solana's tools. New files can be read by their owner alone.

use std::{
    env, fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use solana_address::Address;
use solana_keypair::{Keypair, read_keypair_file};
use solana_signer::Signer;

use crate::failure::Failure;

/// A key that is told by its file or only by its address.
#[derive(Debug)]
pub(crate) enum Key {
    Pair(Keypair),
    Address(Address),
}

impl Key {
    /// An address in base58, or the path of a key file.
    pub(crate) fn read(text: &str, what: &str) -> Result<Self, Failure> {
        match text.parse() {
            Ok(address) => Ok(Self::Address(address)),
            Err(_) => read(Path::new(text), what).map(Self::Pair),
        }
    }

    pub(crate) fn address(&self) -> Address {
        match self {
            Self::Pair(pair) => pair.pubkey(),
            Self::Address(address) => *address,
        }
    }
}

/// The key in `path`.
pub(crate) fn read(path: &Path, what: &str) -> Result<Keypair, Failure> {
    let failed = |cause: String| Failure {
        causes: vec![cause],
        ..Failure::new(format!("cannot read {what} {}", path.display()))
    };
    fs::metadata(path).map_err(|error| failed(error.to_string()))?;
    read_keypair_file(path).map_err(|error| {
        failed(error.to_string()).help("a key file holds one JSON array of 64 numbers; solana-keygen new writes one")
    })
}

/// The key in `path`; a new one, saved there, if there is no such file. The flag says whether it is new.
pub(crate) fn read_or_make(path: &Path, what: &str) -> Result<(Keypair, bool), Failure> {
    if path.exists() {
        return Ok((read(path, what)?, false));
    }
    let pair = Keypair::new();
    save(path, &pair)
        .map_err(|error| Failure::new(format!("cannot save {what} {}", path.display())).because(&error))?;
    Ok((pair, true))
}

/// Writes the whole file and makes sure that it is on the disk, before anything is paid for with it.
fn save(path: &Path, pair: &Keypair) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let numbers: Vec<String> = pair.to_bytes().iter().map(u8::to_string).collect();
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(format!("[{}]", numbers.join(",")).as_bytes())?;
    file.sync_all()
}

/// Where Solana's tools keep the user's key.
pub(crate) fn default_path() -> Option<PathBuf> {
    home().map(|home| home.join(".config/solana/id.json"))
}

/// The folder for keys that osvm makes itself.
pub(crate) fn own_folder() -> Result<PathBuf, Failure> {
    let set = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| !path.as_os_str().is_empty());
    let state = set("OSVM_HOME").or_else(|| set("XDG_STATE_HOME").map(|state| state.join("osvm")));
    let state = state.or_else(|| home().map(|home| home.join(".local/state/osvm")));
    state.map(|state| state.join("program")).ok_or_else(|| {
        Failure::new("no folder for keys: neither OSVM_HOME, XDG_STATE_HOME nor HOME is set").help("set OSVM_HOME=DIR")
    })
}

fn home() -> Option<PathBuf> {
    env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute())
}

/// `NAME-SUFFIX.json` beside `file`.
pub(crate) fn beside(file: &Path, suffix: &str) -> PathBuf {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    file.with_file_name(format!("{stem}-{suffix}.json"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_new_key_is_saved_for_its_owner_alone_and_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/er/key.json");
        let (made, new) = read_or_make(&path, "the key").unwrap();
        assert!(new);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let (again, new) = read_or_make(&path, "the key").unwrap();
        assert!(!new);
        assert_eq!(made.pubkey(), again.pubkey());
    }

    #[test]
    fn a_file_that_holds_no_key_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.json");
        fs::write(&path, "[1,2,3]").unwrap();
        let failure = read(&path, "the key").unwrap_err();
        assert!(failure.error.contains("cannot read the key"), "{failure:?}");
    }

    #[test]
    fn keys_are_kept_beside_the_file() {
        assert_eq!(beside(Path::new("/a/vault.so"), "buffer"), Path::new("/a/vault-buffer.json"));
    }
}
