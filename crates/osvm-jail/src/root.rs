//! The jail's root: a fresh tmpfs that holds the declared mounts, four devices, and nothing else.
//!
//! Runs in the jail's first process, in its own mount namespace, before it gives up any power. Sources are opened before anything is
//! covered; targets are walked without following one link, and folders are made only in our own tmpfs, never in a mount.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, fstatfs, mkdirat, openat, openat2},
    io::Errno,
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
        fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount_change, move_mount, open_tree, unmount,
    },
    process::{fchdir, pivot_root},
};

use crate::{
    error::{At, Error},
    spec::{Mount, Spec},
    sys,
};

/// The devices of a jail.
pub const DEVICES: [&str; 4] = ["null", "zero", "random", "urandom"];
/// The size of the root itself, which holds only folders and empty files to mount on, bytes.
const ROOT_SIZE: &str = "1048576";
/// Files and folders that the root may have.
const ROOT_FILES: &str = "8192";
/// Files that `/tmp` may have.
const TMP_FILES: u64 = 16_384;

/// File systems that are windows to the kernel or to devices, by the magic number of statfs.
const WINDOWS: [(u64, &str); 13] = [
    (0x9fa0, "proc"),
    (0x6265_6572, "sysfs"),
    (0x1cd1, "devpts"),
    (0x6462_6720, "debugfs"),
    (0x7472_6163, "tracefs"),
    (0x7363_6673, "securityfs"),
    (0x0027_e0eb, "cgroup"),
    (0x6367_7270, "cgroup2"),
    (0xcafe_4a11, "bpf"),
    (0x1980_0202, "mqueue"),
    (0x6265_6570, "configfs"),
    (0xde5e_81e4, "efivarfs"),
    (0x6165_676c, "pstore"),
];

/// A namespace of users by which one mount's owner becomes the program's user.
pub(crate) struct MappedOwner {
    pub(crate) mount: usize,
    pub(crate) namespace: File,
}

/// Builds the root and moves this process into it.
pub(crate) fn enter(spec: &Spec, owners: &[MappedOwner]) -> Result<(), Error> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).at("making mounts private")?;
    let mut sources = Vec::with_capacity(spec.mounts.len());
    for (index, mount) in spec.mounts.iter().enumerate() {
        let owner = owners.iter().find(|owner| owner.mount == index).map(|owner| &owner.namespace);
        sources.push((mount, source(mount, owner)?));
    }
    // A target that lies in another mount comes after it.
    sources.sort_by_key(|(mount, _)| mount.target.components().count());
    let devices: Vec<_> = DEVICES.iter().map(|name| device(name)).collect::<Result<_, _>>()?;

    let root = tmpfs(&[("size", ROOT_SIZE), ("nr_inodes", ROOT_FILES), ("mode", "0755")])?;
    place(&root)?;
    let mut root = Target { root, own: Vec::new() };
    root.own.push(fstat(&root.root).at("looking at the root")?.st_dev);
    if spec.has_tmp() {
        let options =
            [("size", &*spec.limits.tmp.to_string()), ("nr_inodes", &*TMP_FILES.to_string()), ("mode", "1777")];
        let tmp = tmpfs(&options)?;
        root.attach(&tmp, Path::new("/tmp"), true)?;
        root.own.push(fstat(&tmp).at("looking at /tmp")?.st_dev);
    }
    for (mount, (tree, folder)) in &sources {
        root.attach(tree, &mount.target, *folder)?;
    }
    for (name, tree) in DEVICES.iter().zip(&devices) {
        root.attach(tree, &Path::new("/dev").join(name), false)?;
    }
    if spec.proc {
        root.attach(&own_proc()?, Path::new("/proc"), true)?;
    }
    root.open(&spec.cwd, true)?;
    pivot(&root.root)
}

/// Moves this process into a root in which there is nothing and nothing can be made.
pub(crate) fn enter_nothing() -> Result<(), Error> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).at("making mounts private")?;
    let root = tmpfs(&[("size", "4096"), ("nr_inodes", "2"), ("mode", "0555")])?;
    place(&root)?;
    pivot(&root)
}

/// A root has to be attached somewhere before it can be one. /proc is there on every host, and this namespace is ours alone.
fn place(root: &OwnedFd) -> Result<(), Error> {
    move_mount(root, "", CWD, "/proc", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).at("attaching the root")
}

/// Makes it the root of this process, and the host's root go away.
fn pivot(root: &OwnedFd) -> Result<(), Error> {
    fchdir(root).at("entering the root")?;
    pivot_root(".", ".").at("pivot_root")?;
    unmount(".", UnmountFlags::DETACH).at("taking the host's root away")?;
    rustix::process::chdir("/").at("entering the root")?;
    let locked = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    sys::set_mount(root.as_fd(), locked, None).at("making the root read-only")
}

/// A copy of a declared source that is in no namespace yet, and whether it is a folder.
fn source(mount: &Mount, owner: Option<&File>) -> Result<(OwnedFd, bool), Error> {
    let path = &mount.source;
    let bad = |why: &str| Error::Mount { path: path.clone(), why: why.to_owned() };
    let failed = |error: Errno| Error::Mount { path: path.clone(), why: error.to_string() };
    let tree =
        open_tree(CWD, path, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC).map_err(failed)?;
    let kind = FileType::from_raw_mode(fstat(&tree).map_err(failed)?.st_mode);
    if !matches!(kind, FileType::Directory | FileType::RegularFile) {
        return Err(bad("only a regular file or a folder can be mounted; devices and sockets are ways out of a jail"));
    }
    let magic = fstatfs(&tree).map_err(failed)?.f_type as u64;
    if let Some((_, name)) = WINDOWS.iter().find(|(number, _)| *number == magic) {
        return Err(bad(&format!("it is on {name}, a window to the host's kernel, which a jail has none of")));
    }
    let mut attributes = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    if !mount.writable {
        attributes |= libc::MOUNT_ATTR_RDONLY;
    }
    sys::set_mount(tree.as_fd(), attributes, owner.map(AsFd::as_fd)).map_err(|error| match owner {
        Some(_) => {
            bad(&format!("its file system cannot map its owner to the jail's user ({error}); mount it with :ro"))
        }
        None => bad(&error.to_string()),
    })?;
    Ok((tree, kind == FileType::Directory))
}

/// One of the host's harmless devices.
fn device(name: &str) -> Result<OwnedFd, Error> {
    let path = Path::new("/dev").join(name);
    let tree = open_tree(CWD, &path, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC);
    let tree = tree.map_err(|error| Error::Mount { path: path.clone(), why: error.to_string() })?;
    // Major 1 and these minors: a path that was replaced by another device is not taken.
    let minor = match name {
        "null" => 3,
        "zero" => 5,
        "random" => 8,
        _ => 9,
    };
    let stat = fstat(&tree).at("looking at a device")?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::CharacterDevice
        || stat.st_rdev != rustix::fs::makedev(1, minor)
    {
        return Err(Error::Mount { path, why: "it is not that device".to_owned() });
    }
    let attributes = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC;
    sys::set_mount(tree.as_fd(), attributes, None).at("restricting a device's mount")?;
    Ok(tree)
}

fn tmpfs(options: &[(&str, &str)]) -> Result<OwnedFd, Error> {
    file_system("tmpfs", options, MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV)
}

/// A `/proc` with the processes of this pid namespace, and nothing of the kernel's.
fn own_proc() -> Result<OwnedFd, Error> {
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC
        | MountAttrFlags::MOUNT_ATTR_RDONLY;
    file_system("proc", &[("subset", "pid"), ("hidepid", "invisible")], attributes)
}

fn file_system(kind: &str, options: &[(&str, &str)], attributes: MountAttrFlags) -> Result<OwnedFd, Error> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).at("making a file system")?;
    for (key, value) in options {
        fsconfig_set_string(context.as_fd(), *key, *value).at("setting a file system's option")?;
    }
    fsconfig_create(context.as_fd()).at("making a file system")?;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes).at("making a file system")
}

/// The root while it is built.
struct Target {
    root: OwnedFd,
    /// The file systems that are the jail's own, in which folders may be made.
    own: Vec<u64>,
}

impl Target {
    /// Attaches a tree at a path of the root.
    fn attach(&self, tree: &OwnedFd, path: &Path, folder: bool) -> Result<(), Error> {
        let target = self.open(path, folder)?;
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        move_mount(tree, "", &target, "", flags)
            .map_err(|error| Error::Mount { path: path.to_owned(), why: error.to_string() })
    }

    /// Opens a path of the root, and makes what is missing of it.
    fn open(&self, path: &Path, folder: bool) -> Result<OwnedFd, Error> {
        let failed = |why: &str| Error::Mount { path: path.to_owned(), why: why.to_owned() };
        let names: Vec<_> = path.components().filter(|part| matches!(part, Component::Normal(_))).collect();
        let mut at = PathBuf::from(".");
        let mut parent = self.beneath(&at).map_err(|error| failed(&error.to_string()))?;
        for (index, name) in names.iter().enumerate() {
            let last = index + 1 == names.len();
            at.push(name);
            let next = match self.beneath(&at) {
                Err(Errno::NOENT) if !self.own.contains(&fstat(&parent).at("looking at the root")?.st_dev) => {
                    return Err(failed("it does not exist in the mount around it, and nothing is made there"));
                }
                Err(Errno::NOENT) => if last && !folder {
                    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
                    openat(&parent, name.as_os_str(), flags, Mode::from_raw_mode(0o444)).map(drop)
                } else {
                    mkdirat(&parent, name.as_os_str(), Mode::from_raw_mode(0o755))
                }
                .and_then(|()| self.beneath(&at)),
                found => found,
            };
            parent = next.map_err(|error| match error {
                Errno::LOOP => failed("there is a symbolic link on the way"),
                error => failed(&error.to_string()),
            })?;
        }
        Ok(parent)
    }

    fn beneath(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        openat2(&self.root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)
    }
}

/// Whether a source can be mounted at all, told before anything is started.
pub(crate) fn check_source(mount: &Mount) -> Result<std::fs::Metadata, Error> {
    let failed = |error: io::Error| Error::Mount { path: mount.source.clone(), why: error.to_string() };
    std::fs::metadata(&mount.source).map_err(failed)
}
