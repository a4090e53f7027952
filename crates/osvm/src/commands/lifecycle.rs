//! `osvm stop|start|restart|rm NAME`.

use std::time::Duration;

use clap::Args;
use osvm_control::Client;
use osvm_model::{ServiceName, ServiceStatus, api::SCHEMA};
use serde_json::json;

use crate::{cli::Context, commands::status::Versioned, daemon_process::find_or_start, failure::Failure};

#[derive(Debug, Args)]
pub(crate) struct NameArgs {
    /// The service
    name: ServiceName,
}

pub(crate) async fn stop(context: &Context, args: &NameArgs) -> Result<(), Failure> {
    let status = Client::new(&context.state_dir).stop(&args.name).await?;
    report(context, &status, "stopped", &format!("its state is kept; osvm start {}", args.name))
}

pub(crate) async fn start(context: &Context, args: &NameArgs) -> Result<(), Failure> {
    // A stopped service of a daemon that was ended with `osvm down` is still declared in the state folder.
    let client = find_or_start(&context.state_dir).await?.client;
    let declared = client.start(&args.name).await?;
    let status = until_ready(context, &client, &declared).await?;
    report(context, &status, "ready", &format!("revision {}", status.revision))
}

pub(crate) async fn restart(context: &Context, args: &NameArgs) -> Result<(), Failure> {
    let client = Client::new(&context.state_dir);
    let declared = client.restart(&args.name).await?;
    let status = until_ready(context, &client, &declared).await?;
    report(context, &status, "ready", &format!("revision {}", status.revision))
}

pub(crate) async fn remove(context: &Context, args: &NameArgs) -> Result<(), Failure> {
    Client::new(&context.state_dir).remove(&args.name).await?;
    if context.printer.is_json() {
        return context.printer.json(&json!({"schema": SCHEMA, "removed": args.name}));
    }
    context.printer.labelled("removed", &format!("{} with its state", args.name))
}

/// Waits until the instance passed its checks: success is not told before.
async fn until_ready(context: &Context, client: &Client, declared: &ServiceStatus) -> Result<ServiceStatus, Failure> {
    let _progress = context.printer.progress(&format!("{} starts", declared.name));
    let timeout = Duration::from_millis(declared.spec.rollout.health_timeout_ms);
    Ok(client.ready(&declared.name, timeout).await?)
}

fn report(context: &Context, status: &ServiceStatus, label: &str, detail: &str) -> Result<(), Failure> {
    if context.printer.is_json() {
        context.printer.json(&Versioned::new(status))
    } else {
        context.printer.labelled(label, &format!("{}  {detail}", status.name))
    }
}
