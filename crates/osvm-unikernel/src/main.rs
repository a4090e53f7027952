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
use osvm_unikernel::{End, Error, Report, Spec, image, run};

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
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    program: Vec<String>,
}

fn size(text: &str) -> Result<u64, String> {
    let bytes = parse_size(text).map_err(|error| error.to_string())?;
    if bytes <= MOST_MEMORY { Ok(bytes) } else { Err(format!("{text} is more than 64G")) }
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
        memory: run_.memory,
        timeout: run_.timeout.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)),
        socket: run_.vsock,
        rewrite: !run_.no_rewrite,
        aslr: !run_.no_aslr,
    };
    let report = run(&spec)?;
    let ended = report.end;
    if run_.stats || !report.stats.unknown.is_empty() {
        tell(&report, run_.stats);
    }
    Ok(ExitCode::from(match ended {
        End::Exited(code) => code as u8,
        End::Signalled(signal) => 128 + signal as u8,
        End::Expired => {
            let (rip, rsp) = report.stopped_at.unwrap_or_default();
            eprintln!("osvm-unikernel: its time was up; the program was ended at rip {rip:#x}, rsp {rsp:#x}");
            EXPIRED
        }
    }))
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
