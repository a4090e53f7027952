//! The printer of `osvm program`: data on stdout, progress and errors on stderr.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use osvm_model::number;
use serde::Serialize;
use serde_json::json;

use crate::failure::Failure;

/// The version of the JSON shapes; the same as osvm's.
pub(crate) const SCHEMA: &str = "osvm/v1";
/// The width of a label at the beginning of a line.
const LABEL: usize = 10;
/// How often a progress line moves.
const TICK: Duration = Duration::from_millis(100);

/// The form of the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Text,
    /// For programs: JSON on stdout
    Json,
}

/// Writes what a command says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Printer {
    pub(crate) format: Format,
}

impl Printer {
    pub(crate) fn is_json(self) -> bool {
        self.format == Format::Json
    }

    /// A line for people; nothing with `--output json`.
    pub(crate) fn labelled(self, label: &str, text: &str) -> Result<(), Failure> {
        if self.is_json() { Ok(()) } else { write_line(&format!("{label:<LABEL$}{text}")) }
    }

    /// One JSON object on one line.
    pub(crate) fn json(self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(value).map_err(|error| Failure::new("cannot write JSON").because(&error))?;
        write_line(&text)
    }

    /// A progress bar on stderr; nothing unless stderr is a terminal.
    pub(crate) fn progress(self, label: &str, length: u64) -> ProgressBar {
        if self.is_json() || !io::stderr().is_terminal() {
            return ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::hidden());
        }
        let bar = ProgressBar::new(length);
        if let Ok(style) = ProgressStyle::with_template("{msg:10}{pos}/{len} chunks {elapsed}") {
            bar.set_style(style);
        }
        bar.set_message(label.to_owned());
        bar.enable_steady_tick(TICK);
        bar
    }

    /// Why the command ends with another code than 0.
    pub(crate) fn failure(self, failure: &Failure) {
        let mut err = io::stderr().lock();
        if self.is_json() {
            let whole: Vec<_> = std::iter::once(&failure.error).chain(&failure.causes).map(String::as_str).collect();
            let help = (!failure.help.is_empty()).then(|| failure.help.join("; "));
            let body = json!({"schema": SCHEMA, "error": whole.join(": "), "help": help, "exit": failure.exit});
            let _ = writeln!(err, "{body}");
            return;
        }
        let _ = writeln!(err, "error: {}", failure.error);
        for cause in &failure.causes {
            let _ = writeln!(err, "  {cause}");
        }
        for help in &failure.help {
            let _ = writeln!(err, "  help: {help}");
        }
    }
}

/// A reader that went away (`| head`) is no failure.
fn write_line(text: &str) -> Result<(), Failure> {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new("cannot write the output").because(&error))
        }
        _ => Ok(()),
    }
}

/// Lamports as SOL, exactly.
pub(crate) fn sol(lamports: u64) -> String {
    const LAMPORTS_PER_SOL: u64 = 1_000_000_000;
    let (whole, rest) = (lamports / LAMPORTS_PER_SOL, lamports % LAMPORTS_PER_SOL);
    let fraction = format!("{rest:09}");
    let fraction = fraction.trim_end_matches('0');
    if fraction.is_empty() { format!("{} SOL", number(whole)) } else { format!("{}.{fraction} SOL", number(whole)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sol_is_exact() {
        assert_eq!(sol(0), "0 SOL");
        assert_eq!(sol(2_000_000_000), "2 SOL");
        assert_eq!(sol(1_000_000_001), "1.000000001 SOL");
        assert_eq!(sol(5_000), "0.000005 SOL");
    }
}
