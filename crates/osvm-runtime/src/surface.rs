//! What stands between a program and the host at each level, counted: ways out of the guest, system calls of the host, lines of code that
//! have to be right.

use osvm_model::IsolationLevel;
use serde::Serialize;

const CALLS: &str = include_str!("../../osvm-jail/src/calls.rs");
const INTERFACE: &str = include_str!("../../osvm-unikernel/src/abi.rs");

/// Lines of code of the jail, at most; a test counts them.
const JAIL_LINES: u32 = 5_700;
/// Lines of code of the monitor of level `unikernel`, at most; a test counts them.
const MONITOR_LINES: u32 = 3_000;

/// One level's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Surface {
    /// The level.
    pub level: IsolationLevel,
    /// Hypercalls of the guest, by name; none where there is no guest.
    pub hypercalls: Vec<String>,
    /// System calls of the host that the program, or the monitor of its VM, may make; none: all.
    pub system_calls: Option<Vec<String>>,
    /// Lines of this project's code on the trusted side, without comments and empty lines, at most. The host's kernel is not counted.
    pub trusted_lines: u32,
}

/// Each level that there is a driver for, the weakest first.
pub fn surface() -> Vec<Surface> {
    let of =
        |level, hypercalls, system_calls, trusted_lines| Surface { level, hypercalls, system_calls, trusted_lines };
    vec![
        of(IsolationLevel::None, Vec::new(), None, 0),
        of(IsolationLevel::Process, Vec::new(), Some(calls("SERVICE")), JAIL_LINES),
        of(IsolationLevel::Unikernel, hypercalls(), Some(calls("VMM")), JAIL_LINES + MONITOR_LINES),
    ]
}

/// The names in a list of the jail's, with the older names that this machine has.
fn calls(list: &str) -> Vec<String> {
    let mut names = entries(CALLS, &format!("pub const {list}: &[i64] = &["), "];", "libc::SYS_");
    if cfg!(target_arch = "x86_64") {
        // The first one of this name is this architecture's.
        names.extend(entries(CALLS, &format!("pub const {list}_OLD: &[i64] ="), "];", "libc::SYS_"));
    }
    names
}

fn hypercalls() -> Vec<String> {
    let names = entries(INTERFACE, "pub mod hypercall {", "\n}", "pub const ");
    names.into_iter().map(|name| name.to_lowercase().replace('_', " ")).collect()
}

/// Words that follow `mark` between `begin` and `end`.
fn entries(text: &str, begin: &str, end: &str, mark: &str) -> Vec<String> {
    let list = text.split_once(begin).map_or("", |(_, rest)| rest);
    let list = list.split_once(end).map_or("", |(list, _)| list);
    let word = |part: &str| part.chars().take_while(|sign| sign.is_alphanumeric() || *sign == '_').collect();
    list.split(mark).skip(1).map(word).collect()
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    fn lines(folder: &Path) -> u32 {
        let code = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with("//");
        fs::read_dir(folder).unwrap().map(Result::unwrap).fold(0, |sum, entry| {
            let path = entry.path();
            sum + match path.extension() {
                _ if path.is_dir() => lines(&path),
                Some(kind) if kind == "rs" => fs::read_to_string(&path).unwrap().lines().filter(code).count() as u32,
                _ => 0,
            }
        })
    }

    #[test]
    fn the_trusted_side_of_no_level_grows_unnoticed() {
        let all = surface();
        let of = |level| all.iter().find(|surface| surface.level == level).unwrap();
        let (process, unikernel) = (of(IsolationLevel::Process), of(IsolationLevel::Unikernel));
        // Whoever makes one of these larger says so here.
        assert_eq!(unikernel.hypercalls.len(), 9, "{:?}", unikernel.hypercalls);
        assert_eq!(unikernel.system_calls.as_ref().unwrap().len(), 68);
        assert_eq!(process.system_calls.as_ref().unwrap().len(), 208);
        for (folder, most) in [("osvm-jail", JAIL_LINES), ("osvm-unikernel", MONITOR_LINES)] {
            let counted = lines(&Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder).join("src"));
            assert!(counted <= most, "{folder} has {counted} lines, which is more than {most}");
            assert!(counted > most / 10 * 8, "{folder} has {counted} lines: say less than {most}");
        }
    }
}
