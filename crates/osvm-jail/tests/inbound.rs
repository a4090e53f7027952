//! The way in: a unix socket outside, joined to the service's port in the jail.
//!
//! Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod network;

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::Shutdown,
    os::unix::{fs::MetadataExt, net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

use network::{children, field, line, spec, start, until};
use osvm_jail::Inbound;
use tempfile::TempDir;

/// The service's port in each jail: its network is its own.
const PORT: &str = "8080";
/// Connections that the joint has at one time.
const PLACES: usize = 64;

/// A service in a jail, and its socket.
struct Service {
    jail: Child,
    socket: PathBuf,
    _folder: TempDir,
}

impl Service {
    fn start(mode: &str) -> Self {
        let mut service = Self::begin(mode, "0");
        line(service.jail.stdout.as_mut().unwrap(), "listening");
        service
    }

    fn begin(mode: &str, after: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("service.sock");
        let jail = serve(&socket, mode, after);
        Self { jail, socket, _folder: folder }
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(network::PATIENCE)).unwrap();
        stream
    }

    /// Whether a connection is echoed, and closed at its end.
    fn echoes(&self) -> bool {
        let mut stream = self.connect();
        let mut back = String::new();
        let sent = stream.write_all(b"hello").and_then(|()| stream.shutdown(Shutdown::Write));
        sent.and_then(|()| stream.read_to_string(&mut back)).is_ok() && back == "hello"
    }

    /// The jail's first process.
    fn first(&self) -> u32 {
        children(self.jail.id())[0]
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.jail.kill();
        let _ = self.jail.wait();
    }
}

fn serve(socket: &Path, mode: &str, after: &str) -> Child {
    assert!(rustix::process::geteuid().is_root(), "this test needs root");
    let mut spec = spec(&[], &["serve", PORT, mode, after]);
    spec.network.inbound = Some(Inbound { socket: socket.to_owned(), port: PORT.parse().unwrap() });
    let mut jail = start(&spec);
    line(jail.stdout.as_mut().unwrap(), "started");
    jail
}

#[test]
fn each_end_of_a_connection_is_passed_on_by_itself() {
    const SENT: usize = 3 << 20;
    // The service answers behind the end of what came.
    let service = Service::start("count");
    let mut stream = service.connect();
    stream.write_all(&vec![0; SENT]).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, SENT.to_string());
    // The service ends its side first, and goes on to read.
    let mut service = Service::start("first");
    let mut stream = service.connect();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "first");
    stream.write_all(&vec![0; SENT]).unwrap();
    drop(stream);
    line(service.jail.stdout.as_mut().unwrap(), &format!("{SENT} after the end"));
}

#[test]
fn ten_thousand_connections_leave_nothing_behind() {
    let service = Service::start("echo");
    assert!(service.echoes());
    let first = service.first();
    let count = |what: &str| fs::read_dir(format!("/proc/{first}/{what}")).unwrap().count();
    until("one connection's end", || count("task") == 2);
    let before = (count("task"), count("fd"));
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..1250).for_each(|_| assert!(service.echoes())));
        }
    });
    until("the end of all connections", || (count("task"), count("fd")) == before);
}

#[test]
fn a_service_that_does_not_listen_yet_means_a_closed_connection_and_later_a_good_one() {
    let service = Service::begin("echo", "500");
    let began = Instant::now();
    let mut byte = [0];
    match service.connect().read(&mut byte) {
        Ok(n) => assert_eq!(n, 0),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    assert!(began.elapsed() < Duration::from_millis(400), "it was made to wait");
    until("a service that answers", || service.echoes());
}

#[test]
fn a_reader_that_stops_stops_its_own_connection_only() {
    let service = Service::start("flood");
    let mut stalled = service.connect();
    // The service sends without an end, and nobody reads.
    stalled.write_all(b"f").unwrap();
    stalled.read_exact(&mut [0]).unwrap();
    for _ in 0..100 {
        assert!(service.echoes());
    }
    let resident: u64 = field(service.first(), "VmRSS").unwrap().parse().unwrap();
    assert!(resident < 32 << 10, "{resident} KiB");
    // What waits is what the two sockets and one buffer hold, not what was sent meanwhile.
    let mut rest = vec![0; 1 << 20];
    stalled.read_exact(&mut rest).unwrap();
}

#[test]
fn connections_beyond_the_places_wait_for_one() {
    let service = Service::start("echo");
    let mut held: Vec<_> = (0..PLACES).map(|_| service.connect()).collect();
    for stream in &mut held {
        stream.write_all(b"x").unwrap();
        stream.read_exact(&mut [0]).unwrap();
    }
    let mut waiting: Vec<_> = (0..20).map(|_| service.connect()).collect();
    for stream in &mut waiting {
        stream.write_all(b"y").unwrap();
    }
    waiting[0].set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let early = waiting[0].read(&mut [0]);
    assert!(matches!(&early, Err(error) if error.kind() == ErrorKind::WouldBlock), "{early:?}");
    drop(held);
    waiting[0].set_read_timeout(Some(network::PATIENCE)).unwrap();
    for stream in &mut waiting {
        stream.read_exact(&mut [0]).unwrap();
    }
}

#[test]
fn the_socket_is_its_owners_and_removed_at_the_end() {
    let mut service = Service::start("echo");
    assert_eq!(fs::symlink_metadata(&service.socket).unwrap().mode() & 0o777, 0o600);
    let pid = service.jail.id().to_string();
    assert!(Command::new("kill").args(["-s", "TERM", &pid]).status().unwrap().success());
    service.jail.wait().unwrap();
    assert!(!service.socket.exists());
}

#[test]
fn a_dead_jails_socket_is_replaced_and_a_living_ones_is_not() {
    let mut service = Service::start("echo");
    service.jail.kill().unwrap();
    service.jail.wait().unwrap();
    assert!(service.socket.exists(), "a killed monitor removes nothing");
    service.jail = serve(&service.socket, "echo", "0");
    line(service.jail.stdout.as_mut().unwrap(), "listening");
    assert!(service.echoes());
    // A second one on the same path is refused, and the first one is still there.
    let mut second = spec(&[], &["env"]);
    second.network.inbound = Some(Inbound { socket: service.socket.clone(), port: 80 });
    let ran = network::Ran::from(start(&second).wait_with_output().unwrap());
    assert!(ran.code == Some(3) && ran.err.contains("making the instance's socket failed"), "{ran:?}");
    assert!(service.echoes());
}

#[test]
fn a_file_that_somebody_put_in_the_sockets_place_is_left_alone() {
    let mut service = Service::start("echo");
    fs::remove_file(&service.socket).unwrap();
    fs::write(&service.socket, "mine").unwrap();
    let pid = service.jail.id().to_string();
    assert!(Command::new("kill").args(["-s", "TERM", &pid]).status().unwrap().success());
    service.jail.wait().unwrap();
    assert_eq!(fs::read_to_string(&service.socket).unwrap(), "mine");
}
