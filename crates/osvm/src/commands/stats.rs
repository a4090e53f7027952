//! `osvm stats [NAME]`: what instances use, from two looks a moment apart.

use std::time::{Duration, Instant};

use clap::Args;
use osvm_control::Client;
use osvm_model::{
    InstanceStatus, ServiceName,
    api::{InstanceStats, SCHEMA, StatsList},
};

use crate::{cli::Context, failure::Failure, format, table};

/// Between the two looks of a single answer.
const MOMENT: Duration = Duration::from_millis(500);

const HEADINGS: [&str; 9] = ["NAME", "LEVEL", "REV", "CPU", "MEM", "LIMIT", "PEAK", "TASKS", "OOM"];

#[derive(Debug, Args)]
pub(crate) struct StatsArgs {
    /// Only this service
    name: Option<ServiceName>,
    /// Look again and again, this far apart, until Ctrl-C
    #[arg(long, value_name = "TIME", value_parser = osvm_model::parse_duration)]
    every: Option<Duration>,
}

pub(crate) async fn run(context: &Context, args: &StatsArgs) -> Result<(), Failure> {
    let client = Client::new(&context.state_dir);
    if let Some(name) = &args.name {
        // So that a wrong name is told from a service that does not run.
        client.service(name).await?;
    }
    let pause = args.every.unwrap_or(MOMENT);
    let mut before = (Instant::now(), client.instances().await?.instances);
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
        let now = (Instant::now(), client.instances().await?.instances);
        let wanted = |instance: &InstanceStatus| args.name.as_ref().is_none_or(|name| instance.name == *name);
        let over = now.0 - before.0;
        let instances = now.1.iter().filter(|instance| wanted(instance));
        let stats = StatsList {
            schema: SCHEMA.to_owned(),
            over_ms: u64::try_from(over.as_millis()).unwrap_or(u64::MAX),
            instances: instances.map(|instance| used(instance, &before.1, over)).collect(),
        };
        print(context, &stats)?;
        if args.every.is_none() {
            return Ok(());
        }
        before = now;
    }
}

fn used(instance: &InstanceStatus, before: &[InstanceStatus], over: Duration) -> InstanceStats {
    let same = |other: &&InstanceStatus| other.name == instance.name && other.generation == instance.generation;
    let cpu_before = before.iter().find(same).and_then(|before| before.used.cpu_ms);
    let cpus = cpu_before.zip(instance.used.cpu_ms).map(|(before, now)| {
        let used = now.saturating_sub(before) as f64 / 1e3 / over.as_secs_f64();
        (used * 1e3).round() / 1e3
    });
    InstanceStats { instance: instance.clone(), cpus }
}

fn print(context: &Context, stats: &StatsList) -> Result<(), Failure> {
    if context.printer.is_json() {
        return context.printer.json(stats);
    }
    let rows: Vec<_> = stats.instances.iter().map(row).collect();
    table::lines(HEADINGS, &rows).iter().try_for_each(|line| context.printer.line(line))
}

fn row(stats: &InstanceStats) -> [String; 9] {
    let instance = &stats.instance;
    let dash = || "-".to_owned();
    let bytes = |bytes: Option<u64>| bytes.map_or_else(dash, format::bytes);
    [
        instance.name.to_string(),
        instance.level.to_string(),
        instance.revision.to_string(),
        stats.cpus.map_or_else(dash, |cpus| format!("{:.0} %", cpus * 100.0)),
        bytes(instance.used.memory_bytes),
        bytes(instance.used.memory_limit_bytes),
        bytes(instance.used.memory_peak_bytes),
        instance.used.tasks.map_or_else(dash, |tasks| tasks.to_string()),
        instance.used.oom_kills.map_or_else(dash, |kills| kills.to_string()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(generation: u64, cpu_ms: u64) -> InstanceStatus {
        serde_json::from_value(serde_json::json!({
            "name": "a", "generation": generation, "revision": 1, "level": "process", "state": "ready", "pid": 7,
            "started_unix_ms": 0, "restarts": 0, "cpu_ms": cpu_ms, "memory_bytes": 1,
        }))
        .unwrap()
    }

    #[test]
    fn cpu_is_what_the_same_instance_used_since_the_look_before() {
        let before = [instance(1, 100), instance(2, 0)];
        let over = Duration::from_millis(500);
        assert_eq!(used(&instance(1, 850), &before, over).cpus, Some(1.5));
        assert_eq!(used(&instance(3, 850), &before, over).cpus, None);
    }
}
