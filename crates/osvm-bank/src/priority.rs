//! The priority fee that a message asks for, from its compute budget instructions.

use solana_message::VersionedMessage;
use solana_sdk_ids::compute_budget;

/// Compute units of an instruction when none are asked for; those of built-in programs have fewer.
const UNITS_PER_INSTRUCTION: u64 = 200_000;
const UNITS_PER_BUILTIN: u64 = 3_000;
const MAX_UNITS: u64 = 1_400_000;
const MICRO_LAMPORTS: u128 = 1_000_000;

/// In lamports, rounded up.
pub(crate) fn fee(message: &VersionedMessage) -> u64 {
    let keys = message.static_account_keys();
    let (mut limit, mut price, mut default) = (None, 0u64, 0u64);
    for instruction in message.instructions() {
        let program = keys.get(usize::from(instruction.program_id_index));
        let builtin = program.is_some_and(|program| BUILTINS.contains(program));
        default += if builtin { UNITS_PER_BUILTIN } else { UNITS_PER_INSTRUCTION };
        if program != Some(&compute_budget::ID) {
            continue;
        }
        match instruction.data.split_first() {
            Some((2, rest)) => limit = rest.first_chunk().map(|bytes| u64::from(u32::from_le_bytes(*bytes))),
            Some((3, rest)) => price = rest.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes)),
            _ => {}
        }
    }
    let units = limit.unwrap_or(default).min(MAX_UNITS);
    let fee = (u128::from(units) * u128::from(price)).div_ceil(MICRO_LAMPORTS);
    u64::try_from(fee).unwrap_or(u64::MAX)
}

const BUILTINS: [solana_address::Address; 7] = [
    compute_budget::ID,
    solana_sdk_ids::system_program::ID,
    solana_sdk_ids::vote::ID,
    solana_sdk_ids::bpf_loader_upgradeable::ID,
    solana_sdk_ids::bpf_loader_deprecated::ID,
    solana_sdk_ids::bpf_loader::ID,
    solana_sdk_ids::loader_v4::ID,
];
