//! A VM becomes a file, and clones are made from it.

use std::{
    fs,
    io::{Read, Write},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant, SystemTime},
};

use tempfile::TempDir;

use crate::support::{LIMIT, Program, Ran, connect, run_with, static_c};

/// Says on each connection: a number of requests so far, random bytes, the time, and how long a nap of 20 ms took.
const SERVER: &str = r#"
    #include <arpa/inet.h>
    #include <stdio.h>
    #include <sys/random.h>
    #include <sys/socket.h>
    #include <time.h>
    #include <unistd.h>
    static long long now(int clock) {
        struct timespec t;
        clock_gettime(clock, &t);
        return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
    }
    int main(void) {
        struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(7000)};
        int l = socket(AF_INET, SOCK_STREAM, 0), asked = 0;
        double state = 1.5;
        if (bind(l, (void *)&to, sizeof to) || listen(l, 9)) return 1;
        for (;;) {
            int c = accept(l, 0, 0);
            unsigned long long random;
            getrandom(&random, sizeof random, 0);
            long long began = now(CLOCK_MONOTONIC);
            struct timespec nap = {0, 20000000};
            nanosleep(&nap, 0);
            state *= 2;
            dprintf(c, "%d %016llx %lld %lld %.1f\n", ++asked, random, now(CLOCK_REALTIME), now(CLOCK_MONOTONIC) - began, state);
            close(c);
        }
    }"#;

struct Made {
    _program: Program,
    dir: TempDir,
}

impl Made {
    fn file(&self) -> PathBuf {
        self.dir.path().join("snapshot")
    }

    fn clone(&self, name: &str) -> Running {
        let socket = self.dir.path().join(name);
        let mut command = Command::new(env!("CARGO_BIN_EXE_osvm-unikernel"));
        command.args(["clone", "--timeout", "30", "--vsock"]).arg(&socket).arg(self.file());
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        Running { child, socket }
    }
}

struct Running {
    child: Child,
    socket: PathBuf,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Said {
    asked: u32,
    random: String,
    realtime: u64,
    nap: u64,
    state: String,
}

impl Running {
    fn ask(&self) -> Said {
        let mut line = String::new();
        self.connection().read_to_string(&mut line).unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        let [asked, random, realtime, nap, state] = words[..] else { panic!("{line:?}") };
        Said {
            asked: asked.parse().unwrap(),
            random: random.to_owned(),
            realtime: realtime.parse().unwrap(),
            nap: nap.parse().unwrap(),
            state: state.to_owned(),
        }
    }

    fn connection(&self) -> UnixStream {
        let began = Instant::now();
        loop {
            if let Some(stream) = connect(&self.socket, 7000) {
                return stream;
            }
            assert!(began.elapsed() < LIMIT, "the clone does not answer");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn snapshot(program: &Path, file: &Path) -> Ran {
    run_with(program, &["--snapshot", file.to_str().unwrap(), "--snapshot-after", "7000"], &[])
}

fn made() -> Made {
    let (program, dir) = (static_c(SERVER), tempfile::tempdir().unwrap());
    let ran = snapshot(&program.path, &dir.path().join("snapshot"));
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    Made { _program: program, dir }
}

#[test]
fn memory_that_a_clone_frees_reads_as_zero_and_not_as_it_was_in_the_snapshot() {
    let program = static_c(
        r#"
        #include <arpa/inet.h>
        #include <string.h>
        #include <sys/mman.h>
        #include <sys/socket.h>
        #include <unistd.h>
        enum { LEN = 8 << 20 };
        static char *room(void) {
            return mmap(0, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        }
        int main(void) {
            struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(7000)};
            int l = socket(AF_INET, SOCK_STREAM, 0);
            char *at = memset(room(), 7, LEN);
            if (bind(l, (void *)&to, sizeof to) || listen(l, 9)) return 1;
            int c = accept(l, 0, 0), old = 0, zero = 1;
            for (int n = 0; n < LEN; n++) old += at[n] == 7;
            munmap(at, LEN);
            at = room();
            for (int n = 0; n < LEN; n++) zero &= !at[n];
            write(c, old == LEN ? zero ? "zero" : "kept" : "lost", 4);
            return 0;
        }"#,
    );
    let made = Made { dir: tempfile::tempdir().unwrap(), _program: program };
    let ran = snapshot(&made._program.path, &made.file());
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    let clone = made.clone("one");
    let mut said = String::new();
    clone.connection().read_to_string(&mut said).unwrap();
    assert_eq!(said, "zero");
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64
}

#[test]
fn clones_go_on_from_the_snapshot_each_with_random_bytes_of_its_own_and_the_right_time() {
    let made = made();
    assert_eq!(fs::metadata(made.file()).unwrap().permissions().mode() & 0o777, 0o600, "its owner's alone");
    std::thread::sleep(Duration::from_millis(300));
    let (first, second) = (made.clone("one"), made.clone("two"));
    let (before, a, b) = (unix_ms(), first.ask(), second.ask());
    for said in [&a, &b] {
        assert_eq!((said.asked, said.state.as_str()), (1, "3.0"), "each goes on from the same state");
        assert!((before..=unix_ms()).contains(&said.realtime), "{} is not now", said.realtime);
        assert!((20..5000).contains(&said.nap), "a nap took {} ms", said.nap);
    }
    assert_ne!(a.random, b.random);
    let again = first.ask();
    assert_eq!((again.asked, again.state.as_str()), (2, "6.0"), "and keeps its own from there");
    assert_ne!(again.random, a.random);
}

#[test]
fn fifty_clones_at_once_answer_with_fifty_different_random_numbers() {
    let made = made();
    let clones: Vec<Running> = (0..50).map(|n| made.clone(&n.to_string())).collect();
    let mut seen: Vec<String> = clones.iter().map(|clone| clone.ask().random).collect();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 50);
}

fn refused(made: &Made) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_osvm-unikernel"))
        .args(["clone", "--timeout", "5"])
        .arg(made.file())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(125));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_snapshot_that_is_broken_or_whose_program_changed_is_refused() {
    let made = made();
    let good = fs::read(made.file()).unwrap();
    let mut bad = good.clone();
    bad[100] ^= 1;
    fs::write(made.file(), &bad).unwrap();
    assert!(refused(&made).contains("broken"));
    fs::write(made.file(), &good[..good.len() - 4096]).unwrap();
    assert!(refused(&made).contains("broken"));
    fs::write(made.file(), "something else").unwrap();
    assert!(refused(&made).contains("it is none"));
    fs::write(made.file(), &good).unwrap();
    fs::OpenOptions::new().append(true).open(&made._program.path).unwrap().write_all(b"more").unwrap();
    assert!(refused(&made).contains("changed since"));
}

#[test]
fn a_program_that_ends_first_leaves_no_snapshot_and_that_is_said() {
    let (program, dir) = (static_c("int main(void) { return 7; }"), tempfile::tempdir().unwrap());
    let ran = snapshot(&program.path, &dir.path().join("snapshot"));
    assert_eq!(ran.code, Some(7));
    assert!(ran.err.contains("no snapshot was written"), "{}", ran.err);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}
