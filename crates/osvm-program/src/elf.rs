//! The check that the loader makes at deployment, made before anything is sent or paid for.
//!
//! The same parser, verifier and table of syscalls as in a node of this generation, with every feature on and every sBPF version
//! taken. A cluster may still refuse what this takes (a version that is not enabled there); it says so before the deployment.

use std::sync::Arc;

use solana_program_runtime::{execution_budget::SVMTransactionExecutionBudget, invoke_context::InvokeContext};
use solana_sbpf::{elf::Executable, program::SBPFVersion, verifier::RequisiteVerifier};
use solana_svm_feature_set::SVMFeatureSet;
use solana_syscalls::create_program_runtime_environment;

/// What every ELF file begins with.
const MAGIC: &[u8] = b"\x7fELF";
/// An account holds 10 MiB, and the loader's own fields are part of it.
const LONGEST: usize = (10 << 20) - 45;
/// `e_machine` in an ELF header, and the values of BPF and sBPF there.
const MACHINE: std::ops::Range<usize> = 18..20;
const MACHINES: [u16; 2] = [247, 263];

/// Why a file cannot be deployed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ElfError {
    #[error("it is empty")]
    Empty,
    #[error("it is no ELF file: it begins with {0}")]
    NoElf(String),
    #[error("it has {0} bytes; a program account holds {LONGEST}")]
    TooLong(usize),
    #[error("it is a program for another machine (ELF machine {0}), not for sBPF")]
    OtherMachine(u16),
    #[error("the loader's table of syscalls cannot be built: {0}")]
    Environment(String),
    #[error("the loader would refuse it: {0}")]
    Refused(String),
}

/// Checks `bytes` as the loader does; the version of sBPF it is for.
pub(crate) fn verify(bytes: &[u8]) -> Result<&'static str, ElfError> {
    if bytes.is_empty() {
        return Err(ElfError::Empty);
    }
    if !bytes.starts_with(MAGIC) {
        let head = &bytes[..bytes.len().min(MAGIC.len())];
        return Err(ElfError::NoElf(head.escape_ascii().to_string()));
    }
    if bytes.len() > LONGEST {
        return Err(ElfError::TooLong(bytes.len()));
    }
    if let Some(&[low, high]) = bytes.get(MACHINE) {
        let machine = u16::from_le_bytes([low, high]);
        if !MACHINES.contains(&machine) {
            return Err(ElfError::OtherMachine(machine));
        }
    }
    let features = SVMFeatureSet {
        disable_sbpf_v0_execution: false,
        reenable_sbpf_v0_execution: true,
        ..SVMFeatureSet::all_enabled()
    };
    let budget = SVMTransactionExecutionBudget::new_with_defaults(true);
    let environment = create_program_runtime_environment(&features, &budget, true, true)
        .map_err(|error| ElfError::Environment(error.to_string()))?;
    let executable = Executable::<InvokeContext<'static, 'static>>::load(bytes, Arc::clone(&environment))
        .map_err(|error| ElfError::Refused(error.to_string()))?;
    executable.verify::<RequisiteVerifier>().map_err(|error| ElfError::Refused(error.to_string()))?;
    Ok(match executable.get_sbpf_version() {
        SBPFVersion::V0 => "sBPF v0",
        SBPFVersion::V1 => "sBPF v1",
        SBPFVersion::V2 => "sBPF v2",
        SBPFVersion::V3 => "sBPF v3",
        _ => "sBPF",
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_program_is_told_apart() {
        assert!(matches!(verify(b""), Err(ElfError::Empty)));
        assert!(matches!(verify(b"#!/bin/sh\n"), Err(ElfError::NoElf(_))));
        assert!(matches!(verify(b"\x7fELF"), Err(ElfError::Refused(_))));
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let head = &own[..4096];
        assert!(matches!(verify(head), Err(ElfError::OtherMachine(_))));
    }

    proptest! {
        #[test]
        fn no_file_makes_it_panic(rest in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let mut bytes = MAGIC.to_vec();
            bytes.extend([2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 247, 0, 1, 0, 0, 0]);
            bytes.extend(rest);
            prop_assert!(verify(&bytes).is_err());
        }
    }
}
