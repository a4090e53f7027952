//! Figures for Prometheus, from the store at the moment they are asked for.

use std::{collections::BTreeMap, fmt::Write};

use osvm_model::{RolloutOutcome, ServiceStatus};

use crate::{failure::Failure, manager::Manager};

/// The whole page.
pub(super) fn text(manager: &Manager) -> Result<String, Failure> {
    let mut page = Page::default();
    let services = manager.statuses()?;
    page.family("osvm_service_wanted", "gauge", "Whether the service should run.");
    for service in &services {
        page.sample("osvm_service_wanted", &[("service", service.name.as_str())], u8::from(service.wanted));
    }
    page.family("osvm_service_revision", "gauge", "The revision that serves.");
    for service in &services {
        page.sample("osvm_service_revision", &[("service", service.name.as_str())], service.revision.0);
    }
    instances(&mut page, &services);
    rollouts(&mut page, manager)?;
    page.family("osvm_events_total", "counter", "Events noted.");
    page.sample("osvm_events_total", &[], manager.ctx.store.last_event_id()?);
    page.family("osvm_gateway_up", "gauge", "Whether a gateway runs.");
    page.sample("osvm_gateway_up", &[], u8::from(manager.ctx.gateway.pid().is_some()));
    Ok(page.0)
}

fn instances(page: &mut Page, services: &[ServiceStatus]) {
    let all = || services.iter().flat_map(|service| &service.instances);
    type Figure = fn(&osvm_model::InstanceStatus) -> Option<f64>;
    let families: [(&str, &str, &str, Figure); 8] = [
        ("osvm_instance_up", "gauge", "An instance whose process should be alive.", |_| Some(1.0)),
        ("osvm_instance_restarts", "gauge", "How often it was restarted.", |it| Some(f64::from(it.restarts))),
        ("osvm_instance_cpu_seconds_total", "counter", "CPU time used.", |it| it.used.cpu_ms.map(|ms| ms as f64 / 1e3)),
        ("osvm_instance_memory_bytes", "gauge", "Memory in use.", |it| it.used.memory_bytes.map(|bytes| bytes as f64)),
        ("osvm_instance_memory_peak_bytes", "gauge", "The most memory at one time, file pages included.", |it| {
            it.used.memory_peak_bytes.map(|bytes| bytes as f64)
        }),
        ("osvm_instance_memory_limit_bytes", "gauge", "The most memory that it may use.", |it| {
            it.used.memory_limit_bytes.map(|bytes| bytes as f64)
        }),
        ("osvm_instance_tasks", "gauge", "Processes and threads.", |it| it.used.tasks.map(|tasks| tasks as f64)),
        ("osvm_instance_oom_kills_total", "counter", "Processes killed because the memory limit was reached.", |it| {
            it.used.oom_kills.map(|kills| kills as f64)
        }),
    ];
    for (name, kind, help, figure) in families {
        page.family(name, kind, help);
        for instance in all() {
            let state = format!("{:?}", instance.state).to_lowercase();
            let labels = [
                ("service", instance.name.as_str()),
                ("generation", &instance.generation.to_string()),
                ("revision", &instance.revision.to_string()),
                ("level", instance.level.as_str()),
                ("state", &state),
            ];
            // What changes over an instance's life is a label of the first family only.
            let labels = if name == "osvm_instance_up" { &labels[..] } else { &labels[..3] };
            if let Some(value) = figure(instance) {
                page.sample(name, labels, value);
            }
        }
    }
}

fn rollouts(page: &mut Page, manager: &Manager) -> Result<(), Failure> {
    let rollouts = manager.ctx.store.rollouts()?;
    let mut outcomes = BTreeMap::new();
    let mut phases = BTreeMap::new();
    for rollout in &rollouts {
        let outcome = match rollout.outcome {
            RolloutOutcome::Running => "running",
            RolloutOutcome::Done => "done",
            RolloutOutcome::Kept => "kept",
            RolloutOutcome::RolledBack => "rolled-back",
        };
        *outcomes.entry((rollout.service.as_str(), outcome)).or_insert(0u64) += 1;
        for report in &rollout.phases {
            let seconds = report.duration_us as f64 / 1e6;
            let entry = phases.entry((rollout.service.as_str(), report.phase)).or_insert((0u64, 0.0, 0.0));
            *entry = (entry.0 + 1, entry.1 + seconds, seconds);
        }
    }
    page.family("osvm_rollouts", "gauge", "Rollouts in the store, by how they ended.");
    for ((service, outcome), count) in outcomes {
        page.sample("osvm_rollouts", &[("service", service), ("outcome", outcome)], count);
    }
    page.family("osvm_rollout_phase_seconds", "summary", "How long the phases of the rollouts in the store took.");
    for ((service, phase), (count, sum, _)) in &phases {
        let labels = [("service", *service), ("phase", phase.as_str())];
        page.sample("osvm_rollout_phase_seconds_sum", &labels, *sum);
        page.sample("osvm_rollout_phase_seconds_count", &labels, *count);
    }
    page.family("osvm_rollout_phase_last_seconds", "gauge", "How long the phase took in the last rollout that had it.");
    for ((service, phase), (_, _, last)) in &phases {
        let labels = [("service", *service), ("phase", phase.as_str())];
        page.sample("osvm_rollout_phase_last_seconds", &labels, *last);
    }
    page.family("osvm_rollout_longest_wait_seconds", "gauge", "The longest wait of a client in the last rollout.");
    let last: BTreeMap<_, _> = rollouts.iter().map(|rollout| (rollout.service.as_str(), rollout)).collect();
    for (service, rollout) in last {
        if let Some(wait) = rollout.longest_wait_us {
            page.sample("osvm_rollout_longest_wait_seconds", &[("service", service)], wait as f64 / 1e6);
        }
    }
    Ok(())
}

/// Text in Prometheus' format. Label values hold no character that would have to be escaped.
#[derive(Default)]
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }
}
