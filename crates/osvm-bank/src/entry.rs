//! Entries: what the log is made of and what the replication stream carries.
//!
//! An entry holds results, not inputs to be executed again. On disk and on the stream it is framed as
//! `length u32, crc32 u32, sequence number u64, kind u8, payload`; the length is the payload's, the CRC covers all after itself.

use solana_account::{Account, AccountSharedData, ReadableAccount, WritableAccount};
use solana_address::Address;
use solana_hash::Hash;
use solana_message::{
    compiled_instruction::CompiledInstruction, inner_instruction::InnerInstruction, v0::LoadedAddresses,
};
use solana_signature::Signature;

use crate::{
    codec::{Dec, Enc, Malformed},
    types::{BlockRecord, TokenBalance, TransactionMeta},
};

/// Bytes before the payload.
pub(crate) const FRAME_HEAD: usize = 4 + 4 + 8 + 1;
/// No entry is larger: a transaction can load 64 MiB of accounts and change all of it.
pub(crate) const MAX_PAYLOAD: usize = 160 << 20;

const KIND_TRANSACTION: u8 = 1;
const KIND_BLOCK: u8 = 2;
const KIND_ACCOUNTS: u8 = 3;

/// An account's new state.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Image {
    /// The whole account.
    Full(AccountSharedData),
    /// Everything but the data, and a piece of data to be put over the old data. Keeps the log small when a program of a megabyte
    /// is written a thousand bytes a time.
    Patch { head: AccountSharedData, offset: u32, bytes: Vec<u8> },
}

impl Image {
    /// The new state, given the old one.
    pub(crate) fn resolve(self, old: Option<&AccountSharedData>) -> Result<AccountSharedData, Malformed> {
        match self {
            Self::Full(account) => Ok(account),
            Self::Patch { head, offset, bytes } => {
                let mut data = old.ok_or(Malformed("a patch to an account that is not there"))?.data().to_vec();
                let start = offset as usize;
                data.get_mut(start..start + bytes.len())
                    .ok_or(Malformed("a patch beyond the account's end"))?
                    .copy_from_slice(&bytes);
                Ok(Account {
                    lamports: head.lamports(),
                    data,
                    owner: *head.owner(),
                    executable: head.executable(),
                    rent_epoch: head.rent_epoch(),
                }
                .into())
            }
        }
    }
}

/// A transaction as the ledger keeps it.
#[derive(Clone, Debug)]
pub(crate) struct TxEntry {
    pub(crate) slot: u64,
    pub(crate) index: u32,
    pub(crate) signature: Signature,
    pub(crate) message_hash: Hash,
    pub(crate) failed: bool,
    /// What of the fee is burned when the block is sealed; the rest goes to the leader.
    pub(crate) burned: u64,
    /// Static, loaded writable, loaded readonly.
    pub(crate) keys: Vec<Address>,
    pub(crate) wire: Vec<u8>,
    pub(crate) meta: TransactionMeta,
}

/// What can be known of a transaction entry without decoding its meta and its accounts.
#[derive(Clone, Debug)]
pub(crate) struct TxHead {
    pub(crate) slot: u64,
    pub(crate) index: u32,
    pub(crate) signature: Signature,
    pub(crate) message_hash: Hash,
    pub(crate) failed: bool,
    pub(crate) fee: u64,
    pub(crate) burned: u64,
    pub(crate) keys: Vec<Address>,
}

/// A decoded entry.
#[derive(Debug)]
pub(crate) enum Entry {
    Transaction { head: TxHead, writes: Vec<(Address, Image)> },
    Block { record: BlockRecord, failed: u32 },
    Accounts { slot: u64, writes: Vec<(Address, Image)> },
}

/// An account and what it was before the write.
pub(crate) type WriteWithOld<'a> = (&'a Address, &'a AccountSharedData, Option<&'a AccountSharedData>);

/// Data shorter than this is always written whole.
const PATCH_MIN: usize = 256;

fn encode_writes<'a>(e: &mut Enc, writes: impl ExactSizeIterator<Item = WriteWithOld<'a>>) {
    e.u32(writes.len() as u32);
    for (address, new, old) in writes {
        e.address(address);
        let patch = old.and_then(|old| {
            let (a, b) = (old.data(), new.data());
            if a.len() != b.len() || b.len() < PATCH_MIN {
                return None;
            }
            let start = a.iter().zip(b).position(|(x, y)| x != y).unwrap_or(b.len());
            let end =
                b.len() - a[start..].iter().rev().zip(b[start..].iter().rev()).take_while(|(x, y)| x == y).count();
            (end - start < b.len() / 2).then_some(start..end)
        });
        match patch {
            Some(range) => {
                e.u8(1);
                e.account_head(new);
                e.u32(range.start as u32);
                e.bytes(&new.data()[range]);
            }
            None => {
                e.u8(0);
                e.account(new);
            }
        }
    }
}

fn decode_writes(d: &mut Dec<'_>) -> Result<Vec<(Address, Image)>, Malformed> {
    let n = d.count(32 + 1 + 49)?;
    let mut writes = Vec::with_capacity(n);
    for _ in 0..n {
        let address = d.address()?;
        let image = match d.u8()? {
            0 => Image::Full(d.account()?),
            1 => {
                let mut head = AccountSharedData::default();
                head.set_lamports(d.u64()?);
                head.set_owner(d.address()?);
                head.set_executable(d.bool()?);
                head.set_rent_epoch(d.u64()?);
                Image::Patch { head, offset: d.u32()?, bytes: d.bytes()?.to_vec() }
            }
            _ => return Err(Malformed("unknown kind of account image")),
        };
        writes.push((address, image));
    }
    Ok(writes)
}

/// Appends a frame whose payload `fill` writes.
fn frame(out: &mut Vec<u8>, seq: u64, kind: u8, fill: impl FnOnce(&mut Enc)) {
    let start = out.len();
    let mut e = Enc(std::mem::take(out));
    e.raw(&[0; 8]);
    e.u64(seq);
    e.u8(kind);
    fill(&mut e);
    *out = e.0;
    let len = (out.len() - start - FRAME_HEAD) as u32;
    let crc = crc32fast::hash(&out[start + 8..]);
    out[start..start + 4].copy_from_slice(&len.to_le_bytes());
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
}

pub(crate) fn frame_transaction<'a>(
    out: &mut Vec<u8>,
    seq: u64,
    tx: &TxEntry,
    writes: impl ExactSizeIterator<Item = WriteWithOld<'a>>,
) {
    frame(out, seq, KIND_TRANSACTION, |e| {
        e.u64(tx.slot);
        e.u32(tx.index);
        e.raw(tx.signature.as_ref());
        e.raw(tx.message_hash.as_ref());
        e.u8(tx.failed.into());
        e.u64(tx.meta.fee);
        e.u64(tx.burned);
        e.u32(tx.keys.len() as u32);
        for key in &tx.keys {
            e.address(key);
        }
        e.bytes(&tx.wire);
        let mut meta = Enc::default();
        encode_meta(&mut meta, &tx.meta);
        e.bytes(&meta.0);
        encode_writes(e, writes);
    });
}

pub(crate) fn frame_block(out: &mut Vec<u8>, seq: u64, record: &BlockRecord, failed: u32) {
    frame(out, seq, KIND_BLOCK, |e| {
        encode_block(e, record);
        e.u32(failed);
    });
}

pub(crate) fn frame_accounts<'a>(
    out: &mut Vec<u8>,
    seq: u64,
    slot: u64,
    writes: impl ExactSizeIterator<Item = WriteWithOld<'a>>,
) {
    frame(out, seq, KIND_ACCOUNTS, |e| {
        e.u64(slot);
        encode_writes(e, writes);
    });
}

/// A frame whose length and CRC are right.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) seq: u64,
    pub(crate) kind: u8,
    pub(crate) payload: &'a [u8],
    /// Bytes of the whole frame.
    pub(crate) size: usize,
}

/// The frame at the front of `bytes`.
pub(crate) fn parse_frame(bytes: &[u8]) -> Result<Frame<'_>, Malformed> {
    let mut d = Dec(bytes);
    let (len, crc) = (d.u32()? as usize, d.u32()?);
    if len > MAX_PAYLOAD {
        return Err(Malformed("an entry's length is impossible"));
    }
    let body = Dec(d.0).take(9 + len).map_err(|_| Malformed("an entry is cut off"))?;
    if crc32fast::hash(body) != crc {
        return Err(Malformed("an entry's checksum is wrong"));
    }
    let (seq, kind) = (d.u64()?, d.u8()?);
    Ok(Frame { seq, kind, payload: &body[9..], size: FRAME_HEAD + len })
}

impl Frame<'_> {
    /// The slot, if it is a block.
    pub(crate) fn block_slot(&self) -> Option<u64> {
        if self.kind == KIND_BLOCK { Dec(self.payload).u64().ok() } else { None }
    }

    pub(crate) fn entry(&self) -> Result<Entry, Malformed> {
        let mut d = Dec(self.payload);
        let entry = match self.kind {
            KIND_TRANSACTION => {
                let head = decode_head(&mut d)?;
                d.bytes()?;
                d.bytes()?;
                Entry::Transaction { head, writes: decode_writes(&mut d)? }
            }
            KIND_BLOCK => Entry::Block { record: decode_block(&mut d)?, failed: d.u32()? },
            KIND_ACCOUNTS => Entry::Accounts { slot: d.u64()?, writes: decode_writes(&mut d)? },
            _ => return Err(Malformed("unknown kind of entry: it was written by a newer version")),
        };
        d.end()?;
        Ok(entry)
    }

    /// The entry without its account images, for the history before a snapshot.
    pub(crate) fn entry_without_writes(&self) -> Result<Entry, Malformed> {
        let mut d = Dec(self.payload);
        match self.kind {
            KIND_TRANSACTION => Ok(Entry::Transaction { head: decode_head(&mut d)?, writes: Vec::new() }),
            KIND_ACCOUNTS => Ok(Entry::Accounts { slot: d.u64()?, writes: Vec::new() }),
            _ => self.entry(),
        }
    }

    /// The parts of a transaction entry that readers want.
    pub(crate) fn transaction(&self) -> Result<(TxHead, Vec<u8>, TransactionMeta), Malformed> {
        if self.kind != KIND_TRANSACTION {
            return Err(Malformed("not a transaction"));
        }
        let mut d = Dec(self.payload);
        let head = decode_head(&mut d)?;
        let wire = d.bytes()?.to_vec();
        let meta = decode_meta(&mut Dec(d.bytes()?), head.fee)?;
        Ok((head, wire, meta))
    }
}

fn decode_head(d: &mut Dec<'_>) -> Result<TxHead, Malformed> {
    let (slot, index) = (d.u64()?, d.u32()?);
    let signature = Signature::from(d.array::<64>()?);
    let message_hash = Hash::from(d.array::<32>()?);
    let (failed, fee, burned) = (d.bool()?, d.u64()?, d.u64()?);
    let keys = (0..d.count(32)?).map(|_| d.address()).collect::<Result<_, _>>()?;
    Ok(TxHead { slot, index, signature, message_hash, failed, fee, burned, keys })
}

pub(crate) fn encode_block(e: &mut Enc, b: &BlockRecord) {
    for v in [b.slot, b.parent_slot, b.height] {
        e.u64(v);
    }
    e.raw(b.blockhash.as_ref());
    e.raw(b.previous_blockhash.as_ref());
    e.i64(b.time);
    e.u32(b.transactions);
    for v in [b.transaction_count, b.capitalization, b.reward] {
        e.u64(v);
    }
    e.address(&b.leader);
    e.u64(b.leader_post_balance);
}

pub(crate) fn decode_block(d: &mut Dec<'_>) -> Result<BlockRecord, Malformed> {
    Ok(BlockRecord {
        slot: d.u64()?,
        parent_slot: d.u64()?,
        height: d.u64()?,
        blockhash: Hash::from(d.array::<32>()?),
        previous_blockhash: Hash::from(d.array::<32>()?),
        time: d.i64()?,
        transactions: d.u32()?,
        transaction_count: d.u64()?,
        capitalization: d.u64()?,
        reward: d.u64()?,
        leader: d.address()?,
        leader_post_balance: d.u64()?,
    })
}

fn encode_meta(e: &mut Enc, m: &TransactionMeta) {
    // A TransactionError has no stable binary form but its JSON one, which clients see anyway.
    let err = m.err.as_ref().map(|err| serde_json::to_vec(err).unwrap_or_default()).unwrap_or_default();
    e.bytes(&err);
    for balances in [&m.pre_balances, &m.post_balances] {
        e.u32(balances.len() as u32);
        for v in balances {
            e.u64(*v);
        }
    }
    for balances in [&m.pre_token_balances, &m.post_token_balances] {
        e.u32(balances.len() as u32);
        for b in balances {
            e.u8(b.account_index);
            for a in [&b.mint, &b.owner, &b.program_id] {
                e.address(a);
            }
            e.u64(b.amount);
            e.u8(b.decimals);
        }
    }
    e.u32(m.inner_instructions.len() as u32);
    for list in &m.inner_instructions {
        e.u32(list.len() as u32);
        for i in list {
            e.u8(i.stack_height);
            e.u8(i.instruction.program_id_index);
            e.bytes(&i.instruction.accounts);
            e.bytes(&i.instruction.data);
        }
    }
    e.u32(m.logs.len() as u32);
    for line in &m.logs {
        e.bytes(line.as_bytes());
    }
    e.u8(m.return_data.is_some().into());
    if let Some((program, data)) = &m.return_data {
        e.address(program);
        e.bytes(data);
    }
    e.u64(m.units);
    for addresses in [&m.loaded_addresses.writable, &m.loaded_addresses.readonly] {
        e.u32(addresses.len() as u32);
        for a in addresses {
            e.address(a);
        }
    }
}

fn list<T>(
    d: &mut Dec<'_>,
    least: usize,
    mut one: impl FnMut(&mut Dec<'_>) -> Result<T, Malformed>,
) -> Result<Vec<T>, Malformed> {
    (0..d.count(least)?).map(|_| one(d)).collect()
}

fn decode_meta(d: &mut Dec<'_>, fee: u64) -> Result<TransactionMeta, Malformed> {
    let err = match d.bytes()? {
        [] => None,
        json => Some(serde_json::from_slice(json).map_err(|_| Malformed("an unknown transaction error"))?),
    };
    let token = |d: &mut Dec<'_>| {
        Ok(TokenBalance {
            account_index: d.u8()?,
            mint: d.address()?,
            owner: d.address()?,
            program_id: d.address()?,
            amount: d.u64()?,
            decimals: d.u8()?,
        })
    };
    let inner = |d: &mut Dec<'_>| {
        Ok(InnerInstruction {
            stack_height: d.u8()?,
            instruction: CompiledInstruction {
                program_id_index: d.u8()?,
                accounts: d.bytes()?.to_vec(),
                data: d.bytes()?.to_vec(),
            },
        })
    };
    let line =
        |d: &mut Dec<'_>| String::from_utf8(d.bytes()?.to_vec()).map_err(|_| Malformed("a log line is not UTF-8"));
    let meta = TransactionMeta {
        err,
        fee,
        pre_balances: list(d, 8, |d| d.u64())?,
        post_balances: list(d, 8, |d| d.u64())?,
        pre_token_balances: list(d, 106, token)?,
        post_token_balances: list(d, 106, token)?,
        inner_instructions: list(d, 4, |d| list(d, 10, inner))?,
        logs: list(d, 4, line)?,
        return_data: if d.bool()? { Some((d.address()?, d.bytes()?.to_vec())) } else { None },
        units: d.u64()?,
        loaded_addresses: LoadedAddresses {
            writable: list(d, 32, |d| d.address())?,
            readonly: list(d, 32, |d| d.address())?,
        },
    };
    d.end()?;
    Ok(meta)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn garbage_in_a_frame_is_an_error_and_never_a_panic(kind in 0u8..5, payload in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut bytes = Vec::new();
            frame(&mut bytes, 7, kind, |e| e.raw(&payload));
            let parsed = parse_frame(&bytes).unwrap();
            prop_assert_eq!((parsed.seq, parsed.size), (7, bytes.len()));
            drop(parsed.entry());
            drop(parsed.transaction());
            drop(parsed.entry_without_writes());
        }

        #[test]
        fn an_image_gives_the_new_account_from_the_old(
            old in proptest::collection::vec(any::<u8>(), 0..2000), at in 0usize..2000, piece in proptest::collection::vec(any::<u8>(), 0..50),
        ) {
            let mut new = old.clone();
            for (n, byte) in piece.iter().enumerate() {
                if let Some(place) = new.get_mut(at + n) { *place = *byte; }
            }
            let account = |data: &[u8]| AccountSharedData::from(Account { lamports: 5, data: data.to_vec(), ..Account::default() });
            let (old, new, address) = (account(&old), account(&new), Address::new_unique());
            let mut bytes = Vec::new();
            frame_accounts(&mut bytes, 1, 1, [(&address, &new, Some(&old))].into_iter());
            let Entry::Accounts { writes, .. } = parse_frame(&bytes).unwrap().entry().unwrap() else { panic!("another kind") };
            prop_assert_eq!(writes[0].1.clone().resolve(Some(&old)).unwrap(), new);
        }

        #[test]
        fn one_wrong_bit_is_noticed(bit in 0usize..8 * 100) {
            let mut bytes = Vec::new();
            frame_block(&mut bytes, 3, &BlockRecord::default(), 0);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(parse_frame(&bytes).is_err());
        }
    }
}
