//! A microVM's folder: its name, its context id, and what has to be cleared up when its owner was killed.
//!
//! The owner holds a lock on the folder for as long as it lives; the kernel lets go of it when the owner ends, however that happens. A
//! folder without a holder is cleared by the next start: its VMM, known by process number and start time, is killed, and the
//! folder removed.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::Write,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::Child,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::error::{Error, io};

/// The first context id that a guest may have; the ones below are the hypervisor's, the loopback's and the host's.
const FIRST_CID: u32 = 3;
/// How many there are.
const CIDS: u32 = 0x1_0000;
/// Longest name.
const LONGEST_NAME: usize = 32;
const VMS: &str = "vms";
/// What a folder's name has before the context id.
const PREFIX: &str = "v";
const LOCK: &str = "lock";
const NAME: &str = "name";
const VSOCK: &str = "vsock";
const ABOUT: &str = "about";
const PROCESSES: &str = "processes";

/// A folder of one's own. Dropping it removes it.
#[derive(Debug)]
pub struct Place {
    /// The folder.
    pub dir: PathBuf,
    /// The microVM's name.
    pub name: String,
    /// Its context id; no other microVM below the same root has it.
    pub cid: u32,
    /// Let go of when this is dropped, after the folder was removed.
    lock: File,
}

/// A microVM whose owner lives.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Living {
    /// Its name.
    pub name: String,
    /// Its context id.
    pub cid: u32,
    /// Its unix socket that speaks hybrid vsock.
    pub vsock: PathBuf,
    /// Who runs it and what isolates it.
    pub about: String,
}

impl Place {
    /// Claims `name` below `root`, after clearing what dead owners left there.
    pub fn claim(root: &Path, name: &str) -> Result<Self, Error> {
        check(name)?;
        // A VMM works in its own folder.
        let root = &std::path::absolute(root).map_err(io("use", root))?;
        let vms = root.join(VMS);
        DirBuilder::new().recursive(true).mode(0o700).create(&vms).map_err(io("make", &vms))?;
        let all = lock_file(&root.join(LOCK))?;
        all.lock().map_err(io("lock", root.join(LOCK)))?;
        clear(&vms)?;
        let taken = living(root);
        if taken.iter().any(|other| other.name == name) {
            return Err(Error::Taken(name.to_owned()));
        }
        let free = |cid: &u32| taken.iter().all(|other| other.cid != *cid);
        let cid =
            (FIRST_CID..FIRST_CID + CIDS).find(free).ok_or(Error::Config("65536 microVMs run, which is the most"))?;
        // Not the name: a unix socket's path is short, and a VMM's lies deep in here.
        let dir = vms.join(format!("{PREFIX}{cid}"));
        DirBuilder::new().mode(0o700).create(&dir).map_err(io("make", &dir))?;
        let lock = lock_file(&dir.join(LOCK))?;
        lock.lock().map_err(io("lock", &dir))?;
        let place = Self { dir, name: name.to_owned(), cid, lock };
        place.write(NAME, name)?;
        Ok(place)
    }

    /// Tells other processes how the microVM is reached, and what it is.
    pub(crate) fn publish(&self, vsock: &Path, about: &str) -> Result<(), Error> {
        self.write(ABOUT, about)?;
        self.write(VSOCK, &vsock.display().to_string())
    }

    fn write(&self, name: &str, text: &str) -> Result<(), Error> {
        fs::write(self.dir.join(name), text).map_err(io("write", self.dir.join(name)))
    }

    /// Remembers a process that has to end with the owner.
    pub(crate) fn note(&self, child: &Child) -> Result<(), Error> {
        let file = self.dir.join(PROCESSES);
        let started = start_time(child.id()).unwrap_or(0);
        let mut open = OpenOptions::new().append(true).create(true).open(&file).map_err(io("open", &file))?;
        writeln!(open, "{} {started}", child.id()).map_err(io("write", &file))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Whoever claims next tries again.
        let _ = fs::remove_dir_all(&self.dir);
        let _ = self.lock.unlock();
    }
}

/// The microVMs whose owner lives, in the order of their names.
pub fn living(root: &Path) -> Vec<Living> {
    let entries = fs::read_dir(root.join(VMS)).into_iter().flatten().flatten();
    let held = entries.filter(|entry| File::open(entry.path().join(LOCK)).is_ok_and(|lock| is_held(&lock)));
    let mut all: Vec<Living> = held
        .filter_map(|entry| {
            let text = |name: &str| fs::read_to_string(entry.path().join(name)).unwrap_or_default();
            let cid = entry.file_name().to_str()?.strip_prefix(PREFIX)?.parse().ok()?;
            Some(Living { name: text(NAME), cid, vsock: PathBuf::from(text(VSOCK)), about: text(ABOUT) })
        })
        .collect();
    all.sort();
    all
}

fn check(name: &str) -> Result<(), Error> {
    let plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    let begins = name.as_bytes().first().is_some_and(u8::is_ascii_lowercase);
    if plain && begins && name.len() <= LONGEST_NAME { Ok(()) } else { Err(Error::Name(name.to_owned())) }
}

fn lock_file(path: &Path) -> Result<File, Error> {
    OpenOptions::new().write(true).create(true).truncate(false).open(path).map_err(io("open", path))
}

fn is_held(lock: &File) -> bool {
    matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock))
}

/// Removes what has no owner. The lock of the root is held meanwhile, so no folder is half made.
fn clear(vms: &Path) -> Result<(), Error> {
    for entry in fs::read_dir(vms).map_err(io("read", vms))? {
        let dir = entry.map_err(io("read", vms))?.path();
        if File::open(dir.join(LOCK)).is_ok_and(|lock| is_held(&lock)) {
            continue;
        }
        for (pid, started) in processes(&dir) {
            // Between the look and the kill the number could only go to another process if the whole range were used up.
            if start_time(pid).is_some_and(|now| now == started) {
                let _ = Pid::from_raw(pid.cast_signed()).map(|pid| kill_process(pid, Signal::KILL));
            }
        }
        fs::remove_dir_all(&dir).map_err(io("remove", &dir))?;
    }
    Ok(())
}

fn processes(dir: &Path) -> Vec<(u32, u64)> {
    let text = fs::read_to_string(dir.join(PROCESSES)).unwrap_or_default();
    let line =
        |line: &str| line.split_once(' ').and_then(|(pid, start)| Some((pid.parse().ok()?, start.parse().ok()?)));
    text.lines().filter_map(line).collect()
}

/// When a process started, in the kernel's ticks since boot: field 22, counted from behind the name, which may hold anything.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn names(root: &Path) -> Vec<String> {
        living(root).into_iter().map(|one| one.name).collect()
    }

    #[test]
    fn names_and_context_ids_are_unique_and_free_again_after_the_end() {
        let root = tempfile::tempdir().unwrap();
        let one = Place::claim(root.path(), "one").unwrap();
        let two = Place::claim(root.path(), "two").unwrap();
        assert_ne!(one.cid, two.cid);
        assert!(matches!(Place::claim(root.path(), "one"), Err(Error::Taken(_))));
        assert_eq!(names(root.path()), ["one", "two"]);
        let (dir, cid) = (one.dir.clone(), one.cid);
        drop(one);
        assert!(!dir.exists());
        assert_eq!(Place::claim(root.path(), "one").unwrap().cid, cid);
    }

    #[test]
    fn what_a_killed_owner_left_is_killed_and_removed_by_the_next_start() {
        let root = tempfile::tempdir().unwrap();
        let place = Place::claim(root.path(), "one").unwrap();
        let mut child = Command::new("/bin/sleep").arg("600").spawn().unwrap();
        place.note(&child).unwrap();
        fs::write(place.dir.join("mark"), "").unwrap();
        let dir = place.dir.clone();
        place.lock.unlock().unwrap();
        std::mem::forget(place);
        let next = Place::claim(root.path(), "two").unwrap();
        assert!(!dir.join("mark").exists());
        assert!(!child.wait().unwrap().success());
        assert_eq!(names(root.path()), ["two"]);
        drop(next);
    }

    #[test]
    fn a_process_that_only_has_the_number_is_left_alone() {
        let root = tempfile::tempdir().unwrap();
        let place = Place::claim(root.path(), "one").unwrap();
        fs::write(place.dir.join(PROCESSES), format!("{} 1\n", std::process::id())).unwrap();
        place.lock.unlock().unwrap();
        std::mem::forget(place);
        Place::claim(root.path(), "one").unwrap();
    }

    #[test]
    fn a_name_is_no_path() {
        for bad in ["", "..", "a/b", "A", "1a", "-a", "a_b", "a.b", &"a".repeat(33)] {
            assert!(matches!(check(bad), Err(Error::Name(_))), "{bad}");
        }
        check("a-1").unwrap();
    }
}
