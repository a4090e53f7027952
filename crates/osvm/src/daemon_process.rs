//! Finds the daemon of a state folder, or starts one.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use osvm_control::{Client, ClientError, paths::Paths};
use tokio::net::UnixDatagram;

use crate::{failure::Failure, notify};

/// For a daemon to open its state, adopt what runs and answer.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// The most of the daemon's log that is read for its last words, in bytes.
const LAST_WORDS: u64 = 4096;

/// A daemon that answers.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) client: Client,
    /// Whether this command started it.
    pub(crate) started: bool,
}

/// The daemon of `state_dir`; starts one if none runs.
pub(crate) async fn find_or_start(state_dir: &Path) -> Result<Found, Failure> {
    let client = Client::new(state_dir);
    std::fs::create_dir_all(state_dir).map_err(|error| unusable(state_dir, &error))?;
    match client.daemon().await {
        Ok(_) => return Ok(Found { client, started: false }),
        Err(ClientError::NotRunning { .. } | ClientError::Broken(_)) => {}
        // The folder's path is too long for a socket: the daemon says so, and what to do.
        Err(ClientError::Connect { source, .. }) if source.kind() == io::ErrorKind::InvalidInput => {}
        Err(error) => return Err(error.into()),
    }
    match start(state_dir).await {
        Ok(()) => Ok(Found { client, started: true }),
        // Two commands may start one at the same time; the folder's lock lets one win, and that one serves both.
        Err(failure) => match client.daemon().await {
            Ok(_) => Ok(Found { client, started: false }),
            Err(_) => Err(failure),
        },
    }
}

/// Whether a daemon that died may have left a gateway or instances running: one that ends in good order removes their sockets.
pub(crate) fn left_something(state_dir: &Path) -> bool {
    let paths = Paths::new(state_dir);
    let instances = std::fs::read_dir(paths.instance_sockets()).is_ok_and(|mut sockets| sockets.next().is_some());
    instances || paths.gateway_socket().exists()
}

fn unusable(state_dir: &Path, error: &io::Error) -> Failure {
    Failure::new(format!("cannot use the state folder {}", state_dir.display()))
        .because(error)
        .help("choose a folder that you may write to: --state-dir DIR, or OSVM_HOME=DIR")
}

/// Starts a daemon in a process group of its own, so that Ctrl-C does not reach it, and waits until it says that it is ready.
async fn start(state_dir: &Path) -> Result<(), Failure> {
    let unusable = |error: io::Error| unusable(state_dir, &error);
    let log_path = state_dir.join("daemon.log");
    let log = OpenOptions::new().create(true).append(true).open(&log_path).map_err(unusable)?;
    let began_at = log.metadata().map_err(unusable)?.len();

    let failed = |error: io::Error| Failure::new("cannot start the osvm daemon").because(&error);
    let (ready, ready_name) = notify::listen().map_err(failed)?;
    ready.set_nonblocking(true).map_err(failed)?;
    let ready = UnixDatagram::from_std(ready).map_err(failed)?;
    let mut command = Command::new(own_program()?);
    command
        .arg("daemon")
        .arg("--state-dir")
        .arg(state_dir)
        .env(notify::SOCKET, ready_name)
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(failed)?)
        .stderr(log);
    let mut child = tokio::process::Command::from(command).spawn().map_err(failed)?;

    let ended = tokio::select! {
        told = wait_for_ready(&ready) => return told.map_err(failed),
        ended = child.wait() => ended.map_err(failed)?,
        () = tokio::time::sleep(START_TIMEOUT) => {
            return Err(Failure::new(format!("the osvm daemon was not ready within {} s", START_TIMEOUT.as_secs()))
                .help(format!("see {}", log_path.display())));
        }
    };
    let words = last_words(&log_path, began_at);
    let mut failure = Failure::new(format!("the osvm daemon ended at its start ({ended})"));
    failure.causes.extend(words);
    Err(failure.help(format!("see {}", log_path.display())))
}

async fn wait_for_ready(socket: &UnixDatagram) -> io::Result<()> {
    let mut message = [0; 256];
    loop {
        let length = socket.recv(&mut message).await?;
        if message
            .get(..length)
            .is_some_and(|text| text.split(|byte| *byte == b'\n').any(|l| l == notify::READY.as_bytes()))
        {
            return Ok(());
        }
    }
}

/// What the daemon wrote since `from`: its error, cause and help.
fn last_words(log: &Path, from: u64) -> Vec<String> {
    let read = || -> io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(from.max(length.saturating_sub(LAST_WORDS))))?;
        let mut bytes = Vec::new();
        file.take(LAST_WORDS).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let error_on = text.lines().skip_while(|line| !line.starts_with("error:"));
    error_on.map(|line| line.trim().trim_start_matches("error: ").to_owned()).collect()
}

/// This program's own file, to be started again.
pub(crate) fn own_program() -> Result<PathBuf, Failure> {
    std::env::current_exe().map_err(|error| Failure::new("cannot find osvm's own program file").because(&error))
}
