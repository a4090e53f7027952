//! secp256k1 as Ethereum uses it: the key is recovered from the signature and named by its address.

use libsecp256k1::{Message, RecoveryId, Signature, recover};
use sha3::{Digest, Keccak256};

use super::{Refusal, slice};

const ENTRY: usize = 11;
const SIGNATURE: usize = 64;
const ADDRESS: usize = 20;

/// Verifies each signature that `data` lists. Instructions are named by one byte here, and none stands for "this one".
pub(super) fn verify(data: &[u8], all: &[&[u8]]) -> Result<(), Refusal> {
    let (&count, entries) = data.split_first().ok_or(Refusal::DataSize)?;
    if count == 0 && !entries.is_empty() {
        return Err(Refusal::DataSize);
    }
    let entries = entries.get(..usize::from(count) * ENTRY).ok_or(Refusal::DataSize)?;
    for entry in entries.chunks_exact(ENTRY) {
        let at = |index: usize| u16::from_le_bytes([entry[index], entry[index + 1]]);
        // The recovery id is the byte behind the signature.
        let holder = all.get(usize::from(entry[2])).ok_or(Refusal::DataSize)?;
        let signed = slice(holder, at(0), SIGNATURE + 1).ok_or(Refusal::Signature)?;
        let signature = Signature::parse_standard_slice(&signed[..SIGNATURE]).map_err(|_| Refusal::Signature)?;
        let id = RecoveryId::parse(signed[SIGNATURE]).map_err(|_| Refusal::RecoveryId)?;
        let address = part(all, entry[5], at(3), ADDRESS)?;
        let message = part(all, entry[10], at(6), usize::from(at(8)))?;

        let hash: [u8; 32] = Keccak256::digest(message).into();
        let key = recover(&Message::parse(&hash), &signature, &id).map_err(|_| Refusal::Signature)?;
        if Keccak256::digest(&key.serialize()[1..])[12..] != *address {
            return Err(Refusal::Signature);
        }
    }
    Ok(())
}

fn part<'a>(all: &[&'a [u8]], instruction: u8, offset: u16, size: usize) -> Result<&'a [u8], Refusal> {
    let data = all.get(usize::from(instruction)).ok_or(Refusal::Offsets)?;
    slice(data, offset, size).ok_or(Refusal::Signature)
}
