//! `osvm NAME`: becomes the program `osvm-NAME`, from beside this one or from `PATH`, as git and cargo do.

use std::{ffi::OsString, os::unix::process::CommandExt, path::Path, process::Command};

use clap::CommandFactory;
use osvm_runtime::companion;

use crate::{cli::Cli, failure::Failure, output::Printer};

/// Programs that come with osvm, for suggestions.
const COMPANIONS: [&str; 5] = ["audit", "localnet", "mcp", "program", "run"];
/// A name this similar is worth a suggestion (Jaro-Winkler).
const SIMILAR: f64 = 0.8;

/// Becomes `osvm-NAME` with the rest of the words. Returns only if that failed.
pub(crate) fn run(words: &[OsString], state_dir: Option<&Path>, printer: &Printer) -> Failure {
    let Some((name, rest)) = words.split_first() else { return Failure::usage("no command") };
    let shown = name.to_string_lossy();
    let plain = shown.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    let Some(program) = plain.then(|| companion(name)).flatten() else {
        let failure =
            Failure::usage(format!("no command {shown:?}, and no program osvm-{shown} beside osvm or in PATH"));
        return failure.help(match similar(&shown) {
            Some(known) => format!("did you mean `osvm {known}`? All commands: osvm --help"),
            None => "all commands: osvm --help".to_owned(),
        });
    };
    let mut command = Command::new(&program);
    command.args(rest);
    // Options that stood before the name are the program's too.
    if let Some(dir) = state_dir {
        command.env("OSVM_HOME", dir);
    }
    if printer.is_json() {
        command.env("OSVM_OUTPUT", "json");
    }
    let error = command.exec();
    Failure::new(format!("cannot run {}", program.display())).because(&error)
}

fn similar(name: &str) -> Option<String> {
    let command = Cli::command();
    let known = command.get_subcommands().filter(|known| !known.is_hide_set());
    let names = known.flat_map(|known| known.get_name_and_visible_aliases()).map(str::to_owned);
    let best = names.chain(COMPANIONS.map(str::to_owned)).map(|known| (strsim::jaro_winkler(name, &known), known));
    best.filter(|(score, _)| *score >= SIMILAR).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, known)| known)
}
