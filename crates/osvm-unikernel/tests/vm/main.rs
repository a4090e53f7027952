//! Real programs in real VMs. Every test here needs `/dev/kvm`.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod dynamic;
mod faults;
mod hostile;
mod programs;
mod server;
mod support;
