//! The jail of level `unikernel`'s monitor, before what it shows its guest is added.

use std::path::{Path, PathBuf};

use crate::{
    closure::closure,
    error::Error,
    spec::{Limits, Spec},
};

/// Where the monitor lies in its jail.
const MONITOR: &str = "/osvm/unikernel";
/// Memory of the monitor itself, and of the file pages that it maps, bytes.
pub const VMM_MEMORY: u64 = 64 << 20;

/// A jail with the monitor and what it is linked to, KVM handed on, and memory for a guest of so many bytes.
///
/// # Errors
/// When the monitor or something it names does not exist.
pub fn vmm(monitor: &Path, argv: Vec<String>, guest: u64) -> Result<Spec, Error> {
    let mut mounts = closure(monitor, &[])?;
    for mount in mounts.iter_mut().filter(|mount| mount.target == monitor) {
        mount.target = PathBuf::from(MONITOR);
    }
    let limits = Limits { memory: guest.saturating_add(VMM_MEMORY), tmp: 0, ..Limits::default() };
    Ok(Spec { argv, mounts, kvm: true, limits, ..Spec::new(MONITOR) })
}
