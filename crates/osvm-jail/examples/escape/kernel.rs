//! Parts of the kernel that a program has no business with.

use std::{fs, io};

use crate::{Attempt, Refusal, call, own_pid, raw, reaches};

const IO_URING_PARAMS: usize = 120;
const PERF_ATTR: u32 = 128;
const PERF_TYPE_SOFTWARE: u32 = 1;
const KEYCTL_GET_KEYRING_ID: u64 = 0;
const KEYCTL_SEARCH: u64 = 10;
const PROCESS_KEYRING: u64 = -2i64 as u64;
const SESSION_KEYRING: u64 = -3i64 as u64;
const USER_KEYRING: u64 = -4i64 as u64;
const BAD: u64 = u64::MAX;
const NOT_OPEN: u64 = 1000;
/// `CLONE_NEWTIME` is no `c_int` of libc's on every machine.
const NEWTIME: u64 = 0x80;

pub(crate) const ATTEMPTS: &[Attempt] = &[
    Attempt::new("add-key", || {
        let (kind, text) = (c"user".as_ptr() as u64, c"osvm".as_ptr() as u64);
        // The process keyring, which ends with the process.
        call(libc::SYS_add_key, &[kind, text, text, 4, PROCESS_KEYRING])
    }),
    Attempt::new("keyctl", || call(libc::SYS_keyctl, &[KEYCTL_GET_KEYRING_ID, PROCESS_KEYRING, 1])),
    Attempt::new("keyctl-session", || call(libc::SYS_keyctl, &[KEYCTL_GET_KEYRING_ID, SESSION_KEYRING, 1])),
    Attempt::new("keyctl-search", || {
        // There is no such key; that the kernel looked is enough.
        let args = [KEYCTL_SEARCH, USER_KEYRING, c"user".as_ptr() as u64, c"osvm-no-such-key".as_ptr() as u64, 0];
        call(libc::SYS_keyctl, &[KEYCTL_GET_KEYRING_ID, USER_KEYRING, 1])?;
        reaches(libc::SYS_keyctl, &args, libc::ENOKEY)
    }),
    Attempt::new("request-key", || {
        let text = c"osvm-no-such-key".as_ptr() as u64;
        reaches(libc::SYS_request_key, &[c"user".as_ptr() as u64, text, 0, 0], libc::ENOKEY)
    }),
    Attempt::new("bpf-map", || {
        let attr: [u32; 5] = [2, 4, 4, 1, 0];
        call(libc::SYS_bpf, &[0, attr.as_ptr() as u64, 20])
    }),
    Attempt::new("bpf-program", || {
        // A socket filter: r0 = 0; exit.
        let code: [u64; 2] = [0xb7, 0x95];
        let attr: [u64; 6] = [1 | 2 << 32, code.as_ptr() as u64, c"GPL".as_ptr() as u64, 0, 0, 0];
        call(libc::SYS_bpf, &[5, attr.as_ptr() as u64, 48])
    }),
    Attempt::new("perf-event", || {
        let mut attr = [0u32; PERF_ATTR as usize / 4];
        attr[0] = PERF_TYPE_SOFTWARE;
        attr[1] = PERF_ATTR;
        call(libc::SYS_perf_event_open, &[attr.as_ptr() as u64, 0, BAD, BAD, 0])
    }),
    Attempt::new("userfaultfd", || call(libc::SYS_userfaultfd, &[0])),
    Attempt::new("io-uring", || {
        let mut params = [0u8; IO_URING_PARAMS];
        call(libc::SYS_io_uring_setup, &[1, params.as_mut_ptr() as u64])
    }),
    Attempt::new("io-uring-register", || reaches(libc::SYS_io_uring_register, &[NOT_OPEN, 0, 0, 0], libc::EBADF)),
    Attempt::new("fanotify", || call(libc::SYS_fanotify_init, &[0, 0])),
    Attempt::new("seccomp", || {
        let action = libc::SECCOMP_RET_ALLOW;
        call(libc::SYS_seccomp, &[libc::SECCOMP_GET_ACTION_AVAIL.into(), 0, &raw const action as u64])
    }),
    Attempt::new("unshare-user", || unshare(libc::CLONE_NEWUSER)),
    Attempt::new("unshare-mount", || unshare(libc::CLONE_NEWNS)),
    Attempt::new("unshare-net", || unshare(libc::CLONE_NEWNET)),
    Attempt::new("unshare-pid", || unshare(libc::CLONE_NEWPID)),
    Attempt::new("unshare-ipc", || unshare(libc::CLONE_NEWIPC)),
    Attempt::new("unshare-uts", || unshare(libc::CLONE_NEWUTS)),
    Attempt::new("unshare-cgroup", || unshare(libc::CLONE_NEWCGROUP)),
    Attempt::new("unshare-time", || call(libc::SYS_unshare, &[NEWTIME])),
    Attempt::new("clone-user", || clone(libc::CLONE_NEWUSER)),
    Attempt::new("clone-mount", || clone(libc::CLONE_NEWNS)),
    Attempt::new("clone-net", || clone(libc::CLONE_NEWNET)),
    Attempt::new("clone-pid", || clone(libc::CLONE_NEWPID)),
    Attempt::new("clone3-user", || clone3(libc::CLONE_NEWUSER as u64)),
    Attempt::new("clone3-net", || clone3(libc::CLONE_NEWNET as u64)),
    Attempt::new("clone3-time", || clone3(NEWTIME)),
    Attempt::new("setns", || call(libc::SYS_setns, &[crate::pidfd(own_pid())?, libc::CLONE_NEWUTS as u64])),
    Attempt::new("sethostname", || call(libc::SYS_sethostname, &[c"gone".as_ptr() as u64, 4])),
    Attempt::new("setdomainname", || call(libc::SYS_setdomainname, &[c"gone".as_ptr() as u64, 4])),
    // Changes nothing: no mode is set.
    Attempt::new("read-the-clocks-state", || {
        let mut state = [0u64; 26];
        call(libc::SYS_adjtimex, &[state.as_mut_ptr() as u64])
    }),
    Attempt::new("set-the-clock", || reaches(libc::SYS_clock_settime, &[0, 0], libc::EFAULT)),
    Attempt::new("setuid", || call(libc::SYS_setuid, &[1])),
    Attempt::new("setresuid-root", || call(libc::SYS_setresuid, &[0, 0, 0])),
    Attempt::new("setgroups", || call(libc::SYS_setgroups, &[0, 0])),
    Attempt::new("capset", || {
        let header = [0x2008_0522u32, 0];
        let data = [1u32 << 21, 1 << 21, 0, 0, 0, 0];
        call(libc::SYS_capset, &[header.as_ptr() as u64, data.as_ptr() as u64])
    }),
    Attempt::new("prctl-securebits", || {
        let now = raw(libc::SYS_prctl, &[libc::PR_GET_SECUREBITS as u64])?;
        call(libc::SYS_prctl, &[libc::PR_SET_SECUREBITS as u64, now.cast_unsigned()])
    }),
    Attempt::new("prctl-keep-capabilities", || call(libc::SYS_prctl, &[libc::PR_SET_KEEPCAPS as u64, 1])),
    Attempt::new("prctl-memory-map", || {
        let size = 0u32;
        call(libc::SYS_prctl, &[libc::PR_SET_MM as u64, libc::PR_SET_MM_MAP_SIZE as u64, &raw const size as u64, 0, 0])
    }),
    Attempt::new("prctl-ambient", || {
        let clear_all = 4;
        call(libc::SYS_prctl, &[libc::PR_CAP_AMBIENT as u64, clear_all, 0, 0, 0])
    }),
    Attempt::new("prctl-speculation", || call(libc::SYS_prctl, &[libc::PR_GET_SPECULATION_CTRL as u64, 0, 0, 0, 0])),
    Attempt::new("personality", || call(libc::SYS_personality, &[0x0040_0000])),
    Attempt::new("drop-core-limit", || call(libc::SYS_prlimit64, &[0, 4, [0u64, 0].as_ptr() as u64, 0])),
    Attempt::new("syslog", || call(libc::SYS_syslog, &[10])),
    Attempt::new("accounting", || {
        reaches(libc::SYS_acct, &[c"/".as_ptr() as u64], libc::EISDIR).or_else(|error| {
            // Kernels differ in what they say of a folder.
            if error.raw_os_error() == Some(libc::EACCES) { Ok(()) } else { Err(error) }
        })
    }),
    Attempt::new("quota", || reaches(libc::SYS_quotactl, &[0x8000_0700, c"/".as_ptr() as u64, 0, 0], libc::ENOTBLK)),
    Attempt::new("shmget", || {
        let id = raw(libc::SYS_shmget, &[0, 4096, 0o1600])?;
        call(libc::SYS_shmctl, &[id.cast_unsigned(), 0, 0])
    }),
    Attempt::new("host-shared-memory", || {
        let id = raw(libc::SYS_shmget, &[crate::stage::SHM_KEY, 0, 0])?;
        call(libc::SYS_shmat, &[id.cast_unsigned(), 0, 0])
    }),
    Attempt::new("semget", || {
        let id = raw(libc::SYS_semget, &[0, 1, 0o1600])?;
        call(libc::SYS_semctl, &[id.cast_unsigned(), 0, 0])
    }),
    Attempt::new("msgget", || {
        let id = raw(libc::SYS_msgget, &[0, 0o1600])?;
        call(libc::SYS_msgctl, &[id.cast_unsigned(), 0, 0])
    }),
    Attempt::new("message-queue", || {
        let flags = (libc::O_CREAT | libc::O_RDWR) as u64;
        call(libc::SYS_mq_open, &[c"osvm-escape".as_ptr() as u64, flags, 0o600, 0])
    }),
    Attempt::new("realtime", || call(libc::SYS_sched_setscheduler, &[0, 3, [0u32].as_ptr() as u64])),
    Attempt::new("negative-nice", || call(libc::SYS_setpriority, &[0, 0, -5i64 as u64])),
    Attempt::new("io-priority", || call(libc::SYS_ioprio_set, &[1, 0, 2 << 13])),
    Attempt::new("mlockall", || call(libc::SYS_mlockall, &[1])),
    Attempt::new("memory-policy", || call(libc::SYS_set_mempolicy, &[0, 0, 0])),
    Attempt::new("vmsplice", || {
        let (_read, write) = rustix::pipe::pipe()?;
        let byte = [0u8; 1];
        let part = [byte.as_ptr() as u64, 1];
        let write = std::os::fd::AsRawFd::as_raw_fd(&write) as u64;
        call(libc::SYS_vmsplice, &[write, part.as_ptr() as u64, 1, 0])
    }),
    Attempt::new("load-module", || reaches(libc::SYS_init_module, &[0, 0, c"".as_ptr() as u64], libc::ENOEXEC))
        .ends(Refusal::Sigsys),
    Attempt::new("load-module-from-file", || {
        reaches(libc::SYS_finit_module, &[BAD, c"".as_ptr() as u64, 0], libc::EBADF)
    })
    .ends(Refusal::Sigsys),
    Attempt::new("remove-module", || {
        let flags = libc::O_NONBLOCK as u64;
        reaches(libc::SYS_delete_module, &[c"osvm_no_such_module".as_ptr() as u64, flags], libc::ENOENT)
    })
    .ends(Refusal::Sigsys),
    Attempt::new("kexec", || reaches(libc::SYS_kexec_load, &[0, 0, 0, BAD], libc::EINVAL)).ends(Refusal::Sigsys),
    Attempt::new("reboot", || reaches(libc::SYS_reboot, &[0, 0, 0, 0], libc::EINVAL)).ends(Refusal::Sigsys),
    Attempt::new("swap-on", || {
        fs::write("no-swap", [0; 8192])?;
        reaches(libc::SYS_swapon, &[c"no-swap".as_ptr() as u64, 0], libc::EINVAL)
    })
    .ends(Refusal::Sigsys),
    Attempt::new("swap-off", || {
        fs::write("no-swap", [0; 8192])?;
        reaches(libc::SYS_swapoff, &[c"no-swap".as_ptr() as u64], libc::EINVAL)
    })
    .ends(Refusal::Sigsys),
    #[cfg(target_arch = "x86_64")]
    Attempt::new("modify-ldt", || call(libc::SYS_modify_ldt, &[0, [0u64; 16].as_ptr() as u64, 128]))
        .ends(Refusal::Sigsys),
    #[cfg(target_arch = "x86_64")]
    Attempt::new("io-ports", || call(libc::SYS_ioperm, &[0x80, 1, 1])).ends(Refusal::Sigsys),
    #[cfg(target_arch = "x86_64")]
    Attempt::new("io-privilege", || call(libc::SYS_iopl, &[3])).ends(Refusal::Sigsys),
    #[cfg(target_arch = "x86_64")]
    Attempt::new("thirty-two-bit-call", thirty_two_bit_call).ends(Refusal::Sigsys),
];

fn unshare(kind: libc::c_int) -> io::Result<()> {
    call(libc::SYS_unshare, &[u64::from(kind.cast_unsigned())])
}

fn clone(kind: libc::c_int) -> io::Result<()> {
    match raw(libc::SYS_clone, &[u64::from((kind | libc::SIGCHLD).cast_unsigned())])? {
        0 => std::process::exit(0),
        _ => Ok(()),
    }
}

fn clone3(kind: u64) -> io::Result<()> {
    let args: [u64; 8] = [kind, 0, 0, 0, libc::SIGCHLD as u64, 0, 0, 0];
    match raw(libc::SYS_clone3, &[args.as_ptr() as u64, 64])? {
        0 => std::process::exit(0),
        _ => Ok(()),
    }
}

/// `getpid` by the door of 32-bit programs, whose numbers mean other calls than the filter's.
#[cfg(target_arch = "x86_64")]
fn thirty_two_bit_call() -> io::Result<()> {
    let answer: i64;
    // SAFETY: call 20 takes no arguments and touches no memory; the kernel may change r8 to r11.
    unsafe {
        std::arch::asm!("int 0x80", inlateout("rax") 20i64 => answer, out("r8") _, out("r9") _, out("r10") _, out("r11") _);
    }
    if answer > 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(i32::try_from(-answer).unwrap_or(0))) }
}
