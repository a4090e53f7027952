//! `osvm run --allow` and `--publish` as a user has them. Needs root, curl and python3. Nothing leaves the machine: what is asked for is
//! refused before any connection.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    fs,
    io::Read,
    os::unix::net::UnixStream,
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

fn command(args: &[&str]) -> Command {
    assert!(rustix::process::geteuid().is_root(), "this test needs root");
    let mut command = Command::new(env!("CARGO_BIN_EXE_osvm-run"));
    command.args(["--isolation", "process"]).args(args).env_remove("OSVM_OUTPUT").stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Output {
    command(args).output().unwrap()
}

/// A status code by curl.
const CURL: [&str; 7] = ["--", "curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}"];

#[test]
fn a_refusal_is_a_line_and_in_the_document() {
    let args = [&["--allow", "example.com:443"][..], &CURL, &["http://169.254.169.254/latest"]].concat();
    let ran = run(&args);
    assert_eq!((ran.status.code(), &*ran.stdout), (Some(0), &b"403"[..]));
    let line = "egress refused: 169.254.169.254:80: not-allowed: it is not on the list (--allow)";
    assert!(String::from_utf8_lossy(&ran.stderr).contains(line), "{ran:?}");

    let ran = run(&[&["--output", "json"], &args[..]].concat());
    let document: Value = serde_json::from_slice(&ran.stdout).unwrap();
    let refusal = json!({
        "target": "169.254.169.254:80", "reason": "not-allowed", "detail": "it is not on the list (--allow)",
    });
    assert_eq!(document["egress"], json!({ "refused": 1, "refusals": [refusal], "lost": false }));
    assert_eq!(document["stdout"], "403");
}

#[test]
fn without_allow_there_is_no_proxy_and_no_network() {
    let args = [&["--output", "json"][..], &CURL, &["-x", "http://127.0.0.1:3128", "http://example.com/"]].concat();
    let document: Value = serde_json::from_slice(&run(&args).stdout).unwrap();
    assert_eq!((&document["exit"], &document["egress"]), (&json!(7), &Value::Null), "{document}");
}

#[test]
fn a_destination_that_cannot_be_is_a_wrong_command_line() {
    for destination in ["example.com", "example.com:0", "example.com.:443", "0.0.0.0:80", "::1:80", "*.example.com:443"]
    {
        let ran = run(&["--allow", destination, "--", "true"]);
        assert_eq!(ran.status.code(), Some(2), "{destination}: {ran:?}");
    }
}

#[test]
fn a_published_port_is_reached_by_its_socket_which_goes_with_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("web.sock");
    let publish = format!("{}:8080", socket.display());
    let code = "import socket\ns = socket.create_server(('127.0.0.1', 8080))\nc, _ = s.accept()\nc.sendall(b'hello')\nc.close()";
    // Its library, whatever its version.
    let library = fs::read_dir("/usr/lib").unwrap().flatten().map(|entry| entry.path());
    let library =
        library.filter(|path| path.join("encodings").is_dir()).map(|path| path.display().to_string()).next().unwrap();
    let mount = format!("{library}:{library}:ro");
    let args = ["--mount", &mount, "--publish", &publish, "--", "/usr/bin/python3", "-I", "-S", "-c", code];
    let mut child = command(&args).spawn().unwrap();
    let end = Instant::now() + Duration::from_secs(20);
    let mut answer = String::new();
    while answer.is_empty() {
        assert!(Instant::now() < end, "nobody answers");
        // Not there yet, or closed since the service does not listen yet.
        let _ = UnixStream::connect(&socket).and_then(|mut stream| stream.read_to_string(&mut answer));
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(answer, "hello");
    assert!(child.wait().unwrap().success());
    assert!(!socket.exists());
}
