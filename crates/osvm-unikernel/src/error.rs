//! Why a VM could not be made or had to be ended.

use std::{io, path::PathBuf};

/// Why there is no VM, or no longer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `/dev/kvm` is missing or closed to this user.
    #[error("cannot open /dev/kvm: the unikernel level needs KVM and the right to use it")]
    NoKvm(#[source] io::Error),
    /// KVM refused something that the level needs.
    #[error("KVM refused to {0}")]
    Kvm(&'static str, #[source] io::Error),
    /// A file that the VM needs.
    #[error("cannot use {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The host's memory or descriptors.
    #[error("cannot {0}")]
    Host(&'static str, #[source] io::Error),
    /// The VM is too small for what it is to hold.
    #[error("{memory} bytes of memory are too few: the VM needs {needed} to start")]
    Memory {
        /// What was asked for.
        memory: u64,
        /// What it takes.
        needed: u64,
    },
    /// An argument or a variable of the environment holds a zero byte.
    #[error("an argument or a variable of the environment holds a zero byte")]
    Zero,
    /// A snapshot that is not taken, or that no VM is made from.
    #[error("the snapshot cannot be used: {0}")]
    Snapshot(&'static str),
    /// The unix socket.
    #[error("cannot listen on {}", path.display())]
    Listen {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The guest did what the interface does not allow; the VM was ended.
    #[error("the guest broke the interface: {0}")]
    Guest(&'static str),
    /// The vCPU stopped for a reason that should not be.
    #[error("the vCPU stopped: {0}")]
    Stopped(String),
}
