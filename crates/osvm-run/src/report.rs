//! What `osvm run --output json` prints, and how an error looks.

use std::{error::Error as _, io::Write};

use osvm_jail::{Captured, Egress, End, Error, Outcome};
use osvm_model::{
    IsolationLevel,
    api::{ErrorBody, SCHEMA},
};
use serde::Serialize;

/// One run of a program.
#[derive(Debug, Serialize)]
pub(crate) struct Run<'a> {
    schema: &'static str,
    program: &'a str,
    isolation: IsolationLevel,
    /// Its user id on the host.
    uid: u32,
    /// Its exit code; none if a signal ended it.
    exit: Option<i32>,
    signal: Option<i32>,
    timed_out: bool,
    /// Whether the kernel killed a process of it for memory.
    oom: bool,
    stdout: String,
    stderr: String,
    /// Bytes of output beyond the limit, which are not in stdout and stderr.
    output_lost: u64,
    resources: Resources,
    /// What the egress proxy refused; none without --allow.
    egress: Option<&'a Egress>,
}

#[derive(Debug, Serialize)]
struct Resources {
    wall_ms: f64,
    cpu_ms: Option<f64>,
    memory_peak_bytes: Option<u64>,
}

impl<'a> Run<'a> {
    pub(crate) fn new(program: &'a str, outcome: &'a Outcome) -> Self {
        let (exit, signal) = match outcome.end {
            End::Exited(code) => (Some(code), None),
            End::Signalled(signal) => (None, Some(signal)),
        };
        let text = |captured: &Captured| String::from_utf8_lossy(&captured.bytes).into_owned();
        Self {
            schema: SCHEMA,
            program,
            isolation: IsolationLevel::Process,
            uid: outcome.uid,
            exit,
            signal,
            timed_out: outcome.timed_out,
            oom: outcome.oom,
            stdout: text(&outcome.stdout),
            stderr: text(&outcome.stderr),
            output_lost: outcome.stdout.lost + outcome.stderr.lost,
            resources: Resources {
                wall_ms: outcome.wall.as_secs_f64() * 1e3,
                cpu_ms: outcome.used.cpu.map(|cpu| cpu.as_secs_f64() * 1e3),
                memory_peak_bytes: outcome.used.memory_peak,
            },
            egress: outcome.egress.as_ref(),
        }
    }
}

/// Prints one document. A reader that went away is no failure.
pub(crate) fn json(document: &impl Serialize) {
    if let Ok(text) = serde_json::to_string_pretty(document) {
        let _ = writeln!(std::io::stdout(), "{text}");
    }
}

/// Why there was no run.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) lines: Vec<String>,
    pub(crate) help: Option<String>,
    pub(crate) exit: u8,
}

impl Failure {
    pub(crate) fn print(&self, as_json: bool) {
        if as_json {
            let error = self.lines.join(": ");
            json(&ErrorBody { schema: SCHEMA.to_owned(), error, help: self.help.clone(), exit: self.exit });
            return;
        }
        let mut lines = self.lines.iter();
        eprintln!("error: {}", lines.next().map_or("", String::as_str));
        lines.for_each(|line| eprintln!("  {line}"));
        if let Some(help) = &self.help {
            eprintln!("  help: {help}");
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let exit = error.exit();
        let mut lines = vec![error.to_string()];
        if exit == 3 {
            lines.insert(0, "level process is not available: the program was not run".to_owned());
        }
        let mut cause = error.source();
        while let Some(error) = cause {
            lines.push(error.to_string());
            cause = error.source();
        }
        Self { lines, help: error.help().map(str::to_owned), exit }
    }
}
