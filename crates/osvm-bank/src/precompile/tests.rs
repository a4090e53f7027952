use ed25519_dalek::{Signer, SigningKey};
use p256::ecdsa::signature::Signer as _;
use proptest::prelude::*;

use super::*;

/// An instruction that holds one entry, the signature, the key and the message, in this order.
fn self_contained(signature: &[u8], key: &[u8], message: &[u8]) -> Vec<u8> {
    let start = (Offsets::START + Offsets::SIZE) as u16;
    let key_at = start + signature.len() as u16;
    let message_at = key_at + key.len() as u16;
    let fields = [start, Offsets::THIS, key_at, Offsets::THIS, message_at, message.len() as u16, Offsets::THIS];
    let mut data = vec![1, 0];
    data.extend(fields.iter().flat_map(|field| field.to_le_bytes()));
    for part in [signature, key, message] {
        data.extend_from_slice(part);
    }
    data
}

fn ed25519_instruction(message: &[u8]) -> Vec<u8> {
    let key = SigningKey::from_bytes(&[7; 32]);
    self_contained(&key.sign(message).to_bytes(), key.verifying_key().as_bytes(), message)
}

fn secp256r1_instruction(message: &[u8]) -> Vec<u8> {
    let key = p256::ecdsa::SigningKey::from_slice(&[7; 32]).unwrap();
    let signature: p256::ecdsa::Signature = key.sign(message);
    self_contained(&signature.normalize_s().to_bytes(), key.verifying_key().to_sec1_point(true).as_bytes(), message)
}

fn secp256k1_instruction(message: &[u8]) -> Vec<u8> {
    use sha3::{Digest, Keccak256};
    let secret = libsecp256k1::SecretKey::parse(&[7; 32]).unwrap();
    let hash: [u8; 32] = Keccak256::digest(message).into();
    let (signature, id) = libsecp256k1::sign(&libsecp256k1::Message::parse(&hash), &secret);
    let public = libsecp256k1::PublicKey::from_secret_key(&secret).serialize();
    let address = Keccak256::digest(&public[1..]);
    let (signature_at, address_at, message_at) = (12_u16, 12 + 65_u16, 12 + 65 + 20_u16);
    let mut data = vec![1];
    data.extend(signature_at.to_le_bytes());
    data.push(0);
    data.extend(address_at.to_le_bytes());
    data.push(0);
    data.extend(message_at.to_le_bytes());
    data.extend((message.len() as u16).to_le_bytes());
    data.push(0);
    data.extend(signature.serialize());
    data.push(id.serialize());
    data.extend(&address[12..]);
    data.extend(message);
    data
}

type Make = fn(&[u8]) -> Vec<u8>;
const ALL: [(Make, Verify); 3] = [
    (ed25519_instruction, ed25519::verify),
    (secp256k1_instruction, secp256k1::verify),
    (secp256r1_instruction, secp256r1::verify),
];

#[test]
fn a_right_signature_is_taken_and_any_other_message_is_not() {
    for (make, verify) in ALL {
        let mut data = make(b"hello");
        assert_eq!(verify(&data, &[&data.clone()]), Ok(()));
        *data.last_mut().unwrap() ^= 1;
        assert_eq!(verify(&data, &[&data.clone()]), Err(Refusal::Signature));
    }
}

#[test]
fn the_parts_may_lie_in_another_instruction() {
    let data = ed25519_instruction(b"elsewhere");
    let mut here = data[..Offsets::START + Offsets::SIZE].to_vec();
    for field in [1, 3, 6] {
        here[Offsets::START + 2 * field..][..2].copy_from_slice(&1_u16.to_le_bytes());
    }
    assert_eq!(ed25519::verify(&here, &[&here.clone(), &data]), Ok(()));
    assert_eq!(ed25519::verify(&here, &[&here.clone()]), Err(Refusal::Offsets));
}

#[test]
fn a_count_without_entries_and_entries_without_a_count_are_refused() {
    for data in [&[][..], &[1], &[1, 0], &[0, 0, 0]] {
        for (_, verify) in ALL {
            assert_eq!(verify(data, &[data]), Err(Refusal::DataSize), "{data:?}");
        }
    }
    assert_eq!(ed25519::verify(&[0, 0], &[]), Ok(()));
    assert_eq!(secp256k1::verify(&[0], &[]), Ok(()));
    assert_eq!(secp256r1::verify(&[0, 0], &[]), Err(Refusal::DataSize));
}

#[test]
fn the_second_form_of_a_p256_signature_is_refused() {
    let data = secp256r1_instruction(b"passkey");
    let at = Offsets::START + Offsets::SIZE;
    let low = p256::ecdsa::Signature::from_slice(&data[at..at + 64]).unwrap();
    let (r, s) = low.split_scalars();
    let high = p256::ecdsa::Signature::from_scalars(*r, -*s).unwrap();
    let mut data = data;
    data[at..at + 64].copy_from_slice(&high.to_bytes());
    assert_eq!(secp256r1::verify(&data, &[&data.clone()]), Err(Refusal::Signature));
}

proptest! {
    #[test]
    fn any_bytes_are_taken_or_refused(data in proptest::collection::vec(any::<u8>(), 0..200), other in proptest::collection::vec(any::<u8>(), 0..100)) {
        for (_, verify) in ALL {
            let _ = verify(&data, &[&data, &other]);
        }
    }

    #[test]
    fn one_changed_byte_is_never_a_panic_and_hardly_ever_right(at in any::<prop::sample::Index>(), to in any::<u8>()) {
        for (make, verify) in ALL {
            let right = make(b"some message");
            let mut data = right.clone();
            let at = at.index(data.len());
            data[at] = to;
            let unused = at == 1 && data[0] == 1 && right[0] == 1;
            if data != right && !unused {
                // Only an offset that happens to lead to the same bytes, of which there is none here, could be right.
                prop_assert!(verify(&data, &[&data]).is_err());
            }
        }
    }
}
