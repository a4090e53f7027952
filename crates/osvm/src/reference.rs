//! The reference of the command line, made from its definitions: docs/cli.md.

use clap::{Arg, ArgAction, Command, CommandFactory};

use crate::{cli::Cli, failure::Failure, output::Printer};

const HEAD: &str = "\
# The command line

Made from the definitions by `osvm reference`; a test keeps it current.

Data goes to stdout, notes and progress to stderr. `--output json` prints JSON whose shapes `osvm schema` gives; an error is then
one JSON object on stderr. Colour only on a terminal, and not with `NO_COLOR`. Exit codes: 0 done, 1 failed, 2 usage, 3 refused for
isolation. `osvm NAME` with a name that is not below runs the program `osvm-NAME`, from beside `osvm` or from `PATH`:
`osvm program` deploys programs.

A second `osvm rpc local` while a service of that name runs fails and says where it serves and how to stop it. Ctrl-C stops the node
of a foreground `osvm rpc local`, and the daemon and gateway too if it started them and nothing else runs. Ctrl-C during
`osvm swap` only stops watching: the rollout goes on.
";

pub(crate) fn run(printer: &Printer) -> Result<(), Failure> {
    printer.line(text().trim_end())
}

fn text() -> String {
    let mut root = Cli::command();
    root.build();
    let mut text = HEAD.to_owned();
    text.push_str("\n## Every command\n\n");
    options(&root, &mut text);
    for command in root.get_subcommands().filter(|command| !command.is_hide_set()) {
        describe(command, "osvm", &mut text);
    }
    text
}

fn describe(command: &Command, parent: &str, text: &mut String) {
    let path = format!("{parent} {}", command.get_name());
    if command.has_subcommands() {
        for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
            describe(inner, &path, text);
        }
        return;
    }
    let places: Vec<_> = command.get_positionals().map(placeholder).collect();
    text.push_str(&format!("\n## {path}"));
    for place in &places {
        text.push_str(&format!(" {place}"));
    }
    text.push_str("\n\n");
    if let Some(about) = command.get_about() {
        text.push_str(&format!("{about}.\n"));
    }
    let own = command.get_arguments().filter(|argument| !argument.is_global_set() && !argument.is_hide_set());
    if own.count() > 1 {
        text.push('\n');
    }
    options(command, text);
}

fn placeholder(argument: &Arg) -> String {
    let name = argument.get_value_names().and_then(|names| names.first()).map_or("ARG", |name| name.as_str());
    if argument.is_required_set() { name.to_owned() } else { format!("[{name}]") }
}

/// A list of the options that are the command's own (for the root: those of every command).
fn options(command: &Command, text: &mut String) {
    let is_root = command.get_name() == "osvm";
    for argument in command.get_arguments() {
        let id = argument.get_id();
        if argument.is_hide_set() || argument.is_global_set() != is_root || id == "help" || id == "version" {
            continue;
        }
        let mut name = match (argument.get_short(), argument.get_long()) {
            (Some(short), Some(long)) => format!("-{short}, --{long}"),
            (None, Some(long)) => format!("--{long}"),
            (Some(short), None) => format!("-{short}"),
            (None, None) => placeholder(argument),
        };
        if matches!(argument.get_action(), ArgAction::Set | ArgAction::Append) && !argument.is_positional() {
            for value in argument.get_value_names().unwrap_or_default() {
                name.push_str(&format!(" {value}"));
            }
        }
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        text.push_str(&format!("- `{name}`: {help}"));
        let values: Vec<_> = argument.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
        if !values.is_empty() && argument.get_action().takes_values() {
            text.push_str(&format!(" ({})", values.join(", ")));
        }
        let defaults: Vec<_> = argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
        if !defaults.is_empty() && argument.get_action().takes_values() {
            text.push_str(&format!(" [default: {}]", defaults.join(" ")));
        }
        if let Some(variable) = argument.get_env() {
            text.push_str(&format!(" (or `{}`)", variable.to_string_lossy()));
        }
        text.push('\n');
    }
}
