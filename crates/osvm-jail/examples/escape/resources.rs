//! Using up what others need.

use std::{
    fs::{self, File},
    io::Write,
};

use crate::{Attempt, Refusal, call, raw};

/// More than a jail's limit on processes, 256.
const MANY_PROCESSES: usize = 400;
/// More than `/tmp` holds, 64 MiB.
const MUCH_DISK: usize = 70 << 20;
/// More than `/tmp` has files, 16,384.
const MANY_FILES: usize = 17_000;
/// More than the limit on open files, 1,024.
const MANY_DESCRIPTORS: u64 = 2000;
/// More than a jail's memory, 512 MiB.
const MUCH_MEMORY: usize = 600 << 20;

pub(crate) const ATTEMPTS: &[Attempt] = &[
    Attempt::new("thread-bomb", || {
        let threads: Result<Vec<_>, _> = (0..MANY_PROCESSES)
            .map(|_| std::thread::Builder::new().stack_size(65536).spawn(std::thread::park))
            .collect();
        threads.map(drop)
    }),
    Attempt::new("fork-bomb", || {
        let mut children = Vec::new();
        let bomb = (0..MANY_PROCESSES).try_for_each(|_| match raw(libc::SYS_clone, &[libc::SIGCHLD as u64])? {
            0 => loop {
                let _ = raw(libc::SYS_ppoll, &[0, 0, 0, 0, 0]);
            },
            pid => {
                children.push(pid.cast_unsigned());
                Ok(())
            }
        });
        for pid in children {
            let _ = raw(libc::SYS_kill, &[pid, libc::SIGKILL as u64]);
            let _ = raw(libc::SYS_wait4, &[pid, 0, 0, 0]);
        }
        bomb
    }),
    Attempt::new("disk-fill", || fs::write("big", vec![1u8; MUCH_DISK])),
    Attempt::new("disk-fill-by-allocation", || {
        rustix::fs::fallocate(File::create("big")?, rustix::fs::FallocateFlags::empty(), 0, MUCH_DISK as u64)?;
        Ok(())
    }),
    Attempt::new("inode-fill", || (0..MANY_FILES).try_for_each(|n| fs::write(format!("f{n}"), ""))),
    Attempt::new("folder-fill", || (0..MANY_FILES).try_for_each(|n| fs::create_dir(format!("d{n}")))),
    Attempt::new("descriptors", || {
        let many = [MANY_DESCRIPTORS + 100; 2];
        call(libc::SYS_prlimit64, &[0, u64::from(libc::RLIMIT_NOFILE), many.as_ptr() as u64, 0])?;
        (0..MANY_DESCRIPTORS).map(|_| File::open("/dev/null")).collect::<Result<Vec<_>, _>>().map(drop)
    }),
    Attempt::new("sockets", || {
        let many = [MANY_DESCRIPTORS + 100; 2];
        // As far as it goes without a higher limit.
        let _ = raw(libc::SYS_prlimit64, &[0, u64::from(libc::RLIMIT_NOFILE), many.as_ptr() as u64, 0]);
        let pairs = (0..MANY_DESCRIPTORS / 2).map(|_| std::os::unix::net::UnixStream::pair());
        pairs.collect::<Result<Vec<_>, _>>().map(drop)
    }),
    Attempt::new("memory-bomb", || {
        let bytes = vec![1u8; MUCH_MEMORY];
        std::hint::black_box(&bytes);
        Ok(())
    })
    .ends(Refusal::Oom),
    Attempt::new("memory-bomb-in-a-file", || {
        // In no file system that a limit on its size could stop.
        let memory = rustix::fs::memfd_create("bomb", rustix::fs::MemfdFlags::empty())?;
        let mut memory = File::from(memory);
        let piece = vec![1u8; 1 << 20];
        (0..MUCH_MEMORY >> 20).try_for_each(|_| memory.write_all(&piece))
    })
    .ends(Refusal::Oom),
];
