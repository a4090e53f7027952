//! The programs that verify signatures: ed25519, secp256k1 and secp256r1.
//!
//! agave runs them outside the virtual machine, with OpenSSL for the last one. Here each is a built-in program that takes the
//! same instruction data, accepts the same signatures and fails with the same codes. Two things differ: they log an `invoke` and
//! a `success` line, and a call costs one compute unit instead of none, because the virtual machine wants built-ins to cost.

mod ed25519;
mod secp256k1;
mod secp256r1;
#[cfg(test)]
mod tests;

use litesvm::LiteSVM;
use solana_instruction::error::InstructionError;
use solana_program_runtime::{
    declare_process_instruction, invoke_context::InvokeContext, solana_sbpf::program::BuiltinFunctionDefinition,
};
use solana_sdk_ids::{ed25519_program, secp256k1_program, secp256r1_program};

/// What is wrong, as the code of [`InstructionError::Custom`]; the numbers are agave's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    PublicKey = 0,
    RecoveryId = 1,
    Signature = 2,
    Offsets = 3,
    DataSize = 4,
}

type Verify = fn(data: &[u8], all: &[&[u8]]) -> Result<(), Refusal>;

/// What a call costs, in compute units.
const UNITS: u64 = 1;

declare_process_instruction!(Ed25519, UNITS, |context| { run(context, ed25519::verify) });
declare_process_instruction!(Secp256k1, UNITS, |context| { run(context, secp256k1::verify) });
declare_process_instruction!(Secp256r1, UNITS, |context| { run(context, secp256r1::verify) });

/// Adds the three programs.
pub(crate) fn add(svm: &mut LiteSVM) {
    svm.add_builtin(ed25519_program::ID, Ed25519::register);
    svm.add_builtin(secp256k1_program::ID, Secp256k1::register);
    svm.add_builtin(secp256r1_program::ID, Secp256r1::register);
}

/// Verifies the current instruction. No program may call it: offsets speak of the transaction's own instructions.
fn run(context: &InvokeContext<'_, '_>, verify: Verify) -> Result<(), InstructionError> {
    let transaction = &context.transaction_context;
    if transaction.get_instruction_stack_height() != 1 {
        return Err(InstructionError::UnsupportedProgramId);
    }
    // The trace begins with the transaction's own instructions, those to come included.
    let own = transaction.get_instruction_trace_length().saturating_sub(transaction.number_of_cpis_in_trace());
    let instructions: Vec<_> =
        (0..own).map(|index| transaction.get_instruction_context_at_index_in_trace(index)).collect::<Result<_, _>>()?;
    let all: Vec<&[u8]> = instructions.iter().map(|instruction| instruction.get_instruction_data()).collect();
    let current = transaction.get_current_instruction_context()?;
    verify(current.get_instruction_data(), &all).map_err(|refusal| InstructionError::Custom(refusal as u32))
}

/// `size` bytes from `offset` of an instruction's data.
fn slice(data: &[u8], offset: u16, size: usize) -> Option<&[u8]> {
    data.get(usize::from(offset)..)?.get(..size)
}

/// A list of offsets of 14 bytes each, behind a count and a byte that is not looked at: ed25519 and secp256r1.
struct Offsets<'a> {
    data: &'a [u8],
    all: &'a [&'a [u8]],
    fields: [u16; 7],
}

impl<'a> Offsets<'a> {
    const START: usize = 2;
    const SIZE: usize = 14;
    /// Stands for the instruction that holds the offsets.
    const THIS: u16 = u16::MAX;

    /// The entries of an instruction that holds as many as it says.
    fn list(data: &'a [u8], all: &'a [&'a [u8]]) -> Result<impl Iterator<Item = Self>, Refusal> {
        let count = usize::from(*data.first().ok_or(Refusal::DataSize)?);
        let entries = data.get(Self::START..).ok_or(Refusal::DataSize)?;
        let entries = entries.get(..count * Self::SIZE).ok_or(Refusal::DataSize)?;
        Ok(entries.chunks_exact(Self::SIZE).map(move |entry| {
            let mut fields = [0; 7];
            for (field, bytes) in fields.iter_mut().zip(entry.chunks_exact(2)) {
                *field = u16::from_le_bytes([bytes[0], bytes[1]]);
            }
            Self { data, all, fields }
        }))
    }

    fn part(&self, instruction: u16, offset: u16, size: usize) -> Result<&'a [u8], Refusal> {
        let data = if instruction == Self::THIS {
            self.data
        } else {
            self.all.get(usize::from(instruction)).ok_or(Refusal::Offsets)?
        };
        slice(data, offset, size).ok_or(Refusal::Offsets)
    }

    fn signature(&self) -> Result<&'a [u8], Refusal> {
        self.part(self.fields[1], self.fields[0], 64)
    }

    fn public_key(&self, size: usize) -> Result<&'a [u8], Refusal> {
        self.part(self.fields[3], self.fields[2], size)
    }

    fn message(&self) -> Result<&'a [u8], Refusal> {
        self.part(self.fields[6], self.fields[4], usize::from(self.fields[5]))
    }
}
