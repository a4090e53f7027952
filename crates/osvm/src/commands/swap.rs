//! `osvm swap NAME` and `osvm rollback NAME`: each phase is told when it ended.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use osvm_control::{Client, client::Lines};
use osvm_model::{
    PhaseReport, RolloutOutcome, RolloutStatus, ServiceName,
    api::{Progress, SwapRequest},
};

use crate::{cli::Context, commands::status::Versioned, failure::Failure, format, table};

/// Where a phase's duration begins, behind label and detail.
const DETAIL: usize = 62;
/// The width of a duration.
const DURATION: usize = 10;

#[derive(Debug, Args)]
pub(crate) struct SwapArgs {
    /// The service
    name: ServiceName,
    /// The new program file [default: the present path, whatever it holds now]
    #[arg(long, value_name = "PATH")]
    artifact: Option<PathBuf>,
    /// For the old instance to finish what is in flight [default: the service's, 60s]
    #[arg(long, value_name = "TIME", value_parser = osvm_model::parse_duration)]
    drain_timeout: Option<Duration>,
    /// For the new instance to start and pass its checks [default: the service's, 30s]
    #[arg(long, value_name = "TIME", value_parser = osvm_model::parse_duration)]
    health_timeout: Option<Duration>,
    /// How long the new instance is watched, with the old one ready to take over [default: the service's, 10s]
    #[arg(long, value_name = "TIME", value_parser = osvm_model::parse_duration)]
    watch: Option<Duration>,
}

#[derive(Debug, Args)]
pub(crate) struct RollbackArgs {
    /// The service
    name: ServiceName,
}

pub(crate) async fn swap(context: &Context, args: SwapArgs) -> Result<(), Failure> {
    let artifact = match args.artifact {
        // The daemon has another working folder.
        Some(path) => Some(std::fs::canonicalize(&path).map_err(|error| {
            Failure::new(format!("cannot use the artifact {}", path.display()))
                .because(&error)
                .help("name the program file of the new revision: --artifact PATH")
        })?),
        None => None,
    };
    let ms = |time: Option<Duration>| time.map(|time| time.as_millis() as u64);
    let request = SwapRequest {
        artifact,
        health_timeout_ms: ms(args.health_timeout),
        drain_timeout_ms: ms(args.drain_timeout),
        watch_ms: ms(args.watch),
    };
    let progress = Client::new(&context.state_dir).swap(&args.name, &request).await?;
    follow(context, &args.name, progress).await
}

pub(crate) async fn rollback(context: &Context, args: &RollbackArgs) -> Result<(), Failure> {
    let progress = Client::new(&context.state_dir).rollback(&args.name).await?;
    follow(context, &args.name, progress).await
}

async fn follow(context: &Context, name: &ServiceName, mut lines: Lines<Progress>) -> Result<(), Failure> {
    let printer = &context.printer;
    let spinner = printer.progress("start");
    loop {
        let next = tokio::select! {
            next = lines.next() => next,
            _ = tokio::signal::ctrl_c() => {
                return Err(Failure::new(format!("stopped watching; the rollout of {name} goes on"))
                    .help(format!("osvm status {name}")));
            }
        };
        match next {
            Some(Ok(Progress::Began(phase))) => spinner.say(phase.as_str()),
            Some(Ok(Progress::Phase(report))) => {
                if !printer.is_json() {
                    spinner.hidden(|| printer.line(&phase_line(&report)))?;
                }
            }
            Some(Ok(Progress::Ended(status))) => {
                drop(spinner);
                return ended(context, &status);
            }
            Some(Ok(Progress::Refused(body))) => {
                let failure = Failure { exit: body.exit, ..Failure::new(body.error) };
                return Err(match body.help {
                    Some(help) => failure.help(help),
                    None => failure,
                });
            }
            Some(Err(error)) => return Err(lost(name).because(&error)),
            None => return Err(lost(name)),
        }
    }
}

fn lost(name: &ServiceName) -> Failure {
    Failure::new(format!("the daemon ended while {name} was replaced; the next one finishes or undoes it"))
        .help(format!("osvm start {name} starts a daemon; then osvm status {name}"))
}

/// One phase: its word, what was done, how long it took.
pub(crate) fn phase_line(report: &PhaseReport) -> String {
    let label = report.phase.as_str();
    if report.ok {
        let detail = table::cut(&report.detail, DETAIL);
        format!("{label:<10}{detail:<DETAIL$}{:>DURATION$}", format::micros(report.duration_us))
    } else {
        format!("{label:<10}{}", report.detail)
    }
}

fn ended(context: &Context, status: &RolloutStatus) -> Result<(), Failure> {
    let printer = &context.printer;
    if printer.is_json() {
        printer.json(&Versioned::new(status))?;
    } else {
        tell(context, status)?;
    }
    if status.outcome == RolloutOutcome::Done { Ok(()) } else { Err(Failure::told(crate::failure::FAILED)) }
}

fn tell(context: &Context, status: &RolloutStatus) -> Result<(), Failure> {
    let printer = &context.printer;
    let (from, to, name) = (status.from.0, status.to.0, &status.service);
    let why = |label: &str, text: String| -> Result<(), Failure> {
        let told_by_a_phase = status.phases.iter().any(|report| !report.ok);
        if let (Some(error), false) = (&status.error, told_by_a_phase) {
            printer.labelled("failed", error)?;
        }
        printer.labelled(label, &text)?;
        printer.labelled("why", &format!("osvm events {name} --last"))
    };
    match status.outcome {
        RolloutOutcome::Done => {
            printer.labelled("done", &format!("revision {to} serves{}", figures(status)))?;
            printer.labelled("undo", &format!("osvm rollback {name}"))
        }
        RolloutOutcome::Kept => why("kept", format!("revision {from} serves, nothing changed{}", figures(status))),
        RolloutOutcome::RolledBack => why("back", format!("revision {from} serves again{}", figures(status))),
        RolloutOutcome::Running => printer.labelled("running", &format!("osvm status {name}")),
    }
}

/// What clients felt, as far as the gateway measured it.
fn figures(status: &RolloutStatus) -> String {
    let waited = status.longest_wait_us.map(|us| format!("clients waited at most {}", format::micros(us)));
    let failed = status.failed_requests.map(|n| format!("{} requests failed", osvm_model::number(n)));
    let figures: Vec<_> = waited.into_iter().chain(failed).collect();
    if figures.is_empty() { String::new() } else { format!("; {}", figures.join(", ")) }
}
