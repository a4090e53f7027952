//! Keys and transfers of the load. Each transfer differs from all others, so each signature does too.

use solana_address::Address;
use solana_hash::Hash;
use solana_instruction::Instruction;
use solana_keypair::Keypair;
use solana_message::Message;
use solana_signer::Signer;
use solana_system_interface::instruction::transfer;

/// A payer, the account it pays to, and how many transfers it has made.
pub(crate) struct Wallet {
    pub(crate) payer: Keypair,
    pub(crate) recipient: Address,
    made: u64,
}

/// A signed transaction, ready to send.
pub(crate) struct Signed {
    pub(crate) signature: String,
    pub(crate) wire: Vec<u8>,
}

impl Wallet {
    /// With new keys.
    pub(crate) fn new() -> Self {
        Self { payer: Keypair::new(), recipient: Keypair::new().pubkey(), made: 0 }
    }

    /// The next transfer: of one lamport more than the last.
    pub(crate) fn transfer(&mut self, blockhash: &Hash) -> Signed {
        self.made += 1;
        sign(&self.payer, &[transfer(&self.payer.pubkey(), &self.recipient, self.made)], blockhash)
    }
}

/// Signs and serialises a transaction that `payer` alone has to sign.
pub(crate) fn sign(payer: &Keypair, instructions: &[Instruction], blockhash: &Hash) -> Signed {
    let message = Message::new_with_blockhash(instructions, Some(&payer.pubkey()), blockhash);
    let bytes = serialize(&message);
    let signature = payer.sign_message(&bytes);
    // Wire format: the signatures with their number before them, then the message.
    let mut wire = vec![1];
    wire.extend_from_slice(signature.as_ref());
    wire.extend_from_slice(&bytes);
    Signed { signature: signature.to_string(), wire }
}

/// A legacy message on the wire. Written out here because the crate's own way hangs on a feature of the whole build.
fn serialize(message: &Message) -> Vec<u8> {
    let header = &message.header;
    let mut bytes = vec![
        header.num_required_signatures,
        header.num_readonly_signed_accounts,
        header.num_readonly_unsigned_accounts,
    ];
    length(&mut bytes, message.account_keys.len());
    for key in &message.account_keys {
        bytes.extend_from_slice(key.as_ref());
    }
    bytes.extend_from_slice(message.recent_blockhash.as_ref());
    length(&mut bytes, message.instructions.len());
    for instruction in &message.instructions {
        bytes.push(instruction.program_id_index);
        length(&mut bytes, instruction.accounts.len());
        bytes.extend_from_slice(&instruction.accounts);
        length(&mut bytes, instruction.data.len());
        bytes.extend_from_slice(&instruction.data);
    }
    bytes
}

/// Solana's `compact-u16`: seven bits a byte, the lowest first.
fn length(bytes: &mut Vec<u8>, mut length: usize) {
    while length >= 0x80 {
        bytes.push(length as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_compact() {
        for (number, expected) in [(0, &[0][..]), (127, &[127]), (128, &[0x80, 1]), (16384, &[0x80, 0x80, 1])] {
            let mut bytes = Vec::new();
            length(&mut bytes, number);
            assert_eq!(bytes, expected);
        }
    }

    #[test]
    fn no_two_transfers_are_alike() {
        let mut wallet = Wallet::new();
        let (one, two) = (wallet.transfer(&Hash::default()), wallet.transfer(&Hash::default()));
        assert_ne!(one.signature, two.signature);
        // A signature, three header bytes, three keys, a blockhash, one instruction of 12 bytes over two accounts.
        assert_eq!(one.wire.len(), 1 + 64 + 3 + 1 + 96 + 32 + 1 + 1 + 1 + 2 + 1 + 12);
    }
}
