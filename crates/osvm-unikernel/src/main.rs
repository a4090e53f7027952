//! `osvm-unikernel`: runs one program in one VM, and packs folders into images.
#![forbid(unsafe_code)]

use std::{
    error::Error as _,
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::{Args, Parser, Subcommand};
use rustix::{
    fs::{Mode, OFlags, ResolveFlags, open, openat2},
    io::Errno,
};

use osvm_model::parse_size;
use osvm_unikernel::{Clone, End, Error, Folder, Report, Snapshot, Spec, clone, image, run};

/// The largest memory that a VM can be given, bytes.
const MOST_MEMORY: u64 = 64 << 30;
/// What a run answers whose program could not be started.
const NOT_RUN: u8 = 125;
/// What a run answers whose time was up, as timeout(1) does.
const EXPIRED: u8 = 124;

#[derive(Parser)]
#[command(name = "osvm-unikernel", version, about = "Runs an ordinary Linux program in a VM without a kernel")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a program in a VM until it ends
    Run(Run),
    /// Run a clone of a snapshot until it ends
    Clone(CloneArgs),
    /// Pack a folder into a read-only image of files
    Pack {
        /// The folder
        folder: PathBuf,
        /// The image to write
        image: PathBuf,
    },
    /// Say whether this machine can run VMs
    Check,
}

#[derive(Args)]
#[command(args_override_self = true)]
struct Run {
    /// Memory at most
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "512M")]
    memory: u64,
    /// How long it may run, in seconds
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<f64>,
    /// A unix socket on which connections to the program's ports are taken, as hybrid vsock
    #[arg(long, value_name = "PATH")]
    vsock: Option<PathBuf>,
    /// Files for the program, as `pack` made them
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// A folder of the host that it may write, and its path for the program; nothing else may change it meanwhile
    #[arg(long, value_name = "FOLDER:PATH", value_parser = writable)]
    folder: Vec<Folder>,
    /// The same, only to be read
    #[arg(long, value_name = "FOLDER:PATH", value_parser = readable)]
    folder_read_only: Vec<Folder>,
    /// The working directory
    #[arg(long, value_name = "PATH", default_value = "/")]
    cwd: String,
    /// A variable of the environment; it gets no others
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
    env: Vec<(String, String)>,
    /// The folder that the image was packed from: the program is looked for in it
    #[arg(long, value_name = "DIR")]
    rootfs: Option<PathBuf>,
    /// Leave system calls as traps
    #[arg(long)]
    no_rewrite: bool,
    /// Load everything at fixed addresses
    #[arg(long)]
    no_aslr: bool,
    /// Print what was counted, as JSON on standard error
    #[arg(long)]
    stats: bool,
    /// Write the VM to a file as soon as its program waits for something from outside, and end it
    #[arg(long, value_name = "FILE")]
    snapshot: Option<PathBuf>,
    /// Not before the program listens on this port
    #[arg(long, value_name = "PORT", requires = "snapshot")]
    snapshot_after: Option<u16>,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    program: Vec<String>,
}

#[derive(Args)]
struct CloneArgs {
    /// How long it may run, in seconds
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<f64>,
    /// A unix socket on which connections to the program's ports are taken, as hybrid vsock
    #[arg(long, value_name = "PATH")]
    vsock: Option<PathBuf>,
    /// Print what was counted, as JSON on standard error
    #[arg(long)]
    stats: bool,
    /// The snapshot
    snapshot: PathBuf,
}

fn limit(timeout: Option<f64>) -> Option<Duration> {
    timeout.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
}

fn size(text: &str) -> Result<u64, String> {
    let bytes = parse_size(text).map_err(|error| error.to_string())?;
    if bytes <= MOST_MEMORY { Ok(bytes) } else { Err(format!("{text} is more than 64G")) }
}

fn folder(text: &str, writable: bool) -> Result<Folder, String> {
    let (source, target) = text.rsplit_once(':').ok_or_else(|| format!("{text} is not FOLDER:PATH"))?;
    let plain = target.starts_with('/') && !target.split('/').any(|part| part == "." || part == "..");
    if !plain || target.trim_matches('/').is_empty() {
        return Err(format!("{target} is no absolute path below /"));
    }
    Ok(Folder { source: PathBuf::from(source), target: target.to_owned(), writable })
}

fn writable(text: &str) -> Result<Folder, String> {
    folder(text, true)
}

fn readable(text: &str) -> Result<Folder, String> {
    folder(text, false)
}

fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("{text} is not NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}

/// The program's file on the host, and its path in the guest. In a folder, links are followed as the guest would: none leads out of it.
/// The descriptor keeps the file's name alive.
fn locate(program: &str, rootfs: Option<&Path>) -> Result<(Option<OwnedFd>, PathBuf, String), Error> {
    match rootfs {
        None => {
            let file = PathBuf::from(program);
            let path = std::path::absolute(&file).unwrap_or_else(|_| file.clone());
            Ok((None, file, path.display().to_string()))
        }
        Some(root) => {
            let broken = |path: &Path| {
                let path = path.to_owned();
                move |errno: Errno| Error::File { path, source: errno.into() }
            };
            let folder = open(root, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(broken(root))?;
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            let file = openat2(&folder, program, flags, Mode::empty(), ResolveFlags::IN_ROOT)
                .map_err(broken(&root.join(program.trim_start_matches('/'))))?;
            let name = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
            Ok((Some(file), name, format!("/{}", program.trim_start_matches('/'))))
        }
    }
}

fn start(run_: Run) -> Result<ExitCode, Error> {
    let (_kept, program, path) = locate(&run_.program[0], run_.rootfs.as_deref())?;
    let spec = Spec {
        program,
        path,
        args: run_.program,
        env: run_.env,
        image: run_.image,
        folders: run_.folder.into_iter().chain(run_.folder_read_only).collect(),
        cwd: run_.cwd,
        memory: run_.memory,
        timeout: limit(run_.timeout),
        socket: run_.vsock,
        rewrite: !run_.no_rewrite,
        aslr: !run_.no_aslr,
        snapshot: run_.snapshot.map(|file| Snapshot { file, port: run_.snapshot_after }),
    };
    let wanted = spec.snapshot.is_some();
    let report = run(&spec)?;
    if wanted && report.end != End::Saved {
        eprintln!("osvm-unikernel: no snapshot was written: the program ended before it waited for anything");
    }
    Ok(end(&report, run_.stats))
}

fn end(report: &Report, stats: bool) -> ExitCode {
    if stats || !report.stats.unknown.is_empty() {
        tell(report, stats);
    }
    ExitCode::from(match report.end {
        End::Exited(code) => code as u8,
        End::Signalled(signal) => 128 + signal as u8,
        End::Expired => {
            let (rip, rsp) = report.stopped_at.unwrap_or_default();
            eprintln!("osvm-unikernel: its time was up; the program was ended at rip {rip:#x}, rsp {rsp:#x}");
            EXPIRED
        }
        End::Saved => 0,
    })
}

fn tell(report: &Report, all: bool) {
    let stats = &report.stats;
    if all {
        eprintln!(
            "{}",
            serde_json::json!({
                "calls": stats.calls,
                "traps": stats.traps,
                "rewritten": stats.rewritten,
                "faults": stats.faults,
                "memory": stats.memory,
                "hypercalls": stats.hypercalls,
                "ticks": stats.ticks,
                "unknown": stats.unknown,
                "made_in_us": stats.made_in.as_micros() as u64,
            })
        );
    } else {
        let calls: Vec<String> = stats.unknown.iter().map(|(number, count)| format!("{number} ({count})")).collect();
        eprintln!("osvm-unikernel: system calls that have no answer here: {}", calls.join(", "));
    }
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(run) => start(run),
        Command::Clone(args) => {
            let spec = Clone { file: args.snapshot, timeout: limit(args.timeout), socket: args.vsock };
            clone(&spec).map(|report| end(&report, args.stats))
        }
        Command::Pack { folder, image } => image::pack(&folder, &image).map(|count| {
            println!("packed {count} files, folders and links");
            ExitCode::SUCCESS
        }),
        Command::Check => osvm_unikernel::available().map(|()| {
            println!("KVM is there");
            ExitCode::SUCCESS
        }),
    };
    result.unwrap_or_else(|error| {
        let mut text = format!("osvm-unikernel: {error}");
        let mut source = error.source();
        while let Some(next) = source {
            text.push_str(&format!(": {next}"));
            source = next.source();
        }
        eprintln!("{text}");
        ExitCode::from(NOT_RUN)
    })
}
