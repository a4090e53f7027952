//! Starting and adopting the gateway's process.

use std::{
    fs::OpenOptions,
    io,
    os::{fd::RawFd, unix::process::CommandExt},
    process::{Command, Stdio},
    sync::atomic::Ordering,
    time::Duration,
};

use command_fds::{CommandFdExt, FdMapping};
use osvm_runtime::Process;
use tokio::{net::UnixStream, time::Instant};

use super::{GatewayError, Supervisor};
use crate::{error::chain, store::StoreError};

/// For a new gateway to answer on its admin socket.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause between two tries to connect to it. The kernel offers no event for a socket that comes to be.
const LOOK: Duration = Duration::from_millis(2);
/// Where `LISTEN_FDS` begins.
const FIRST_FD: RawFd = 3;
/// What of the daemon's environment the gateway gets.
const PASSED_ON: &[&str] = &["PATH", "HOME", "RUST_LOG", "RUST_BACKTRACE", "NO_COLOR", "TZ"];
/// The gateway is only ended when no service is left: there is nobody to announce it to.
const ANNOUNCE: [&str; 2] = ["--announce-ms", "0"];

impl Supervisor {
    /// Takes over the gateway that an earlier daemon started, with its sockets.
    pub(super) async fn adopt(&mut self) -> Result<(), StoreError> {
        let Some((pid, start_time)) = self.store.meta::<Option<(u32, u64)>>("gateway")?.flatten() else {
            return Ok(());
        };
        match Process::adopt(pid, start_time) {
            Ok(Some(process)) => {
                self.process = Some(process);
                self.pid.store(pid, Ordering::Relaxed);
                self.fetch().await;
                self.note(format!("the gateway goes on (process {pid})"));
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(error = chain(&error), "the gateway cannot be taken over"),
        }
        Ok(())
    }

    /// Starts a gateway on the sockets, and waits until it answers.
    pub(super) async fn start(&mut self) -> Result<(), GatewayError> {
        let process = self.spawn().map_err(GatewayError::Start)?;
        self.pid.store(process.pid(), Ordering::Relaxed);
        self.store.set_meta("gateway", &Some((process.pid(), process.start_time())))?;
        let deadline = Instant::now() + START_TIMEOUT;
        let answers = async {
            while UnixStream::connect(self.admin.socket()).await.is_err() && Instant::now() < deadline {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::select! {
            () = answers => {}
            exit = process.exited() => {
                let log = self.paths.gateway_log();
                let (lines, _) = osvm_runtime::log::tail(&log, 1).unwrap_or_default();
                let said = lines.first().map_or_else(|| format!("see {}", log.display()), Clone::clone);
                return Err(GatewayError::Start(io::Error::other(format!("{exit}: {said}"))));
            }
        }
        self.note(format!("the gateway runs (process {})", process.pid()));
        self.started = Instant::now();
        self.process = Some(process);
        Ok(())
    }

    fn spawn(&self) -> io::Result<Process> {
        let sockets = self.sockets.duplicates()?;
        let log = OpenOptions::new().create(true).append(true).open(self.paths.gateway_log())?;
        let mut command = Command::new(&self.command.program);
        command
            .args(&self.command.args)
            .arg("--admin")
            .arg(self.admin.socket())
            .args(ANNOUNCE)
            .env_clear()
            .envs(PASSED_ON.iter().filter_map(|name| std::env::var_os(name).map(|value| (name, value))))
            .env("LISTEN_FDS", sockets.len().to_string())
            .current_dir(self.paths.root())
            .stdin(Stdio::null())
            .stderr(log.try_clone()?)
            .stdout(log)
            .process_group(0);
        let mappings =
            (FIRST_FD..).zip(sockets).map(|(child_fd, parent_fd)| FdMapping { parent_fd, child_fd }).collect();
        command.fd_mappings(mappings).map_err(io::Error::other)?;
        Process::watch(command.spawn()?).map_err(io::Error::other)
    }
}
