//! secp256r1 (P-256) with SHA-256, as passkeys use it. Of the two forms of a signature only the one with the low `s` is taken.

use p256::ecdsa::{Signature, VerifyingKey, signature::Verifier};

use super::{Offsets, Refusal};

/// The most signatures that one instruction may list.
const MOST: u8 = 8;

/// Verifies each signature that `data` lists.
pub(super) fn verify(data: &[u8], all: &[&[u8]]) -> Result<(), Refusal> {
    if data.len() < Offsets::START || data[0] == 0 || data[0] > MOST {
        return Err(Refusal::DataSize);
    }
    for entry in Offsets::list(data, all)? {
        let (signature, key, message) = (entry.signature()?, entry.public_key(33)?, entry.message()?);
        let signature = Signature::from_slice(signature).map_err(|_| Refusal::Signature)?;
        if signature.normalize_s() != signature {
            return Err(Refusal::Signature);
        }
        let key = VerifyingKey::from_sec1_bytes(key).map_err(|_| Refusal::PublicKey)?;
        key.verify(message, &signature).map_err(|_| Refusal::Signature)?;
    }
    Ok(())
}
