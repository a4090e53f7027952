//! Guest kernels: where a kernel's image is, and which of its modules a guest needs, in the order in which they need each other.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde::{Deserialize, Serialize};

use crate::{
    digest,
    error::{Error, io},
    find::program,
    lz4,
};

/// What a guest of either driver needs besides what is built in; a name that the kernel lacks is one that it has built in.
pub const WANTED: [&str; 3] = ["virtio_pci", "virtio_mmio", "vmw_vsock_virtio_transport"];
/// What is read of a module; the largest of a distribution have some MiB.
const LARGEST_MODULE: u64 = 64 << 20;
/// Modules that one list may have.
const MOST_MODULES: usize = 256;

/// A kernel and its modules, as a package of a distribution lays them out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// Its release, as `uname -r` has it.
    pub release: String,
    /// Its image, compressed: what a boot loader takes, and QEMU.
    pub image: PathBuf,
    /// Its image as an ELF file, which Firecracker takes. There once the kernel was installed.
    pub elf: PathBuf,
    /// The folder of its modules.
    pub modules: PathBuf,
}

/// What is recorded of an installed kernel: the files that a guest gets, and the SHA-256 of each.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    /// The package, and its own digest.
    package: String,
    files: BTreeMap<PathBuf, String>,
}

/// The package whose one dependency is Debian's newest cloud kernel.
const DEBIAN: &str = "linux-image-cloud-amd64";
const RECORD: &str = "osvm-kernel.json";
/// A kernel's image has some ten MiB.
const LARGEST_IMAGE: u64 = 256 << 20;

impl Kernel {
    /// The kernel of an unpacked package: `boot/vmlinuz-RELEASE` and `lib/modules/RELEASE`.
    pub fn unpacked(root: &Path) -> Result<Self, Error> {
        let boot = root.join("boot");
        let entries = fs::read_dir(&boot).map_err(io("read", &boot))?;
        let mut releases: Vec<String> = entries
            .flatten()
            .filter_map(|entry| Some(entry.file_name().to_str()?.strip_prefix("vmlinuz-")?.to_owned()))
            .collect();
        releases.sort();
        let release =
            releases.pop().ok_or(Error::Unfit { path: boot.clone(), why: "without a vmlinuz-RELEASE".to_owned() })?;
        let modules = root.join("lib/modules").join(&release);
        Ok(Self {
            image: boot.join(format!("vmlinuz-{release}")),
            elf: boot.join(format!("vmlinux-{release}")),
            modules,
            release,
        })
    }

    /// The kernel that was installed below `root`, after its files were held against their digests.
    pub fn installed(root: &Path) -> Result<Self, Error> {
        let dir = root.join("kernel");
        let text = fs::read(dir.join(RECORD)).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                Error::Missing { what: "a guest kernel".to_owned(), help: "osvm microvm kernel install" }
            }
            _ => io("read", dir.join(RECORD))(error),
        })?;
        let record: Record = serde_json::from_slice(&text)
            .map_err(|_| Error::Unfit { path: dir.join(RECORD), why: "no record of a kernel".to_owned() })?;
        for (file, due) in &record.files {
            digest::copy_checked(&dir.join(file), due, io::sink())?;
        }
        Self::unpacked(&dir)
    }

    /// Unpacks a Debian package of a kernel below `root`, in place of one that is there. Without a file, Debian's newest cloud kernel is
    /// fetched with apt, which holds it against its signed lists. Nothing of this machine's own kernel is touched.
    pub fn install(root: &Path, package: Option<&Path>) -> Result<Self, Error> {
        fs::create_dir_all(root).map_err(io("make", root))?;
        let part = root.join(format!(".kernel-{}", std::process::id()));
        let done = install(&part, package).and_then(|()| {
            let dir = root.join("kernel");
            let old = root.join(format!(".kernel-old-{}", std::process::id()));
            // A guest that runs has read its kernel already.
            let _ = fs::rename(&dir, &old);
            let renamed = fs::rename(part.join("root"), &dir).map_err(io("write", &dir));
            let _ = fs::remove_dir_all(&old);
            renamed
        });
        let _ = fs::remove_dir_all(&part);
        done?;
        Self::installed(root)
    }

    /// The files of `wanted` and of all that they need, each behind what it needs.
    pub fn modules(&self, wanted: &[&str]) -> Result<Vec<PathBuf>, Error> {
        let mut all = Vec::new();
        collect(&self.modules, &mut all)?;
        let mut order = Vec::new();
        for name in wanted {
            add(name, &all, &mut order)?;
        }
        Ok(order)
    }
}

fn install(part: &Path, package: Option<&Path>) -> Result<(), Error> {
    let root = part.join("root");
    fs::create_dir_all(&root).map_err(io("make", &root))?;
    let package = package.map_or_else(|| fetch(part), |file| Ok(file.to_owned()))?;
    run(Command::new(program(None, "dpkg-deb", "apt install dpkg")?).arg("-x").arg(&package).arg(&root), &package)?;
    let kernel = Kernel::unpacked(&root)?;
    fs::write(&kernel.elf, elf(&kernel.image)?).map_err(io("write", &kernel.elf))?;
    let mut files = BTreeMap::new();
    for file in [kernel.image.clone(), kernel.elf.clone()].into_iter().chain(kernel.modules(&WANTED)?) {
        let name = file.strip_prefix(&root).unwrap_or(&file).to_owned();
        files.insert(name, digest::of_file(&file)?);
    }
    let name = package.file_name().unwrap_or_default().to_string_lossy();
    let record = Record { package: format!("{name} sha256:{}", digest::of_file(&package)?), files };
    let text = serde_json::to_vec_pretty(&record).map_err(|error| io("write", RECORD)(error.into()))?;
    fs::write(root.join(RECORD), text).map_err(io("write", root.join(RECORD)))
}

/// Downloads Debian's package into `dir`.
fn fetch(dir: &Path) -> Result<PathBuf, Error> {
    const HELP: &str = "name a package of a kernel: osvm microvm kernel install FILE.deb";
    let apt = program(None, "apt-get", HELP)?;
    let depends =
        Command::new("apt-cache").args(["depends", "--important", DEBIAN]).output().map_err(io("run", "apt-cache"))?;
    let text = String::from_utf8_lossy(&depends.stdout).into_owned();
    let package = text.lines().find_map(|line| line.trim().strip_prefix("Depends: "));
    let package = package.ok_or_else(|| Error::Missing { what: format!("{DEBIAN} in apt's lists"), help: HELP })?;
    let download = ["-q", "-o", "APT::Sandbox::User=root", "download", package];
    run(Command::new(&apt).args(download).current_dir(dir), &apt)?;
    let entries = fs::read_dir(dir).map_err(io("read", dir))?;
    let deb = entries.flatten().map(|entry| entry.path()).find(|path| path.extension().is_some_and(|end| end == "deb"));
    deb.ok_or_else(|| Error::Missing { what: format!("the package {package}"), help: HELP })
}

/// Runs a program whose failure is told by its own last line.
fn run(command: &mut Command, about: &Path) -> Result<(), Error> {
    let output = command.stdin(Stdio::null()).stdout(Stdio::null()).output().map_err(io("run", about))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let line = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no reason").to_owned();
    Err(Error::Unfit { path: about.to_owned(), why: format!("not to be used: {line}") })
}

/// The ELF file that a compressed kernel holds.
fn elf(image: &Path) -> Result<Vec<u8>, Error> {
    let unfit = |why: &str| Error::Unfit { path: image.to_owned(), why: why.to_owned() };
    if fs::metadata(image).map_err(io("read", image))?.len() > LARGEST_IMAGE {
        return Err(unfit("too large for a kernel"));
    }
    lz4::kernel(&fs::read(image).map_err(io("read", image))?).map_err(unfit)
}

fn collect(dir: &Path, into: &mut Vec<PathBuf>) -> Result<(), Error> {
    for entry in fs::read_dir(dir).map_err(io("read", dir))? {
        let path = entry.map_err(io("read", dir))?.path();
        // A package links its own sources and headers here.
        if path.is_symlink() {
            continue;
        } else if path.is_dir() {
            collect(&path, into)?;
        } else if path.extension().is_some_and(|end| end == "ko") {
            into.push(path);
        }
    }
    Ok(())
}

/// Puts what `name` needs into the order, and then itself.
fn add(name: &str, all: &[PathBuf], order: &mut Vec<PathBuf>) -> Result<(), Error> {
    // Files have hyphens where the kernel's own names have underscores.
    let same = |path: &&PathBuf| {
        path.file_stem().and_then(|stem| stem.to_str()).is_some_and(|stem| stem.replace('-', "_") == name)
    };
    let Some(path) = all.iter().find(same) else { return Ok(()) };
    if order.contains(path) || order.len() == MOST_MODULES {
        return Ok(());
    }
    let size = fs::metadata(path).map_err(io("read", path))?.len();
    if size > LARGEST_MODULE {
        return Err(Error::Unfit { path: path.clone(), why: "too large for a module".to_owned() });
    }
    let bytes = fs::read(path).map_err(io("read", path))?;
    for needed in needs(&bytes) {
        if needed != name {
            add(&needed, all, order)?;
        }
    }
    if !order.contains(path) {
        order.push(path.clone());
    }
    Ok(())
}

/// The names behind `depends=` in a module's information, which lies in the file as text between zero bytes.
fn needs(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = module.windows(KEY.len()).position(|window| window == KEY) else { return Vec::new() };
    let rest = module.get(at + KEY.len()..).unwrap_or_default();
    let end = rest.iter().position(|&byte| byte == 0).unwrap_or(0);
    let text = String::from_utf8_lossy(rest.get(..end).unwrap_or_default()).replace('-', "_");
    text.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_come_behind_what_they_need() {
        let dir = tempfile::tempdir().unwrap();
        let kernel = dir.path().join("lib/modules/6.1/kernel");
        fs::create_dir_all(&kernel).unwrap();
        fs::create_dir_all(dir.path().join("boot")).unwrap();
        fs::write(dir.path().join("boot/vmlinuz-6.1"), "x").unwrap();
        for (name, needs) in [("a-b", "c_d,e"), ("c_d", "e"), ("e", ""), ("f", "f,a-b")] {
            fs::write(kernel.join(format!("{name}.ko")), format!("x\0license=GPL\0depends={needs}\0name={name}\0"))
                .unwrap();
        }
        let found = Kernel::unpacked(dir.path()).unwrap();
        let order = |wanted: &[&str]| -> Vec<String> {
            let paths = found.modules(wanted).unwrap();
            paths.iter().map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
        };
        assert_eq!(found.release, "6.1");
        assert_eq!(order(&["f", "built_in", "e"]), ["e", "c_d", "a-b", "f"]);
        assert!(order(&[]).is_empty());
    }
}
