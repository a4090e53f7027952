//! Memory, CPU and process limits, and what was used: control groups of version 1 and of version 2.
//!
//! An instance's group is named `osvm-jail.ID.PID` after its instance id and its monitor, and lies below the group of whoever started
//! it, so an outer limit stays in force. Without a writable group for memory and for processes there is no level `process`: a start is refused.

use std::{
    fs, io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustix::{
    fs::{FlockOperation, Mode, OFlags, flock, fstat},
    io::Errno,
};

use crate::{
    error::{At, Error},
    id::InstanceId,
    spec::Limits,
};

/// The period over which a share of CPU is measured, microseconds: the kernel's own default.
const CPU_PERIOD_US: u64 = 100_000;
/// What an instance's group is named, before its id and its monitor's process id.
const PREFIX: &str = "osvm-jail.";
/// How often an id is looked for. Monitors that do not see each other may take the same one in the same moment.
const CLAIM_TRIES: u32 = 100;
/// How often removing a group is tried. Its last process, though waited for, may still be on its way out.
const REMOVE_TRIES: u32 = 200;
/// The first pause between two tries, which doubles up to [`REMOVE_PAUSE_MAX`]: there is no event for it in version 1.
const REMOVE_PAUSE: Duration = Duration::from_micros(50);
/// The longest pause between two tries.
const REMOVE_PAUSE_MAX: Duration = Duration::from_millis(50);

/// Where groups are made on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Groups {
    /// The parents: one folder for version 2, one a controller for version 1.
    parents: Vec<Parent>,
    /// Whether they are of version 2.
    pub v2: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Parent {
    controller: &'static str,
    folder: PathBuf,
    /// Of `cpu`: whether its hierarchy also counts the time that is used.
    accounts: bool,
}

/// What an instance used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Memory now, bytes: without file pages that nobody has touched lately.
    pub memory: Option<u64>,
    /// The most memory at one time, bytes, with all file pages.
    pub memory_peak: Option<u64>,
    /// The most memory that it may use, bytes.
    pub memory_limit: Option<u64>,
    /// Processes and threads now, the jail's first process included.
    pub pids: Option<u64>,
    /// CPU time of all its processes.
    pub cpu: Option<Duration>,
    /// How many of its processes the kernel killed for memory.
    pub oom_kills: u64,
}

impl Groups {
    /// Finds the groups in which this process may make others.
    pub fn find() -> Result<Self, Error> {
        let own = fs::read_to_string("/proc/self/cgroup").at("reading /proc/self/cgroup")?;
        let mounts = fs::read_to_string("/proc/self/mountinfo").at("reading /proc/self/mountinfo")?;
        Self::from(&own, &mounts)
    }

    fn from(own: &str, mounts: &str) -> Result<Self, Error> {
        let missing = |what: &str| Error::Unavailable {
            what: format!("no control group for {what} is mounted, so its limit would not hold"),
            help: "mount cgroup2 on /sys/fs/cgroup".to_owned(),
        };
        let mut parents = Vec::new();
        for controller in ["memory", "pids", "cpu", "cpuacct"] {
            let line = own.lines().find_map(|line| {
                let mut parts = line.splitn(3, ':').skip(1);
                let names = parts.next()?;
                let path = parts.next()?;
                names.split(',').any(|name| name == controller).then_some(path)
            });
            let at = mounted(mounts, "cgroup", Some(controller));
            let (Some(path), Some((root, at))) = (line, at) else { continue };
            parents.push(Parent { controller, folder: at.join(below(path, &root)), accounts: false });
        }
        // One mounted hierarchy may carry both.
        if let [.., cpu, cpuacct] = parents.as_mut_slice()
            && cpu.folder == cpuacct.folder
        {
            cpu.accounts = true;
            parents.pop();
        }
        if parents.iter().any(|parent| parent.controller == "memory") {
            if !parents.iter().any(|parent| parent.controller == "pids") {
                return Err(missing("processes"));
            }
            return Ok(Self { parents, v2: false });
        }
        let Some((root, at)) = mounted(mounts, "cgroup2", None) else { return Err(missing("memory")) };
        let path = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
        let mut folder = at.join(below(path, &root));
        // A group of version 2 that has processes cannot have children with limits: go to where it can.
        if folder != at && !controls_children(&folder) {
            folder = folder.parent().filter(|parent| parent.starts_with(&at)).unwrap_or(&at).to_owned();
        }
        Ok(Self { parents: vec![Parent { controller: "all", folder, accounts: true }], v2: true })
    }

    /// Takes an instance id, and makes the instance's group with its limits.
    pub(crate) fn claim(&self, limits: &Limits) -> Result<(InstanceId, Group), Error> {
        let mut start = std::process::id();
        for _ in 0..CLAIM_TRIES {
            let id = InstanceId::take(start, |number| self.holds(number, None))?;
            if let Some(group) = self.create(&id, limits)? {
                return Ok((id, group));
            }
            // Monitors of several pid namespaces may have one number; they do not have one moment.
            let moment = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            start = start.wrapping_add(moment.subsec_micros());
        }
        Err(Error::Unavailable {
            what: "other monitors took each instance id that was free, and two instances must not share one".to_owned(),
            help: "try again".to_owned(),
        })
    }

    /// Makes an instance's group; none if a monitor of other namespaces took the same id.
    fn create(&self, id: &InstanceId, limits: &Limits) -> Result<Option<Group>, Error> {
        let mut group = Group { folders: Vec::new(), _locks: Vec::new(), v2: self.v2, parents: self.clone() };
        let pid = std::process::id();
        // In a group of CPU time a process waits behind all that runs outside of it, so there is one only where there is a limit.
        let wanted = |parent: &&Parent| parent.controller != "cpu" || limits.cpus.is_some() || parent.accounts;
        for parent in self.parents.iter().filter(wanted) {
            if self.v2 {
                enable(&parent.folder)?;
            }
            // The id is ours, and so is the process id: whoever made such a group is gone, or is in other namespaces than we are.
            for (stale, name) in groups_in(&parent.folder).filter(|(_, name)| name.0 == id.number || name.1 == pid) {
                match lock(&stale) {
                    Ok(Some(_locked)) => remove(&stale).at("removing a dead instance's control group")?,
                    Ok(None) if name.0 == id.number => return Ok(None),
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unwritable(&stale, &error)),
                    _ => {}
                }
            }
            let folder = parent.folder.join(format!("{PREFIX}{}.{pid}", id.number));
            let Some(locked) = make(&folder)? else { return Ok(None) };
            group._locks.push(locked);
            group.folders.push((parent.controller, folder));
        }
        if self.holds(id.number, Some(pid)) {
            return Ok(None);
        }
        group.limit(limits)?;
        Ok(Some(group))
    }

    /// Removes the groups of instances whose monitor was killed.
    pub(crate) fn sweep(&self) {
        for (folder, (number, _)) in self.parents.iter().flat_map(|parent| groups_in(&parent.folder)) {
            // While we hold its id nobody in our network namespace can be using the group, and with its lock nobody at all.
            if let (Ok(_held), Ok(Some(_locked))) = (InstanceId::hold(number), lock(&folder)) {
                // A group that is not empty has an instance on its way out: the next sweep gets it.
                let _ = fs::remove_dir(folder);
            }
        }
    }

    /// Whether an instance with this id lives, in whichever namespaces its monitor is; other than that of our own monitor.
    fn holds(&self, number: u32, own: Option<u32>) -> bool {
        let Some(parent) = self.parents.first() else { return false };
        let mut same = groups_in(&parent.folder).filter(|(_, name)| name.0 == number && Some(name.1) != own);
        same.any(|(folder, _)| matches!(lock(&folder), Ok(None)))
    }

    /// Whether this process may make a group.
    pub(crate) fn writable(&self) -> bool {
        self.parents.iter().all(|parent| rustix::fs::access(&parent.folder, rustix::fs::Access::WRITE_OK).is_ok())
    }

    /// Where groups are made: for memory, if each controller has its own place.
    pub(crate) fn place(&self) -> &Path {
        self.parents.first().map_or(Path::new("/sys/fs/cgroup"), |parent| &parent.folder)
    }

    /// What the instance of that monitor uses; none if there is no such instance.
    pub fn used_by(&self, monitor: u32) -> Option<Used> {
        let group = self.of(monitor);
        let used = (!group.folders.is_empty()).then(|| group.used());
        // It is not ours to remove.
        std::mem::forget(group);
        used
    }

    /// Ends what a monitor that was killed left behind, and removes its group. Returns once no process of it is left.
    pub fn clear(&self, monitor: u32) -> Result<(), Error> {
        let mut group = self.of(monitor);
        group.kill();
        for (_, folder) in std::mem::take(&mut group.folders) {
            remove(&folder).at("removing a dead instance's control group")?;
        }
        Ok(())
    }

    fn of(&self, monitor: u32) -> Group {
        let folders = self.parents.iter().flat_map(|parent| {
            groups_in(&parent.folder)
                .filter(|(_, name)| name.1 == monitor)
                .map(|(folder, _)| (parent.controller, folder))
        });
        Group { folders: folders.collect(), _locks: Vec::new(), v2: self.v2, parents: self.clone() }
    }
}

/// The groups of instances in a folder, with their instance id and their monitor's process id.
fn groups_in(folder: &Path) -> impl Iterator<Item = (PathBuf, (u32, u32))> {
    fs::read_dir(folder).into_iter().flatten().flatten().filter_map(|entry| {
        let name = entry.file_name();
        let (number, pid) = name.to_str()?.strip_prefix(PREFIX)?.split_once('.')?;
        Some((entry.path(), (number.parse().ok()?, pid.parse().ok()?)))
    })
}

/// The lock that a monitor has on its instance's group; none if somebody has it. The kernel gives it back whatever way the monitor ends.
/// Ids are held per network namespace and process ids are counted per pid namespace; the groups are the same ones from everywhere.
fn lock(folder: &Path) -> io::Result<Option<OwnedFd>> {
    let folder = rustix::fs::open(folder, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(folder)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Makes a group and locks it; none if another monitor was there first, or a sweep has just taken it for a dead instance's.
fn make(folder: &Path) -> Result<Option<OwnedFd>, Error> {
    let missing = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    match fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
        made => made.map_err(|error| unwritable(folder, &error))?,
    }
    let locked = match lock(folder) {
        Err(error) if missing(&error) => None,
        locked => locked.map_err(|error| unwritable(folder, &error))?,
    };
    let there = |locked: &OwnedFd| {
        fs::metadata(folder).is_ok_and(|meta| fstat(locked).is_ok_and(|stat| stat.st_ino == meta.ino()))
    };
    Ok(locked.filter(there))
}

fn unwritable(folder: &Path, error: &io::Error) -> Error {
    Error::Unavailable {
        what: format!("control group {} cannot be made ({error}), so no limit would hold", folder.display()),
        help: "run as root, or in a group delegated to you: systemd-run --user --scope -p Delegate=yes osvm run …"
            .to_owned(),
    }
}

/// The mount of a hierarchy: its root within the hierarchy, and where it is mounted.
fn mounted(mounts: &str, kind: &str, controller: Option<&str>) -> Option<(String, PathBuf)> {
    mounts.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut right = right.split(' ');
        if right.next()? != kind {
            return None;
        }
        if let Some(controller) = controller
            && !right.nth(1)?.split(',').any(|option| option == controller)
        {
            return None;
        }
        let mut left = left.split(' ').skip(3);
        Some((left.next()?.to_owned(), PathBuf::from(left.next()?)))
    })
}

/// A group's path relative to the mount's root.
fn below<'a>(path: &'a str, root: &str) -> &'a str {
    path.strip_prefix(root.trim_end_matches('/')).unwrap_or(path).trim_start_matches('/')
}

fn controls_children(folder: &Path) -> bool {
    let enabled = fs::read_to_string(folder.join("cgroup.subtree_control")).unwrap_or_default();
    let has = |name| enabled.split_whitespace().any(|word| word == name);
    has("memory") && has("pids")
}

/// Has the children of a group of version 2 limited.
fn enable(folder: &Path) -> Result<(), Error> {
    if controls_children(folder) {
        return Ok(());
    }
    let there = fs::read_to_string(folder.join("cgroup.controllers")).unwrap_or_default();
    for controller in ["memory", "pids"] {
        if !there.split_whitespace().any(|word| word == controller) {
            return Err(Error::Unavailable {
                what: format!("controller {controller} is not available in {}", folder.display()),
                help: "run as root, or delegate the controllers: systemd-run --user --scope -p Delegate=yes osvm run …"
                    .to_owned(),
            });
        }
    }
    let cpu = if there.split_whitespace().any(|word| word == "cpu") { " +cpu" } else { "" };
    let file = folder.join("cgroup.subtree_control");
    fs::write(&file, format!("+memory +pids{cpu}")).map_err(|error| unwritable(folder, &error))
}

fn remove(folder: &Path) -> io::Result<()> {
    let mut tries = 0;
    let mut pause = REMOVE_PAUSE;
    loop {
        match fs::remove_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && tries < REMOVE_TRIES => {
                tries += 1;
                std::thread::sleep(pause);
                pause = (pause * 2).min(REMOVE_PAUSE_MAX);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            done => return done,
        }
    }
}

/// How a process gets into a group. Moving another process waits for every processor of the host (some 15 ms a hierarchy); a process
/// that is born there, or that of one thread that moves itself, does not.
#[derive(Debug)]
pub(crate) enum Entrance {
    /// Version 2: the group's folder, in which the process is started.
    Born(OwnedFd),
    /// Version 1: the groups' lists of tasks, into which the process writes itself.
    Walk(Vec<OwnedFd>),
}

impl Entrance {
    /// The folder to be started in, for [`crate::sys::fork_into`].
    pub(crate) fn born(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Born(folder) => Some(folder.as_fd()),
            Self::Walk(_) => None,
        }
    }

    /// In the process itself, which has one thread: from here on, it and all that it starts is under the limits.
    pub(crate) fn walk(self) -> Result<(), Error> {
        if let Self::Walk(files) = self {
            for file in files {
                rustix::io::write(&file, b"0").at("entering the control group")?;
            }
        }
        Ok(())
    }
}

/// One instance's group. It is removed when this is dropped; by then its processes must be gone.
#[derive(Debug)]
pub(crate) struct Group {
    folders: Vec<(&'static str, PathBuf)>,
    _locks: Vec<OwnedFd>,
    v2: bool,
    parents: Groups,
}

impl Group {
    fn folder(&self, controller: &str) -> Option<&Path> {
        let found = self.folders.iter().find(|(name, _)| self.v2 || *name == controller);
        found.map(|(_, folder)| folder.as_path())
    }

    fn set(&self, controller: &str, file: &str, value: &str) -> Result<(), Error> {
        let written = match self.folder(controller) {
            Some(folder) => fs::write(folder.join(file), value),
            None => Err(io::Error::new(io::ErrorKind::NotFound, "the controller is not mounted")),
        };
        written.map_err(|error| Error::Unavailable {
            what: format!("limit {file} = {value} cannot be set ({error}), so it would not hold"),
            help: "run on a kernel with this controller, or leave the limit out".to_owned(),
        })
    }

    fn has(&self, controller: &str, file: &str) -> bool {
        self.folder(controller).is_some_and(|folder| folder.join(file).exists())
    }

    fn limit(&self, limits: &Limits) -> Result<(), Error> {
        let memory = limits.memory.to_string();
        self.set("pids", "pids.max", &limits.pids.to_string())?;
        if self.v2 {
            self.set("memory", "memory.max", &memory)?;
            if self.has("memory", "memory.swap.max") {
                self.set("memory", "memory.swap.max", "0")?;
            }
            self.set("memory", "memory.oom.group", "1")?;
        } else {
            self.set("memory", "memory.limit_in_bytes", &memory)?;
            if self.has("memory", "memory.memsw.limit_in_bytes") {
                self.set("memory", "memory.memsw.limit_in_bytes", &memory)?;
            }
        }
        if let Some(cpus) = limits.cpus {
            // At least a millisecond, which is the least that the kernel takes.
            let quota = ((cpus * CPU_PERIOD_US as f64) as u64).max(1_000);
            if self.v2 {
                self.set("cpu", "cpu.max", &format!("{quota} {CPU_PERIOD_US}"))?;
            } else {
                self.set("cpu", "cpu.cfs_period_us", &CPU_PERIOD_US.to_string())?;
                self.set("cpu", "cpu.cfs_quota_us", &quota.to_string())?;
            }
        }
        Ok(())
    }

    /// The way in for a process of one thread.
    pub(crate) fn entrance(&self) -> Result<Entrance, Error> {
        let open = |folder: &Path, file: &str, flags| {
            let file = rustix::fs::open(folder.join(file), flags | OFlags::CLOEXEC, Mode::empty());
            file.map_err(|error| unwritable(folder, &error.into()))
        };
        if self.v2 {
            let Some((_, folder)) = self.folders.first() else {
                return Err(io::Error::from(io::ErrorKind::NotFound)).at("entering the control group");
            };
            return Ok(Entrance::Born(open(folder, "", OFlags::DIRECTORY | OFlags::RDONLY)?));
        }
        let files = self.folders.iter().map(|(_, folder)| open(folder, "tasks", OFlags::WRONLY));
        Ok(Entrance::Walk(files.collect::<Result<_, _>>()?))
    }

    /// What its processes have used so far.
    pub(crate) fn used(&self) -> Used {
        let read = |controller: &str, file: &str| {
            self.folder(controller).and_then(|folder| fs::read_to_string(folder.join(file)).ok())
        };
        let number = |text: Option<String>| text.and_then(|text| text.trim().parse::<u64>().ok());
        if self.v2 {
            let idle = field(read("memory", "memory.stat"), "inactive_file").unwrap_or(0);
            Used {
                memory: number(read("memory", "memory.current")).map(|all| all.saturating_sub(idle)),
                memory_peak: number(read("memory", "memory.peak")),
                memory_limit: number(read("memory", "memory.max")),
                pids: number(read("pids", "pids.current")),
                cpu: field(read("cpu", "cpu.stat"), "usage_usec").map(Duration::from_micros),
                oom_kills: field(read("memory", "memory.events"), "oom_kill").unwrap_or(0),
            }
        } else {
            let idle = field(read("memory", "memory.stat"), "total_inactive_file").unwrap_or(0);
            Used {
                memory: number(read("memory", "memory.usage_in_bytes")).map(|all| all.saturating_sub(idle)),
                memory_peak: number(read("memory", "memory.max_usage_in_bytes")),
                memory_limit: number(read("memory", "memory.limit_in_bytes")),
                pids: number(read("pids", "pids.current")),
                cpu: number(read("cpuacct", "cpuacct.usage").or_else(|| read("cpu", "cpuacct.usage")))
                    .map(Duration::from_nanos),
                oom_kills: field(read("memory", "memory.oom_control"), "oom_kill").unwrap_or(0),
            }
        }
    }

    /// Kills whatever is in it, where the kernel has a call for that. (The pid namespace's end kills all of it anyway.)
    pub(crate) fn kill(&self) {
        if self.has("all", "cgroup.kill") {
            let _ = self.set("all", "cgroup.kill", "1");
        }
    }

    /// Takes the group away.
    pub(crate) fn remove(mut self) -> Result<(), Error> {
        for (_, folder) in std::mem::take(&mut self.folders) {
            remove(&folder).at("removing the control group")?;
        }
        self.parents.sweep();
        Ok(())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for (_, folder) in &self.folders {
            let _ = remove(folder);
        }
    }
}

fn field(text: Option<String>, name: &str) -> Option<u64> {
    text?.lines().find_map(|line| line.split_once(' ').filter(|(key, _)| *key == name)?.1.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "\
30 25 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
31 25 0:27 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
32 25 0:28 /outer /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
33 25 0:29 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn groups_of_version_1_lie_below_our_own_in_each_hierarchy() {
        let own = "5:memory:/a/b\n4:cpu,cpuacct:/\n3:pids:/outer/x\n0::/\n";
        let groups = Groups::from(own, V1).unwrap();
        let folder = |name| groups.parents.iter().find(|p| p.controller == name).map(|p| p.folder.to_str().unwrap());
        assert!(!groups.v2);
        assert_eq!(folder("memory"), Some("/sys/fs/cgroup/memory/a/b"));
        assert_eq!(folder("pids"), Some("/sys/fs/cgroup/pids/x"));
        assert_eq!(folder("cpu"), Some("/sys/fs/cgroup/cpu,cpuacct/"));
        assert_eq!(folder("cpuacct"), None, "one hierarchy is used once");
    }

    #[test]
    fn without_a_memory_controller_the_level_is_refused() {
        let error = Groups::from("0::/\n", "").unwrap_err();
        assert!(matches!(error, Error::Unavailable { .. }));
        assert_eq!(error.exit(), 3);
    }

    #[test]
    fn version_2_writes_its_own_files() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("memory.swap.max"), "").unwrap();
        let group = Group {
            folders: vec![("all", folder.path().to_owned())],
            _locks: Vec::new(),
            v2: true,
            parents: Groups { parents: Vec::new(), v2: true },
        };
        let limits = Limits { memory: 8 << 20, cpus: Some(0.5), pids: 7, ..Limits::default() };
        group.limit(&limits).unwrap();
        let read = |file| fs::read_to_string(folder.path().join(file)).unwrap();
        assert_eq!(read("memory.max"), "8388608");
        assert_eq!(read("memory.swap.max"), "0");
        assert_eq!(read("pids.max"), "7");
        assert_eq!(read("cpu.max"), "50000 100000");
        fs::write(folder.path().join("memory.events"), "oom 1\noom_kill 2\noom_group_kill 1\n").unwrap();
        assert_eq!(group.used().oom_kills, 2);
        std::mem::forget(group);
    }
}
