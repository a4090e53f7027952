//! Images made of the system's own files.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use crate::support::{Ran, run_with};

/// Copies a file of the system to the same place under `root`, following links.
pub(crate) fn bring(root: &Path, file: &Path) {
    let target = root.join(file.strip_prefix("/").unwrap());
    fs::create_dir_all(target.parent().unwrap()).unwrap();
    fs::copy(file, &target).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
}

/// The libraries that a program names, and its loader.
fn libraries(program: &Path) -> Vec<PathBuf> {
    let output = Command::new("ldd").arg(program).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect()
}

/// A root folder with a program at `/bin`, and what it links to.
pub(crate) fn root_of(program: &Path, name: &str) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("bin")).unwrap();
    fs::copy(program, root.path().join("bin").join(name)).unwrap();
    libraries(program).iter().for_each(|library| bring(root.path(), library));
    root
}

pub(crate) fn in_image(root: &TempDir, program: &str, args: &[&str]) -> Ran {
    let image = root.path().with_extension("image");
    let packed =
        Command::new(env!("CARGO_BIN_EXE_osvm-unikernel")).arg("pack").arg(root.path()).arg(&image).output().unwrap();
    assert!(packed.status.success(), "{}", String::from_utf8_lossy(&packed.stderr));
    let (folder, file) = (root.path().to_str().unwrap(), image.to_str().unwrap());
    let ran = run_with(
        Path::new(program),
        &[
            "--rootfs",
            folder,
            "--image",
            file,
            "--memory",
            "512M",
            "--env",
            "LC_ALL=C",
            "--env",
            "PATH=/bin",
            "--env",
            "HOME=/tmp",
        ],
        args,
    );
    fs::remove_file(&image).unwrap();
    ran
}

/// The system's Python with its standard library.
pub(crate) fn python() -> (TempDir, String) {
    let output = Command::new("/usr/bin/python3")
        .args(["-I", "-c", "import os, sys; print(os.path.realpath(sys.executable), os.path.dirname(os.__file__))"])
        .output()
        .expect("/usr/bin/python3");
    let text = String::from_utf8(output.stdout).unwrap();
    let (executable, library) = text.trim().split_once(' ').unwrap();
    let root = root_of(Path::new(executable), "python3");
    let mut found = vec![PathBuf::from(library)];
    while let Some(dir) = found.pop() {
        for entry in fs::read_dir(&dir).unwrap().map(Result::unwrap) {
            let (path, name) = (entry.path(), entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                if !["test", "__pycache__", "dist-packages", "idlelib", "tkinter"].iter().any(|skip| name == *skip) {
                    found.push(path);
                }
            } else if path.is_file() {
                bring(root.path(), &path);
                if path.extension().is_some_and(|extension| extension == "so") {
                    libraries(&path).iter().for_each(|library| bring(root.path(), library));
                }
            }
        }
    }
    (root, "/bin/python3".to_owned())
}

/// Brings what the shared objects below a folder of the root link to.
pub(crate) fn libraries_below(root: &TempDir, folder: &str) {
    let mut found = vec![root.path().join(folder)];
    while let Some(dir) = found.pop() {
        for entry in fs::read_dir(&dir).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                found.push(path);
            } else if path.extension().is_some_and(|extension| extension == "so") {
                libraries(&path).iter().for_each(|library| bring(root.path(), library));
            }
        }
    }
}

/// Where the system keeps its programs.
const FOLDERS: [&str; 5] = ["/usr/bin", "/bin", "/usr/sbin", "/sbin", "/usr/lib/git-core"];

/// A root folder with these programs of the system at `/bin`, `sh` among them if there is `dash`. None, and a word on it: one is not
/// installed; `cargo xtask test` installs them where it can.
pub(crate) fn tools(names: &[&str]) -> Option<TempDir> {
    let root = tempfile::tempdir().unwrap();
    let bin = root.path().join("bin");
    fs::create_dir(&bin).unwrap();
    for name in names {
        let Some(file) = FOLDERS.iter().map(|folder| Path::new(folder).join(name)).find(|file| file.is_file()) else {
            eprintln!("left out: {name} is not installed");
            return None;
        };
        fs::copy(&file, bin.join(name)).unwrap();
        libraries(&file).iter().for_each(|library| bring(root.path(), library));
    }
    if names.contains(&"dash") {
        std::os::unix::fs::symlink("dash", bin.join("sh")).unwrap();
    }
    Some(root)
}

/// Writes a file into a root folder.
pub(crate) fn put(root: &TempDir, path: &str, text: &str, mode: u32) {
    let file = root.path().join(path);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
}

/// Runs a script by a shell of the image.
pub(crate) fn script(root: &TempDir, shell: &str, text: &str) -> Ran {
    in_image(root, shell, &["-c", text])
}
