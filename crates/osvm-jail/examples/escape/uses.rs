//! A program that uses what a service may use, by the ways that programs take: the standard library, or the C library's functions.
//!
//! Each use is named after who needs it. One that does not do what it should is an error.

use std::{
    ffi::CStr,
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, Write},
    mem,
    net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket},
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::{
            fs::{FileExt, PermissionsExt, symlink},
            net::{UnixDatagram, UnixStream},
        },
    },
    path::Path,
    process::Command,
    ptr::{null, null_mut},
    thread,
    time::Duration,
};

use crate::{call, own_pid, raw};

type Use = (&'static str, fn() -> io::Result<()>);

const USES: &[Use] = &[
    ("files of the standard library", files),
    ("folders and links of the standard library", folders),
    ("copies of the standard library", copies),
    ("positions, vectors and holes, as databases use them", database),
    ("attributes, as archivers use them", attributes),
    ("watches for changes", watches),
    ("memory of allocators and databases", memory),
    ("threads and locks", threads),
    ("processes", processes),
    ("identity", identity),
    ("scheduling", scheduling),
    ("limits", limits),
    ("signals of the C library", signals),
    ("timers of the C library", timers),
    ("sockets of the standard library", sockets),
    ("messages of the C library", messages),
    ("waiting", waiting),
    #[cfg(target_arch = "x86_64")]
    ("older names of calls, as older programs use them", older),
];

/// All of them, in `/tmp`.
pub(crate) fn run() -> io::Result<()> {
    std::env::set_current_dir("/tmp")?;
    if let Some("child") = std::env::args().nth(2).as_deref() {
        return Ok(());
    }
    for (name, work) in USES {
        work().map_err(|error| io::Error::other(format!("{name}: {error}")))?;
    }
    Ok(())
}

/// The C library's way to say what went wrong.
fn ok(answer: impl Into<i64>) -> io::Result<i64> {
    match answer.into() {
        -1 => Err(io::Error::last_os_error()),
        answer => Ok(answer),
    }
}

fn fd(answer: i32) -> io::Result<OwnedFd> {
    ok(answer)?;
    // SAFETY: callers pass what a call that makes a descriptor has just answered.
    Ok(unsafe { OwnedFd::from_raw_fd(answer) })
}

/// What the compiler cannot see through is what the call is made with.
macro_rules! c {
    ($($call:tt)*) => {{
        // SAFETY: every pointer is null or to a local or a constant that outlives the call and has the size that is passed.
        let answer = unsafe { libc::$($call)* };
        ok(answer)
    }};
}

fn files() -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open("file")?;
    file.write_all(b"some text")?;
    file.seek(io::SeekFrom::Start(0))?;
    file.read_to_string(&mut String::new())?;
    file.set_len(4)?;
    file.sync_all()?;
    file.sync_data()?;
    file.metadata()?;
    file.set_permissions(PermissionsExt::from_mode(0o600))?;
    file.lock()?;
    file.unlock()?;
    file.set_modified(std::time::SystemTime::now())?;
    let copy = file.try_clone()?;
    copy.write_all_at(b"x", 2)?;
    fs::set_permissions("file", PermissionsExt::from_mode(0o644))?;
    fs::write("written", "x")?;
    fs::remove_file("written")
}

fn folders() -> io::Result<()> {
    fs::create_dir("folder")?;
    fs::write("folder/a", "x")?;
    fs::rename("folder/a", "folder/b")?;
    fs::hard_link("folder/b", "folder/c")?;
    symlink("b", "folder/d")?;
    fs::read_link("folder/d")?;
    fs::canonicalize("folder/d")?;
    fs::symlink_metadata("folder/d")?;
    fs::read_dir("folder")?.try_for_each(|entry| entry?.metadata().map(drop))?;
    fs::remove_dir_all("folder")?;
    c!(access(c"/tmp".as_ptr(), libc::R_OK))?;
    c!(faccessat(libc::AT_FDCWD, c"/tmp".as_ptr(), libc::R_OK, libc::AT_EACCESS))?;
    // renameat2 without replacing, which package managers and systemd's library use.
    fs::write("from", "")?;
    c!(renameat2(libc::AT_FDCWD, c"from".as_ptr(), libc::AT_FDCWD, c"to".as_ptr(), libc::RENAME_NOREPLACE))?;
    c!(renameat(libc::AT_FDCWD, c"to".as_ptr(), libc::AT_FDCWD, c"from".as_ptr()))?;
    let here = File::open(".")?;
    c!(fchdir(here.as_raw_fd()))?;
    c!(umask(0o022))?;
    c!(mkfifo(c"pipe".as_ptr(), 0o600)).map(drop)
}

fn copies() -> io::Result<()> {
    fs::write("from", vec![1; 100_000])?;
    fs::copy("from", "copy")?;
    let (from, to) = (File::open("from")?, File::create("sent")?);
    let (mut offset, mut offset2) = (0, 0);
    c!(sendfile(to.as_raw_fd(), from.as_raw_fd(), &raw mut offset, 1000) as i64)?;
    c!(copy_file_range(from.as_raw_fd(), null_mut(), to.as_raw_fd(), null_mut(), 1000, 0) as i64)?;
    // Through a pipe, as proxies copy.
    let (read, write) = io::pipe()?;
    let (read2, write2) = io::pipe()?;
    c!(splice(from.as_raw_fd(), &raw mut offset2, write.as_raw_fd(), null_mut(), 1000, 0) as i64)?;
    c!(tee(read.as_raw_fd(), write2.as_raw_fd(), 1000, 0) as i64)?;
    drop(read2);
    c!(dup2(to.as_raw_fd(), 50))?;
    c!(dup3(to.as_raw_fd(), 51, libc::O_CLOEXEC))?;
    let fifty = c!(dup(50))?;
    c!(close(fifty as i32))?;
    c!(close_range(50, 51, 0)).map(drop)
}

fn database() -> io::Result<()> {
    let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open("data")?;
    let fd = file.as_raw_fd();
    let mut bytes = [1u8; 64];
    let part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    c!(posix_fallocate(fd, 0, 8192))?;
    c!(pwrite(fd, bytes.as_ptr().cast(), 64, 0) as i64)?;
    c!(pread(fd, bytes.as_mut_ptr().cast(), 64, 0) as i64)?;
    c!(writev(fd, &raw const part, 1) as i64)?;
    c!(readv(fd, &raw const part, 1) as i64)?;
    c!(pwritev(fd, &raw const part, 1, 0) as i64)?;
    c!(preadv(fd, &raw const part, 1, 0) as i64)?;
    c!(pwritev2(fd, &raw const part, 1, 0, libc::RWF_DSYNC) as i64)?;
    c!(preadv2(fd, &raw const part, 1, 0, 0) as i64)?;
    c!(posix_fadvise(fd, 0, 0, libc::POSIX_FADV_DONTNEED))?;
    // What RocksDB does behind a growing log.
    c!(sync_file_range(fd, 0, 4096, libc::SYNC_FILE_RANGE_WRITE))?;
    c!(truncate(c"data".as_ptr(), 4096))?;
    c!(ftruncate(fd, 8192))?;
    // SAFETY: plain numbers, for which zero is valid.
    let mut room: libc::statfs = unsafe { mem::zeroed() };
    c!(statfs(c"/tmp".as_ptr(), &raw mut room))?;
    c!(fstatfs(fd, &raw mut room))?;
    let at = c!(mmap(null_mut(), 8192, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, fd, 0) as i64)?;
    let at = at as *mut libc::c_void;
    c!(msync(at, 8192, libc::MS_SYNC))?;
    c!(munmap(at, 8192)).map(drop)
}

fn attributes() -> io::Result<()> {
    fs::write("plain", "")?;
    let file = File::open("plain")?;
    // There are none; that is an answer.
    let none = |answer: i64| match answer {
        0.. => Ok(()),
        _ => match io::Error::last_os_error() {
            error if [Some(libc::ENODATA), Some(libc::EOPNOTSUPP)].contains(&error.raw_os_error()) => Ok(()),
            error => Err(error),
        },
    };
    let (path, name) = (c"plain".as_ptr(), c"user.none".as_ptr());
    // SAFETY: constants; a size of zero asks for the size and nothing is written.
    unsafe {
        none(libc::getxattr(path, name, null_mut(), 0) as i64)?;
        none(libc::lgetxattr(path, name, null_mut(), 0) as i64)?;
        none(libc::fgetxattr(file.as_raw_fd(), name, null_mut(), 0) as i64)?;
        none(libc::listxattr(path, null_mut(), 0) as i64)?;
        none(libc::llistxattr(path, null_mut(), 0) as i64)?;
        none(libc::flistxattr(file.as_raw_fd(), null_mut(), 0) as i64)
    }
}

fn watches() -> io::Result<()> {
    let watch = fd(c!(inotify_init1(libc::IN_CLOEXEC))? as i32)?;
    let number = c!(inotify_add_watch(watch.as_raw_fd(), c"/tmp".as_ptr(), libc::IN_CREATE))?;
    c!(inotify_rm_watch(watch.as_raw_fd(), number as i32)).map(drop)
}

fn memory() -> io::Result<()> {
    const SIZE: usize = 1 << 20;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let at = c!(mmap(null_mut(), SIZE, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) as i64)? as *mut libc::c_void;
    let at = c!(mremap(at, SIZE, 2 * SIZE, libc::MREMAP_MAYMOVE) as i64)? as *mut libc::c_void;
    c!(madvise(at, SIZE, libc::MADV_DONTNEED))?;
    c!(mprotect(at, 4096, libc::PROT_READ))?;
    c!(mlock(at, 4096))?;
    c!(munlock(at, 4096))?;
    let mut there = [0u8; 256];
    c!(mincore(at, SIZE, there.as_mut_ptr()))?;
    c!(munmap(at, 2 * SIZE))?;
    fd(c!(memfd_create(c"memory".as_ptr(), libc::MFD_CLOEXEC))? as i32)?;
    // SAFETY: a zero asks where the end is.
    unsafe { libc::sbrk(0) };
    Ok(())
}

fn threads() -> io::Result<()> {
    let lock = std::sync::Mutex::new(0);
    let changed = std::sync::Condvar::new();
    thread::scope(|scope| {
        let worker = thread::Builder::new().name("worker".to_owned()).spawn_scoped(scope, || {
            thread::yield_now();
            *lock.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = 1;
            changed.notify_all();
        })?;
        let held = lock.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        drop(changed.wait_timeout_while(held, Duration::from_secs(10), |done| *done == 0));
        worker.join().map_err(|_| io::Error::other("a thread broke"))
    })?;
    // What user-space RCU and .NET's garbage collector use: the query.
    raw(libc::SYS_membarrier, &[0, 0, 0]).map(drop)
}

fn processes() -> io::Result<()> {
    let output =
        Command::new(std::env::current_exe().unwrap_or_else(|_| "/escape".into())).args(["uses", "child"]).output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(io::Error::other(format!("the child: {}", output.status))),
        // Without a /proc there is no way to one's own file but its path.
        Err(_) => Command::new(Path::new(&std::env::args().next().unwrap_or_default()))
            .arg("uses")
            .arg("child")
            .status()
            .map(drop),
    }?;
    let pidfd = fd(raw(libc::SYS_pidfd_open, &[own_pid(), 0])? as i32)?;
    call(libc::SYS_pidfd_send_signal, &[pidfd.as_raw_fd() as u64, 0, 0, 0])?;
    // SAFETY: plain numbers, for which zero is valid.
    let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
    let _ = c!(waitid(libc::P_ALL, 0, &raw mut info, libc::WEXITED | libc::WNOHANG));
    Ok(())
}

fn identity() -> io::Result<()> {
    c!(getpid())?;
    c!(getppid())?;
    c!(getpgid(0))?;
    c!(getsid(0))?;
    c!(getuid())?;
    c!(geteuid())?;
    c!(getgid())?;
    c!(getegid())?;
    let (mut a, mut b, mut d) = (0, 0, 0);
    c!(getresuid(&raw mut a, &raw mut b, &raw mut d))?;
    c!(getresgid(&raw mut a, &raw mut b, &raw mut d))?;
    c!(getgroups(0, null_mut()))?;
    rustix::thread::capabilities(None)?;
    rustix::system::uname();
    rustix::system::sysinfo();
    let mut bytes = [0u8; 8];
    c!(getrandom(bytes.as_mut_ptr().cast(), 8, 0) as i64)?;
    Ok(())
}

fn scheduling() -> io::Result<()> {
    // SAFETY: plain bits, for which zero is valid.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    c!(sched_getaffinity(0, mem::size_of_val(&set), &raw mut set))?;
    c!(sched_setaffinity(0, mem::size_of_val(&set), &raw const set))?;
    c!(sched_yield())?;
    let policy = c!(sched_getscheduler(0))? as i32;
    c!(sched_get_priority_max(policy))?;
    c!(sched_get_priority_min(policy))?;
    // SAFETY: plain numbers, for which zero is valid.
    let mut param: libc::sched_param = unsafe { mem::zeroed() };
    c!(sched_getparam(0, &raw mut param))?;
    c!(getpriority(libc::PRIO_PROCESS, 0))?;
    c!(setpriority(libc::PRIO_PROCESS, 0, 1)).map(drop)
}

fn limits() -> io::Result<()> {
    // SAFETY: plain numbers, for which zero is valid.
    let (mut limit, mut usage): (libc::rlimit, libc::rusage) = unsafe { (mem::zeroed(), mem::zeroed()) };
    c!(getrlimit(libc::RLIMIT_NOFILE, &raw mut limit))?;
    c!(setrlimit(libc::RLIMIT_NOFILE, &raw const limit))?;
    c!(getrusage(libc::RUSAGE_SELF, &raw mut usage))?;
    // SAFETY: as above.
    let mut times: libc::tms = unsafe { mem::zeroed() };
    c!(times(&raw mut times)).map(drop)
}

extern "C" fn nothing(_signal: i32) {}

fn signals() -> io::Result<()> {
    // SAFETY: plain numbers, for which zero is valid.
    let (mut action, mut set): (libc::sigaction, libc::sigset_t) = unsafe { (mem::zeroed(), mem::zeroed()) };
    action.sa_sigaction = nothing as extern "C" fn(i32) as usize;
    c!(sigaction(libc::SIGUSR1, &raw const action, null_mut()))?;
    c!(raise(libc::SIGUSR1))?;
    c!(kill(libc::getpid(), libc::SIGUSR1))?;
    c!(sigemptyset(&raw mut set))?;
    c!(sigaddset(&raw mut set, libc::SIGUSR1))?;
    c!(pthread_sigmask(libc::SIG_BLOCK, &raw const set, null_mut()))?;
    c!(raise(libc::SIGUSR1))?;
    let mut waiting = set;
    c!(sigpending(&raw mut waiting))?;
    let file = fd(c!(signalfd(-1, &raw const set, libc::SFD_CLOEXEC))? as i32)?;
    drop(file);
    let no_time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    c!(sigtimedwait(&raw const set, null_mut(), &raw const no_time))?;
    c!(sigqueue(libc::getpid(), libc::SIGUSR1, libc::sigval { sival_ptr: null_mut() }))?;
    let mut empty = set;
    c!(sigemptyset(&raw mut empty))?;
    // It is there already, so this returns at once, with EINTR.
    let _ = c!(sigsuspend(&raw const empty));
    // To a thread, as pthread_sigqueue does.
    let thread = raw(libc::SYS_gettid, &[])? as u64;
    c!(sigqueue(libc::getpid(), 0, libc::sigval { sival_ptr: null_mut() }))?;
    call(libc::SYS_tkill, &[thread, 0])?;
    c!(sigaltstack(null(), null_mut())).map(drop)
}

fn timers() -> io::Result<()> {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    c!(clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut now))?;
    c!(clock_getres(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut now))?;
    thread::sleep(Duration::from_millis(1));
    let moment = libc::timespec { tv_sec: 0, tv_nsec: 1000 };
    c!(nanosleep(&raw const moment, null_mut()))?;
    // SAFETY: plain numbers, for which zero is valid.
    let (old, mut event): (libc::itimerval, libc::sigevent) = unsafe { (mem::zeroed(), mem::zeroed()) };
    // SAFETY: as above.
    let mut value: libc::itimerspec = unsafe { mem::zeroed() };
    c!(setitimer(libc::ITIMER_REAL, &raw const old, null_mut()))?;
    let mut current = old;
    c!(getitimer(libc::ITIMER_REAL, &raw mut current))?;
    event.sigev_notify = libc::SIGEV_NONE;
    let mut timer: libc::timer_t = null_mut();
    c!(timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer))?;
    c!(timer_settime(timer, 0, &raw const value, null_mut()))?;
    c!(timer_gettime(timer, &raw mut value))?;
    c!(timer_getoverrun(timer))?;
    c!(timer_delete(timer))?;
    let file = fd(c!(timerfd_create(libc::CLOCK_MONOTONIC, 0))? as i32)?;
    c!(timerfd_settime(file.as_raw_fd(), 0, &raw const value, null_mut()))?;
    c!(timerfd_gettime(file.as_raw_fd(), &raw mut value)).map(drop)
}

fn sockets() -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let mut caller = TcpStream::connect(address)?;
    let (mut called, _) = listener.accept()?;
    let second = TcpStream::connect(address)?;
    fd(c!(accept(listener.as_raw_fd(), null_mut(), null_mut()))? as i32)?;
    drop(second);
    caller.set_nodelay(true)?;
    caller.nodelay()?;
    caller.peer_addr()?;
    caller.write_all(b"hello")?;
    called.read_exact(&mut [0; 5])?;
    caller.shutdown(std::net::Shutdown::Write)?;
    let (one, two) = (UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?, UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?);
    one.send_to(b"x", two.local_addr()?)?;
    two.recv_from(&mut [0; 8])?;
    let (mut a, mut b) = UnixStream::pair()?;
    a.write_all(b"x")?;
    b.read_exact(&mut [0; 1])?;
    a.set_nonblocking(true)?;
    UnixDatagram::pair().map(drop)
}

fn messages() -> io::Result<()> {
    let (a, b) = UnixDatagram::pair()?;
    let mut bytes = [1u8; 8];
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: plain numbers and null pointers.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    c!(sendmsg(a.as_raw_fd(), &raw const message, 0) as i64)?;
    c!(recvmsg(b.as_raw_fd(), &raw mut message, 0) as i64)?;
    let mut many = libc::mmsghdr { msg_hdr: message, msg_len: 0 };
    c!(sendmmsg(a.as_raw_fd(), &raw mut many, 1, 0))?;
    c!(recvmmsg(b.as_raw_fd(), &raw mut many, 1, 0, null_mut())).map(drop)
}

fn waiting() -> io::Result<()> {
    let (read, mut write) = io::pipe()?;
    write.write_all(b"x")?;
    let mut files = libc::pollfd { fd: read.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let moment = libc::timespec { tv_sec: 0, tv_nsec: 1000 };
    c!(ppoll(&raw mut files, 1, &raw const moment, null()))?;
    // SAFETY: plain bits, for which zero is valid.
    let mut set: libc::fd_set = unsafe { mem::zeroed() };
    c!(pselect(0, &raw mut set, null_mut(), null_mut(), &raw const moment, null()))?;
    let epoll = fd(c!(epoll_create1(libc::EPOLL_CLOEXEC))? as i32)?;
    let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
    c!(epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, read.as_raw_fd(), &raw mut event))?;
    c!(epoll_wait(epoll.as_raw_fd(), &raw mut event, 1, 0))?;
    c!(epoll_pwait(epoll.as_raw_fd(), &raw mut event, 1, 0, null()))?;
    fd(c!(eventfd(0, libc::EFD_CLOEXEC))? as i32).map(drop)
}

/// By number: today's C library takes the newer names, but what was built against an older one does not.
#[cfg(target_arch = "x86_64")]
fn older() -> io::Result<()> {
    let text = |text: &'static CStr| text.as_ptr() as u64;
    let here = text(c".");
    let mut space = [0u64; 64];
    let into = space.as_mut_ptr() as u64;
    let close = |answer: i64| call(libc::SYS_close, &[answer.cast_unsigned()]);
    match raw(libc::SYS_fork, &[])? {
        // SAFETY: it takes any number and never returns.
        0 => unsafe { libc::_exit(0) },
        child => call(libc::SYS_wait4, &[child.cast_unsigned(), 0, 0, 0])?,
    }
    call(libc::SYS_nanosleep, &[[0u64, 1000].as_ptr() as u64, 0])?;
    let limit = u64::from(libc::RLIMIT_NOFILE);
    call(libc::SYS_getrlimit, &[limit, into])?;
    call(libc::SYS_setrlimit, &[limit, into])?;
    call(libc::SYS_faccessat, &[libc::AT_FDCWD as u64, here, 0])?;
    close(raw(libc::SYS_open, &[here, 0, 0])?)?;
    close(raw(libc::SYS_creat, &[text(c"created"), 0o600])?)?;
    call(libc::SYS_stat, &[here, into])?;
    call(libc::SYS_lstat, &[here, into])?;
    call(libc::SYS_access, &[here, 0])?;
    let folder = raw(libc::SYS_open, &[here, 0, 0])?;
    call(libc::SYS_getdents, &[folder.cast_unsigned(), into, 512])?;
    close(folder)?;
    call(libc::SYS_mkdir, &[text(c"older"), 0o700])?;
    call(libc::SYS_rmdir, &[text(c"older")])?;
    call(libc::SYS_symlink, &[here, text(c"older-link")])?;
    call(libc::SYS_readlink, &[text(c"older-link"), into, 512])?;
    call(libc::SYS_link, &[text(c"created"), text(c"older-name")])?;
    call(libc::SYS_rename, &[text(c"older-name"), text(c"older-name-2")])?;
    call(libc::SYS_unlink, &[text(c"older-name-2")])?;
    call(libc::SYS_chmod, &[text(c"created"), 0o600])?;
    call(libc::SYS_mknod, &[text(c"older-pipe"), u64::from(libc::S_IFIFO | 0o600), 0])?;
    call(libc::SYS_pipe, &[into])?;
    call(libc::SYS_poll, &[into, 0, 0])?;
    call(libc::SYS_select, &[0, 0, 0, 0, [0u64, 1].as_ptr() as u64])?;
    close(raw(libc::SYS_epoll_create, &[1])?)?;
    close(raw(libc::SYS_eventfd, &[0])?)?;
    close(raw(libc::SYS_signalfd, &[u64::MAX, [0u64].as_ptr() as u64, 8])?)?;
    close(raw(libc::SYS_inotify_init, &[])?)?;
    call(libc::SYS_getpgrp, &[])?;
    call(libc::SYS_alarm, &[0])?;
    call(libc::SYS_time, &[0])?;
    call(libc::SYS_gettimeofday, &[into, 0])?;
    call(libc::SYS_getcpu, &[into, 0, 0])?;
    call(libc::SYS_utime, &[text(c"created"), 0])?;
    call(libc::SYS_utimes, &[text(c"created"), 0])?;
    call(libc::SYS_futimesat, &[libc::AT_FDCWD as u64, text(c"created"), 0])
}
