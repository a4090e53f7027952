//! Which programs and what KVM this host has, and which driver follows from that.

use std::{
    env,
    ffi::OsStr,
    fs::OpenOptions,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use crate::{Driver, Firecracker, Isolation, Qemu, error::Error};

/// A program by its name, from `tools` or `PATH`.
pub(crate) fn program(tools: Option<&Path>, name: &str, help: &'static str) -> Result<PathBuf, Error> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = tools.map(Path::to_owned).into_iter().chain(env::split_paths(&path));
    let found = folders.map(|folder| folder.join(OsStr::new(name))).find(|file| is_program(file));
    found.ok_or_else(|| Error::Missing { what: name.to_owned(), help })
}

fn is_program(file: &Path) -> bool {
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// What KVM on this host is; none without one that this user may open.
pub fn kvm() -> Option<Isolation> {
    OpenOptions::new().read(true).write(true).open("/dev/kvm").ok()?;
    let by_hardware = ["kvm_intel", "kvm_amd"].iter().any(|module| Path::new("/sys/module").join(module).is_dir());
    Some(if by_hardware { Isolation::Hardware } else { Isolation::Paravirtual })
}

/// Which driver is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wanted {
    /// Firecracker on hardware KVM, else QEMU.
    #[default]
    Auto,
    /// This one.
    Firecracker,
    /// This one.
    Qemu,
}

/// The driver, its programs looked for in `tools` before `PATH`. With `require_hardware` one that emulates, or a KVM without
/// hardware, is refused.
pub fn driver(wanted: Wanted, require_hardware: bool, tools: Option<&Path>) -> Result<Box<dyn Driver>, Error> {
    let found = kvm();
    let firecracker = match wanted {
        Wanted::Firecracker => true,
        Wanted::Qemu => false,
        // A Linux kernel does not boot on a KVM without hardware; an emulated one does.
        Wanted::Auto => found == Some(Isolation::Hardware),
    };
    let isolation = if firecracker { found } else { Some(Isolation::Emulation) };
    match isolation {
        Some(Isolation::Hardware) => {}
        Some(weaker) if require_hardware => return Err(Error::NotHardware { found: weaker.words() }),
        _ => {}
    }
    Ok(if firecracker { Box::new(Firecracker::find(tools)?) } else { Box::new(Qemu::find(tools)?) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emulation_never_counts_as_hardware() {
        let refused = driver(Wanted::Qemu, true, None);
        assert!(matches!(refused, Err(Error::NotHardware { .. })), "{refused:?}");
        if kvm() != Some(Isolation::Hardware) {
            assert!(driver(Wanted::Auto, true, None).is_err());
        }
    }

    #[test]
    fn a_missing_program_is_named_with_where_to_get_it() {
        let missing = program(None, "osvm-no-such-program", "get it there").unwrap_err();
        assert_eq!(
            (missing.to_string().as_str(), missing.help()),
            ("osvm-no-such-program is not there", Some("get it there"))
        );
    }
}
