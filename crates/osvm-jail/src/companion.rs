//! The small programs that come with osvm.

use std::{
    env,
    ffi::{OsStr, OsString},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// Where cargo puts test programs, below the folder of the programs that are tested.
const DEPS: &str = "deps";

/// The file of `osvm-NAME`: beside this program, or in `PATH`.
pub fn companion(name: impl AsRef<OsStr>) -> Option<PathBuf> {
    let mut file = OsString::from("osvm-");
    file.push(name);
    let own = env::current_exe().ok();
    let beside = own.as_deref().and_then(Path::parent);
    let tested = beside.filter(|folder| folder.ends_with(DEPS)).and_then(Path::parent);
    let folders = beside.into_iter().chain(tested).map(Path::to_owned);
    let path = env::var_os("PATH").unwrap_or_default();
    folders.chain(env::split_paths(&path)).map(|folder| folder.join(&file)).find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}
