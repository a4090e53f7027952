//! Files: the host's, another instance's, and those that are only lent.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::AsRawFd,
        unix::{
            fs::{PermissionsExt, symlink},
            process::CommandExt,
        },
    },
    path::PathBuf,
    process::Command,
};

use crate::{Attempt, Scene, call, fact, number, pidfd, raw, read};

const NOBODY: u32 = 65534;

pub(crate) const ATTEMPTS: &[Attempt] = &[
    Attempt::new("read-etc-passwd", || read("/etc/passwd")),
    Attempt::new("read-etc-shadow", || read("/etc/shadow")),
    Attempt::new("read-by-dotdot", || read("../../../../../../etc/passwd")),
    Attempt::new("read-by-symlink", || {
        symlink("/etc/passwd", "link")?;
        read("link")
    }),
    Attempt::new("read-by-dotdot-symlink", || {
        symlink("../../../../../etc/passwd", "link")?;
        read("link")
    }),
    Attempt::new("list-root-home", || fs::read_dir("/root").map(drop)),
    Attempt::new("read-lent-folders-parent", || read(&format!("{}/../secret", fact("shared")?))),
    Attempt::new("proc-init-environ", || read("/proc/1/environ")).with_proc(),
    Attempt::new("proc-self-root", || read("/proc/self/root/etc/passwd")).with_proc(),
    Attempt::new("proc-init-root", || read("/proc/1/root/etc/passwd")).with_proc(),
    Attempt::new("proc-init-exe", || read("/proc/1/exe")).with_proc(),
    Attempt::new("proc-init-files", || fs::read_dir("/proc/1/fd").map(drop)).with_proc(),
    Attempt::new("proc-init-memory", || File::open("/proc/1/mem").map(drop)).with_proc(),
    Attempt::new("proc-kallsyms", || read("/proc/kallsyms")).with_proc(),
    Attempt::new("proc-sys-read", || read("/proc/sys/kernel/core_pattern")).with_proc(),
    Attempt::new("proc-sys-write", || OpenOptions::new().write(true).open("/proc/sys/kernel/hostname").map(drop))
        .with_proc(),
    Attempt::new("proc-write-own", || {
        let file = OpenOptions::new().write(true).open("/proc/self/oom_score_adj")?;
        io::Write::write_all(&mut &file, b"1")
    })
    .with_proc(),
    Attempt::new("sys-kernel", || fs::read_dir("/sys/kernel").map(drop)),
    Attempt::new("sys-groups", || fs::read_dir("/sys/fs/cgroup").map(drop)),
    Attempt::new("device-kmsg", || File::open("/dev/kmsg").map(drop)),
    Attempt::new("device-kvm", || File::open("/dev/kvm").map(drop)),
    Attempt::new("device-fuse", || File::open("/dev/fuse").map(drop)),
    Attempt::new("device-loop", || File::open("/dev/loop-control").map(drop)),
    Attempt::new("device-ptmx", || OpenOptions::new().read(true).write(true).open("/dev/ptmx").map(drop)),
    Attempt::new("device-memory", || File::open("/dev/mem").or_else(|_| File::open("/dev/tty0")).map(drop)),
    Attempt::new("mount-tmpfs", || {
        let (kind, at) = (c"tmpfs".as_ptr() as u64, c".".as_ptr() as u64);
        call(libc::SYS_mount, &[kind, at, kind])
    }),
    Attempt::new("mount-bind", || {
        let at = c".".as_ptr() as u64;
        call(libc::SYS_mount, &[at, at, 0, libc::MS_BIND])
    }),
    Attempt::new("mount-into-shared", || {
        let at = path(&fact("shared")?);
        call(libc::SYS_mount, &[c"tmpfs".as_ptr() as u64, at.as_ptr() as u64, c"tmpfs".as_ptr() as u64])
    }),
    Attempt::new("remount-writable", || {
        let at = path(&fact("shared")?);
        call(libc::SYS_mount, &[0, at.as_ptr() as u64, 0, libc::MS_REMOUNT | libc::MS_BIND])
    }),
    Attempt::new("mount-setattr", || {
        let at = path(&fact("shared")?);
        let clear = [0u64, libc::MOUNT_ATTR_RDONLY, 0, 0];
        call(libc::SYS_mount_setattr, &[libc::AT_FDCWD as u64, at.as_ptr() as u64, 0, clear.as_ptr() as u64, 32])
    }),
    Attempt::new("unmount-shared", || {
        let at = path(&fact("shared")?);
        call(libc::SYS_umount2, &[at.as_ptr() as u64, libc::MNT_DETACH as u64])
    }),
    Attempt::new("new-mount-api", || call(libc::SYS_fsopen, &[c"tmpfs".as_ptr() as u64, 0])),
    Attempt::new("open-tree-clone", || call(libc::SYS_open_tree, &[libc::AT_FDCWD as u64, c".".as_ptr() as u64, 1])),
    Attempt::new("chroot", || call(libc::SYS_chroot, &[c".".as_ptr() as u64])),
    Attempt::new("chroot-and-back", || {
        // The way out of a chroot of old: change the root, but not the working directory, and go up.
        let here = File::open(".")?;
        fs::create_dir("deeper")?;
        call(libc::SYS_chroot, &[c"deeper".as_ptr() as u64])?;
        rustix::process::fchdir(&here)?;
        (0..32).try_for_each(|_| std::env::set_current_dir(".."))?;
        call(libc::SYS_chroot, &[c".".as_ptr() as u64])?;
        read("/etc/passwd")
    }),
    Attempt::new("name-to-handle", || {
        let mut handle = [0u32; 40];
        handle[0] = 128;
        let mut mount = 0i32;
        let args = [libc::AT_FDCWD as u64, c".".as_ptr() as u64, handle.as_mut_ptr() as u64, &raw mut mount as u64, 0];
        call(libc::SYS_name_to_handle_at, &args)
    }),
    Attempt::new("open-by-handle", || {
        // The stage gives the handle of a file beside the lent folder, on the same file system.
        let bytes: Vec<u32> = fact("handle")?.split(',').filter_map(|word| word.parse().ok()).collect();
        let mount = File::open(fact("shared")?)?;
        let file = raw(libc::SYS_open_by_handle_at, &[mount.as_raw_fd() as u64, bytes.as_ptr() as u64, 0])?;
        let mut byte = [0u8; 1];
        match raw(libc::SYS_read, &[file.cast_unsigned(), byte.as_mut_ptr() as u64, 1])? {
            1 => Ok(()),
            _ => Err(io::Error::other("nothing was read")),
        }
    }),
    Attempt::new("create-in-shared", || fs::write(shared("new")?, "x")),
    Attempt::new("write-shared", || OpenOptions::new().write(true).open(shared("file")?).map(drop)),
    Attempt::new("append-shared", || OpenOptions::new().append(true).open(shared("file")?).map(drop)),
    Attempt::new("truncate-shared", || {
        let at = path(&shared("file")?.display().to_string());
        call(libc::SYS_truncate, &[at.as_ptr() as u64, 1])
    }),
    Attempt::new("remove-shared", || fs::remove_file(shared("file")?)),
    Attempt::new("rename-shared", || fs::rename(shared("file")?, shared("file2")?)),
    Attempt::new("link-shared", || fs::hard_link(shared("file")?, shared("file2")?)),
    Attempt::new("chmod-shared", || fs::set_permissions(shared("file")?, PermissionsExt::from_mode(0o777))),
    Attempt::new("touch-shared", || {
        let at = path(&shared("file")?.display().to_string());
        call(libc::SYS_utimensat, &[libc::AT_FDCWD as u64, at.as_ptr() as u64, 0, 0])
    }),
    Attempt::new("bind-socket-in-shared", || std::os::unix::net::UnixListener::bind(shared("socket")?).map(drop)),
    Attempt::new("reopen-shared-writable", || {
        let file = File::open(shared("file")?)?;
        OpenOptions::new().write(true).open(format!("/proc/self/fd/{}", file.as_raw_fd())).map(drop)
    })
    .with_proc(),
    Attempt::new("map-shared-writable", || {
        // A mapping that is shared and can be written would write the file.
        let file = OpenOptions::new().read(true).write(true).open(shared("file")?)?;
        let rights = (libc::PROT_READ | libc::PROT_WRITE) as u64;
        call(libc::SYS_mmap, &[0, 4096, rights, libc::MAP_SHARED as u64, file.as_raw_fd() as u64, 0])
    }),
    Attempt::new("setuid-binary", || as_nobody(shared("setuid")?, "euid")),
    Attempt::new("setgid-binary", || as_nobody(shared("setgid")?, "egid")),
    Attempt::new("binary-with-capabilities", || as_nobody(shared("capable")?, "capable")),
    Attempt::new("chmod-setuid", || {
        fs::write("suid", "")?;
        fs::set_permissions("suid", PermissionsExt::from_mode(0o4755))
    }),
    Attempt::new("chmod-setuid-in-writable-mount", || {
        let file = PathBuf::from(fact("own")?).join("suid");
        fs::write(&file, "")?;
        fs::set_permissions(file, PermissionsExt::from_mode(0o4755))
    }),
    Attempt::new("create-setuid", || {
        let flags = (libc::O_CREAT | libc::O_WRONLY) as u64;
        call(libc::SYS_openat, &[libc::AT_FDCWD as u64, c"suid2".as_ptr() as u64, flags, 0o4755])
    }),
    Attempt::new("chmod-setgid-folder", || {
        fs::create_dir("sgid")?;
        fs::set_permissions("sgid", PermissionsExt::from_mode(0o2755))
    }),
    Attempt::new("set-capabilities-of-a-file", || {
        fs::write("capable", "")?;
        set_capabilities("capable")
    }),
    Attempt::new("mknod-device", || {
        let mode = u64::from(libc::S_IFCHR | 0o600);
        call(libc::SYS_mknodat, &[libc::AT_FDCWD as u64, c"dev".as_ptr() as u64, mode, 0x103])
    }),
    Attempt::new("chown", || {
        fs::write("mine", "")?;
        std::os::unix::fs::chown("mine", Some(0), Some(1))
    }),
    Attempt::new("write-root", || fs::create_dir("/osvm-escape").and_then(|()| fs::remove_dir("/osvm-escape"))),
    Attempt::new("write-dev", || fs::write("/dev/osvm-escape", "").and_then(|()| fs::remove_file("/dev/osvm-escape"))),
    Attempt::new("inherited-fd", || call(libc::SYS_fcntl, &[9, libc::F_GETFD as u64])),
    Attempt::new("inherited-fd-openat", || call(libc::SYS_openat, &[9, c"etc/passwd".as_ptr() as u64, 0, 0])),
    Attempt::new("inherited-fd-execute", || {
        let argv = [c"true".as_ptr(), std::ptr::null()];
        let env = [std::ptr::null::<libc::c_char>()];
        // If it works, this program becomes true(1) and ends with 0.
        call(libc::SYS_execveat, &[9, c"bin/true".as_ptr() as u64, argv.as_ptr() as u64, env.as_ptr() as u64, 0])
    }),
    Attempt::new("inherited-fd-fchdir", || call(libc::SYS_fchdir, &[9]).and_then(|()| read("etc/passwd"))),
    Attempt::new("inherited-env", || std::env::var("OSVM_SECRET").map(drop).map_err(io::Error::other)),
    Attempt::new("sent-descriptor", || {
        let folder = receive()?;
        let file = raw(libc::SYS_openat, &[folder, c"etc/passwd".as_ptr() as u64, 0, 0])?;
        let mut byte = [0u8; 1];
        call(libc::SYS_read, &[file.cast_unsigned(), byte.as_mut_ptr() as u64, 1])
    })
    .on(Scene::Sent),
    Attempt::new("sent-descriptor-execute", || {
        let folder = receive()?;
        let argv = [c"true".as_ptr(), std::ptr::null()];
        let env = [std::ptr::null::<libc::c_char>()];
        call(libc::SYS_execveat, &[folder, c"bin/true".as_ptr() as u64, argv.as_ptr() as u64, env.as_ptr() as u64, 0])
    })
    .on(Scene::Sent),
    Attempt::new("neighbours-files", || read(&format!("{}/secret", fact("neighbour")?))).on(Scene::Neighbour),
    Attempt::new("neighbours-tmp", || read(&format!("/proc/{}/root/tmp/secret", fact("pid")?)))
        .on(Scene::Neighbour)
        .with_proc(),
    Attempt::new("neighbours-environment", || read(&format!("/proc/{}/environ", fact("pid")?)))
        .on(Scene::Neighbour)
        .with_proc(),
    Attempt::new("neighbours-descriptors", || fs::read_dir(format!("/proc/{}/fd", fact("pid")?)).map(drop))
        .on(Scene::Neighbour)
        .with_proc(),
    Attempt::new("neighbours-memory-file", || {
        let file = File::open(format!("/proc/{}/mem", fact("pid")?))?;
        let mut bytes = vec![0; crate::neighbour::SECRET.len()];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, number("address")?)?;
        if bytes == crate::neighbour::SECRET { Ok(()) } else { Err(io::Error::other("something else is there")) }
    })
    .on(Scene::Neighbour)
    .with_proc(),
    Attempt::new("neighbours-folder-by-pidfd", || {
        // A process descriptor takes one into its mount namespace.
        call(libc::SYS_setns, &[pidfd(number("pid")?)?, libc::CLONE_NEWNS as u64])?;
        read("/tmp/secret")
    })
    .on(Scene::Neighbour),
];

fn path(text: &str) -> std::ffi::CString {
    std::ffi::CString::new(text).unwrap_or_default()
}

fn shared(name: &str) -> io::Result<PathBuf> {
    Ok(PathBuf::from(fact("shared")?).join(name))
}

/// Runs this program's copy, which says whether it gained something. root gains nothing by anything, so a control becomes nobody first.
fn as_nobody(program: PathBuf, question: &str) -> io::Result<()> {
    let mut command = Command::new(program);
    command.arg(question);
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    match command.status()? {
        status if status.success() => Ok(()),
        status => Err(io::Error::other(format!("nothing was gained: {status}"))),
    }
}

/// `cap_sys_admin+ep` as an attribute of a file.
pub(crate) fn set_capabilities(file: &str) -> io::Result<()> {
    // vfs_cap_data of revision 2, with the bit "effective".
    let data: [u32; 5] = [0x0200_0001, 1 << 21, 0, 0, 0];
    let file = path(file);
    let name = c"security.capability".as_ptr() as u64;
    call(libc::SYS_setxattr, &[file.as_ptr() as u64, name, data.as_ptr() as u64, 20, 0])
}

/// Whether this process may do anything.
pub(crate) fn has_capabilities() -> bool {
    rustix::thread::capabilities(None).is_ok_and(|sets| !sets.effective.is_empty())
}

/// A descriptor from the socket that stderr is.
fn receive() -> io::Result<u64> {
    let mut byte = [0u8; 1];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = rustix::net::RecvAncillaryBuffer::new(&mut space);
    let flags = rustix::net::RecvFlags::DONTWAIT;
    rustix::net::recvmsg(rustix::stdio::stderr(), &mut [io::IoSliceMut::new(&mut byte)], &mut control, flags)?;
    for message in control.drain() {
        if let rustix::net::RecvAncillaryMessage::ScmRights(mut files) = message
            && let Some(file) = files.next()
        {
            return Ok(std::os::fd::IntoRawFd::into_raw_fd(file) as u64);
        }
    }
    Err(io::Error::other("no descriptor came"))
}
