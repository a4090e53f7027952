//! `osvm doctor`: what this host can do, each line looked up just now.

use std::{
    fs::{self, OpenOptions},
    net::{Ipv4Addr, TcpListener},
    os::unix::fs::FileExt,
    path::Path,
};

use osvm_control::{Client, ClientError};
use osvm_model::{IsolationLevel, IsolationRequest, api::SCHEMA, defaults::RPC_PORT};
use serde::Serialize;

use crate::{
    cli::Context,
    failure::{FAILED, Failure},
    format,
};

/// What was found about one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Yes,
    No,
    /// `osvm rpc local` cannot work like this.
    Broken,
}

#[derive(Debug, Serialize)]
struct Finding {
    name: String,
    verdict: Verdict,
    detail: String,
    help: Option<String>,
}

#[derive(Debug, Serialize)]
struct Report {
    schema: &'static str,
    findings: Vec<Finding>,
}

/// What to look at.
#[derive(Debug, clap::Args)]
pub(crate) struct DoctorArgs {
    /// Print what stands between a program and this host at each level: hypercalls, system calls, lines of code
    #[arg(long)]
    surface: bool,
}

#[derive(Debug, Serialize)]
struct SurfaceReport {
    schema: &'static str,
    levels: Vec<osvm_runtime::Surface>,
}

fn surface(context: &Context) -> Result<(), Failure> {
    let levels = osvm_runtime::surface();
    let printer = &context.printer;
    if printer.is_json() {
        return printer.json(&SurfaceReport { schema: SCHEMA, levels });
    }
    printer.line("LEVEL       HYPERCALLS  SYSTEM CALLS  TRUSTED LINES")?;
    for level in &levels {
        let calls = level.system_calls.as_ref().map_or("all".to_owned(), |calls| calls.len().to_string());
        let lines = if level.trusted_lines == 0 { "-".to_owned() } else { format!("{} at most", level.trusted_lines) };
        let name = level.level.to_string();
        printer.line(&format!("{name:<12}{:<12}{calls:<14}{lines}", level.hypercalls.len()))?;
    }
    for level in &levels {
        let calls = level.system_calls.as_deref().unwrap_or_default();
        for (what, names) in [("hypercalls", &level.hypercalls[..]), ("system calls", calls)] {
            if !names.is_empty() {
                printer.line(&format!("\n{what} at level {}:", level.level))?;
                for line in wrapped(names) {
                    printer.line(&format!("  {line}"))?;
                }
            }
        }
    }
    printer.line(
        "\nThe program's at level process, the monitor's at level unikernel. The kernel's own code is not counted.",
    )
}

/// Lines of names that fit on a terminal.
fn wrapped(names: &[String]) -> Vec<String> {
    const WIDTH: usize = 96;
    let mut lines = vec![String::new()];
    for name in names {
        if lines.last().is_some_and(|line| line.len() + name.len() + 2 > WIDTH) {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push_str(", ");
            }
            line.push_str(name);
        }
    }
    lines
}

pub(crate) async fn run(context: &Context, args: &DoctorArgs) -> Result<(), Failure> {
    if args.surface {
        return surface(context);
    }
    let client = Client::new(&context.state_dir);
    let daemon = client.daemon().await;
    let runs = daemon.is_ok();
    let mut findings = vec![kernel(), kvm()];
    findings.extend(osvm_runtime::pieces().into_iter().map(piece));
    findings.extend(levels());
    findings.extend([program("localnet", true), program("program", false)]);
    findings.extend([program("jail", false), program("run", false), program("unikernel", false)]);
    findings.push(state_dir(&context.state_dir));
    findings.push(match daemon {
        Ok(daemon) => finding("daemon", Verdict::Yes, format!("version {}, process {}", daemon.version, daemon.pid)),
        Err(ClientError::NotRunning { .. }) => finding("daemon", Verdict::No, "none runs; the next command starts one"),
        Err(error) => finding("daemon", Verdict::Broken, error.to_string()),
    });
    findings.extend([port(RPC_PORT, runs), port(RPC_PORT + 1, runs)]);
    let broken = findings.iter().any(|finding| finding.verdict == Verdict::Broken);
    print(context, findings)?;
    if broken { Err(Failure::told(FAILED)) } else { Ok(()) }
}

fn print(context: &Context, findings: Vec<Finding>) -> Result<(), Failure> {
    let printer = &context.printer;
    if printer.is_json() {
        return printer.json(&Report { schema: SCHEMA, findings });
    }
    for finding in findings {
        let verdict = match finding.verdict {
            Verdict::Yes => "yes",
            Verdict::No => "no",
            Verdict::Broken => "broken",
        };
        printer.line(&format!("{:<20}{verdict:<8}{}", finding.name, finding.detail))?;
        if let Some(help) = finding.help {
            printer.line(&format!("{:<28}help: {help}", ""))?;
        }
    }
    Ok(())
}

fn finding(name: &str, verdict: Verdict, detail: impl Into<String>) -> Finding {
    Finding { name: name.to_owned(), verdict, detail: detail.into(), help: None }
}

impl Finding {
    fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }
}

fn kernel() -> Finding {
    let name = rustix::system::uname();
    let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
    finding(
        "kernel",
        Verdict::Yes,
        format!("{} {} {}", text(name.sysname()), text(name.release()), text(name.machine())),
    )
}

/// Which KVM it is, by the module that is behind it.
fn kvm_kind() -> &'static str {
    let has = |module: &str| Path::new("/sys/module").join(module).exists();
    if has("kvm_pvm") {
        "paravirtual (pvm): works, more slowly than the hardware's"
    } else if has("kvm_intel") || has("kvm_amd") {
        "the hardware's"
    } else {
        "of an unknown kind"
    }
}

fn kvm() -> Finding {
    match OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        Ok(_) => finding("/dev/kvm", Verdict::Yes, format!("can be opened; {}", kvm_kind())),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            finding("/dev/kvm", Verdict::No, error.to_string()).help("add your user to the group kvm")
        }
        Err(error) => finding("/dev/kvm", Verdict::No, error.to_string()),
    }
}

/// A piece of level process, and what follows if it is missing.
fn piece(piece: osvm_runtime::Piece) -> Finding {
    match piece.found {
        Ok(found) => finding(piece.name, Verdict::Yes, found),
        Err(without) => finding(piece.name, Verdict::No, format!("{without}. So level process is refused")),
    }
}

fn levels() -> Vec<Finding> {
    let levels = [IsolationLevel::None, IsolationLevel::Process, IsolationLevel::Microvm, IsolationLevel::Unikernel];
    let mut findings: Vec<_> = levels
        .into_iter()
        .map(|level| {
            let name = format!("level {level}");
            match osvm_runtime::choose(IsolationRequest::Level(level)) {
                Ok(_) => finding(&name, Verdict::Yes, crate::commands::rpc::level_line(level)),
                Err(refused) => finding(&name, Verdict::No, format!("{}; asking for it is refused", refused.reason))
                    .help(refused.help),
            }
        })
        .collect();
    findings.push(match osvm_runtime::choose(IsolationRequest::Auto) {
        Ok(chosen) => finding("level auto", Verdict::Yes, chosen.why),
        Err(refused) => finding("level auto", Verdict::Broken, refused.reason),
    });
    findings
}

fn program(name: &str, needed: bool) -> Finding {
    let file = format!("osvm-{name}");
    match osvm_runtime::companion(name) {
        Some(path) => finding(&file, Verdict::Yes, format::path(&path)),
        None => {
            let verdict = if needed { Verdict::Broken } else { Verdict::No };
            finding(&file, verdict, "neither beside osvm nor in PATH").help(format!("cargo build --release -p {file}"))
        }
    }
}

/// Writes a file where the state folder is or would be.
fn state_dir(folder: &Path) -> Finding {
    let shown = format::path(folder);
    let Some(nearest) = folder.ancestors().find(|folder| folder.is_dir()) else {
        return finding("state folder", Verdict::Broken, format!("{shown}: no parent folder"));
    };
    let probe = nearest.join(format!(".osvm-doctor-{}", std::process::id()));
    let written =
        OpenOptions::new().write(true).create_new(true).open(&probe).and_then(|file| file.write_all_at(b"osvm", 0));
    let _ = fs::remove_file(&probe);
    match written {
        Ok(()) => finding("state folder", Verdict::Yes, shown),
        Err(error) => finding("state folder", Verdict::Broken, format!("{shown}: {error}"))
            .help("choose a folder that you may write to: --state-dir DIR, or OSVM_HOME=DIR"),
    }
}

fn port(port: u16, daemon_runs: bool) -> Finding {
    let name = format!("port {port}");
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(_) => finding(&name, Verdict::Yes, "free on 127.0.0.1"),
        Err(error) if daemon_runs => finding(&name, Verdict::No, format!("{error}, perhaps by osvm itself (osvm ps)")),
        Err(error) => finding(&name, Verdict::No, error.to_string()).help("osvm rpc local --port PORT takes another"),
    }
}
