//! Snapshots: all accounts at the end of one slot, in a file, so that a start does not replay the whole log.
//!
//! A snapshot is taken of the finalized slot, whose accounts the undo maps still give while the node goes on. It is written beside,
//! synced, and renamed; so a file under its final name is whole, and what a crash leaves under the other name is deleted.
//! Format: magic; then frames of `length u32, crc32 u32, bytes`: one with the head, one for each part of the accounts, and one with
//! the number of accounts at the end.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Read, Write},
    path::{Path, PathBuf},
};

use solana_account::AccountSharedData;
use solana_address::Address;

use crate::{
    Error,
    codec::{Dec, Enc, Malformed},
    entry::{decode_block, encode_block},
    info::LedgerInfo,
    types::BlockRecord,
};

const MAGIC: &[u8; 8] = b"OSVMSNP1";
const TEMPORARY: &str = "snapshot.tmp";
/// Snapshots that are kept.
pub(crate) const KEEP: usize = 2;
/// No frame is larger than this.
const MAX_FRAME: usize = 1 << 30;
/// Accounts go into frames of about this size.
const FRAME_TARGET: usize = 1 << 20;

/// What a snapshot is of.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) info: LedgerInfo,
    /// The block that it is at the end of.
    pub(crate) block: BlockRecord,
    /// That block's entry.
    pub(crate) seq: u64,
}

impl Head {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut e = Enc::default();
        e.u64(self.seq);
        encode_block(&mut e, &self.block);
        self.info.encode(&mut e);
        e.0
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut d = Dec(bytes);
        let head = Self { seq: d.u64()?, block: decode_block(&mut d)?, info: LedgerInfo::decode(&mut d)? };
        d.end()?;
        Ok(head)
    }
}

/// Accounts as bytes, cut into pieces of about [`FRAME_TARGET`].
pub(crate) fn encode_accounts(accounts: &[(Address, AccountSharedData)]) -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    let mut e = Enc::default();
    for (address, account) in accounts {
        e.address(address);
        e.account(account);
        if e.0.len() >= FRAME_TARGET {
            pieces.push(std::mem::take(&mut e.0));
        }
    }
    if !e.0.is_empty() {
        pieces.push(e.0);
    }
    pieces
}

pub(crate) fn decode_accounts(bytes: &[u8]) -> Result<Vec<(Address, AccountSharedData)>, Malformed> {
    let mut d = Dec(bytes);
    let mut accounts = Vec::new();
    while !d.0.is_empty() {
        accounts.push((d.address()?, d.account()?));
    }
    Ok(accounts)
}

fn name(seq: u64) -> String {
    format!("snapshot-{seq:020}")
}

/// Writes a snapshot file, piece by piece.
pub(crate) struct Writer {
    dir: PathBuf,
    seq: u64,
    out: BufWriter<File>,
    count: u64,
}

impl Writer {
    pub(crate) fn begin(dir: &Path, head: &Head) -> Result<Self, Error> {
        let path = dir.join(TEMPORARY);
        let begin = || {
            let mut out = BufWriter::with_capacity(1 << 20, File::create(&path)?);
            out.write_all(MAGIC)?;
            write_frame(&mut out, &head.encode())?;
            Ok(out)
        };
        let out = begin().map_err(|source| Error::Io { what: "write", path: path.clone(), source })?;
        Ok(Self { dir: dir.into(), seq: head.seq, out, count: 0 })
    }

    pub(crate) fn accounts(&mut self, accounts: &[(Address, AccountSharedData)]) -> Result<(), Error> {
        self.count += accounts.len() as u64;
        let write =
            |out: &mut BufWriter<File>| encode_accounts(accounts).iter().try_for_each(|piece| write_frame(out, piece));
        write(&mut self.out).map_err(|source| Error::Io { what: "write", path: self.dir.join(TEMPORARY), source })
    }

    /// Makes it the newest snapshot and deletes those that are no longer needed. Returns the slots' first entry to keep.
    pub(crate) fn finish(mut self) -> Result<(), Error> {
        let path = self.dir.join(TEMPORARY);
        let finish = || {
            write_frame(&mut self.out, &self.count.to_le_bytes())?;
            let file = self.out.into_inner()?;
            file.sync_all()?;
            fs::rename(&path, self.dir.join(name(self.seq)))?;
            File::open(&self.dir)?.sync_all()
        };
        finish().map_err(|source| Error::Io { what: "write", path: path.clone(), source })?;
        let all = list(&self.dir)?;
        for seq in all.iter().rev().skip(KEEP) {
            let old = self.dir.join(name(*seq));
            fs::remove_file(&old).map_err(|source| Error::Io { what: "delete", path: old, source })?;
        }
        Ok(())
    }
}

fn write_frame(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    out.write_all(&(bytes.len() as u32).to_le_bytes())?;
    out.write_all(&crc32fast::hash(bytes).to_le_bytes())?;
    out.write_all(bytes)
}

/// Sequence numbers of the snapshots in a folder, in order.
pub(crate) fn list(dir: &Path) -> Result<Vec<u64>, Error> {
    let failed = |source| Error::Io { what: "read", path: dir.into(), source };
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if let Some(seq) = entry.file_name().to_str().and_then(|name| name.strip_prefix("snapshot-")?.parse().ok()) {
            found.push(seq);
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Deletes what a crash left while a snapshot was written.
pub(crate) fn clean(dir: &Path) -> Result<(), Error> {
    let path = dir.join(TEMPORARY);
    match fs::remove_file(&path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::Io { what: "delete", path, source }),
        _ => Ok(()),
    }
}

/// Deletes all snapshots in a folder.
pub(crate) fn delete_all(dir: &Path) -> Result<(), Error> {
    clean(dir)?;
    for seq in list(dir)? {
        let path = dir.join(name(seq));
        fs::remove_file(&path).map_err(|source| Error::Io { what: "delete", path, source })?;
    }
    Ok(())
}

/// The head of a snapshot, without its accounts.
pub(crate) fn read_head(dir: &Path, seq: u64) -> Result<Head, Error> {
    Reader::open(dir, seq).map(|reader| reader.head)
}

struct Reader {
    path: PathBuf,
    input: io::BufReader<File>,
    left: u64,
    offset: u64,
    head: Head,
}

impl Reader {
    fn open(dir: &Path, seq: u64) -> Result<Self, Error> {
        let path = dir.join(name(seq));
        let failed = |source| Error::Io { what: "read", path: path.clone(), source };
        let file = File::open(&path).map_err(failed)?;
        let left = file.metadata().map_err(failed)?.len();
        let mut input = io::BufReader::with_capacity(1 << 20, file);
        let mut magic = [0; 8];
        let corrupt = |offset, why: &str| Error::Corrupt { path: path.clone(), offset, why: why.into() };
        if input.read_exact(&mut magic).is_err() || magic != *MAGIC {
            return Err(corrupt(0, "it is no snapshot of this version"));
        }
        let mut left = left - 8;
        let bytes = read_frame(&mut input, &mut left).map_err(|why| corrupt(8, why.0))?;
        let head = Head::decode(&bytes).map_err(|why| corrupt(8, why.0))?;
        if head.seq != seq {
            return Err(corrupt(8, "it is not the snapshot that its name says"));
        }
        Ok(Self { path, input, left, offset: 16 + bytes.len() as u64, head })
    }
}

fn read_frame(input: &mut impl Read, left: &mut u64) -> Result<Vec<u8>, Malformed> {
    let mut head = [0; 8];
    input.read_exact(&mut head).map_err(|_| Malformed("it is cut off"))?;
    *left = left.saturating_sub(8);
    let mut d = Dec(&head);
    let (len, crc) = (d.u32()? as usize, d.u32()?);
    if len > MAX_FRAME || len as u64 > *left {
        return Err(Malformed("it is cut off"));
    }
    let mut bytes = vec![0; len];
    input.read_exact(&mut bytes).map_err(|_| Malformed("it is cut off"))?;
    *left -= len as u64;
    if crc32fast::hash(&bytes) != crc {
        return Err(Malformed("a checksum is wrong"));
    }
    Ok(bytes)
}

/// Reads a snapshot, giving each account to `put`.
pub(crate) fn load(dir: &Path, seq: u64, mut put: impl FnMut(Address, AccountSharedData)) -> Result<Head, Error> {
    let mut r = Reader::open(dir, seq)?;
    let mut count = 0u64;
    loop {
        let corrupt = |why: Malformed| Error::Corrupt { path: r.path.clone(), offset: r.offset, why: why.0.into() };
        let bytes = read_frame(&mut r.input, &mut r.left).map_err(corrupt)?;
        if r.left == 0 {
            if bytes != count.to_le_bytes() {
                return Err(corrupt(Malformed("accounts are missing")));
            }
            return Ok(r.head);
        }
        let accounts = decode_accounts(&bytes).map_err(corrupt)?;
        count += accounts.len() as u64;
        for (address, account) in accounts {
            put(address, account);
        }
        r.offset += 8 + bytes.len() as u64;
    }
}
