//! Who a ledger is: its genesis hash and the keys that belong to it. A standby takes all of it from its leader.

use std::{io::Write, os::unix::fs::OpenOptionsExt, path::Path};

use sha2::{Digest, Sha256};
use solana_address::Address;
use solana_hash::Hash;
use solana_keypair::Keypair;
use solana_signer::Signer;

use crate::{
    Error,
    codec::{Dec, Enc, Malformed},
};

/// File names that tools of `solana-test-validator` look for, in the order of the keys in [`LedgerInfo`].
const FILES: [&str; 4] =
    ["validator-keypair.json", "vote-account-keypair.json", "stake-account-keypair.json", "faucet-keypair.json"];

#[derive(Clone, PartialEq, Eq)]
pub(crate) struct LedgerInfo {
    pub(crate) genesis_hash: Hash,
    pub(crate) genesis_time: i64,
    /// Identity, vote account, stake account, faucet.
    keys: [[u8; 64]; 4],
    addresses: [Address; 4],
}

impl std::fmt::Debug for LedgerInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LedgerInfo").field("genesis_hash", &self.genesis_hash).finish_non_exhaustive()
    }
}

impl LedgerInfo {
    /// A new ledger: with the keys that lie in the folder already, and new ones for the others.
    pub(crate) fn new(dir: &Path, genesis_time: i64) -> Result<Self, Error> {
        let mut keys = [[0; 64]; 4];
        for (key, name) in keys.iter_mut().zip(FILES) {
            *key = read_key(&dir.join(name))?.unwrap_or_else(Keypair::new).to_bytes();
        }
        let mut hash = Sha256::new();
        hash.update(b"osvm genesis");
        hash.update(genesis_time.to_le_bytes());
        for key in &keys {
            hash.update(&key[32..]);
        }
        // Two ledgers made with the same keys in the same second are still two.
        hash.update(Keypair::new().pubkey());
        let info = Self::from_parts(Hash::from(<[u8; 32]>::from(hash.finalize())), genesis_time, keys);
        info.map_err(|_| Error::Config("a new key is not valid".into()))
    }

    fn from_parts(genesis_hash: Hash, genesis_time: i64, keys: [[u8; 64]; 4]) -> Result<Self, Malformed> {
        let mut addresses = [Address::default(); 4];
        for (address, key) in addresses.iter_mut().zip(&keys) {
            *address = Keypair::try_from(key.as_slice()).map_err(|_| Malformed("a key is not valid"))?.pubkey();
        }
        Ok(Self { genesis_hash, genesis_time, keys, addresses })
    }

    pub(crate) fn identity(&self) -> Address {
        self.addresses[0]
    }

    pub(crate) fn vote_account(&self) -> Address {
        self.addresses[1]
    }

    pub(crate) fn stake_account(&self) -> Address {
        self.addresses[2]
    }

    pub(crate) fn faucet(&self) -> Address {
        self.addresses[3]
    }

    pub(crate) fn faucet_key(&self) -> Keypair {
        #[expect(clippy::expect_used, reason = "from_parts has parsed the same bytes")]
        Keypair::try_from(self.keys[3].as_slice()).expect("checked when made")
    }

    pub(crate) fn encode(&self, e: &mut Enc) {
        e.raw(self.genesis_hash.as_ref());
        e.i64(self.genesis_time);
        for key in &self.keys {
            e.raw(key);
        }
    }

    pub(crate) fn decode(d: &mut Dec<'_>) -> Result<Self, Malformed> {
        let (hash, time) = (Hash::from(d.array::<32>()?), d.i64()?);
        Self::from_parts(hash, time, [d.array()?, d.array()?, d.array()?, d.array()?])
    }

    /// Writes the key files, so that tools find them.
    pub(crate) fn write_files(&self, dir: &Path) -> Result<(), Error> {
        for (key, name) in self.keys.iter().zip(FILES) {
            let path = dir.join(name);
            if read_key(&path).is_ok_and(|found| found.is_some_and(|found| found.to_bytes() == *key)) {
                continue;
            }
            let text = serde_json::to_vec(key.as_slice()).unwrap_or_default();
            let file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
            file.and_then(|mut file| file.write_all(&text)).map_err(|source| Error::Io {
                what: "write",
                path,
                source,
            })?;
        }
        Ok(())
    }
}

fn read_key(path: &Path) -> Result<Option<Keypair>, Error> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::Io { what: "read", path: path.into(), source }),
    };
    let bytes: Option<Vec<u8>> = serde_json::from_slice(&text).ok();
    match bytes.and_then(|bytes| Keypair::try_from(bytes.as_slice()).ok()) {
        Some(key) => Ok(Some(key)),
        None => {
            Err(Error::Config(format!("{} is not a key file: delete it, or put a valid one there", path.display())))
        }
    }
}
