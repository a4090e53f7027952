//! Linux guests in microVMs: a VMM is started, told what to run, watched, and cleared up after.
//!
//! # Design
//!
//! One trait, [`Driver`], over the VMMs. [`Firecracker`] runs guests on KVM; [`Qemu`] emulates a PC, which is slow and isolates by software
//! alone, and says so. [`driver`] chooses. What is started is a [`Machine`]: it is ready when the guest connects to the host's ready port,
//! it is talked to over hybrid vsock (a unix socket), and when it is dropped, its processes are killed and its folder is removed.
//!
//! Each microVM has a folder of its own ([`Place`]) with a name and a context id that no other has. Its owner holds a lock on it. If the
//! owner is killed, the kernel kills the VMM with it (not one in Firecracker's jailer, which changes its user), and the next start
//! clears what is left.
//!
//! A guest's first root is an [`initramfs`]: the agent as process 1, the kernel's modules in the order in which they need each
//! other, and an image's files.
//!
//! # What is trusted
//!
//! Nothing that comes out of a guest: the console is kept by its last lines and without control characters, answers of the agent are
//! limited by its protocol, and so are the VMM's own answers.
//!
//! # Limits
//!
//! No network but vsock, no disks yet. Firecracker without root has no jail but its seccomp filters. No control group limits a VMM.
#![forbid(unsafe_code)]

mod api;
mod child;
mod console;
mod digest;
mod error;
mod find;
mod firecracker;
pub mod image;
pub mod initramfs;
pub mod kernel;
mod lz4;
mod place;
mod qemu;
mod vm;

pub use console::Console;
pub use error::Error;
pub use find::{Wanted, driver, kvm};
pub use firecracker::Firecracker;
pub use place::{Living, Place, living};
pub use qemu::Qemu;
pub use vm::{COMMAND_LINE, Config, Driver, Isolation, Machine, READY_TIMEOUT, SHUTDOWN_TIMEOUT, Snapshot, connect};
