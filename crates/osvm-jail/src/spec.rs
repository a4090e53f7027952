//! What a jailed program gets: everything that is not here is not there.
//!
//! Checked by [`Spec::check`] before anything is made. Nothing here touches the host.

use std::{
    collections::BTreeMap,
    path::{Component, Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::egress::{PORT as EGRESS_PORT, target::Allowed};

/// Memory that a program gets when nobody says how much, bytes.
pub const DEFAULT_MEMORY: u64 = 512 << 20;
/// Processes and threads that a program gets when nobody says how many.
pub const DEFAULT_PIDS: u32 = 256;
/// Open files a process.
pub const DEFAULT_OPEN_FILES: u64 = 1024;
/// The size of `/tmp` when nobody says, bytes. It counts as memory too.
pub const DEFAULT_TMP: u64 = 64 << 20;
/// The smallest memory limit: below it not even the jail's own first process fits.
pub(crate) const SMALLEST_MEMORY: u64 = 4 << 20;
/// Processes and threads that a program with an egress proxy has at least: the jail's first, its own, the proxy, a connection.
const LEAST_PIDS_WITH_PROXY: u32 = 4;
/// Mounts that one jail may declare.
pub(crate) const MOST_MOUNTS: usize = 512;

/// One program and all that it may see and use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// The program's path inside the jail. It must be reachable through `mounts`.
    pub program: PathBuf,
    /// `argv`, the program's own name first.
    pub argv: Vec<String>,
    /// Its whole environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Its working directory inside the jail.
    #[serde(default = "root")]
    pub cwd: PathBuf,
    /// What of the host is visible, and where.
    #[serde(default)]
    pub mounts: Vec<Mount>,
    /// Whether there is no writable `/tmp`.
    #[serde(default)]
    pub read_only: bool,
    /// Whether there is a `/proc` of the jail's own processes (`subset=pid`). None by default.
    #[serde(default)]
    pub proc: bool,
    /// What it may use up.
    #[serde(default)]
    pub limits: Limits,
    /// What it may reach.
    #[serde(default)]
    pub network: Network,
}

fn root() -> PathBuf {
    PathBuf::from("/")
}

/// A file or folder of the host that is visible in the jail. Mounts below `source` are not carried along.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// On the host: a regular file or a folder.
    pub source: PathBuf,
    /// In the jail.
    pub target: PathBuf,
    /// Whether it may be written.
    pub writable: bool,
    /// Whether files of the owner of `source` belong to the program (by an id-mapped mount, when started by root).
    #[serde(default)]
    pub owned: bool,
}

/// What a program may use up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bytes of memory, page cache and `/tmp` included, swap not allowed beyond it.
    pub memory: u64,
    /// CPUs, as a share of time: 0.5 is half a CPU. None means no limit.
    pub cpus: Option<f64>,
    /// Processes and threads, the jail's own first process included.
    pub pids: u32,
    /// Open files a process.
    pub open_files: u64,
    /// Bytes of `/tmp`; 0 for none at all.
    pub tmp: u64,
    /// How long it may run.
    pub timeout: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: DEFAULT_MEMORY,
            cpus: None,
            pids: DEFAULT_PIDS,
            open_files: DEFAULT_OPEN_FILES,
            tmp: DEFAULT_TMP,
            timeout: None,
        }
    }
}

/// What a program may reach and from where it is reached. By default nothing, from nowhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Network {
    /// Destinations that the egress proxy lets through.
    pub allow: Vec<HostPort>,
    /// A unix socket of the host that is joined to a TCP port inside.
    pub inbound: Option<Inbound>,
}

/// A destination by name or address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostPort {
    /// A DNS name or an IP address, as the program will ask for it.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

/// How a service is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inbound {
    /// The unix socket on the host. It is made by the jail and removed at the end.
    pub socket: PathBuf,
    /// The TCP port on 127.0.0.1 inside.
    pub port: u16,
}

/// A specification that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {why}")]
pub struct BadSpec {
    /// Which part.
    pub what: String,
    /// Why.
    pub why: &'static str,
}

impl Spec {
    /// A program with the defaults: no environment, no mounts, no network.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        let program = program.into();
        Self {
            argv: vec![program.display().to_string()],
            program,
            env: BTreeMap::new(),
            cwd: root(),
            mounts: Vec::new(),
            read_only: false,
            proc: false,
            limits: Limits::default(),
            network: Network::default(),
        }
    }

    /// Whether there is a `/tmp`.
    pub(crate) fn has_tmp(&self) -> bool {
        !self.read_only && self.limits.tmp > 0
    }

    /// Whether it makes sense, so that a mistake is told before anything is made.
    pub fn check(&self) -> Result<(), BadSpec> {
        let bad = |what: String, why| Err(BadSpec { what, why });
        if self.argv.is_empty() {
            return bad("argv".to_owned(), "a program has at least its own name");
        }
        for text in self.argv.iter().chain(self.env.keys()).chain(self.env.values()) {
            if text.contains('\0') {
                return bad(format!("{text:?}"), "a NUL byte cannot be passed to a program");
            }
        }
        for name in self.env.keys() {
            if name.is_empty() || name.contains('=') {
                return bad(format!("environment variable {name:?}"), "a name is not empty and has no =");
            }
        }
        for path in [&self.program, &self.cwd] {
            if !is_plain(path) {
                return bad(path.display().to_string(), "a path in the jail is absolute, without `..`");
            }
        }
        if self.mounts.len() > MOST_MOUNTS {
            return bad(format!("{} mounts", self.mounts.len()), "a jail has 512 at most");
        }
        for mount in &self.mounts {
            if !is_plain(&mount.target) || mount.target == Path::new("/") {
                return bad(
                    mount.target.display().to_string(),
                    "a mount's target is absolute, without `..`, and not / itself",
                );
            }
            if ["/proc", "/sys", "/dev"].iter().any(|own| mount.target.starts_with(own)) {
                return bad(mount.target.display().to_string(), "/proc, /sys and /dev are the jail's own");
            }
            if self.read_only && mount.writable {
                return bad(mount.target.display().to_string(), "a writable mount contradicts read-only");
            }
        }
        self.network.check(self.limits.pids)?;
        let limits = &self.limits;
        if limits.memory < SMALLEST_MEMORY {
            return bad(format!("memory {}", limits.memory), "4 MiB is the least");
        }
        if limits.cpus.is_some_and(|cpus| !(0.01..=1024.0).contains(&cpus)) {
            return bad("cpus".to_owned(), "a number from 0.01 to 1024");
        }
        if limits.pids < 2 {
            return bad(format!("pids {}", limits.pids), "2 is the least: the jail's first process and the program");
        }
        if limits.open_files < 8 || limits.open_files > 1 << 20 {
            return bad(format!("open files {}", limits.open_files), "a number from 8 to 1048576");
        }
        Ok(())
    }
}

impl Network {
    fn check(&self, pids: u32) -> Result<(), BadSpec> {
        let bad = |what: String, why| Err(BadSpec { what, why });
        Allowed::new(&self.allow)?;
        if !self.allow.is_empty() && pids < LEAST_PIDS_WITH_PROXY {
            return bad(format!("pids {pids}"), "4 is the least where destinations are allowed: the proxy counts too");
        }
        let Some(Inbound { socket, port }) = &self.inbound else { return Ok(()) };
        if !socket.is_absolute() || socket.as_os_str().as_encoded_bytes().contains(&0) {
            return bad(socket.display().to_string(), "the socket's path is absolute");
        }
        if *port == 0 {
            return bad("port 0".to_owned(), "a port is a number from 1 to 65535");
        }
        if !self.allow.is_empty() && *port == EGRESS_PORT {
            return bad(format!("port {port}"), "it is the egress proxy's own in the jail");
        }
        Ok(())
    }
}

/// An absolute path of normal components only.
fn is_plain(path: &Path) -> bool {
    path.is_absolute()
        && path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)))
        && !path.as_os_str().as_encoded_bytes().contains(&0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(target: &str) -> Spec {
        let mut spec = Spec::new("/bin/true");
        let target = PathBuf::from(target);
        spec.mounts.push(Mount { source: PathBuf::from("/usr"), target, writable: false, owned: false });
        spec
    }

    #[test]
    fn the_jails_own_folders_cannot_be_mounted_over() {
        for target in ["/", "/proc", "/proc/self", "/sys", "/dev/shm", "usr", "/usr/../proc"] {
            assert!(mount(target).check().is_err(), "{target}");
        }
        mount("/usr").check().unwrap();
    }

    #[test]
    fn a_writable_mount_in_a_read_only_jail_is_refused() {
        let mut spec = mount("/data");
        spec.mounts[0].writable = true;
        spec.check().unwrap();
        spec.read_only = true;
        assert!(spec.check().is_err());
    }

    #[test]
    fn a_network_that_cannot_be_is_told_before_anything_is_made() {
        let mut spec = Spec::new("/bin/true");
        spec.network.allow.push(HostPort { host: "example.com".to_owned(), port: 443 });
        spec.network.inbound = Some(Inbound { socket: PathBuf::from("/run/x.sock"), port: 80 });
        spec.check().unwrap();
        let broken = |change: fn(&mut Spec)| {
            let mut spec = spec.clone();
            change(&mut spec);
            spec.check().is_err()
        };
        assert!(broken(|spec| spec.network.allow[0].host = "0.0.0.0".to_owned()));
        assert!(broken(|spec| spec.network.allow[0].host = "example.com.".to_owned()));
        assert!(broken(|spec| spec.network.allow[0].port = 0));
        assert!(broken(|spec| spec.network.allow = vec![spec.network.allow[0].clone(); 257]));
        assert!(broken(|spec| spec.limits.pids = 3));
        let inbound = |spec: &mut Spec, socket: &str, port| {
            spec.network.inbound = Some(Inbound { socket: PathBuf::from(socket), port });
            spec.check().is_err()
        };
        assert!(inbound(&mut spec, "x.sock", 80));
        assert!(inbound(&mut spec, "/x.sock", 0));
        assert!(inbound(&mut spec, "/x.sock", EGRESS_PORT));
    }

    #[test]
    fn an_unknown_field_is_an_error_and_not_ignored() {
        let json = r#"{"program":"/x","argv":["x"],"read_onyl":true}"#;
        assert!(serde_json::from_str::<Spec>(json).is_err());
    }
}
