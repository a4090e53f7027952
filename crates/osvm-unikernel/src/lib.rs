//! Isolation level `unikernel`: an ordinary Linux program in a KVM virtual machine that has no kernel.
//!
//! # Design
//!
//! The program runs at CPL3 beside a library OS (`guest/`), which answers its system calls inside the guest. This crate's library is
//! the monitor: it makes the VM, puts the library OS and a page of facts into it, and answers the nine hypercalls of [`abi`]. It does
//! not look into the program: loading an ELF file is the guest's work, from a read-only mapping of the host's page cache.
//!
//! One thread runs the vCPU and does all input and output while the vCPU stands still, so nothing is locked. A second thread, the
//! ticker, interrupts a program that runs long when something waits for it; a third waits for the disk. Both start when there is need.
//! Connections come over hybrid vsock on a unix socket.
//!
//! # Limits
//!
//! One vCPU. No connections out of the guest. No processes but the one. The monitor's own jail is the caller's work.

#![deny(unsafe_code)]
#![deny(unsafe_op_in_unsafe_fn)]

pub mod abi;
mod conns;
mod error;
mod folder;
pub mod image;
mod io;
mod layout;
mod memory;
mod snapshot;
mod sys;
mod ticker;
mod vcpu;
mod vm;

pub use error::Error;
pub use folder::Folder;
pub use vm::{Clone, End, Report, Snapshot, Spec, Stats, available, clone, run};
