//! Builds programs and runs them in VMs.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// No test program runs longer.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// A folder with one program in it.
pub(crate) struct Program {
    _dir: TempDir,
    pub(crate) path: PathBuf,
}

impl Program {
    /// A place for a program that something else builds.
    pub(crate) fn empty(name: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        Self { _dir: dir, path }
    }
}

fn built(command: &mut Command) {
    let output = command.output().expect("the compiler starts");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Compiles C with the system's compiler; `flags` say how it is linked.
pub(crate) fn c(source: &str, flags: &[&str]) -> Program {
    let dir = tempfile::tempdir().unwrap();
    let (file, path) = (dir.path().join("program.c"), dir.path().join("program"));
    std::fs::write(&file, source).unwrap();
    built(
        Command::new("cc")
            .args(["-O1", "-w", "-fno-omit-frame-pointer", "-mno-omit-leaf-frame-pointer"])
            .args(flags)
            .arg("-o")
            .arg(&path)
            .arg(&file)
            .arg("-lm"),
    );
    Program { _dir: dir, path }
}

/// A static C program at fixed addresses.
pub(crate) fn static_c(source: &str) -> Program {
    c(source, &["-static"])
}

/// Compiles a program of `tests/programs`, statically.
pub(crate) fn rust(name: &str) -> Program {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs").join(format!("{name}.rs"));
    built(
        Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
            .args([
                "--edition",
                "2024",
                "-O",
                "-C",
                "target-feature=+crt-static",
                "--target",
                "x86_64-unknown-linux-gnu",
                "-o",
            ])
            .arg(&path)
            .arg(&source),
    );
    Program { _dir: dir, path }
}

/// Builds an example of this crate, statically, in a target folder of its own.
pub(crate) fn example(name: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("static");
    built(
        Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--locked", "--package", "osvm-unikernel", "--example", name])
            .args(["--target", "x86_64-unknown-linux-gnu", "--target-dir"])
            .arg(&target)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .env("RUSTFLAGS", "-C target-feature=+crt-static"),
    );
    target.join("x86_64-unknown-linux-gnu/debug/examples").join(name)
}

/// The monitor's command line, up to its options.
pub(crate) fn monitor() -> Command {
    assert!(
        std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok(),
        "these tests need /dev/kvm; `cargo xtask test` leaves them out where it is missing"
    );
    let mut command = Command::new(env!("CARGO_BIN_EXE_osvm-unikernel"));
    command.args(["run", "--timeout"]).arg(LIMIT.as_secs().to_string());
    command
}

/// What a run said and how it ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }
}

impl Ran {
    /// A number of `--stats`.
    pub(crate) fn stat(&self, name: &str) -> u64 {
        let line = self.err.lines().find(|line| line.starts_with('{')).expect("statistics");
        let json: serde_json::Value = serde_json::from_str(line).unwrap();
        json[name].as_u64().unwrap_or_else(|| panic!("no {name} in {line}"))
    }
}

/// Runs a program with options of the monitor and arguments of its own.
pub(crate) fn run_with(path: &Path, options: &[&str], args: &[&str]) -> Ran {
    monitor().args(options).arg("--").arg(path).args(args).stdin(Stdio::null()).output().unwrap().into()
}

/// Runs a program.
pub(crate) fn run(program: &Program) -> Ran {
    run_with(&program.path, &[], &[])
}

/// A connection to a port of a VM's program, if somebody listens there.
pub(crate) fn connect(socket: &Path, port: u32) -> Option<UnixStream> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.write_all(format!("CONNECT {port}\n").as_bytes()).ok()?;
    let mut line = Vec::new();
    let mut byte = [0];
    while stream.read(&mut byte).unwrap_or(0) == 1 {
        if byte[0] == b'\n' {
            return line.starts_with(b"OK ").then_some(stream);
        }
        line.push(byte[0]);
    }
    None
}

/// A VM that runs beside the test; it ends with this.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) socket: PathBuf,
    _dir: TempDir,
}

impl Running {
    /// Starts a program that says `ready`.
    pub(crate) fn start(path: &Path, options: &[&str], args: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("vm.sock");
        let mut command = monitor();
        command.args(options).arg("--vsock").arg(&socket).arg("--").arg(path).args(args);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = [0; 6];
        child.stdout.as_mut().unwrap().read_exact(&mut said).expect("the program says that it is ready");
        assert_eq!(&said, b"ready\n");
        Self { child, socket, _dir: dir }
    }

    /// A connection to a port of the guest, if somebody listens there.
    pub(crate) fn connect(&self, port: u32) -> Option<UnixStream> {
        connect(&self.socket, port)
    }

    /// Sends a signal to the monitor.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        built(Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]));
    }

    /// Waits for the end.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(began.elapsed() < LIMIT, "the VM does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One HTTP request on an open connection: status and body.
pub(crate) fn http(stream: &mut UnixStream, method: &str, path: &str, body: &[u8]) -> (u16, Vec<u8>) {
    let head = format!("{method} {path} HTTP/1.1\r\nhost: vm\r\ncontent-length: {}\r\n\r\n", body.len());
    let mut writer = stream.try_clone().unwrap();
    let (mut got, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            writer.write_all(head.as_bytes()).unwrap();
            writer.write_all(body).unwrap();
        });
        loop {
            if let Some(end) = got.windows(4).position(|part| part == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&got[..end]).to_ascii_lowercase();
                let length =
                    head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok()).unwrap();
                let status = head[9..12].parse().unwrap();
                while got.len() < end + 4 + length {
                    let read = stream.read(&mut buffer).unwrap();
                    assert!(read > 0, "the body breaks off");
                    got.extend_from_slice(&buffer[..read]);
                }
                return (status, got.split_off(end + 4));
            }
            let read = stream.read(&mut buffer).unwrap();
            assert!(read > 0, "the answer breaks off");
            got.extend_from_slice(&buffer[..read]);
        }
    })
}
