//! The system calls that no safe crate offers. All `unsafe` of the house is in this file.
//!
//! Nothing here decides anything: each function is one call and its errors.

#![expect(unsafe_code, reason = "fork, seccomp, mount_setattr and a few others have no safe wrapper that we could use")]

use std::{
    ffi::{CStr, CString},
    io, mem,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    ptr,
};

/// What libc's own constant cannot hold.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// An answer of a raw system call.
fn check(answer: libc::c_long) -> io::Result<libc::c_long> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

/// Which side of a fork this is.
pub(crate) enum Fork {
    Child,
    Parent { pid: i32, pidfd: OwnedFd },
}

/// Starts a child in new namespaces (`CLONE_NEW*`, and `CLONE_VFORK` to stand still until it executes a program) and, if one is given, in that control group of version 2; and a process file
/// descriptor for it.
///
/// To be called with one thread only ([`single_thread`]): a lock that another thread holds would stay held for ever in the child.
pub(crate) fn fork_into(flags: libc::c_int, group: Option<BorrowedFd<'_>>) -> io::Result<Fork> {
    let mut pidfd: RawFd = -1;
    // SAFETY: clone_args is plain numbers, for which zero is a valid value.
    let mut args: libc::clone_args = unsafe { mem::zeroed() };
    args.flags = (libc::CLONE_PIDFD | flags) as u32 as u64;
    args.pidfd = &raw mut pidfd as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    if let Some(group) = group {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = group.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM and with a null stack this is a fork: the child has its own copy of all memory. A lock held
    // by another thread could stop the child, but not break it. args and pidfd outlive the call.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone3, &raw const args, mem::size_of::<libc::clone_args>()) })?;
    if pid == 0 {
        return Ok(Fork::Child);
    }
    // SAFETY: the kernel has just put a new descriptor there that nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Fork::Parent { pid: i32::try_from(pid).map_err(io::Error::other)?, pidfd })
}

/// Whether this process may fork: it has one thread.
pub(crate) fn single_thread() -> io::Result<()> {
    match std::fs::read_dir("/proc/self/task")?.count() {
        1 => Ok(()),
        _ => Err(io::Error::other("a process with several threads cannot start a jail")),
    }
}

/// Ends this process at once, without running exit handlers of the program that it was forked from.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: _exit takes any number and never returns.
    unsafe { libc::_exit(code) }
}

/// Becomes another program. Returns only if that failed.
pub(crate) fn execute(program: &CStr, argv: &[CString], env: &[CString]) -> io::Error {
    let list = |texts: &[CString]| -> Vec<*const libc::c_char> {
        texts.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect()
    };
    let (argv, env) = (list(argv), list(env));
    // SAFETY: all three point to NUL-terminated strings, and both lists end with a null pointer; all outlive the call.
    unsafe { libc::execve(program.as_ptr(), argv.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// Loads a seccomp filter for this thread and all that it starts.
pub(crate) fn load_filter(program: &[libc::sock_filter]) -> io::Result<()> {
    let len = u16::try_from(program.len()).map_err(io::Error::other)?;
    let fprog = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    // SAFETY: fprog points to `len` instructions, and the kernel only reads them during the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
            &raw const fprog,
        )
    })?;
    Ok(())
}

/// Sets attributes of a mount (`MOUNT_ATTR_*`), with the owner's ids mapped by a user namespace if there is one.
pub(crate) fn set_mount(mount: BorrowedFd<'_>, set: u64, ids: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let mut attr = libc::mount_attr { attr_set: set, attr_clr: 0, propagation: 0, userns_fd: 0 };
    if let Some(ids) = ids {
        attr.attr_set |= libc::MOUNT_ATTR_IDMAP;
        attr.userns_fd = ids.as_raw_fd() as u64;
    }
    // SAFETY: the path is an empty C string, and attr is read during the call only, with its true size.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attr,
            mem::size_of::<libc::mount_attr>(),
        )
    })?;
    Ok(())
}

/// Has every descriptor from `first` to `last` closed: at once, or when another program is executed.
pub(crate) fn close_range(first: u32, last: u32, on_exec: bool) -> io::Result<()> {
    let flags = if on_exec { libc::CLOSE_RANGE_CLOEXEC } else { 0 };
    // SAFETY: numbers only. Closing at once is done only in a process that owns none of the descriptors in the range any more.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) })?;
    Ok(())
}

/// Blocks these signals and gives a descriptor from which they are read.
pub(crate) fn signals_as_file(signals: &[i32]) -> io::Result<OwnedFd> {
    // SAFETY: sigset_t is plain memory that sigemptyset fills.
    let mut set: libc::sigset_t = unsafe { mem::zeroed() };
    // SAFETY: set is valid for writing; the numbers are signal numbers.
    unsafe {
        libc::sigemptyset(&raw mut set);
        for signal in signals {
            libc::sigaddset(&raw mut set, *signal);
        }
    }
    // SAFETY: set is initialised, and the old mask is not asked for.
    check(unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut()) }.into())?;
    // SAFETY: set is initialised; -1 asks for a new descriptor.
    let fd = check(unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) }.into())?;
    // SAFETY: the kernel has just made it, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// The next signal from such a descriptor, none if there is none now.
pub(crate) fn next_signal(file: BorrowedFd<'_>) -> io::Result<Option<i32>> {
    let mut buffer = [0u8; mem::size_of::<libc::signalfd_siginfo>()];
    match rustix::io::read(file, &mut buffer) {
        Ok(n) if n == buffer.len() => {
            Ok(Some(u32::from_ne_bytes([buffer[0], buffer[1], buffer[2], buffer[3]]).cast_signed()))
        }
        Ok(_) => Err(io::ErrorKind::UnexpectedEof.into()),
        Err(rustix::io::Errno::AGAIN) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// No signal blocked, none ignored or handled: what a fresh program expects.
pub(crate) fn default_signals() -> io::Result<()> {
    for signal in 1..=64 {
        // SAFETY: SIG_DFL is a valid disposition. KILL, STOP and libc's own two refuse, which changes nothing.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: sigset_t is plain memory that sigemptyset fills.
    let mut set: libc::sigset_t = unsafe { mem::zeroed() };
    // SAFETY: set is valid for writing.
    unsafe { libc::sigemptyset(&raw mut set) };
    // SAFETY: set is initialised, and the old mask is not asked for.
    check(unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const set, ptr::null_mut()) }.into())?;
    Ok(())
}

/// The name of the UTS namespace.
pub(crate) fn set_hostname(name: &str) -> io::Result<()> {
    // SAFETY: pointer and length are those of one string.
    check(unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) }.into())?;
    Ok(())
}

/// Sends a signal by process id.
pub(crate) fn kill(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: numbers only.
    check(unsafe { libc::kill(pid, signal) }.into())?;
    Ok(())
}

/// Brings up the loopback interface of this network namespace.
pub(crate) fn loopback_up() -> io::Result<()> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: ifreq is plain memory, for which zero is a valid value.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads an ifreq, and request is one.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) }.into())?;
    Ok(())
}

/// User ids, group ids and no supplementary groups, for this (only) thread.
pub(crate) fn become_user(uid: u32, gid: u32) -> io::Result<()> {
    // SAFETY: no group is passed, so the pointer is not read.
    check(unsafe { libc::syscall(libc::SYS_setgroups, 0, ptr::null::<libc::gid_t>()) })?;
    // SAFETY: numbers only.
    check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) })?;
    // SAFETY: numbers only.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) })?;
    Ok(())
}

/// Takes a capability out of the bounding set. False if there is no such capability.
pub(crate) fn drop_bounding(capability: u32) -> io::Result<bool> {
    // SAFETY: numbers only.
    match check(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(capability), 0, 0, 0) }.into()) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The version of Landlock that the kernel has.
pub(crate) fn landlock_version() -> io::Result<i64> {
    const VERSION: libc::c_long = 1;
    // SAFETY: with this flag no attributes are read; the pointer is null and the length is 0.
    check(unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, ptr::null::<u8>(), 0usize, VERSION) })
}

/// Moves this process into new namespaces.
pub(crate) fn unshare(namespaces: libc::c_int) -> io::Result<()> {
    // SAFETY: numbers only. Callers pass CLONE_NEW*, never CLONE_FILES, so no descriptor changes its meaning.
    check(unsafe { libc::unshare(namespaces) }.into())?;
    Ok(())
}
