//! Level `process`: the instance runs in a jail that `osvm-jail` makes and watches. The process that is known, signalled and adopted is
//! that monitor: it passes signals on, ends as the program ends, and takes the jail with it whichever way it ends.
//!
//! The program sees its artifact, its state, the folder of its socket, and what was declared to be read: nothing else of the host, and
//! no network.

use std::{
    collections::BTreeMap,
    fs, io,
    io::Write,
    os::unix::{fs::MetadataExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use osvm_jail::{Groups, Limits, Mount, Network, Spec, closure, companion};
use osvm_model::{
    IsolationLevel, ResourceUse,
    handover::{ENV_GENERATION, ENV_ROLE, ENV_STATE, ENV_VSOCK},
};
use rustix::process::{Resource, getrlimit};

use crate::{Driver, Process, Refused, StartError, StartSpec, none};

/// Where the program lies in the jail.
pub(crate) const PROGRAM: &str = "/osvm/program";
/// Its state, and working directory.
pub(crate) const STATE: &str = "/osvm/state";
/// The folder of its socket.
pub(crate) const RUN: &str = "/osvm/run";
/// Processes and threads of an instance.
const PIDS: u32 = 4096;
/// Open files, if the daemon itself may have as many.
const OPEN_FILES: u64 = 65_536;
/// An instance's memory as a part of the host's, where nothing else is said.
const MEMORY_SHARE: u64 = 2;
/// An instance's memory where the host's is not known, bytes.
const MEMORY_FALLBACK: u64 = 4 << 30;

/// The bit of a file's mode.
const READ_BY_OTHERS: u32 = 0o4;

/// The driver of level `process`.
#[derive(Debug)]
pub(crate) struct Jailed;

impl Driver for Jailed {
    fn level(&self) -> IsolationLevel {
        IsolationLevel::Process
    }

    fn start(&self, spec: &StartSpec) -> Result<Process, StartError> {
        none::executable(&spec.program)?;
        let log = none::prepare(spec)?;
        spawn(spec, log, &declare(spec)?)
    }

    fn stats(&self, pid: u32) -> Option<ResourceUse> {
        let used = Groups::find().ok()?.used_by(pid)?;
        Some(ResourceUse {
            cpu_ms: used.cpu.map(|cpu| u64::try_from(cpu.as_millis()).unwrap_or(u64::MAX)),
            memory_bytes: used.memory,
            memory_peak_bytes: used.memory_peak,
            memory_limit_bytes: used.memory_limit,
            tasks: used.pids,
            oom_kills: Some(used.oom_kills),
        })
    }
}

/// Starts an instance in the jail that is declared for it.
pub(crate) fn spawn(spec: &StartSpec, log: fs::File, declared: &Spec) -> Result<Process, StartError> {
    let jail = companion("jail").ok_or_else(|| StartError::Missing { program: PathBuf::from("osvm-jail") })?;
    let json = serde_json::to_vec(declared).map_err(|error| spawn_error(&jail, error.into()))?;
    let stderr = log.try_clone().map_err(|source| StartError::File { path: spec.log.clone(), source })?;
    let mut command = Command::new(&jail);
    command
        .env_clear()
        // By this an instance is known that no daemon has noted.
        .env(ENV_VSOCK, &spec.uds)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(log)
        .stderr(stderr)
        .process_group(0);
    let mut child = command.spawn().map_err(|source| spawn_error(&jail, source))?;
    // It reads all before it does anything; if it ended instead, its log says why.
    if let Some(mut stdin) = child.stdin.take() {
        let _ = stdin.write_all(&json);
    }
    Ok(Process::watch(child)?)
}

pub(crate) fn spawn_error(program: &Path, source: io::Error) -> StartError {
    StartError::Spawn { program: program.to_owned(), source }
}

/// A mount whose files the instance's user has as their owner has them.
pub(crate) fn bound(source: &Path, target: &str, writable: bool) -> Mount {
    Mount { source: source.to_owned(), target: PathBuf::from(target), writable, owned: true }
}

/// All that the program sees and may use.
fn declare(spec: &StartSpec) -> Result<Spec, StartError> {
    let sockets = spec.uds.parent().unwrap_or(Path::new("/")).to_owned();
    let mut mounts = vec![bound(&spec.state, STATE, true), bound(&sockets, RUN, true)];
    let needs = |program: &Path| closure(program, &[]).map_err(|source| jail_error(program, source));
    let mut files: BTreeMap<PathBuf, Mount> = BTreeMap::new();
    for mut mount in needs(&spec.program)? {
        if mount.target == spec.program {
            mount = bound(&mount.source, PROGRAM, false);
        }
        files.insert(mount.target.clone(), mount);
    }
    for path in &spec.read {
        let meta = fs::metadata(path).map_err(|source| StartError::File { path: path.clone(), source })?;
        // A program brings its libraries; another file comes alone.
        let brought = if meta.is_file() { needs(path)? } else { Vec::new() };
        // What others may read, the instance's user may; the rest it reads as its owner.
        let owned = meta.is_dir() || meta.mode() & READ_BY_OTHERS == 0;
        let own = Mount { source: path.clone(), target: path.clone(), writable: false, owned };
        for mount in brought.into_iter().filter(|mount| mount.target != *path).chain([own]) {
            files.entry(mount.target.clone()).or_insert(mount);
        }
    }
    mounts.extend(files.into_values());
    let mut env = spec.env.clone();
    let socket = Path::new(RUN).join(spec.uds.file_name().unwrap_or_default());
    env.insert(ENV_VSOCK.to_owned(), socket.display().to_string());
    env.insert(ENV_STATE.to_owned(), STATE.to_owned());
    env.insert(ENV_GENERATION.to_owned(), spec.generation.to_string());
    env.insert(ENV_ROLE.to_owned(), none::role(spec.role).to_owned());
    let open_files = getrlimit(Resource::Nofile).maximum.unwrap_or(OPEN_FILES).min(OPEN_FILES);
    let mut argv = vec![PROGRAM.to_owned()];
    argv.extend(spec.args.iter().cloned());
    Ok(Spec {
        argv,
        env,
        cwd: PathBuf::from(STATE),
        mounts,
        limits: Limits {
            memory: spec.memory.unwrap_or_else(memory),
            pids: PIDS,
            open_files,
            tmp: 0,
            ..Limits::default()
        },
        network: Network::default(),
        ..Spec::new(PROGRAM)
    })
}

pub(crate) fn jail_error(program: &Path, source: osvm_jail::Error) -> StartError {
    StartError::Spawn { program: program.to_owned(), source: io::Error::other(source) }
}

/// An instance's memory where nothing else is said.
pub(crate) fn memory() -> u64 {
    let total = fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.split_ascii_whitespace().next()?.parse::<u64>().ok()
    });
    total.map_or(MEMORY_FALLBACK, |kib| kib * 1024 / MEMORY_SHARE)
}

/// Makes a jail with nothing but `osvm-jail` itself in it: the whole sequence, so that a missing piece is known before it is needed.
pub(crate) fn check() -> Result<(), Refused> {
    let refused = |reason: String, help: &str| Refused {
        level: IsolationLevel::Process,
        reason,
        help: format!("{help}; or choose `--isolation none` (weaker: an ordinary process, nothing isolates it)"),
    };
    let Some(jail) = companion("jail") else {
        let reason = "there is no osvm-jail beside osvm or in PATH".to_owned();
        return Err(refused(reason, "build it: cargo build --release -p osvm-jail"));
    };
    let checked = Command::new(&jail).arg("check").env_clear().stdin(Stdio::null()).output();
    match checked {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let (line, help) = said.trim().split_once("\n").unwrap_or((said.trim(), ""));
            let line = line.trim_start_matches("error: ");
            let reason = if line.is_empty() { output.status.to_string() } else { line.to_owned() };
            let help = help.trim().trim_start_matches("help: ");
            Err(refused(reason, if help.is_empty() { "osvm doctor lists what is there" } else { help }))
        }
        Err(error) => {
            Err(refused(format!("cannot run {}: {error}", jail.display()), "osvm doctor lists what is there"))
        }
    }
}
