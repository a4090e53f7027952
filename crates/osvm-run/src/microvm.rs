//! Level `microvm`: this process becomes `osvm-microvm run`, whose program runs in a Linux guest made of an image.

use std::{os::unix::process::CommandExt, process::Command};

use osvm_jail::{DEFAULT_PIDS, companion};

use crate::{
    args::{Args, Format},
    report::Failure,
};

/// Becomes the other program. Returns only if that failed.
pub(crate) fn become_it(args: &Args) -> Failure {
    let Some(image) = &args.image else {
        return wrong("level microvm needs an image, the files of the guest's root: --image NAME".to_owned());
    };
    let refused: [(&str, bool); 9] = [
        ("--mount", !args.mount.is_empty()),
        ("--allow", !args.allow.is_empty()),
        ("--publish", args.publish.is_some()),
        ("--proc", args.proc),
        ("--read-only", args.read_only),
        ("--cpus", args.cpus.is_some()),
        ("--pids", args.pids != DEFAULT_PIDS),
        ("--timeout", args.timeout.is_some()),
        ("--output json", args.output == Format::Json),
    ];
    if let Some((name, _)) = refused.iter().find(|(_, given)| *given) {
        return wrong(format!("{name} does not work at level microvm in this version"));
    }
    let Some(program) = companion("microvm") else {
        return Failure {
            lines: vec![
                "level microvm is not available: the program was not run".to_owned(),
                "there is no osvm-microvm beside osvm-run or in PATH".to_owned(),
            ],
            help: Some("build it: cargo build --release -p osvm-microvm".to_owned()),
            exit: 3,
        };
    };
    let mut command = Command::new(&program);
    command.args(["run", "--image", image, "--memory", &args.memory.to_string(), "--cwd"]).arg(&args.cwd);
    if args.require_hardware {
        command.arg("--require-hardware");
    }
    for (name, value) in &args.env {
        command.args(["--env", &format!("{name}={value}")]);
    }
    let error = command.arg("--").args(&args.command).exec();
    Failure { lines: vec![format!("cannot run {}: {error}", program.display())], help: None, exit: 1 }
}

fn wrong(line: String) -> Failure {
    let help = "osvm microvm image build FOLDER --name NAME makes one; --isolation process needs none (weaker: shares the host's kernel)";
    Failure { lines: vec![line], help: Some(help.to_owned()), exit: 2 }
}
