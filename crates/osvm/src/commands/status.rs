//! `osvm status NAME`.

use clap::Args;
use osvm_control::Client;
use osvm_model::{RolloutOutcome, RolloutStatus, ServiceName, api::SCHEMA};
use serde::Serialize;

use crate::{
    cli::Context,
    commands::{ps, rpc::url_of, swap::phase_line},
    failure::Failure,
    format,
};

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// The service
    name: ServiceName,
}

/// A shape of the model with the schema's version beside its fields.
#[derive(Debug, Serialize)]
pub(crate) struct Versioned<'a, T> {
    schema: &'static str,
    #[serde(flatten)]
    value: &'a T,
}

impl<'a, T> Versioned<'a, T> {
    pub(crate) fn new(value: &'a T) -> Self {
        Self { schema: SCHEMA, value }
    }
}

pub(crate) async fn run(context: &Context, args: &StatusArgs) -> Result<(), Failure> {
    let status = Client::new(&context.state_dir).service(&args.name).await?;
    let printer = &context.printer;
    if printer.is_json() {
        return printer.json(&Versioned::new(&status));
    }
    let wanted = if status.wanted { "should run" } else { "stopped" };
    printer.labelled("service", &format!("{}  {wanted}  revision {}", status.name, status.revision))?;
    let artifact = format::path(&status.spec.artifact);
    printer.labelled("artifact", &format!("{artifact}  sha256:{}", status.digest.short()))?;
    for port in &status.spec.ports {
        printer.labelled(&port.name, &url_of(port))?;
    }
    if !status.instances.is_empty() {
        printer.line("")?;
        ps::instance_lines(&status.instances).iter().try_for_each(|line| printer.line(line))?;
    }
    if let Some(rollout) = &status.rollout {
        printer.line("")?;
        printer.labelled("rollout", &format!("{}  {}", rollout.id, outcome(rollout)))?;
        for report in &rollout.phases {
            printer.line(&phase_line(report))?;
        }
    }
    Ok(())
}

/// How a rollout ended, in a line.
fn outcome(rollout: &RolloutStatus) -> String {
    let (from, to) = (rollout.from.0, rollout.to.0);
    let mut text = match rollout.outcome {
        RolloutOutcome::Running => format!("revision {from} to {to}, under way"),
        RolloutOutcome::Done => format!("revision {from} to {to}, done"),
        RolloutOutcome::Kept => format!("revision {from} to {to}, failed before the shift: {from} kept"),
        RolloutOutcome::RolledBack => format!("revision {from} to {to}, failed after the shift: back on {from}"),
    };
    if let Some(error) = &rollout.error {
        text.push_str("; ");
        text.push_str(error);
    }
    text
}
