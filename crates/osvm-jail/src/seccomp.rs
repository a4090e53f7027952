//! The filters, compiled from [`crate::calls`] outside the jail and loaded inside as the last step before the program.
//!
//! Three filters are loaded on top of each other, since one filter of seccompiler's has one answer for a match; the kernel takes the
//! strictest answer. A call without conditions is answered from the kernel's bitmap, which it builds when a filter is loaded.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

use crate::calls;

/// Terminal and file requests that a program may make. No `TIOCSTI`, `TIOCLINUX`, `TIOCSETD` or `TIOCSCTTY`.
pub const IOCTLS: &[u64] = &[
    libc::TCGETS,
    libc::TCSETS,
    libc::TCSETSW,
    libc::TCSETSF,
    libc::TIOCGWINSZ,
    libc::TIOCGPGRP,
    libc::FIONREAD,
    libc::FIONBIO,
    libc::FIOCLEX,
    libc::FIONCLEX,
    libc::SIOCGIFCONF,
    libc::SIOCGIFFLAGS,
    libc::SIOCGIFADDR,
    libc::SIOCGIFINDEX,
];

/// Options of `prctl` that a program may use.
pub const PRCTLS: &[i32] = &[
    libc::PR_SET_NAME,
    libc::PR_GET_NAME,
    libc::PR_SET_PDEATHSIG,
    libc::PR_GET_PDEATHSIG,
    libc::PR_SET_DUMPABLE,
    libc::PR_GET_DUMPABLE,
    libc::PR_SET_NO_NEW_PRIVS,
    libc::PR_GET_NO_NEW_PRIVS,
    libc::PR_CAPBSET_READ,
    libc::PR_SET_CHILD_SUBREAPER,
    libc::PR_SET_TIMERSLACK,
    libc::PR_SET_THP_DISABLE,
    libc::PR_SET_VMA,
];

/// Socket families: sockets of the jail itself, and routes and addresses of its own net namespace.
pub const FAMILIES: &[i32] = &[libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

/// Flags of `clone` that make a namespace.
const NAMESPACES: &[i32] = &[
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWCGROUP,
];

/// Set-user-id and set-group-id: a file with one, on a shared mount, would be a way to another user of the host.
const SET_ID: &[u32] = &[libc::S_ISUID, libc::S_ISGID];

/// Flags with which `open` takes a mode. `O_TMPFILE` without the bit of `O_DIRECTORY`.
const CREATING: &[i32] = &[libc::O_CREAT, libc::O_TMPFILE & !libc::O_DIRECTORY];

/// Which process a filter is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The program.
    Service,
    /// The jail's first process.
    Init,
}

/// The filters of one kind of process, in the order in which they are loaded.
#[derive(Debug)]
pub struct Filters(Vec<BpfProgram>);

impl Filters {
    /// Compiles the table.
    pub fn new(kind: Kind) -> Result<Self, seccompiler::Error> {
        let (new, old) = match kind {
            Kind::Service => (calls::SERVICE, calls::SERVICE_OLD),
            Kind::Init => (calls::INIT, calls::INIT_OLD),
        };
        // Loading a filter is allowed until the last one, which forbids it, is loaded.
        let allowed = new.iter().chain(old).chain(&[libc::SYS_seccomp]).map(|call| (*call, Vec::new())).collect();
        let forbidden = match kind {
            Kind::Service => forbidden()?,
            Kind::Init => calls::FORBIDDEN.iter().map(|call| (*call, Vec::new())).collect(),
        };
        let fatal = calls::FATAL.iter().map(|call| (*call, Vec::new())).collect();
        let no_such_call = SeccompAction::Errno(libc::ENOSYS as u32);
        Ok(Self(vec![
            compile(fatal, SeccompAction::Allow, SeccompAction::KillProcess)?,
            // Of two filters with an errno the younger one's counts: EPERM before ENOSYS.
            compile(allowed, no_such_call, SeccompAction::Allow)?,
            compile(forbidden, SeccompAction::Allow, SeccompAction::Errno(libc::EPERM as u32))?,
        ]))
    }

    /// Loads all of them. From then on this process has what the table gives.
    pub(crate) fn load(&self) -> std::io::Result<()> {
        self.0.iter().try_for_each(|filter| crate::sys::load_filter(filter))
    }
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn compile(rules: Rules, otherwise: SeccompAction, matched: SeccompAction) -> Result<BpfProgram, seccompiler::Error> {
    let arch = std::env::consts::ARCH.try_into()?;
    Ok(SeccompFilter::new(rules, otherwise, matched, arch)?.try_into()?)
}

/// What gets `EPERM`: whole calls, and harmful forms of calls that are allowed otherwise.
fn forbidden() -> Result<Rules, seccompiler::Error> {
    let mut rules: Rules = calls::FORBIDDEN.iter().map(|call| (*call, Vec::new())).collect();
    let mut add = |call, rule: Vec<SeccompCondition>| -> Result<(), seccompiler::Error> {
        rules.entry(call).or_default().push(SeccompRule::new(rule)?);
        Ok(())
    };
    add(libc::SYS_ioctl, none_of(1, IOCTLS.iter().copied())?)?;
    add(libc::SYS_prctl, none_of(0, PRCTLS.iter().map(|option| u64::from(option.cast_unsigned())))?)?;
    for call in [libc::SYS_socket, libc::SYS_socketpair] {
        add(call, none_of(0, FAMILIES.iter().map(|family| u64::from(family.cast_unsigned())))?)?;
    }
    // Only NETLINK_ROUTE of the netlink protocols.
    let netlink = u64::from(libc::AF_NETLINK.cast_unsigned());
    add(libc::SYS_socket, vec![arg(0, SeccompCmpOp::Eq, netlink)?, arg(2, SeccompCmpOp::Ne, 0)?])?;
    for flag in NAMESPACES {
        add(libc::SYS_clone, vec![has(0, flag.cast_unsigned())?])?;
    }
    for bit in SET_ID {
        for (call, mode) in [(libc::SYS_fchmod, 1), (libc::SYS_fchmodat, 2), (libc::SYS_mknodat, 2)] {
            add(call, vec![has(mode, *bit)?])?;
        }
        for creating in CREATING {
            add(libc::SYS_openat, vec![has(3, *bit)?, has(2, creating.cast_unsigned())?])?;
            #[cfg(target_arch = "x86_64")]
            add(libc::SYS_open, vec![has(2, *bit)?, has(1, creating.cast_unsigned())?])?;
        }
        #[cfg(target_arch = "x86_64")]
        for call in [libc::SYS_chmod, libc::SYS_creat, libc::SYS_mknod] {
            add(call, vec![has(1, *bit)?])?;
        }
    }
    // The limit on core dumps is 1, which no kernel takes for "pipe it to the host's handler"; 0 would be.
    let core = u64::from(libc::RLIMIT_CORE);
    add(libc::SYS_setrlimit, vec![arg(0, SeccompCmpOp::Eq, core)?])?;
    let new = SeccompCondition::new(2, SeccompCmpArgLen::Qword, SeccompCmpOp::Ne, 0)?;
    add(libc::SYS_prlimit64, vec![arg(1, SeccompCmpOp::Eq, core)?, new])?;
    Ok(rules)
}

/// A condition on the low 32 bits of an argument, which is all that the kernel reads of an `int`.
fn arg(index: u8, op: SeccompCmpOp, value: u64) -> Result<SeccompCondition, seccompiler::Error> {
    Ok(SeccompCondition::new(index, SeccompCmpArgLen::Dword, op, value)?)
}

/// An argument that has this bit.
fn has(index: u8, bit: u32) -> Result<SeccompCondition, seccompiler::Error> {
    arg(index, SeccompCmpOp::MaskedEq(u64::from(bit)), u64::from(bit))
}

/// An argument that is none of these.
fn none_of(index: u8, values: impl Iterator<Item = u64>) -> Result<Vec<SeccompCondition>, seccompiler::Error> {
    values.map(|value| arg(index, SeccompCmpOp::Ne, value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_compiles_to_what_the_kernel_takes() {
        for kind in [Kind::Service, Kind::Init] {
            for filter in Filters::new(kind).unwrap().0 {
                assert!(filter.len() <= 4096, "{} instructions", filter.len());
            }
        }
    }

    #[test]
    fn no_request_that_types_into_a_terminal_is_allowed() {
        for request in [libc::TIOCSTI, libc::TIOCLINUX, libc::TIOCSETD, libc::TIOCSCTTY] {
            assert!(!IOCTLS.contains(&request));
        }
    }
}
