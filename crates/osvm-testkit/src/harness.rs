//! A daemon of its own for each test, with a state folder of its own.

use std::{
    fs,
    io::{self, BufRead, BufReader},
    net::{SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use osvm_control::Client;
use osvm_model::{
    IsolationRequest, ListenerProtocol, PortSpec, RolloutPolicy, ServiceSpec, route::ReplayPolicy, service::HealthCheck,
};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
};

use crate::service::PORT;

/// How long a test waits for what must come.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A state folder and its daemon.
pub struct World {
    folder: TempDir,
    fixture: PathBuf,
    daemon: Option<Child>,
    /// The client of the daemon.
    pub client: Client,
}

impl World {
    /// Starts a daemon. `fixture` is the `osvm-fixture` program.
    pub fn start(fixture: &Path) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("osvm-test-").tempdir()?;
        let client = Client::new(&folder.path().join("home"));
        let mut world = Self { folder, fixture: fixture.to_owned(), daemon: None, client };
        world.start_daemon()?;
        Ok(world)
    }

    /// The state folder.
    pub fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// Starts a daemon and waits until its socket answers.
    pub fn start_daemon(&mut self) -> io::Result<()> {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.folder.path().join("daemon.log"))?;
        let mut daemon = Command::new(&self.fixture)
            .arg("daemon")
            .arg(self.home())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()?;
        let mut line = String::new();
        if let Some(stdout) = daemon.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        self.daemon = Some(daemon);
        if line.trim() == "ready" {
            return Ok(());
        }
        let said = fs::read_to_string(self.folder.path().join("daemon.log"))?;
        Err(io::Error::other(format!("the daemon did not start: {said}")))
    }

    /// Kills the daemon (SIGKILL) and waits for its end.
    pub fn kill_daemon(&mut self) -> io::Result<()> {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill()?;
            daemon.wait()?;
        }
        Ok(())
    }

    /// A program that runs the service, going wrong in that way. Each call makes another file.
    pub fn artifact(&self, misbehaviour: Option<&str>) -> io::Result<PathBuf> {
        let number = fs::read_dir(self.folder.path())?.count();
        let path = self.folder.path().join(format!("artifact-{number}"));
        let flag = misbehaviour.map(|how| format!(" --misbehave {how}")).unwrap_or_default();
        let text = format!("#!/bin/sh\n# {number}\nexec {} service{flag}\n", self.fixture.display());
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(path)
    }

    /// The service's declaration, on a free port.
    pub fn spec(&self, name: &str, artifact: &Path, handover: bool) -> io::Result<ServiceSpec> {
        let listen = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        Ok(ServiceSpec {
            name: name.parse().map_err(io::Error::other)?,
            artifact: artifact.to_owned(),
            args: vec![],
            env: Default::default(),
            isolation: IsolationRequest::Auto,
            // The artifact is a script that becomes it.
            read: vec![self.fixture.clone()],
            memory: None,
            ports: vec![PortSpec {
                name: "http".to_owned(),
                port: PORT,
                listen,
                protocol: ListenerProtocol::Http,
                tls: None,
                replay: ReplayPolicy::Idempotent,
            }],
            health: HealthCheck::Http { port: "http".to_owned(), path: "/health".to_owned() },
            handover,
            rollout: RolloutPolicy { health_timeout_ms: 4000, drain_timeout_ms: 2000, watch_ms: 700 },
        })
    }
}

impl Drop for World {
    /// Ends whatever a failed test left: each process that names this test's folder.
    fn drop(&mut self) {
        let _ = self.kill_daemon();
        let mark = self.folder.path().as_os_str().as_encoded_bytes().to_vec();
        let Ok(processes) = fs::read_dir("/proc") else { return };
        for entry in processes.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
            let named = ["cmdline", "environ"].iter().any(|file| {
                let text = fs::read(entry.path().join(file)).unwrap_or_default();
                text.windows(mark.len()).any(|window| window == mark)
            });
            if let (true, Some(pid)) = (named, Pid::from_raw(pid)) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }
}

/// Kills a process (SIGKILL).
pub fn kill(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// Whether a process of that id runs.
pub fn alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// One HTTP/1.1 exchange on a connection of its own: status and body.
pub async fn http(addr: SocketAddr, method: &str, path: &str) -> io::Result<(u16, String)> {
    let exchange = async {
        let mut stream = TcpStream::connect(addr).await?;
        let head = format!("{method} {path} HTTP/1.1\r\nhost: test\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        let broken = || io::Error::other(format!("not an HTTP answer: {text:?}"));
        let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(broken)?;
        let (_, body) = text.split_once("\r\n\r\n").ok_or_else(broken)?;
        Ok((status, body.to_owned()))
    };
    match tokio::time::timeout(PATIENCE, exchange).await {
        Ok(done) => done,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Adds to the counter, one request after the other, until it is stopped.
pub struct Load {
    stop: Arc<AtomicBool>,
    /// The highest count that was acknowledged.
    pub acknowledged: Arc<AtomicU64>,
    task: JoinHandle<(u64, Vec<String>)>,
}

impl Load {
    /// Begins.
    pub fn start(addr: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(AtomicU64::new(0));
        let (stopped, highest) = (Arc::clone(&stop), Arc::clone(&acknowledged));
        let task = tokio::spawn(async move {
            let (mut done, mut failures) = (0, Vec::new());
            while !stopped.load(Ordering::Relaxed) {
                match http(addr, "POST", "/add").await {
                    Ok((200, body)) => {
                        done += 1;
                        highest.fetch_max(body.trim().parse().unwrap_or(0), Ordering::Relaxed);
                    }
                    other => failures.push(format!("{other:?}")),
                }
            }
            (done, failures)
        });
        Self { stop, acknowledged, task }
    }

    /// Ends: how many requests were answered, and how the others failed.
    pub async fn stop(self) -> (u64, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap_or_default()
    }
}
