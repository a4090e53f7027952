//! The bench's end of the load generator: starts it, steers it, takes its report.

use std::process::Stdio;

use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use crate::error::Error;

use super::{Args, record::Report};

/// A load generator that runs. Killed when dropped.
pub(crate) struct Load {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Line {
    Ready,
    Count { requests: u64, failed: u64 },
    Report { report: Box<Report> },
}

impl Load {
    /// Starts it, and waits until its accounts are funded and its sockets are open.
    pub(crate) async fn start(args: &Args) -> Result<Self, Error> {
        let program = std::env::current_exe().map_err(|source| Error::io("find this program", source))?;
        let mut command = Command::new(program);
        command.arg("load").args(["--rpc", &args.rpc, "--ws", &args.ws]).arg("--journal").arg(&args.journal);
        for (flag, number) in [
            ("--http1", args.http1 as u64),
            ("--http2", args.http2 as u64),
            ("--writers", args.writers as u64),
            ("--sockets", args.sockets as u64),
            ("--confirmers", args.confirmers as u64),
            ("--reads-per-second", args.reads_per_second),
            ("--writes-per-second", args.writes_per_second),
            ("--threads", args.threads as u64),
        ] {
            command.arg(flag).arg(number.to_string());
        }
        if args.patient {
            command.arg("--patient");
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().map_err(|source| Error::io("start the load generator", source))?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Error::Program("the load generator has no pipes".into()));
        };
        let mut load = Self { child, stdin, lines: BufReader::new(stdout).lines() };
        match load.line().await? {
            Line::Ready => Ok(load),
            _ => Err(Error::Program("the load generator said something else than that it is ready".into())),
        }
    }

    /// Begins a window of the report.
    pub(crate) async fn begin(&mut self, name: &str) -> Result<(), Error> {
        self.ask(&format!("begin {name}")).await.map(drop)
    }

    /// Ends it. The requests so far, and how many of them failed.
    pub(crate) async fn end(&mut self, name: &str) -> Result<(u64, u64), Error> {
        self.ask(&format!("end {name}")).await
    }

    /// The requests so far, and how many of them failed.
    pub(crate) async fn count(&mut self) -> Result<(u64, u64), Error> {
        self.ask("count").await
    }

    /// Ends the load and takes its report.
    pub(crate) async fn stop(mut self) -> Result<Report, Error> {
        self.say("stop").await?;
        let report = loop {
            if let Line::Report { report } = self.line().await? {
                break *report;
            }
        };
        self.child.wait().await.map_err(|source| Error::io("wait for the load generator", source))?;
        Ok(report)
    }

    async fn ask(&mut self, line: &str) -> Result<(u64, u64), Error> {
        self.say(line).await?;
        match self.line().await? {
            Line::Count { requests, failed } => Ok((requests, failed)),
            _ => Err(Error::Program("the load generator gave no count".into())),
        }
    }

    async fn say(&mut self, line: &str) -> Result<(), Error> {
        let line = format!("{line}\n");
        self.stdin.write_all(line.as_bytes()).await.map_err(|source| Error::io("steer the load generator", source))
    }

    async fn line(&mut self) -> Result<Line, Error> {
        let line = self.lines.next_line().await.map_err(|source| Error::io("read the load generator", source))?;
        let line = line.ok_or_else(|| Error::Program("the load generator ended early".into()))?;
        serde_json::from_str(&line).map_err(|error| Error::exchange("the load generator's line", error))
    }
}
