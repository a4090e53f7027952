//! `osvm down`: stops everything of a state folder.

use osvm_control::{Client, ClientError};
use osvm_model::api::SCHEMA;
use serde_json::json;

use crate::{
    cli::Context,
    daemon_process::{find_or_start, left_something},
    failure::Failure,
};

pub(crate) async fn run(context: &Context) -> Result<(), Failure> {
    let client = Client::new(&context.state_dir);
    let client = match client.daemon().await {
        Ok(_) => client,
        // What a daemon that died had started may still run, and only a daemon finds it.
        Err(ClientError::NotRunning { .. }) if left_something(&context.state_dir) => {
            find_or_start(&context.state_dir).await?.client
        }
        Err(ClientError::NotRunning { .. }) => return report(context, 0, "nothing ran"),
        Err(error) => return Err(error.into()),
    };
    let stopped = client.instances().await?.instances.len();
    let progress = context.printer.progress("stopping");
    client.down().await?;
    drop(progress);
    let instances = if stopped == 1 { "1 instance" } else { &format!("{stopped} instances") };
    report(context, stopped, &format!("{instances}, the gateway and the daemon; services and their state are kept"))
}

fn report(context: &Context, stopped: usize, detail: &str) -> Result<(), Failure> {
    if context.printer.is_json() {
        context.printer.json(&json!({"schema": SCHEMA, "instances_stopped": stopped}))
    } else {
        context.printer.labelled("stopped", detail)
    }
}
