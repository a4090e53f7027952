//! Where the state folder is.

use std::{
    env,
    path::{Path, PathBuf},
};

use crate::failure::Failure;

/// The folder that the user names, or `osvm` in the XDG state folder. It need not exist.
pub(crate) fn resolve(named: Option<&Path>) -> Result<PathBuf, Failure> {
    let absolute = |path: &Path| {
        std::path::absolute(path)
            .map_err(|error| Failure::new(format!("cannot use the state folder {}", path.display())).because(&error))
    };
    if let Some(named) = named {
        if named.as_os_str().is_empty() {
            return Err(Failure::usage("the state folder's name is empty")
                .help("give --state-dir a folder, or unset OSVM_HOME"));
        }
        return absolute(named);
    }
    let set = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    match (set("XDG_STATE_HOME"), set("HOME")) {
        (Some(state), _) => Ok(state.join("osvm")),
        (None, Some(home)) => Ok(home.join(".local/state/osvm")),
        (None, None) => Err(Failure::new("no state folder: neither XDG_STATE_HOME nor HOME is set")
            .help("name one: --state-dir DIR, or OSVM_HOME=DIR")),
    }
}
