//! Connections over hybrid vsock: how soon the first is answered, round trips, and throughput; beside a unix socket of the host.

use std::{
    fmt,
    io::{Error as IoError, ErrorKind, Read, Write},
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::{error::Error, stats::Spread};

use super::{Bench, WARM_UP, failed, spawn};

/// Where the program listens.
const PORT: u32 = 7000;
/// Round trips of one byte.
const ECHOES: usize = 5000;
/// Bytes of a stream.
const STREAM: usize = 1 << 30;
const PIECE: usize = 1 << 16;
/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(10);
/// Between two tries to connect to a VM that is not there yet.
const PAUSE: Duration = Duration::from_micros(100);

/// Figures of both ways.
#[derive(Debug, Serialize)]
pub(crate) struct Talk {
    pub(crate) vsock_echo: Spread,
    pub(crate) unix_echo: Spread,
    pub(crate) vsock_gb: f64,
    pub(crate) unix_gb: f64,
}

impl fmt::Display for Talk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |name: &str, echo: &Spread, gb: f64| {
            format!("{name:<40} {:>7} us {:>7} us {gb:>7.2} GB/s", echo.p50_us, echo.p99_us)
        };
        writeln!(f, "{:<40} {:>10} {:>10} {:>12}", "one byte and back, one stream", "p50", "p99", "")?;
        writeln!(f, "{}", line("VM over vsock", &self.vsock_echo, self.vsock_gb))?;
        write!(f, "{}", line("unix socket of the host", &self.unix_echo, self.unix_gb))
    }
}

/// A connection to the program's port, if it listens by now.
fn connect(socket: &Path) -> Result<UnixStream, IoError> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(format!("CONNECT {PORT}\n").as_bytes())?;
    let mut byte = [0];
    let mut line = Vec::new();
    while byte != *b"\n" {
        stream.read_exact(&mut byte)?;
        line.push(byte[0]);
    }
    if line.starts_with(b"OK ") { Ok(stream) } else { Err(ErrorKind::InvalidData.into()) }
}

/// Connects and has one byte sent back.
pub(crate) fn ask(socket: &Path) -> Result<UnixStream, IoError> {
    let mut stream = connect(socket)?;
    round_trip(&mut stream)?;
    Ok(stream)
}

fn round_trip(stream: &mut UnixStream) -> Result<(), IoError> {
    stream.write_all(b"x")?;
    stream.read_exact(&mut [0])
}

/// From the start of the monitor's process to the first answer of its program: from the program's file, and as a clone.
pub(crate) fn first_answer(bench: &Bench, runs: usize) -> Result<[Spread; 2], Error> {
    let (dir, socket) = (bench.dir.path(), bench.dir.path().join("first.sock"));
    let snapshot = dir.join("snapshot");
    let port = PORT.to_string();
    let made = bench
        .vm(&["--snapshot".as_ref(), &snapshot, "--snapshot-after".as_ref(), port.as_ref()])
        .arg("echo")
        .stdout(Stdio::null())
        .status();
    if !made.map_err(failed("start a VM"))?.success() {
        return Err(Error::Program("the snapshot was not written".to_owned()));
    }
    let whole = || {
        let mut command = bench.vm(&["--vsock".as_ref(), &socket]);
        command.arg("echo");
        command
    };
    let clone = || {
        let mut command = Command::new(&bench.monitor);
        command.args(["clone", "--vsock"]).arg(&socket).arg(&snapshot);
        command
    };
    Ok([answers(&socket, runs, whole)?, answers(&socket, runs, clone)?])
}

fn answers(socket: &Path, runs: usize, make: impl Fn() -> Command) -> Result<Spread, Error> {
    let mut samples = Vec::new();
    for run in 0..WARM_UP + runs {
        let began = Instant::now();
        let child = make().stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let mut child = child.map_err(failed("start a VM"))?;
        let answered = loop {
            match ask(socket) {
                Ok(_) => break Ok(began.elapsed()),
                Err(error) if began.elapsed() > LIMIT => break Err(error),
                Err(_) => thread::sleep(PAUSE),
            }
        };
        let _ = child.kill();
        child.wait().map_err(failed("wait for a VM"))?;
        let answered = answered.map_err(failed("reach a VM"))?;
        if run >= WARM_UP {
            samples.push(answered.as_micros() as u64);
        }
    }
    Ok(Spread::of(&mut samples))
}

fn echoes(mut stream: UnixStream) -> Result<Spread, IoError> {
    let mut samples = Vec::with_capacity(ECHOES);
    for _ in 0..ECHOES {
        let began = Instant::now();
        round_trip(&mut stream)?;
        samples.push(began.elapsed().as_micros() as u64);
    }
    Ok(Spread::of(&mut samples))
}

/// GB/s until the other side has taken all.
fn stream(mut stream: UnixStream) -> Result<f64, IoError> {
    let piece = vec![1; PIECE];
    let began = Instant::now();
    for _ in 0..STREAM / PIECE {
        stream.write_all(&piece)?;
    }
    stream.shutdown(Shutdown::Write)?;
    stream.read_exact(&mut [0])?;
    Ok(STREAM as f64 / began.elapsed().as_secs_f64() / 1e9)
}

/// What the program does, on the host, for one connection.
fn serve(listener: &UnixListener, sink: bool) -> Result<(), IoError> {
    let (mut stream, _) = listener.accept()?;
    let mut buffer = vec![0; PIECE];
    loop {
        match stream.read(&mut buffer)? {
            0 => break,
            _ if sink => {}
            got => stream.write_all(&buffer[..got])?,
        }
    }
    if sink { stream.write_all(b"x") } else { Ok(()) }
}

fn on_the_host<T>(dir: &Path, sink: bool, act: impl FnOnce(UnixStream) -> Result<T, IoError>) -> Result<T, IoError> {
    let path = dir.join(if sink { "sink" } else { "echo" });
    let listener = UnixListener::bind(&path)?;
    thread::scope(|scope| {
        let server = scope.spawn(|| serve(&listener, sink));
        let done = act(UnixStream::connect(&path)?);
        server.join().unwrap_or_else(|_| Err(ErrorKind::Other.into()))?;
        done
    })
}

fn in_a_vm<T>(bench: &Bench, word: &str, act: impl FnOnce(UnixStream) -> Result<T, IoError>) -> Result<T, Error> {
    let socket = bench.dir.path().join(format!("{word}.sock"));
    let mut child = spawn(bench.vm(&["--vsock".as_ref(), &socket]).arg(word))?;
    let done = connect(&socket).and_then(act);
    let _ = child.kill();
    child.wait().map_err(failed("wait for a VM"))?;
    done.map_err(failed("talk to a VM"))
}

/// Round trips and streams, each on both ways.
pub(crate) fn talk(bench: &Bench) -> Result<Talk, Error> {
    let dir = bench.dir.path();
    Ok(Talk {
        vsock_echo: in_a_vm(bench, "echo", echoes)?,
        unix_echo: on_the_host(dir, false, echoes).map_err(failed("talk over a unix socket"))?,
        vsock_gb: in_a_vm(bench, "sink", stream)?,
        unix_gb: on_the_host(dir, true, stream).map_err(failed("talk over a unix socket"))?,
    })
}
