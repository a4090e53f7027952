//! Level `unikernel`: the program in a VM without a kernel, and the VM's monitor, `osvm-unikernel`, in a jail.
//!
//! The jail holds the monitor, the program's file, the folders that are to be shown, and nothing else. What the guest may do is the
//! monitor's business; what is left to one that breaks the monitor is the VMM's list of system calls.

use std::path::PathBuf;

use osvm_jail::{Limits, Mount, Spec, companion, vmm};

use crate::{args::Args, report::Failure};

/// Where the folders lie in it that the program is shown.
const MOUNTS: &str = "/osvm/mounts";

/// The monitor's jail, with the program as its argument.
pub(crate) fn spec(args: &Args) -> Result<Spec, Failure> {
    let options: [(&str, bool); 4] = [
        ("--allow", !args.allow.is_empty()),
        ("--publish", args.publish.is_some()),
        ("--proc", args.proc),
        ("--read-only", args.read_only),
    ];
    if let Some((name, _)) = options.iter().find(|(_, given)| *given) {
        return Err(Failure {
            lines: vec![format!("{name} does not work at level unikernel in this version")],
            help: Some("leave it out, or choose --isolation process (weaker: shares the host's kernel)".to_owned()),
            exit: 2,
        });
    }
    let monitor = monitor()?;
    let program = crate::find(&args.command[0], args)?;
    let argv = vec!["osvm-unikernel".to_owned(), "run".to_owned(), "--memory".to_owned(), args.memory.to_string()];
    let mut spec = vmm(&monitor, argv, args.memory)?;
    let (argv, mounts) = (&mut spec.argv, &mut spec.mounts);
    // What the monitor's own libraries are, the program does not see: it is alone in its VM.
    if !mounts.iter().any(|mount| mount.target == program) {
        mounts.push(Mount { source: program.clone(), target: program.clone(), writable: false, owned: true });
    }
    argv.extend(["--cwd".to_owned(), args.cwd.display().to_string()]);
    for (number, mount) in args.mount.iter().enumerate() {
        let (place, folder) = shown(mount, number)?;
        let option = if mount.writable { "--folder" } else { "--folder-read-only" };
        argv.extend([option.to_owned(), folder]);
        mounts.push(Mount { target: place, ..mount.clone() });
    }
    for (name, value) in &args.env {
        argv.extend(["--env".to_owned(), format!("{name}={value}")]);
    }
    argv.extend(["--".to_owned(), program.display().to_string()]);
    argv.extend_from_slice(&args.command[1..]);
    spec.read_only = args.mount.iter().all(|mount| !mount.writable);
    spec.limits = Limits { cpus: args.cpus, pids: args.pids, timeout: args.timeout, ..spec.limits };
    Ok(spec)
}

/// Where a mount lies in the monitor's jail, and the monitor's word for it. The guest has folders only.
fn shown(mount: &Mount, number: usize) -> Result<(PathBuf, String), Failure> {
    let place = PathBuf::from(format!("{MOUNTS}/{number}"));
    if !mount.source.is_dir() {
        return Err(Failure {
            lines: vec![format!(
                "{} is no folder: level unikernel shows a program folders only",
                mount.source.display()
            )],
            help: Some("mount the folder that it is in".to_owned()),
            exit: 2,
        });
    }
    let folder = format!("{}:{}", place.display(), mount.target.display());
    Ok((place, folder))
}

/// `osvm-unikernel`, beside this program or in PATH.
fn monitor() -> Result<PathBuf, Failure> {
    companion("unikernel").ok_or_else(|| Failure {
        lines: vec![
            "level unikernel is not available: the program was not run".to_owned(),
            "there is no osvm-unikernel beside osvm-run or in PATH".to_owned(),
        ],
        help: Some("build it: cargo build --release -p osvm-unikernel".to_owned()),
        exit: 3,
    })
}
