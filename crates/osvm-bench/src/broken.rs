//! Five broken nodes. Each is a copy of this program with a note at its end that says how it is to be broken; the product has
//! no code for it. Started by the control plane, it finds the note in itself.

use std::{
    fs,
    io::{Read, Seek, SeekFrom, Write},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Duration,
};

use osvm_model::handover;
use osvm_vsock::{Guest, connect};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

use crate::{
    error::{Error, chain},
    process,
    stats::unix_ms,
};

/// How a node is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// It ends at once with status 1.
    DoesNotStart,
    /// It answers, but says for ever that it is behind.
    NeverHealthy,
    /// A sound node that is killed a while after it leads.
    CrashesAfterTheShift,
    /// A sound node whose genesis hash reads differently.
    WrongGenesis,
    /// It answers every request with bytes that mean nothing.
    AnswersGarbage,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] =
        [Self::DoesNotStart, Self::NeverHealthy, Self::CrashesAfterTheShift, Self::WrongGenesis, Self::AnswersGarbage];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::DoesNotStart => "does not start",
            Self::NeverHealthy => "never healthy",
            Self::CrashesAfterTheShift => "crashes after the shift",
            Self::WrongGenesis => "wrong genesis",
            Self::AnswersGarbage => "answers garbage",
        }
    }
}

/// The note.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Note {
    pub(crate) kind: Kind,
    /// The sound node.
    pub(crate) node: PathBuf,
    /// How long it leads before it is killed.
    pub(crate) leads_for_ms: u64,
    /// The genesis hash that is to read differently.
    pub(crate) genesis: String,
}

/// Closes the note, behind its length in four bytes.
const MAGIC: &[u8; 16] = b"osvm-bench-note1";
/// No note is longer.
const LONGEST_NOTE: u64 = 64 * 1024;
/// Between two looks at the node's role: the contract offers no event for it.
const ROLE_EVERY: Duration = Duration::from_millis(5);
/// A watcher whose node never leads ends after so long.
const WATCH_LIMIT: Duration = Duration::from_secs(120);
/// What a node that crashes writes into its log before when it led and when it is killed, in milliseconds of Unix time.
pub(crate) const DIARY: &str = "broken on purpose, led and killed at: ";
/// The word that starts a broken copy as the watcher of a crashing node.
const WATCH: &str = "watch-and-kill";

/// Makes a broken node at `path`.
pub(crate) fn make(path: &Path, note: &Note) -> Result<(), Error> {
    let write = || -> std::io::Result<()> {
        fs::copy(std::env::current_exe()?, path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
        let note = serde_json::to_vec(note)?;
        let mut file = fs::OpenOptions::new().append(true).open(path)?;
        file.write_all(&note)?;
        file.write_all(&(note.len() as u32).to_le_bytes())?;
        file.write_all(MAGIC)
    };
    write().map_err(|source| Error::io(format!("make {}", path.display()), source))
}

/// This very program's file. In a jail there is no /proc, but the control plane names it as it is found there.
fn own_file() -> PathBuf {
    let proc = PathBuf::from("/proc/self/exe");
    if proc.exists() { proc } else { std::env::args_os().next().unwrap_or_default().into() }
}

/// The note at the end of this very program.
pub(crate) fn note_in_this_program() -> Option<Note> {
    let mut file = fs::File::open(own_file()).ok()?;
    let end = file.seek(SeekFrom::End(-(4 + MAGIC.len() as i64))).ok()?;
    let (mut length, mut magic) = ([0; 4], [0; MAGIC.len()]);
    file.read_exact(&mut length).ok()?;
    file.read_exact(&mut magic).ok()?;
    let length = u64::from(u32::from_le_bytes(length));
    if &magic != MAGIC || length > LONGEST_NOTE {
        return None;
    }
    file.seek(SeekFrom::Start(end.checked_sub(length)?)).ok()?;
    let mut note = vec![0; length as usize];
    file.read_exact(&mut note).ok()?;
    serde_json::from_slice(&note).ok()
}

/// Is the broken node.
pub(crate) fn run(note: Note) -> ExitCode {
    let mut args = std::env::args().skip(1);
    if args.next().as_deref() == Some(WATCH) {
        return block_on(watch_and_kill(note, args.next().and_then(|pid| pid.parse().ok()).unwrap_or(0)));
    }
    match note.kind {
        Kind::DoesNotStart => {
            eprintln!("broken on purpose: does not start");
            ExitCode::FAILURE
        }
        Kind::NeverHealthy | Kind::AnswersGarbage => block_on(pretend(note.kind)),
        Kind::CrashesAfterTheShift => crash(&note),
        Kind::WrongGenesis => block_on(lie(note)),
    }
}

fn block_on(work: impl Future<Output = Result<(), Error>>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.map_err(|source| Error::io("start the runtime", source)).and_then(|runtime| runtime.block_on(work)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("broken on purpose, and that failed: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn socket() -> Result<PathBuf, Error> {
    std::env::var_os(handover::ENV_VSOCK)
        .map(PathBuf::from)
        .ok_or_else(|| Error::Program(format!("{} is not set", handover::ENV_VSOCK)))
}

/// Becomes the sound node, with a watcher beside it that will kill it.
fn crash(note: &Note) -> ExitCode {
    let own = std::process::id().to_string();
    // The node runs from the file that the control plane stored, so the watcher must too.
    if let Err(error) = Command::new(own_file()).args([WATCH, &own]).spawn() {
        eprintln!("cannot start the watcher: {error}");
        return ExitCode::FAILURE;
    }
    let error = Command::new(&note.node).args(std::env::args_os().skip(1)).exec();
    eprintln!("cannot become {}: {error}", note.node.display());
    ExitCode::FAILURE
}

async fn watch_and_kill(note: Note, pid: u32) -> Result<(), Error> {
    let socket = socket()?;
    let leads = async {
        while !leads(&socket).await {
            if !process::exists(pid) {
                return false;
            }
            tokio::time::sleep(ROLE_EVERY).await;
        }
        true
    };
    if !tokio::time::timeout(WATCH_LIMIT, leads).await.unwrap_or(false) {
        return Ok(());
    }
    let led = unix_ms();
    tokio::time::sleep(Duration::from_millis(note.leads_for_ms)).await;
    // Before: in a jail nothing outlives the node.
    eprintln!("{DIARY}{led} {}", unix_ms());
    process::kill(pid);
    Ok(())
}

async fn leads(socket: &Path) -> bool {
    let ask = async {
        let mut stream = connect(socket, handover::CONTROL_PORT).await.ok()?;
        let request = format!("GET {} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n", handover::PATH_STATUS);
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        Some(answer.contains("\"role\":\"leader\""))
    };
    ask.await.unwrap_or(false)
}

/// Serves every port of the contract with words of no use.
async fn pretend(kind: Kind) -> Result<(), Error> {
    let guest = Guest::bind(&socket()?).await.map_err(|error| Error::exchange("listen", error))?;
    let mut ports = Vec::new();
    for port in [8899, 8900, handover::CONTROL_PORT, handover::REPLICATION_PORT] {
        let mut incoming = guest.listen(port).map_err(|error| Error::exchange("listen", error))?;
        ports.push(tokio::spawn(async move {
            while let Some(stream) = incoming.accept().await {
                tokio::spawn(say(stream, kind, port));
            }
        }));
    }
    for port in ports {
        // Ends with this process.
        let _ = port.await;
    }
    Ok(())
}

async fn say(mut stream: UnixStream, kind: Kind, port: u32) {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64 ^ u64::from(port);
    let mut buffer = vec![0; 4096];
    // A leader speaks first on the replication stream, a client on all others.
    while let Ok(read) = stream.read(&mut buffer).await {
        if read == 0 {
            return;
        }
        let answer = match kind {
            Kind::NeverHealthy if port == handover::REPLICATION_PORT => continue,
            Kind::NeverHealthy if port == handover::CONTROL_PORT => json_answer(
                r#"{"role":"standby","version":"0.1.0","genesis_hash":"","slot":0,"accounts":0,"pending":0,"applied":0,"in_sync":false}"#,
            ),
            Kind::NeverHealthy => json_answer(
                r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32005,"message":"Node is behind by 2500 slots","data":{"numSlotsBehind":2500}}}"#,
            ),
            _ if port == handover::REPLICATION_PORT => noise(&mut seed),
            _ => {
                let body = noise(&mut seed);
                let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
                answer.extend(body);
                answer
            }
        };
        if stream.write_all(&answer).await.is_err() {
            return;
        }
    }
}

fn json_answer(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        .into_bytes()
}

/// xorshift: the noise is to be the same in each run.
fn noise(seed: &mut u64) -> Vec<u8> {
    (0..512)
        .map(|_| {
            *seed ^= *seed << 13;
            *seed ^= *seed >> 7;
            *seed ^= *seed << 17;
            *seed as u8
        })
        .collect()
}

/// A sound node behind a relay that changes one word of what it says.
async fn lie(note: Note) -> Result<(), Error> {
    let outer = socket()?;
    let inner = outer.with_extension("real");
    let mut node = tokio::process::Command::new(&note.node)
        .args(std::env::args_os().skip(1))
        .env(handover::ENV_VSOCK, &inner)
        .kill_on_drop(true)
        .spawn()
        .map_err(|source| Error::io(format!("start {}", note.node.display()), source))?;
    let guest = Guest::bind(&outer).await.map_err(|error| Error::exchange("listen", error))?;
    let true_hash = note.genesis.into_bytes();
    // A hash too, and as long as the true one, so that no length has to change.
    let mut false_hash = true_hash.clone();
    if let Some(last) = false_hash.last_mut() {
        *last = if *last == b'a' { b'b' } else { b'a' };
    }
    for port in [8899, 8900, handover::CONTROL_PORT, handover::REPLICATION_PORT] {
        let mut incoming = guest.listen(port).map_err(|error| Error::exchange("listen", error))?;
        let (inner, from, to) = (inner.clone(), true_hash.clone(), false_hash.clone());
        tokio::spawn(async move {
            while let Some(stream) = incoming.accept().await {
                tokio::spawn(relay(stream, inner.clone(), port, from.clone(), to.clone()));
            }
        });
    }
    let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .map_err(|source| Error::io("wait for signals", source))?;
    tokio::select! {
        _ = node.wait() => {}
        _ = terminated.recv() => {}
    }
    Ok(())
}

async fn relay(outer: UnixStream, inner: PathBuf, port: u32, from: Vec<u8>, to: Vec<u8>) {
    let Ok(real) = connect(&inner, port).await else { return };
    let (mut real_read, mut real_write) = real.into_split();
    let (mut outer_read, mut outer_write) = outer.into_split();
    let there = async {
        let _ = tokio::io::copy(&mut outer_read, &mut real_write).await;
        let _ = real_write.shutdown().await;
    };
    let back = async {
        let lies = port == 8899 || port == handover::CONTROL_PORT;
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(read @ 1..) = real_read.read(&mut buffer).await {
            let bytes = &mut buffer[..read];
            if lies && !from.is_empty() {
                replace(bytes, &from, &to);
            }
            if outer_write.write_all(bytes).await.is_err() {
                return;
            }
        }
        let _ = outer_write.shutdown().await;
    };
    tokio::join!(there, back);
}

fn replace(bytes: &mut [u8], from: &[u8], to: &[u8]) {
    let mut at = 0;
    while at + from.len() <= bytes.len() {
        if &bytes[at..at + from.len()] == from {
            bytes[at..at + from.len()].copy_from_slice(to);
            at += from.len();
        } else {
            at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_replaced_wherever_it_stands() {
        let mut bytes = b"{\"result\":\"abc\",\"x\":\"abc\"}".to_vec();
        replace(&mut bytes, b"abc", b"xyz");
        assert_eq!(bytes, b"{\"result\":\"xyz\",\"x\":\"xyz\"}");
    }

    #[test]
    fn this_program_bears_no_note() {
        assert!(note_in_this_program().is_none());
    }
}
