//! The printer: all output goes through it.
//!
//! Data goes to stdout, notes and progress to stderr. Colour and progress only on a terminal, and no colour with `NO_COLOR`.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::failure::Failure;

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

/// Looks of a piece of text.
#[derive(Clone, Copy)]
enum Look {
    Bold,
    Red,
    Yellow,
}

impl Look {
    fn paint(self, on: bool, text: &str) -> String {
        let code = match self {
            Self::Bold => "1",
            Self::Red => "1;31",
            Self::Yellow => "1;33",
        };
        if on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Writes what a command says.
#[derive(Clone, Debug)]
pub(crate) struct Printer {
    format: Format,
    colour_out: bool,
    colour_err: bool,
    terminal_err: bool,
}

impl Printer {
    pub(crate) fn new(format: Format) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let terminal_err = io::stderr().is_terminal();
        Self {
            format,
            colour_out: !plain && io::stdout().is_terminal(),
            colour_err: !plain && terminal_err,
            terminal_err,
        }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// One line of data.
    pub(crate) fn line(&self, text: &str) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        writeln!(out, "{text}")?;
        out.flush()?;
        Ok(())
    }

    /// A line that begins with a label.
    pub(crate) fn labelled(&self, label: &str, text: &str) -> Result<(), Failure> {
        let padded = format!("{label:<LABEL$}");
        self.line(&format!("{}{text}", Look::Bold.paint(self.colour_out, &padded)))
    }

    /// One JSON object on one line.
    pub(crate) fn json<T: Serialize>(&self, value: &T) -> Result<(), Failure> {
        let text = serde_json::to_string(value)
            .map_err(|error| Failure::new("cannot write the output as JSON").because(&error))?;
        self.line(&text)
    }

    /// Something worth knowing, on stderr. Nothing depends on its being read.
    pub(crate) fn note(&self, text: &str) {
        let _ = writeln!(io::stderr(), "{:<LABEL$}{text}", "note");
    }

    /// Something that the user can act on, on stderr.
    pub(crate) fn warning(&self, text: &str) {
        let label = format!("{:<LABEL$}", "warning");
        let _ = writeln!(io::stderr(), "{}{text}", Look::Yellow.paint(self.colour_err, &label));
    }

    /// Why the command ends with another code than 0. With `--output json` it is one JSON object on stderr.
    pub(crate) fn failure(&self, failure: &Failure) {
        if failure.quiet {
            return;
        }
        let mut err = io::stderr().lock();
        if self.is_json() {
            if let Ok(text) = serde_json::to_string(&failure.body()) {
                let _ = writeln!(err, "{text}");
            }
            return;
        }
        let _ = writeln!(err, "{} {}", Look::Red.paint(self.colour_err, "error:"), failure.error);
        for cause in &failure.causes {
            let _ = writeln!(err, "  {cause}");
        }
        if let Some(help) = &failure.help {
            let _ = writeln!(err, "  {} {help}", Look::Bold.paint(self.colour_err, "help:"));
        }
    }

    /// A line on stderr that shows that something goes on; nothing unless stderr is a terminal.
    pub(crate) fn progress(&self, text: &str) -> Progress {
        if !self.terminal_err || self.is_json() {
            return Progress(ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden()));
        }
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
            bar.set_style(style);
        }
        bar.set_message(text.to_owned());
        bar.enable_steady_tick(TICK);
        Progress(bar)
    }
}

/// A progress line; it goes away when it is dropped.
#[derive(Debug)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Prints while the line is out of the way.
    pub(crate) fn hidden<T>(&self, print: impl FnOnce() -> T) -> T {
        self.0.suspend(print)
    }

    pub(crate) fn say(&self, text: &str) {
        self.0.set_message(text.to_owned());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
