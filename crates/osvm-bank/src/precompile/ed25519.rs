//! ed25519, strictly: no small-order keys, no second form of a signature.

use ed25519_dalek::{Signature, VerifyingKey};

use super::{Offsets, Refusal};

/// Verifies each signature that `data` lists.
pub(super) fn verify(data: &[u8], all: &[&[u8]]) -> Result<(), Refusal> {
    let entries = Offsets::list(data, all)?;
    if data[0] == 0 && data.len() > Offsets::START {
        return Err(Refusal::DataSize);
    }
    for entry in entries {
        let signature = Signature::from_slice(entry.signature()?).map_err(|_| Refusal::Signature)?;
        let key = entry.public_key(32)?.first_chunk().ok_or(Refusal::PublicKey)?;
        let key = VerifyingKey::from_bytes(key).map_err(|_| Refusal::PublicKey)?;
        key.verify_strict(entry.message()?, &signature).map_err(|_| Refusal::Signature)?;
    }
    Ok(())
}
