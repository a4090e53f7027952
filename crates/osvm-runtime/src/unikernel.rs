//! Level `unikernel`: the instance runs in a VM of its own without a kernel, whose monitor, `osvm-unikernel`, is in a jail like that of
//! level `process`, but with a VMM's list of system calls. The process that is known, signalled and adopted is the jail's, as there.
//!
//! The program sees its file, its libraries in a read-only image, its state folder, and what was declared to be read. It listens on TCP
//! ports of its VM, which the monitor offers as hybrid vsock; nothing leads out of the VM.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use osvm_jail::{Limits, Mount, Spec, VMM_MEMORY, closure, companion, vmm};
use osvm_model::{
    IsolationLevel, ResourceUse,
    handover::{
        CONTROL_PORT, ENV_CONTROL_PORT, ENV_GENERATION, ENV_REPLICATION_PORT, ENV_ROLE, ENV_STATE, REPLICATION_PORT,
    },
};

use crate::{
    Driver, Process, Refused, StartError, StartSpec,
    jailed::{self, Jailed, PROGRAM, RUN, STATE, bound, jail_error, spawn_error},
    none,
};

/// The program's libraries.
const IMAGE: &str = "/osvm/image";
/// Folders that were declared to be read.
const READ: &str = "/osvm/read";
/// The least memory of a VM, bytes.
const LEAST: u64 = 16 << 20;
/// The most memory of a VM, bytes: the monitor refuses more.
const MOST: u64 = 64 << 30;
/// Threads of the monitor, and the jail's first process.
const PIDS: u32 = 16;
/// Open files, those of the guest among them.
const OPEN_FILES: u64 = 8192;

/// What the self-test's program leaves with.
const TESTED: i32 = 42;
/// An ELF program of one segment: `exit_group(42)`.
const TEST: [u8; 132] = {
    let mut elf = [0; 132];
    let head = *b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0\x78\0\x40\0\0\0\0\0\x40";
    let mut at = 0;
    while at < head.len() {
        elf[at] = head[at];
        at += 1;
    }
    // Sizes of the header and of a program header, and how many of the latter there are.
    (elf[52], elf[54], elf[56]) = (64, 56, 1);
    // One segment, readable and executable, of the whole file at 4 MiB.
    (elf[64], elf[68], elf[82], elf[90]) = (1, 5, 0x40, 0x40);
    (elf[96], elf[104], elf[113]) = (132, 132, 0x10);
    // mov edi, 42; mov eax, 231; syscall
    (elf[120], elf[121], elf[125], elf[126], elf[130], elf[131]) = (0xbf, TESTED as u8, 0xb8, 231, 0x0f, 0x05);
    elf
};

/// The driver of level `unikernel`.
#[derive(Debug)]
pub(crate) struct Unikernel;

impl Driver for Unikernel {
    fn level(&self) -> IsolationLevel {
        IsolationLevel::Unikernel
    }

    fn start(&self, spec: &StartSpec) -> Result<Process, StartError> {
        none::executable(&spec.program)?;
        let log = none::prepare(spec)?;
        let monitor = companion("unikernel");
        let monitor = monitor.ok_or_else(|| StartError::Missing { program: PathBuf::from("osvm-unikernel") })?;
        jailed::spawn(spec, log, &declare(spec, &monitor)?)
    }

    fn stats(&self, pid: u32) -> Option<ResourceUse> {
        Jailed.stats(pid)
    }
}

/// The monitor's jail, with the program as its argument.
fn declare(spec: &StartSpec, monitor: &Path) -> Result<Spec, StartError> {
    let sockets = spec.uds.parent().unwrap_or(Path::new("/")).to_owned();
    let mut mounts =
        Vec::from([bound(&spec.state, STATE, true), bound(&sockets, RUN, true), bound(&spec.program, PROGRAM, false)]);
    let memory = spec.memory.unwrap_or_else(jailed::memory);
    let memory = memory.saturating_sub(VMM_MEMORY).clamp(LEAST, MOST);
    let socket = Path::new(RUN).join(spec.uds.file_name().unwrap_or_default());
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let mut argv = words(&["osvm-unikernel", "run", "--memory", &memory.to_string()]);
    argv.extend(words(&["--vsock", &socket.display().to_string(), "--cwd", STATE]));
    argv.extend(["--folder".to_owned(), format!("{STATE}:{STATE}")]);
    if let Some(image) = libraries(spec, monitor, &sockets)? {
        mounts.push(bound(&image, IMAGE, false));
        argv.extend(words(&["--image", IMAGE]));
    }
    for (number, (folder, sources)) in readable(spec)?.into_iter().enumerate() {
        let place = format!("{READ}/{number}");
        for (name, source) in sources {
            let target = name.map_or_else(|| place.clone(), |name| format!("{place}/{name}"));
            mounts.push(bound(&source, &target, false));
        }
        argv.extend(["--folder-read-only".to_owned(), format!("{place}:{}", folder.display())]);
    }
    let mut env = spec.env.clone();
    let own = [
        (ENV_STATE, STATE.to_owned()),
        (ENV_GENERATION, spec.generation.to_string()),
        (ENV_ROLE, none::role(spec.role).to_owned()),
        (ENV_CONTROL_PORT, CONTROL_PORT.to_string()),
        (ENV_REPLICATION_PORT, REPLICATION_PORT.to_string()),
    ];
    env.extend(own.map(|(name, value)| (name.to_owned(), value)));
    for (name, value) in &env {
        argv.extend(["--env".to_owned(), format!("{name}={value}")]);
    }
    argv.extend(words(&["--", PROGRAM]));
    argv.extend(spec.args.iter().cloned());
    jail(monitor, argv, mounts, memory)
}

/// The monitor's jail, with what it is to see and memory for its guest.
fn jail(monitor: &Path, argv: Vec<String>, mounts: Vec<Mount>, memory: u64) -> Result<Spec, StartError> {
    let mut spec = vmm(monitor, argv, memory).map_err(|source| jail_error(monitor, source))?;
    spec.mounts.extend(mounts);
    spec.limits = Limits { pids: PIDS, open_files: OPEN_FILES, ..spec.limits };
    Ok(spec)
}

/// An image of the libraries that the program is linked to, beside its socket; none if it is static.
fn libraries(spec: &StartSpec, monitor: &Path, folder: &Path) -> Result<Option<PathBuf>, StartError> {
    let needs = closure(&spec.program, &[]).map_err(|source| jail_error(&spec.program, source))?;
    let mut needs = needs.into_iter().filter(|mount| mount.target != spec.program).peekable();
    if needs.peek().is_none() {
        return Ok(None);
    }
    let (root, image) = (folder.join("root"), folder.join("image"));
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| StartError::File { path, source }
    };
    for Mount { source, target, .. } in needs {
        let copy = root.join(target.strip_prefix("/").unwrap_or(&target));
        if source.is_dir() {
            fs::create_dir_all(&copy).map_err(failed(&copy))?;
            continue;
        }
        let above = copy.parent().unwrap_or(&root);
        fs::create_dir_all(above).map_err(failed(above))?;
        fs::copy(&source, &copy).map_err(failed(&source))?;
    }
    let packed = Command::new(monitor).arg("pack").arg(&root).arg(&image).env_clear().stdin(Stdio::null()).output();
    let packed = packed.map_err(|source| spawn_error(monitor, source))?;
    if !packed.status.success() {
        let said = String::from_utf8_lossy(&packed.stderr).trim().to_owned();
        return Err(spawn_error(monitor, io::Error::other(said)));
    }
    fs::remove_dir_all(&root).map_err(failed(&root))?;
    Ok(Some(image))
}

/// By the folder that the guest is to see: what lies in it, by name; without a name, the folder itself.
type Readable = BTreeMap<PathBuf, Vec<(Option<String>, PathBuf)>>;

/// What was declared to be read. A file is shown alone in a folder of its folder's path.
fn readable(spec: &StartSpec) -> Result<Readable, StartError> {
    let mut all = Readable::new();
    for path in &spec.read {
        let failed = |source| StartError::File { path: path.clone(), source };
        if fs::metadata(path).map_err(failed)?.is_dir() {
            all.insert(path.clone(), vec![(None, path.clone())]);
        }
    }
    for path in spec.read.iter().filter(|path| !all.contains_key(*path)).cloned().collect::<Vec<_>>() {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
            let source = io::Error::new(io::ErrorKind::InvalidInput, "its name is no text");
            return Err(StartError::File { path, source });
        };
        if folder.ancestors().any(|above| all.get(above).is_some_and(|in_it| in_it[0].0.is_none())) {
            // It is in a folder that is shown whole.
            continue;
        }
        all.entry(folder.to_owned()).or_default().push((Some(name.to_owned()), path));
    }
    Ok(all)
}

/// Runs a program of three instructions in a VM whose monitor is in a jail: the whole sequence, so that a missing piece is known before
/// it is needed.
pub(crate) fn check() -> Result<(), Refused> {
    let refused = |reason: String, help: &str| Refused {
        level: IsolationLevel::Unikernel,
        reason,
        help: format!("{help}; or choose `--isolation process` (weaker: shares the host's kernel)"),
    };
    let missing = |name: &str| {
        refused(
            format!("there is no osvm-{name} beside osvm or in PATH"),
            "build it: cargo build --release -p osvm-jail -p osvm-unikernel",
        )
    };
    let jail_program = companion("jail").ok_or_else(|| missing("jail"))?;
    let monitor = companion("unikernel").ok_or_else(|| missing("unikernel"))?;
    let doctor = "osvm doctor lists what is there";
    let failed =
        |error: &dyn std::error::Error| refused(format!("the self-test VM could not be made: {error}"), doctor);
    let program = std::env::temp_dir().join(format!("osvm-self-test-{}", std::process::id()));
    let tested = (|| {
        // A file of our own, never one that somebody put there.
        fs::OpenOptions::new().write(true).create_new(true).open(&program)?.write_all(&TEST)?;
        let argv = ["osvm-unikernel", "run", "--memory", "16M", "--", PROGRAM].map(str::to_owned).to_vec();
        let spec = jail(&monitor, argv, vec![bound(&program, PROGRAM, false)], LEAST).map_err(io::Error::other)?;
        let child = Command::new(&jail_program)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = child?;
        if let Some(stdin) = child.stdin.take() {
            // If it ended instead of reading, its error says why.
            let _ = serde_json::to_writer(stdin, &spec);
        }
        child.wait_with_output()
    })();
    let _ = fs::remove_file(&program);
    let tested = tested.map_err(|error| failed(&error))?;
    if tested.status.code() == Some(TESTED) {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&tested.stderr);
    let line = said.trim().lines().next().unwrap_or("").trim_start_matches("error: ").to_owned();
    Err(refused(if line.is_empty() { format!("the self-test VM ended with {}", tested.status) } else { line }, doctor))
}
