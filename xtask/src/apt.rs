//! The Debian packages that tests and benches need. Nothing that is there already is touched.

use std::{path::PathBuf, process::Command};

use crate::sh::{self, Result};

/// A program, and the package that brings it.
const PROGRAMS: [(&str, &str); 20] = [
    ("cc", "gcc"),
    ("node", "nodejs"),
    ("npm", "npm"),
    ("python3", "python3"),
    ("haproxy", "haproxy"),
    ("nginx", "nginx-light"),
    ("wrk", "wrk"),
    ("bwrap", "bubblewrap"),
    // What is run in VMs.
    ("busybox", "busybox"),
    ("git", "git"),
    ("go", "golang-go"),
    ("jq", "jq"),
    ("lua5.4", "lua5.4"),
    ("musl-gcc", "musl-tools"),
    ("openssl", "openssl"),
    ("perl", "perl"),
    ("redis-server", "redis-server"),
    ("rg", "ripgrep"),
    ("sqlite3", "sqlite3"),
    ("qemu-system-x86_64", "qemu-system-x86"),
];

/// The names of Chromium and what is built of it.
const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// Installs the packages whose programs are missing.
pub(crate) fn install_missing() -> Result<()> {
    let mut missing: Vec<&str> =
        PROGRAMS.iter().filter(|(program, _)| sh::which(program).is_none()).map(|(_, package)| *package).collect();
    if !can_make_environments() {
        missing.push("python3-venv");
    }
    if missing.is_empty() { Ok(()) } else { install(&missing) }
}

/// A Chromium that starts, installed where none does. `None` where this machine cannot install one.
pub(crate) fn browser() -> Option<PathBuf> {
    let starts = |file: &PathBuf| Command::new(file).arg("--version").output().is_ok_and(|out| out.status.success());
    let find = || BROWSERS.iter().filter_map(|name| sh::which(name)).find(starts);
    find().or_else(|| match install(&["chromium"]) {
        Ok(()) => find(),
        Err(error) => {
            eprintln!("{error}");
            None
        }
    })
}

fn install(missing: &[&str]) -> Result<()> {
    let Some(apt) = sh::which("apt-get") else {
        return Err(format!("missing: {}; install them by hand, this system has no apt-get", missing.join(", ")));
    };
    eprintln!("installing {}", missing.join(", "));
    // Debian starts a server as soon as it is installed, except in run level 1; the tests start their own on ports of their own.
    let settings = ["DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1"];
    let run = |args: &[&str]| {
        let mut command = Command::new(if is_root() { "env" } else { "sudo" });
        sh::run(command.args(settings).arg(&apt).args(args))
    };
    run(&["-q", "update"])?;
    let mut install = vec!["-q", "install", "-y", "--no-install-recommends"];
    install.extend(missing);
    run(&install)
}

/// Debian's python3 comes without what `python3 -m venv` needs.
fn can_make_environments() -> bool {
    let probe = Command::new("python3").args(["-c", "import venv, ensurepip"]).output();
    probe.is_ok_and(|output| output.status.success())
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}
