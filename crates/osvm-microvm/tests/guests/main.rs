//! Guests in VMs. What runs under KVM is in `in_a_vm`; what QEMU emulates needs no KVM. Both need the programs of `cargo xtask setup`.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod in_a_vm;
mod in_an_emulator;
mod in_the_shell;
mod support;
