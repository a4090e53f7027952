//! `osvm ps`: what runs.

use osvm_control::{Client, ClientError};
use osvm_model::{
    InstanceStatus, ServiceStatus,
    api::{InstanceList, SCHEMA},
};

use crate::{cli::Context, daemon_process::left_something, failure::Failure, format, table};

const HEADINGS: [&str; 9] = ["NAME", "LEVEL", "REV", "STATE", "PID", "CPU", "MEM", "RESTARTS", "UP"];

pub(crate) async fn run(context: &Context) -> Result<(), Failure> {
    let client = Client::new(&context.state_dir);
    let printer = &context.printer;
    let instances = match client.instances().await {
        Ok(list) => list,
        Err(ClientError::NotRunning { .. }) => {
            if left_something(&context.state_dir) {
                printer.note("no daemon runs; what an earlier one started may still run (osvm down ends it)");
            } else {
                printer.note("nothing runs; start a local node: osvm rpc local");
            }
            InstanceList { schema: SCHEMA.to_owned(), instances: Vec::new() }
        }
        Err(error) => return Err(error.into()),
    };
    if printer.is_json() {
        return printer.json(&instances);
    }
    let now = format::now_unix_ms();
    let mut rows: Vec<_> = instances.instances.iter().map(|instance| instance_row(instance, now)).collect();
    // Services without an instance are worth a line for people: they can be started again.
    if let Ok(list) = client.services().await {
        let without = |service: &&ServiceStatus| !instances.instances.iter().any(|i| i.name == service.name);
        rows.extend(list.services.iter().filter(without).map(service_row));
    }
    table::lines(HEADINGS, &rows).iter().try_for_each(|line| printer.line(line))
}

fn instance_row(instance: &InstanceStatus, now: u64) -> [String; 9] {
    let up = now.saturating_sub(instance.started_unix_ms);
    let dash = || "-".to_owned();
    [
        instance.name.to_string(),
        instance.level.to_string(),
        instance.revision.to_string(),
        state(instance),
        instance.pid.map_or_else(dash, |pid| pid.to_string()),
        // The average since the instance started.
        instance.used.cpu_ms.map_or_else(dash, |cpu| format!("{} %", cpu * 100 / up.max(1))),
        instance.used.memory_bytes.map_or_else(dash, format::bytes),
        instance.restarts.to_string(),
        format::age(up),
    ]
}

fn service_row(service: &ServiceStatus) -> [String; 9] {
    let dash = || "-".to_owned();
    let state = if service.wanted { "waits" } else { "stopped" };
    let revision = service.revision.to_string();
    [service.name.to_string(), dash(), revision, state.to_owned(), dash(), dash(), dash(), dash(), dash()]
}

/// The state's word.
pub(crate) fn state(instance: &InstanceStatus) -> String {
    let word = serde_json::to_value(instance.state).ok();
    word.and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
}

/// The instances of one service, for `osvm status`.
pub(crate) fn instance_lines(instances: &[InstanceStatus]) -> Vec<String> {
    let now = format::now_unix_ms();
    let rows: Vec<_> = instances.iter().map(|instance| instance_row(instance, now)).collect();
    table::lines(HEADINGS, &rows)
}
