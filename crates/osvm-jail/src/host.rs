//! What this host has of the pieces of level `process`, and what follows from a missing one. Looked up, nothing is tried: whether a jail
//! can be made is shown by making one (`osvm-jail check`).

use std::fs;

use crate::{cgroup::Groups, error::Error, sys};

/// One piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Its name.
    pub name: &'static str,
    /// What was found; if it is missing, what follows.
    pub found: Result<String, String>,
}

/// All pieces.
pub fn pieces() -> Vec<Piece> {
    vec![
        Piece { name: "user", found: user() },
        Piece { name: "control groups", found: groups() },
        Piece { name: "landlock", found: landlock() },
        Piece { name: "seccomp", found: seccomp() },
    ]
}

fn user() -> Result<String, String> {
    if rustix::process::geteuid().is_root() {
        return Ok("root: each instance gets a user of its own".to_owned());
    }
    let most = fs::read_to_string("/proc/sys/user/max_user_namespaces").unwrap_or_default();
    let refused = fs::read_to_string("/proc/sys/kernel/unprivileged_userns_clone").is_ok_and(|text| text.trim() == "0");
    if most.trim() == "0" || refused {
        return Err("not root, and users may not make namespaces: nothing separates a program from the host".to_owned());
    }
    Ok("not root: instances run as you, in namespaces of users".to_owned())
}

fn groups() -> Result<String, String> {
    match Groups::find() {
        Ok(groups) if groups.writable() => Ok(format!("version {}, groups can be made", if groups.v2 { 2 } else { 1 })),
        Ok(groups) => Err(format!(
            "version {}, but no group can be made below {}: no limit would hold",
            if groups.v2 { 2 } else { 1 },
            groups.place().display()
        )),
        Err(Error::Unavailable { what, .. }) => Err(what),
        Err(error) => Err(error.to_string()),
    }
}

fn landlock() -> Result<String, String> {
    match sys::landlock_version() {
        Ok(version) if version >= 6 => Ok(format!("version {version}: files, abstract sockets and signals")),
        Ok(version) => Ok(format!("version {version}: files; sockets and signals are kept apart by namespaces alone")),
        Err(error) => Err(format!("{error}: files would be kept apart by mounts alone")),
    }
}

fn seccomp() -> Result<String, String> {
    let path = "/proc/sys/kernel/seccomp/actions_avail";
    let actions =
        fs::read_to_string(path).map_err(|error| format!("{path}: {error}: no system call would be refused"))?;
    let missing =
        ["kill_process", "errno"].into_iter().find(|wanted| !actions.split_whitespace().any(|a| a == *wanted));
    match missing {
        None => Ok("filters".to_owned()),
        Some(action) => {
            Err(format!("the kernel has no action {action}: no system call would be refused as it has to be"))
        }
    }
}
