//! The agent's server as threads of this process: several connections to one agent.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{Shutdown, TcpListener},
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use osvm_agent::{
    Code, End, Error, Exec, Reply, Request, host,
    server::{Agent, MOST_CONNECTIONS},
    wire::{self, Kind, Sender},
};
use proptest::prelude::*;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, pidfd_open},
};

const SOON: Duration = Duration::from_secs(30);

struct Guest {
    agent: Arc<Agent>,
    stopped: mpsc::Receiver<()>,
}

impl Guest {
    fn new() -> Self {
        let (stop, stopped) = mpsc::sync_channel(1);
        Self { agent: Agent::new(stop), stopped }
    }

    fn connect(&self) -> UnixStream {
        let (host, guest) = UnixStream::pair().unwrap();
        self.agent.take(guest);
        host.set_read_timeout(Some(SOON)).unwrap();
        host
    }
}

fn shell(text: &str) -> Exec {
    let argv = ["/bin/sh", "-c", text].map(str::to_owned).to_vec();
    Exec { argv, env: BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]), cwd: PathBuf::from("/") }
}

/// Starts a program by hand, and gives back its number and its first line.
fn started(stream: &UnixStream, text: &str) -> (u64, String) {
    let Reply::Started { exec } = host::ask(stream, &Request::Exec(shell(text))).unwrap() else {
        panic!("not started")
    };
    let frame = wire::read_frame(&mut &*stream, Sender::Guest).unwrap().unwrap();
    assert_eq!(frame.kind, Kind::Stdout);
    (exec, String::from_utf8(frame.payload).unwrap().trim().to_owned())
}

fn code(error: &Error) -> Code {
    let Error::Refused(failure) = error else { panic!("{error:?}") };
    failure.code
}

fn refused(done: Result<(), Error>) -> Code {
    code(&done.unwrap_err())
}

#[test]
fn a_signal_reaches_the_program_with_that_number_and_no_other() {
    let guest = Guest::new();
    let stream = guest.connect();
    let (number, _) = started(&stream, "echo on; exec sleep 600");
    assert_eq!(refused(host::done(&guest.connect(), &Request::Signal { exec: number + 1, signal: 15 })), Code::Missing);
    host::done(&guest.connect(), &Request::Signal { exec: number, signal: 15 }).unwrap();
    let end = wire::read_frame(&mut &stream, Sender::Guest).unwrap().unwrap();
    assert_eq!((end.kind, end.json::<End>().unwrap()), (Kind::Exit, End::Signal(15)));
    assert_eq!(refused(host::done(&guest.connect(), &Request::Signal { exec: number, signal: 15 })), Code::Missing);
}

#[test]
fn a_program_and_its_children_end_when_the_host_leaves() {
    let guest = Guest::new();
    let stream = guest.connect();
    let (_, child) = started(&stream, "sleep 600 & echo $!; wait");
    let child = pidfd_open(Pid::from_raw(child.parse().unwrap()).unwrap(), PidfdFlags::empty()).unwrap();
    drop(stream);
    let soon = Timespec::try_from(SOON).unwrap();
    assert_eq!(poll(&mut [PollFd::new(&child, PollFlags::IN)], Some(&soon)), Ok(1), "the child lives on");
}

#[test]
fn input_that_a_program_does_not_read_does_not_hold_its_end() {
    let guest = Guest::new();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let end = host::exec(&guest.connect(), shell("echo $((6 * 7))"), std::io::repeat(1), &mut out, &mut err, |_| {});
    assert_eq!((end.unwrap(), out.as_slice(), err.len()), (End::Code(0), &b"42\n"[..], 0));
}

#[test]
fn output_of_many_frames_arrives_whole_and_in_order() {
    let guest = Guest::new();
    let mut out = Vec::new();
    let text = "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i + 1)); done";
    host::exec(&guest.connect(), shell(text), std::io::empty(), &mut out, &mut std::io::sink(), |_| {}).unwrap();
    let due: String = (0..20_000).map(|n| format!("line {n}\n")).collect();
    assert!(out == due.as_bytes());
}

#[test]
fn a_port_is_joined_and_each_end_is_passed_on_by_itself() {
    let guest = Guest::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        all.reverse();
        stream.write_all(&all).unwrap();
    });
    let stream = guest.connect();
    host::done(&stream, &Request::Forward { port }).unwrap();
    let bytes: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
    (&stream).write_all(&bytes).unwrap();
    // The server answers only after this end, and its answer comes after it.
    stream.shutdown(Shutdown::Write).unwrap();
    let mut back = Vec::new();
    (&stream).read_to_end(&mut back).unwrap();
    back.reverse();
    assert!(back == bytes);
    server.join().unwrap();
    assert_eq!(refused(host::done(&guest.connect(), &Request::Forward { port })), Code::Missing);
}

#[test]
fn the_end_is_asked_for_answered_and_told() {
    let guest = Guest::new();
    for _ in 0..3 {
        host::done(&guest.connect(), &Request::Shutdown).unwrap();
    }
    guest.stopped.recv_timeout(SOON).unwrap();
}

#[test]
fn one_connection_more_than_there_may_be_is_told_that_the_agent_is_busy() {
    let guest = Guest::new();
    let open: Vec<UnixStream> = (0..MOST_CONNECTIONS).map(|_| guest.connect()).collect();
    assert_eq!(code(&host::info(&guest.connect()).unwrap_err()), Code::Busy);
    drop(open);
}

#[test]
fn a_file_that_cannot_be_is_refused_with_its_reason() {
    let guest = Guest::new();
    let dir = tempfile::tempdir().unwrap();
    let read = |path: PathBuf| code(&host::read(&guest.connect(), &path, &mut Vec::new()).unwrap_err());
    assert_eq!(read(dir.path().join("none")), Code::Missing);
    assert_eq!(read(dir.path().to_owned()), Code::Bad);
    assert_eq!(read(PathBuf::from("/dev/zero")), Code::Bad);
    let write = |path: PathBuf| refused(host::write(&guest.connect(), &path, 0o600, 1, &b"x"[..]));
    assert_eq!(write(dir.path().join("none/file")), Code::Missing);
    assert_ne!(write(dir.path().to_owned()), Code::Busy);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_request_that_breaks_a_rule_is_refused_by_the_agent_itself() {
    let guest = Guest::new();
    let exec = |cwd: &str, env: &str| format!(r#"{{"do":"exec","argv":["/bin/true"],"env":{{{env}}},"cwd":"{cwd}"}}"#);
    let bad = [
        r#"{"do":"read","path":"etc/passwd"}"#.to_owned(),
        r#"{"do":"read","path":"/tmp/../etc/passwd"}"#.to_owned(),
        r#"{"do":"write","path":"/tmp/x","mode":65535,"size":0}"#.to_owned(),
        r#"{"do":"signal","exec":1,"signal":65}"#.to_owned(),
        r#"{"do":"forward","port":0}"#.to_owned(),
        r#"{"do":"forward","port":65536}"#.to_owned(),
        r#"{"do":"exec","argv":[],"cwd":"/"}"#.to_owned(),
        r#"{"do":"read","path":"/etc/hostname","more":1}"#.to_owned(),
        exec("tmp", ""),
        exec("/", r#""A=B":"1""#),
        exec("/", r#""A":"\u0000""#),
        "[]".to_owned(),
    ];
    for request in bad {
        let mut stream = guest.connect();
        wire::write_preamble(&mut stream).unwrap();
        wire::write_frame(&mut stream, Kind::Request, request.as_bytes()).unwrap();
        wire::read_preamble(&mut stream).unwrap();
        let frame = wire::read_frame(&mut stream, Sender::Guest).unwrap().unwrap();
        assert_eq!(frame.kind, Kind::Failure, "{request}");
        assert_eq!(frame.json::<osvm_agent::Failure>().unwrap().code, Code::Bad, "{request}");
    }
}

#[test]
fn another_version_gets_no_answer_but_the_agents_own_version() {
    let guest = Guest::new();
    let mut stream = guest.connect();
    stream.write_all(b"osvmag\x02\x00").unwrap();
    let mut all = Vec::new();
    // A connection that is closed with bytes unread is reset; what came before is what counts.
    let _ = stream.read_to_end(&mut all);
    assert_eq!(all, b"osvmag\x01\x00");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Frames of every kind, whole and broken, after a right preamble: the agent answers or closes, and goes on serving.
    #[test]
    fn whatever_the_host_sends_is_answered_or_closed(
        kind in 0_u8..24, length in proptest::option::of(0_u32..100_000), rest in proptest::collection::vec(any::<u8>(), 0..200),
        text in prop_oneof![Just(None), r#"\{"do":"(info|read|signal|forward)"(,"(path|exec|port)":("/[a-z]{0,3}"|[0-9]{6,7}))?\}"#.prop_map(Some)],
    ) {
        let guest = Guest::new();
        let mut stream = guest.connect();
        let payload = text.map_or(rest, String::into_bytes);
        let mut bytes = Vec::new();
        wire::write_preamble(&mut bytes).unwrap();
        bytes.push(kind);
        bytes.extend(length.unwrap_or(payload.len() as u32).to_le_bytes());
        bytes.extend(payload);
        stream.write_all(&bytes).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        // It ends, by the agent's end of the connection and not by a time limit.
        if let Err(error) = stream.read_to_end(&mut Vec::new()) {
            prop_assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        }
        prop_assert!(host::info(&guest.connect()).is_ok());
    }
}
