//! A network of the test's own: namespaces for network and mounts in which the test runs itself again, with addresses of all kinds, servers
//! on them, a hosts file and a name server. No packet leaves it, and nothing of the machine is changed.
#![allow(dead_code)]

use std::{
    collections::BTreeMap,
    env, fs,
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, UdpSocket},
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use osvm_jail::{HostPort, Spec, closure};

/// Addresses of the test's own network, as its jails' proxies see it.
pub(crate) const PUBLIC: &str = "93.184.215.14";
pub(crate) const PUBLIC_2: &str = "93.184.215.15";
pub(crate) const PUBLIC_6: &str = "2606:4700::9999";
pub(crate) const PRIVATE: &str = "10.99.0.1";
pub(crate) const METADATA: &str = "169.254.169.254";
pub(crate) const UNIQUE_LOCAL: &str = "fd00:99::1";
const NAME_SERVER: &str = "10.99.0.53";

const HOSTS: &str = "127.0.0.1 localhost local.test\n10.99.0.1 private.test\n169.254.169.254 metadata.test\n\
                     93.184.215.14 public.test\n2606:4700::9999 public6.test\nfd00:99::1 unique.test\n\
                     ::ffff:10.99.0.1 mapped.test\n64:ff9b::a63:1 nat64.test\n0.0.0.0 zero.test\n100.64.0.1 shared.test\n";

/// How long a test waits for what has to happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Runs the test of this name again inside; the one inside runs its body.
pub(crate) fn inside(name: &str, body: impl FnOnce()) {
    assert!(rustix::process::geteuid().is_root(), "this test needs root");
    if env::var_os("OSVM_TEST_NETWORK").is_none() {
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount", "--"]).arg(env::current_exe().unwrap());
        command.args(["--exact", name, "--nocapture", "--test-threads=1"]).env("OSVM_TEST_NETWORK", "1");
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && text.contains("1 passed"), "inside:\n{text}");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    sh("ip link set lo up");
    for address in [PUBLIC, PUBLIC_2, PRIVATE, METADATA, NAME_SERVER] {
        sh(&format!("ip address add {address}/32 dev lo"));
    }
    for address in [PUBLIC_6, UNIQUE_LOCAL] {
        sh(&format!("ip -6 address add {address}/128 dev lo nodad"));
    }
    for (name, text) in [("hosts", HOSTS), ("resolv.conf", "nameserver 10.99.0.53\n")] {
        let file = folder.path().join(name);
        fs::write(&file, text).unwrap();
        sh(&format!("mount --bind {} $(readlink -f /etc/{name})", file.display()));
    }
    body();
}

fn sh(line: &str) {
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    assert!(output.status.success(), "{line}: {output:?}");
}

pub(crate) fn dial() -> PathBuf {
    let own = env::current_exe().unwrap();
    own.parent().unwrap().parent().unwrap().join("examples/dial")
}

/// A jail for `dial` with these destinations.
pub(crate) fn spec(allow: &[&str], args: &[&str]) -> Spec {
    let mut spec = Spec::new(dial());
    spec.argv.extend(args.iter().map(|arg| (*arg).to_owned()));
    spec.mounts = closure(&dial(), &[]).unwrap();
    spec.network.allow = allow.iter().map(|text| HostPort::parse(text).unwrap()).collect();
    spec
}

pub(crate) fn start(spec: &Spec) -> Child {
    start_by(Command::new(env!("CARGO_BIN_EXE_osvm-jail")), spec)
}

/// Starts it by a command that ends in it.
pub(crate) fn start_by(mut command: Command, spec: &Spec) -> Child {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&serde_json::to_vec(spec).unwrap()).unwrap();
    child
}

/// What became of a jail, with the lines of its proxy.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let code = output.status.code().or(output.status.signal().map(|signal| -signal));
        Self { code, out: text(&output.stdout), err: text(&output.stderr) }
    }
}

pub(crate) fn run(allow: &[&str], args: &[&str]) -> Ran {
    start(&spec(allow, args)).wait_with_output().unwrap().into()
}

/// A server that notes the heads of the requests that reach it, and answers each with its own address.
pub(crate) fn web(address: &str) -> Arc<Mutex<Vec<String>>> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (listener, note, name) = (TcpListener::bind(address).unwrap(), Arc::clone(&seen), address.to_owned());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, note, name) = (stream.unwrap(), Arc::clone(&note), name.clone());
            thread::spawn(move || {
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n > 0) {
                    head.push(byte[0]);
                }
                let text = String::from_utf8_lossy(&head).into_owned();
                let length = text.lines().find_map(|line| line.strip_prefix("Content-Length: ")?.parse().ok());
                let mut body = vec![0; length.unwrap_or(0)];
                let _ = stream.read_exact(&mut body);
                note.lock().unwrap().push(text + &String::from_utf8_lossy(&body));
                let _ = write!(
                    stream,
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\nI am {name}",
                    name.len() + 5
                );
            });
        }
    });
    seen
}

/// Names that the test's name server was asked for, in the order of questions of type A.
pub(crate) type Asked = Arc<Mutex<Vec<String>>>;

/// A name server. Each list of addresses answers one question of type A; the last one goes on answering. `cut.` names are cut off over UDP.
pub(crate) fn name_server(names: &[(&str, &[&[&str]])]) -> Asked {
    let mut known: BTreeMap<String, Vec<Vec<IpAddr>>> = BTreeMap::new();
    for (name, answers) in names {
        let answers = answers.iter().map(|list| list.iter().map(|text| text.parse().unwrap()).collect()).collect();
        known.insert((*name).to_owned(), answers);
    }
    let known = Arc::new(Mutex::new(known));
    let asked: Asked = Arc::default();
    let address: SocketAddr = format!("{NAME_SERVER}:53").parse().unwrap();
    let (udp, tcp) = (UdpSocket::bind(address).unwrap(), TcpListener::bind(address).unwrap());
    let (known_2, asked_2) = (Arc::clone(&known), Arc::clone(&asked));
    thread::spawn(move || {
        loop {
            let mut buffer = [0; 512];
            let (n, from) = udp.recv_from(&mut buffer).unwrap();
            // A forged answer first: another id, another address.
            let mut forged = reply(&buffer[..n], &[PRIVATE.parse().unwrap()], false);
            forged[0] ^= 1;
            udp.send_to(&forged, from).unwrap();
            udp.send_to(&say(&buffer[..n], &known_2, &asked_2, true), from).unwrap();
        }
    });
    let asked_3 = Arc::clone(&asked);
    thread::spawn(move || {
        for stream in tcp.incoming() {
            let mut stream = stream.unwrap();
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut query).unwrap();
            let reply = say(&query, &known, &asked_3, false);
            stream.write_all(&u16::try_from(reply.len()).unwrap().to_be_bytes()).unwrap();
            stream.write_all(&reply).unwrap();
        }
    });
    asked
}

fn say(query: &[u8], known: &Mutex<BTreeMap<String, Vec<Vec<IpAddr>>>>, asked: &Asked, udp: bool) -> Vec<u8> {
    let (mut name, mut at) = (String::new(), 12);
    while query[at] != 0 {
        let length = usize::from(query[at]);
        name.push_str(std::str::from_utf8(&query[at + 1..=at + length]).unwrap());
        name.push('.');
        at += 1 + length;
    }
    name.pop();
    if udp && name.starts_with("cut.") {
        return reply(query, &[], true);
    }
    let is_a = query[at + 2] == 1;
    if is_a {
        asked.lock().unwrap().push(name.clone());
    }
    let mut known = known.lock().unwrap();
    let addresses: Vec<IpAddr> = match known.get_mut(&name) {
        Some(answers) => {
            let answer = answers[0].clone();
            if is_a && answers.len() > 1 {
                answers.remove(0);
            }
            answer.into_iter().filter(|address| address.is_ipv4() == is_a).collect()
        }
        None => Vec::new(),
    };
    reply(query, &addresses, false)
}

fn reply(query: &[u8], addresses: &[IpAddr], cut: bool) -> Vec<u8> {
    let mut reply = query.to_vec();
    reply[2] = if cut { 0x83 } else { 0x81 };
    reply[3] = 0x80;
    reply[7] = u8::try_from(addresses.len()).unwrap();
    for address in addresses {
        reply.extend([0xc0, 12, 0, if address.is_ipv4() { 1 } else { 28 }, 0, 1, 0, 0, 0, 0, 0]);
        match address {
            IpAddr::V4(address) => reply.extend([&[4][..], &address.octets()].concat()),
            IpAddr::V6(address) => reply.extend([&[16][..], &address.octets()].concat()),
        }
    }
    reply
}

/// Waits until it is so.
pub(crate) fn until(what: &str, mut is: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < end, "never: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The children of a process.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let all = fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|child| field(*child, "PPid").is_some_and(|parent| parent == pid.to_string()))
        .collect()
}

/// A line of `/proc/PID/status`.
pub(crate) fn field(pid: u32, name: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(value.split_whitespace().next().unwrap_or("").to_owned())
}

/// Reads until a line.
pub(crate) fn line(from: &mut impl Read, wanted: &str) {
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(format!("{wanted}\n").as_bytes()) {
        let n = from.read(&mut byte).unwrap();
        assert!(n > 0, "no line {wanted:?} in {:?}", String::from_utf8_lossy(&text));
        text.push(byte[0]);
    }
}
