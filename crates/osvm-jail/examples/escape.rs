//! What the jail's tests run, inside a jail and outside of one: attempts to get out, every system call, and programs that use the
//! allowed ones.
//!
//! `list` prints the attempts and how a jail refuses them. `attempt NAME KEY=VALUE…` makes one: exit 0 if it worked, 10 if it was refused, with the reason on
//! stdout. `stage JAIL NAME` makes it inside and outside on a stage that is thrown away. The tests say what they expect.
#![deny(unsafe_op_in_unsafe_fn)]
#![expect(unsafe_code, reason = "attempts are raw system calls")]

use std::{
    fs::File,
    io,
    process::{self, ExitCode},
};

use libc::c_long;

#[path = "escape/every_call.rs"]
mod every_call;
#[path = "escape/files.rs"]
mod files;
#[path = "escape/kernel.rs"]
mod kernel;
#[path = "escape/neighbour.rs"]
mod neighbour;
#[path = "escape/network.rs"]
mod network;
#[path = "escape/processes.rs"]
mod processes;
#[path = "escape/resources.rs"]
mod resources;
#[path = "escape/stage.rs"]
mod stage;
#[path = "escape/terminal.rs"]
mod terminal;
#[path = "escape/trace.rs"]
mod trace;
#[path = "escape/uses.rs"]
mod uses;

/// The attempt was refused.
const REFUSED: u8 = 10;
/// There is no such attempt.
const WRONG: u8 = 11;
/// The stage could not be set.
const BROKEN: u8 = 12;

/// What an attempt needs around it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scene {
    /// What every stage has.
    Plain,
    /// A second instance that runs.
    Neighbour,
    /// stderr is a terminal.
    Terminal,
    /// stderr is a unix socket by which the other side has sent a descriptor of `/`.
    Sent,
}

/// How a jail refuses it.
#[derive(Clone, Copy, Debug)]
enum Refusal {
    /// The call is answered with an error.
    Error,
    /// The process is ended by `SIGSYS`.
    Sigsys,
    /// The kernel ends it for memory, and the jail says so.
    Oom,
}

/// One attempt to get out.
struct Attempt {
    name: &'static str,
    scene: Scene,
    refusal: Refusal,
    /// Whether it is made in a jail with a `/proc` of its own too.
    proc: bool,
    run: fn() -> io::Result<()>,
}

impl Attempt {
    const fn new(name: &'static str, run: fn() -> io::Result<()>) -> Self {
        Self { name, scene: Scene::Plain, refusal: Refusal::Error, proc: false, run }
    }

    const fn on(self, scene: Scene) -> Self {
        Self { scene, ..self }
    }

    const fn ends(self, refusal: Refusal) -> Self {
        Self { refusal, ..self }
    }

    const fn with_proc(self) -> Self {
        Self { proc: true, ..self }
    }
}

fn attempts() -> impl Iterator<Item = &'static Attempt> {
    let groups: [&'static [Attempt]; 6] = [
        files::ATTEMPTS,
        kernel::ATTEMPTS,
        network::ATTEMPTS,
        processes::ATTEMPTS,
        resources::ATTEMPTS,
        terminal::ATTEMPTS,
    ];
    groups.into_iter().flatten()
}

/// One system call, whose arguments are numbers or pointers to what outlives it.
fn raw(call: c_long, args: &[u64]) -> io::Result<c_long> {
    let mut a = [0; 6];
    a[..args.len()].copy_from_slice(args);
    // SAFETY: pointers among the arguments are null, bad on purpose, or point to constants and locals of the caller that outlive the call.
    let answer = unsafe { libc::syscall(call, a[0], a[1], a[2], a[3], a[4], a[5]) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

fn call(number: c_long, args: &[u64]) -> io::Result<()> {
    raw(number, args).map(drop)
}

/// A call whose success would change the machine is made in a form that the kernel looks at and turns down with this error.
fn reaches(number: c_long, args: &[u64], errno: i32) -> io::Result<()> {
    match raw(number, args) {
        Err(error) if error.raw_os_error() == Some(errno) => Ok(()),
        Err(error) => Err(error),
        Ok(answer) => Err(io::Error::other(format!("it was not turned down but answered with {answer}"))),
    }
}

fn pidfd(pid: u64) -> io::Result<u64> {
    Ok(raw(libc::SYS_pidfd_open, &[pid, 0])?.cast_unsigned())
}

fn own_pid() -> u64 {
    u64::from(process::id())
}

/// Reads something. A file without a byte is as good as none.
fn read(path: &str) -> io::Result<()> {
    match io::Read::read(&mut File::open(path)?, &mut [0; 16])? {
        0 => Err(io::Error::other("there is nothing in it")),
        _ => Ok(()),
    }
}

/// What the stage tells an attempt: `KEY=VALUE`.
fn fact(key: &str) -> io::Result<String> {
    let value =
        std::env::args().skip(3).find_map(|fact| Some(fact.split_once('=').filter(|(k, _)| *k == key)?.1.to_owned()));
    value.ok_or_else(|| io::Error::other(format!("no {key}")))
}

fn number<T: std::str::FromStr>(key: &str) -> io::Result<T> {
    fact(key)?.parse().map_err(|_| io::Error::other(format!("{key} is no number")))
}

fn attempt(name: &str) -> ExitCode {
    match attempts().find(|attempt| attempt.name == name).map(|attempt| (attempt.run)()) {
        Some(Ok(())) => ExitCode::SUCCESS,
        Some(Err(error)) => {
            println!("{error}");
            ExitCode::from(REFUSED)
        }
        None => ExitCode::from(WRONG),
    }
}

fn main() -> ExitCode {
    let arg = |index| std::env::args().nth(index).unwrap_or_default();
    let done = match arg(1).as_str() {
        "list" => {
            attempts().for_each(|attempt| println!("{} {:?}", attempt.name, attempt.refusal));
            Ok(())
        }
        "attempt" => return attempt(&arg(2)),
        "stage" => match attempts().find(|attempt| attempt.name == arg(3)) {
            Some(attempt) => stage::run(arg(2).as_ref(), attempt),
            None => return ExitCode::from(WRONG),
        },
        "neighbour" => neighbour::live(),
        "every-call" => every_call::run(),
        "uses" => uses::run(),
        "trace" => trace::run(std::env::args().skip(2)),
        "euid" => return ExitCode::from(u8::from(rustix::process::geteuid().as_raw() != 0)),
        "egid" => return ExitCode::from(u8::from(rustix::process::getegid().as_raw() != 0)),
        "capable" => return ExitCode::from(u8::from(!files::has_capabilities())),
        _ => return ExitCode::from(WRONG),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", arg(1));
            ExitCode::from(BROKEN)
        }
    }
}
