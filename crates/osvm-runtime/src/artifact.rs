//! Artifacts: what a revision runs, kept as a copy named by its SHA-256.
//!
//! A copy, not a link: a link would change with the user's file when that is written over, and a revision must never change.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use osvm_model::{Digest, hex};
use sha2::{Digest as _, Sha256};

/// How much is copied at once.
const CHUNK: usize = 1 << 20;
/// What is read to see whether a file is a program.
const HEAD: usize = 20;
/// `EM_X86_64` or `EM_AARCH64`.
const MACHINE: u16 = if cfg!(target_arch = "aarch64") { 183 } else { 62 };

/// Why a file cannot be an artifact.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// No such file.
    #[error("artifact {} does not exist", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// A folder or a device.
    #[error("artifact {} is not a regular file", path.display())]
    NotAFile {
        /// The file.
        path: PathBuf,
    },
    /// Nobody may execute it.
    #[error("artifact {} is not executable", path.display())]
    NotExecutable {
        /// The file.
        path: PathBuf,
    },
    /// Neither an ELF program for this machine nor a script.
    #[error("artifact {} is not a program for this machine: {found}", path.display())]
    WrongFormat {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        found: String,
    },
    /// It could not be read or copied.
    #[error("cannot {verb} {}", path.display())]
    Io {
        /// What was tried.
        verb: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl ArtifactError {
    /// What to do about it.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::NotExecutable { path } => Some(format!("chmod +x {}", path.display())),
            Self::WrongFormat { .. } => Some(format!("build it for {}-linux", std::env::consts::ARCH)),
            _ => None,
        }
    }
}

/// Copies the file at `source` into `folder`, under its digest, unless that is there already. The copy is on disk when this
/// returns. What is not a program for this machine is refused.
pub fn store(source: &Path, folder: &Path) -> Result<Digest, ArtifactError> {
    let mut file = open(source)?;
    fs::create_dir_all(folder).map_err(fail("make", folder))?;
    let partial = folder.join(format!(".partial-{}", std::process::id()));
    let copied = copy(&mut file, source, &partial).and_then(|digest| {
        let target = folder.join(&digest.0);
        if !target.exists() {
            File::open(&partial).and_then(|copy| copy.sync_all()).map_err(fail("write", &partial))?;
            fs::rename(&partial, &target).map_err(fail("make", &target))?;
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(fail("write", folder))?;
        }
        Ok(digest)
    });
    // Gone already if it was renamed.
    let _ = fs::remove_file(&partial);
    copied
}

fn fail(verb: &'static str, path: &Path) -> impl Fn(io::Error) -> ArtifactError {
    move |source| ArtifactError::Io { verb, path: path.to_owned(), source }
}

/// Opens the file and sees whether it can be run.
fn open(path: &Path) -> Result<File, ArtifactError> {
    let mut file = File::open(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => ArtifactError::Missing { path: path.to_owned() },
        _ => ArtifactError::Io { verb: "read", path: path.to_owned(), source },
    })?;
    let metadata = file.metadata().map_err(fail("read", path))?;
    if !metadata.is_file() {
        return Err(ArtifactError::NotAFile { path: path.to_owned() });
    }
    if metadata.permissions().mode() & 0o111 == 0 {
        return Err(ArtifactError::NotExecutable { path: path.to_owned() });
    }
    let mut head = Vec::with_capacity(HEAD);
    Read::take(&mut file, HEAD as u64).read_to_end(&mut head).map_err(fail("read", path))?;
    if let Some(found) = not_a_program(&head) {
        return Err(ArtifactError::WrongFormat { path: path.to_owned(), found });
    }
    io::Seek::rewind(&mut file).map_err(fail("read", path))?;
    Ok(file)
}

/// What is wrong with a file that begins so; none if it may be a program for this machine.
fn not_a_program(head: &[u8]) -> Option<String> {
    const EXECUTABLE: u16 = 2;
    const SHARED: u16 = 3;
    if head.starts_with(b"#!") {
        return None;
    }
    if head.is_empty() {
        return Some("the file is empty".to_owned());
    }
    if !head.starts_with(b"\x7fELF") {
        return Some("it is neither an ELF file nor a script".to_owned());
    }
    let &[_, _, _, _, class, order, _, _, _, _, _, _, _, _, _, _, t0, t1, m0, m1] = head else {
        return Some("its ELF header is cut off".to_owned());
    };
    if (class, order) != (2, 1) {
        return Some("it is not a 64-bit little-endian ELF file".to_owned());
    }
    let machine = u16::from_le_bytes([m0, m1]);
    let kind = u16::from_le_bytes([t0, t1]);
    match (kind, machine) {
        (EXECUTABLE | SHARED, MACHINE) => None,
        (EXECUTABLE | SHARED, 247 | 263) => Some("it is an ELF file for Solana (BPF)".to_owned()),
        (EXECUTABLE | SHARED, other) => Some(format!("it is an ELF file for another machine (number {other})")),
        (other, _) => Some(format!("it is an ELF file of type {other}, not a program")),
    }
}

fn copy(from: &mut File, source: &Path, target: &Path) -> Result<Digest, ArtifactError> {
    // A daemon that died here left it.
    let _ = fs::remove_file(target);
    let mut to =
        OpenOptions::new().write(true).create_new(true).mode(0o700).open(target).map_err(fail("make", target))?;
    let mut hash = Sha256::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = match from.read(&mut chunk) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(fail("read", source)(error)),
        };
        hash.update(&chunk[..read]);
        to.write_all(&chunk[..read]).map_err(fail("write", target))?;
    }
    to.set_permissions(Permissions::from_mode(0o500)).map_err(fail("write", target))?;
    Ok(Digest(hex(&hash.finalize())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(folder: &Path, text: &str) -> PathBuf {
        let path = folder.join("program");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn a_stored_artifact_does_not_change_with_the_users_file() {
        let folder = tempfile::tempdir().unwrap();
        let program = script(folder.path(), "#!/bin/sh\necho one\n");
        let kept = folder.path().join("artifacts");
        let first = store(&program, &kept).unwrap();
        script(folder.path(), "#!/bin/sh\necho two\n");
        let second = store(&program, &kept).unwrap();
        assert_ne!(first, second);
        assert_eq!(fs::read_to_string(kept.join(&first.0)).unwrap(), "#!/bin/sh\necho one\n");
        assert_eq!(fs::read_dir(&kept).unwrap().count(), 2, "no partial copy is left");
    }

    #[test]
    fn what_cannot_run_is_refused_with_what_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let kept = folder.path().join("artifacts");
        assert!(matches!(store(&folder.path().join("none"), &kept), Err(ArtifactError::Missing { .. })));
        assert!(matches!(store(folder.path(), &kept), Err(ArtifactError::NotAFile { .. })));
        let text = script(folder.path(), "hello");
        assert!(matches!(store(&text, &kept), Err(ArtifactError::WrongFormat { .. })));
        fs::set_permissions(&text, Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(store(&text, &kept), Err(ArtifactError::NotExecutable { .. })));
        let mut elf = fs::read("/proc/self/exe").unwrap();
        elf.truncate(HEAD);
        assert_eq!(not_a_program(&elf), None);
        elf[18..20].copy_from_slice(&247u16.to_le_bytes());
        assert!(not_a_program(&elf).unwrap().contains("Solana"));
        assert!(not_a_program(&elf[..10]).unwrap().contains("cut off"));
    }
}
