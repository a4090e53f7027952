//! Giving up power: user, namespaces of users, capabilities, Landlock. Each step is final for this process and all that it starts.

use std::{
    io::{self, Write},
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, NetPort, PathBeneath, PathFd,
    RestrictionStatus, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use rustix::{
    fs::{Mode, OFlags, openat},
    process::DumpableBehavior,
    thread::{CapabilitiesSecureBits, CapabilitySet, CapabilitySets},
};

use crate::{
    error::{At, Error},
    root::DEVICES,
    spec::Spec,
    sys,
};

/// The user and group id of a program as it sees them itself.
pub const INSIDE_ID: u32 = 1000;
/// More than there are capabilities.
const CAPABILITIES: u32 = 64;

/// The host's `/proc`, kept open until the last id map is written. (The jail has none.)
pub(crate) struct HostProc(OwnedFd);

impl HostProc {
    pub(crate) fn open() -> Result<Self, Error> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::open("/proc", flags, Mode::empty()).at("opening /proc")?))
    }

    /// Maps one user and one group of the parent namespace into this process's new one.
    pub(crate) fn map(&self, inside: u32, uid: u32, gid: u32) -> io::Result<()> {
        let write = |file: &str, text: &str| -> io::Result<()> {
            let file = openat(&self.0, Path::new("self").join(file), OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
            std::fs::File::from(file).write_all(text.as_bytes())
        };
        write("setgroups", "deny")?;
        write("uid_map", &format!("{inside} {uid} 1"))?;
        write("gid_map", &format!("{inside} {gid} 1"))
    }
}

/// Becomes the instance's user, in a namespace of users in which it has no capability and from which it owns no other namespace.
///
/// `user` is the instance's id on the host; none when rootless, where it stays the user that started it.
pub(crate) fn drop_user(proc: &HostProc, user: Option<u32>) -> Result<(), Error> {
    let id = match user {
        Some(id) => {
            sys::become_user(id, id).at("becoming the instance's user")?;
            id
        }
        // The user that started it is 0 in the namespace that `fork_into` made.
        None => 0,
    };
    // A change of user makes /proc/self root's; it has to be our own to write the maps.
    rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable).at("opening /proc/self")?;
    sys::unshare(libc::CLONE_NEWUSER).at("making a namespace of users")?;
    proc.map(INSIDE_ID, id, id).at("mapping the instance's user")?;
    drop_capabilities()
}

fn drop_capabilities() -> Result<(), Error> {
    let bits = CapabilitiesSecureBits::NO_ROOT
        | CapabilitiesSecureBits::NO_ROOT_LOCKED
        | CapabilitiesSecureBits::NO_SETUID_FIXUP
        | CapabilitiesSecureBits::NO_SETUID_FIXUP_LOCKED
        | CapabilitiesSecureBits::KEEP_CAPS_LOCKED
        | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE
        | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED;
    rustix::thread::set_capabilities_secure_bits(bits).at("setting secure bits")?;
    for capability in 0..CAPABILITIES {
        if !sys::drop_bounding(capability).at("dropping the bounding set")? {
            break;
        }
    }
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    rustix::thread::set_capabilities(None, sets).at("dropping capabilities")?;
    let left = rustix::thread::capabilities(None).at("reading capabilities")?;
    if left.effective.is_empty() && left.permitted.is_empty() && left.inheritable.is_empty() {
        Ok(())
    } else {
        Err(io::Error::other("some are left")).at("dropping capabilities")
    }
}

/// No program that is executed from here on gains anything by it: no set-user-id, no file capabilities.
pub(crate) fn no_new_privileges() -> Result<(), Error> {
    rustix::thread::set_no_new_privs(true).at("setting no_new_privs")
}

fn no_landlock(error: &dyn std::error::Error) -> Error {
    Error::Unavailable {
        what: format!("Landlock refused its rules ({error})"),
        help: "run on a kernel with Landlock (5.13 or later, `landlock` in its list of security modules)".to_owned(),
    }
}

/// Landlock for a process that has the network only: not one file, no abstract sockets and no signals to outside, and TCP to these ports
/// only. Version 1 is required, and all that the kernel has beyond it is used.
pub(crate) fn landlock_network(ports: impl Iterator<Item = u16>) -> Result<(), Error> {
    let made = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V1))
        .and_then(|rules| rules.set_compatibility(CompatLevel::BestEffort).handle_access(AccessFs::from_all(ABI::V5)))
        .and_then(|rules| rules.handle_access(AccessNet::BindTcp | AccessNet::ConnectTcp))
        .and_then(|rules| rules.scope(Scope::AbstractUnixSocket))
        .and_then(|rules| rules.scope(Scope::Signal))
        .and_then(Ruleset::create);
    let mut made = made.map_err(|error| no_landlock(&error))?;
    for port in ports {
        made = made.add_rule(NetPort::new(port, AccessNet::ConnectTcp)).map_err(|error| no_landlock(&error))?;
    }
    enforced(made.restrict_self())
}

fn enforced(restricted: Result<RestrictionStatus, RulesetError>) -> Result<(), Error> {
    let status = restricted.map_err(|error| no_landlock(&error))?;
    if status.ruleset == RulesetStatus::NotEnforced || !status.no_new_privs {
        return Err(no_landlock(&io::Error::other("it is not enforced")));
    }
    Ok(())
}

/// Landlock over the jail's own root: read and execute what is there, write only what was declared writable, no abstract sockets and no
/// signals to outside. Version 1 is required, and all that the kernel has beyond it is used.
pub(crate) fn landlock(spec: &Spec) -> Result<(), Error> {
    let file = AccessFs::ReadFile | AccessFs::Execute;
    let look = file | AccessFs::ReadDir;
    let device = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::Truncate;
    let change = AccessFs::from_all(ABI::V5) & !(AccessFs::MakeBlock | AccessFs::MakeChar | AccessFs::IoctlDev);
    let mut rules: Vec<(PathBuf, BitFlags<AccessFs>)> = vec![(PathBuf::from("/"), look)];
    rules.extend(DEVICES.iter().map(|name| (Path::new("/dev").join(name), device)));
    if spec.has_tmp() {
        rules.push((PathBuf::from("/tmp"), change));
    }
    for mount in spec.mounts.iter().filter(|mount| mount.writable) {
        let folder = std::fs::metadata(&mount.target).is_ok_and(|meta| meta.is_dir());
        let rights = if folder { change } else { file | AccessFs::WriteFile | AccessFs::Truncate };
        rules.push((mount.target.clone(), rights));
    }
    let made = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V1))
        .and_then(|rules| rules.set_compatibility(CompatLevel::BestEffort).handle_access(AccessFs::from_all(ABI::V5)))
        .and_then(|rules| rules.scope(Scope::AbstractUnixSocket))
        .and_then(|rules| rules.scope(Scope::Signal))
        .and_then(Ruleset::create);
    let mut made = made.map_err(|error| no_landlock(&error))?;
    for (path, rights) in rules {
        let beneath = PathFd::new(&path).map_err(|error| no_landlock(&error))?;
        made = made.add_rule(PathBeneath::new(beneath.as_fd(), rights)).map_err(|error| no_landlock(&error))?;
    }
    enforced(made.restrict_self())
}
