//! One attempt to get out of a jail, by name. Exit 0: it worked. Exit 10: it was refused, with the reason on stdout. `list` names all.
//!
//! Started by `tests/escape.rs`, inside a jail and outside one. Outside it runs in namespaces that are thrown away.
#![deny(unsafe_op_in_unsafe_fn)]
#![expect(unsafe_code, reason = "attempts are raw system calls")]

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{PermissionsExt, symlink},
    process::ExitCode,
};

use libc::c_long;

const REFUSED: u8 = 10;
const WRONG: u8 = 11;

type Attempt = fn() -> io::Result<()>;

fn raw(call: c_long, a: [u64; 5]) -> io::Result<c_long> {
    // SAFETY: pointers among the arguments are null or point to constants and locals of the caller that outlive the call.
    let answer = unsafe { libc::syscall(call, a[0], a[1], a[2], a[3], a[4], 0u64) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

fn call(number: c_long, args: &[u64]) -> io::Result<()> {
    let mut all = [0; 5];
    all[..args.len()].copy_from_slice(args);
    raw(number, all).map(drop)
}

fn read(path: &str) -> io::Result<()> {
    io::Read::read(&mut File::open(path)?, &mut [0; 16]).map(drop)
}

fn port() -> io::Result<u16> {
    std::env::args().nth(2).and_then(|port| port.parse().ok()).ok_or_else(|| io::Error::other("no port"))
}

fn fill(file: &str, bytes: usize) -> io::Result<()> {
    fs::write(file, vec![1u8; bytes])
}

const ATTEMPTS: &[(&str, Attempt)] = &[
    ("read-etc-passwd", || read("/etc/passwd")),
    ("read-etc-shadow", || read("/etc/shadow")),
    ("read-by-dotdot", || read("../../../../../../etc/passwd")),
    ("read-by-symlink", || {
        symlink("/etc/passwd", "link")?;
        read("link")
    }),
    ("read-by-dotdot-symlink", || {
        symlink("../../../../../etc/passwd", "link2")?;
        read("link2")
    }),
    ("list-root-home", || fs::read_dir("/root").map(drop)),
    ("proc-init-environ", || read("/proc/1/environ")),
    ("proc-self-root", || read("/proc/self/root/etc/passwd")),
    ("proc-init-root", || read("/proc/1/root/etc/passwd")),
    ("proc-kallsyms", || read("/proc/kallsyms")),
    ("proc-sys-read", || read("/proc/sys/kernel/core_pattern")),
    ("proc-sys-write", || OpenOptions::new().write(true).open("/proc/sys/kernel/hostname").map(drop)),
    ("sys-kernel", || fs::read_dir("/sys/kernel").map(drop)),
    ("device-kmsg", || File::open("/dev/kmsg").map(drop)),
    ("device-kvm", || File::open("/dev/kvm").map(drop)),
    ("device-tty0", || File::open("/dev/mem").or_else(|_| File::open("/dev/tty0")).map(drop)),
    ("mount-tmpfs", || {
        let (kind, at) = (c"tmpfs".as_ptr() as u64, c".".as_ptr() as u64);
        call(libc::SYS_mount, &[kind, at, kind, 0, 0])
    }),
    ("mount-bind", || {
        let at = c".".as_ptr() as u64;
        call(libc::SYS_mount, &[at, at, 0, libc::MS_BIND, 0])
    }),
    ("new-mount-api", || call(libc::SYS_fsopen, &[c"tmpfs".as_ptr() as u64, 0])),
    ("open-tree-clone", || call(libc::SYS_open_tree, &[libc::AT_FDCWD as u64, c".".as_ptr() as u64, 1])),
    ("unshare-user", || call(libc::SYS_unshare, &[libc::CLONE_NEWUSER as u64])),
    ("unshare-mount", || call(libc::SYS_unshare, &[libc::CLONE_NEWNS as u64])),
    ("unshare-net", || call(libc::SYS_unshare, &[libc::CLONE_NEWNET as u64])),
    ("clone-user", || {
        let pid = raw(libc::SYS_clone, [(libc::CLONE_NEWUSER | libc::SIGCHLD) as u64, 0, 0, 0, 0])?;
        if pid == 0 {
            std::process::exit(0);
        }
        Ok(())
    }),
    ("setns", || {
        let pidfd = raw(libc::SYS_pidfd_open, [u64::from(std::process::id()), 0, 0, 0, 0])?;
        call(libc::SYS_setns, &[pidfd as u64, libc::CLONE_NEWUTS as u64])
    }),
    ("chroot", || call(libc::SYS_chroot, &[c".".as_ptr() as u64])),
    ("ptrace", || call(libc::SYS_ptrace, &[0])),
    ("pidfd-getfd", || {
        let pidfd = raw(libc::SYS_pidfd_open, [u64::from(std::process::id()), 0, 0, 0, 0])?;
        call(libc::SYS_pidfd_getfd, &[pidfd as u64, 1, 0])
    }),
    ("process-vm-readv", || call(libc::SYS_process_vm_readv, &[u64::from(std::process::id()), 0, 0, 0, 0])),
    ("add-key", || {
        let (kind, text) = (c"user".as_ptr() as u64, c"osvm".as_ptr() as u64);
        // The process keyring, which ends with the process.
        call(libc::SYS_add_key, &[kind, text, text, 4, -2i64 as u64])
    }),
    ("keyctl", || call(libc::SYS_keyctl, &[0, -2i64 as u64, 1])),
    ("bpf", || {
        let attr: [u32; 5] = [2, 4, 4, 1, 0];
        call(libc::SYS_bpf, &[0, attr.as_ptr() as u64, 20])
    }),
    ("userfaultfd", || call(libc::SYS_userfaultfd, &[0])),
    ("io-uring", || {
        let mut params = [0u64; 32];
        call(libc::SYS_io_uring_setup, &[1, params.as_mut_ptr() as u64])
    }),
    ("raw-socket", || call(libc::SYS_socket, &[libc::AF_INET as u64, libc::SOCK_RAW as u64, 1])),
    ("packet-socket", || call(libc::SYS_socket, &[libc::AF_PACKET as u64, libc::SOCK_RAW as u64, 0])),
    ("netlink-audit", || call(libc::SYS_socket, &[libc::AF_NETLINK as u64, libc::SOCK_RAW as u64, 15])),
    ("sethostname", || call(libc::SYS_sethostname, &[c"gone".as_ptr() as u64, 4])),
    ("mknod-device", || {
        let mode = u64::from(libc::S_IFCHR | 0o600);
        call(libc::SYS_mknodat, &[libc::AT_FDCWD as u64, c"dev".as_ptr() as u64, mode, 0x103])
    }),
    ("chown", || {
        fs::write("mine", "")?;
        std::os::unix::fs::chown("mine", Some(0), Some(1))
    }),
    ("chmod-setuid", || {
        fs::write("suid", "")?;
        fs::set_permissions("suid", PermissionsExt::from_mode(0o4755))
    }),
    ("create-setuid", || {
        let flags = (libc::O_CREAT | libc::O_WRONLY) as u64;
        call(libc::SYS_openat, &[libc::AT_FDCWD as u64, c"suid2".as_ptr() as u64, flags, 0o4755])
    }),
    ("setuid", || call(libc::SYS_setuid, &[1])),
    ("setgroups", || call(libc::SYS_setgroups, &[0, 0])),
    ("drop-core-limit", || call(libc::SYS_prlimit64, &[0, 4, [0u64, 0].as_ptr() as u64, 0])),
    ("shmget", || {
        let id = raw(libc::SYS_shmget, [0, 4096, 0o1600, 0, 0])?;
        call(libc::SYS_shmctl, &[id as u64, 0, 0])
    }),
    ("name-to-handle", || {
        let mut handle = [0u32; 40];
        handle[0] = 128;
        let mut mount = 0i32;
        let args = [libc::AT_FDCWD as u64, c".".as_ptr() as u64, handle.as_mut_ptr() as u64, &raw mut mount as u64, 0];
        call(libc::SYS_name_to_handle_at, &args)
    }),
    ("realtime", || call(libc::SYS_sched_setscheduler, &[0, 3, [0u32].as_ptr() as u64])),
    ("negative-nice", || call(libc::SYS_setpriority, &[0, 0, -5i64 as u64])),
    ("mlockall", || call(libc::SYS_mlockall, &[1])),
    ("personality", || call(libc::SYS_personality, &[0x0040_0000])),
    ("syslog", || call(libc::SYS_syslog, &[10])),
    ("modify-ldt", || call(libc::SYS_modify_ldt, &[0, [0u64; 16].as_ptr() as u64, 128])),
    ("write-root", || fs::create_dir("/osvm-escape").and_then(|()| fs::remove_dir("/osvm-escape"))),
    ("fork-bomb", || {
        let threads: Result<Vec<_>, _> =
            (0..400).map(|_| std::thread::Builder::new().stack_size(65536).spawn(std::thread::park)).collect();
        threads.map(drop)
    }),
    ("disk-fill", || fill("big", 70 << 20)),
    ("inode-fill", || (0..17_000).try_for_each(|n| fs::write(format!("f{n}"), ""))),
    ("fd-exhaustion", || {
        call(libc::SYS_prlimit64, &[0, 7, [4000u64, 4000].as_ptr() as u64, 0])?;
        (0..2000).map(|_| File::open("/dev/null")).collect::<Result<Vec<_>, _>>().map(drop)
    }),
    ("inherited-fd", || call(libc::SYS_fcntl, &[9, libc::F_GETFD as u64])),
    ("inherited-env", || std::env::var("OSVM_SECRET").map(drop).map_err(io::Error::other)),
    ("host-tcp", || std::net::TcpStream::connect(("127.0.0.1", port()?)).map(drop)),
    ("host-abstract-socket", || {
        use std::os::{linux::net::SocketAddrExt, unix::net};
        let address = net::SocketAddr::from_abstract_name(format!("osvm-escape/{}", port()?))?;
        net::UnixStream::connect_addr(&address).map(drop)
    }),
    ("memory-bomb", || {
        let bytes = vec![1u8; 600 << 20];
        std::hint::black_box(&bytes);
        Ok(())
    }),
];

fn main() -> ExitCode {
    let name = std::env::args().nth(1).unwrap_or_default();
    if name == "list" {
        ATTEMPTS.iter().for_each(|(name, _)| println!("{name}"));
        return ExitCode::SUCCESS;
    }
    match ATTEMPTS.iter().find(|(known, _)| *known == name).map(|(_, attempt)| attempt()) {
        Some(Ok(())) => ExitCode::SUCCESS,
        Some(Err(error)) => {
            println!("{error}");
            ExitCode::from(REFUSED)
        }
        None => ExitCode::from(WRONG),
    }
}
