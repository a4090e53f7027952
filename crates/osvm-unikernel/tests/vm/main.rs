//! Real programs in real VMs. Every test here needs `/dev/kvm`; `cargo xtask test` leaves them out by their module's name where it is
//! missing, and says so.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod image;
mod support;

mod in_a_vm {
    mod dynamic;
    mod faults;
    mod folders;
    mod hostile;
    mod memory;
    mod processes;
    mod programs;
    mod server;
    mod shells;
    mod snapshot;
    mod tools;
}
