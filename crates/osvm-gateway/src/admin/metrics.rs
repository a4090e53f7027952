//! `GET /metrics`: the counters of every pool, read at the moment of the scrape. Counts never go back; a reset of the stats
//! does not touch them.

use std::{fmt, sync::Arc};

use osvm_model::gateway::GenerationStats;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, text::encode},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

use crate::{gateway::Gateway, pool::Pool, stats::Totals};

/// OpenMetrics, which Prometheus asks for first.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const PREFIX: &str = "osvm_gateway";

pub(super) fn render(gateway: Arc<Gateway>) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(Figures(gateway)));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

struct Figures(Arc<Gateway>);

impl fmt::Debug for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Figures")
    }
}

/// A figure of a pool: its name, its help, how to read it.
type OfTotals = (&'static str, &'static str, fn(&Totals) -> u64);
type OfFailures = (&'static str, fn(&Totals) -> u64);
type OfPool = (&'static str, &'static str, fn(&Pool) -> u64);
type OfInstance = (&'static str, &'static str, fn(&GenerationStats) -> u64);

const TOTALS: [OfTotals; 4] = [
    ("requests", "Requests, TCP connections and WebSockets taken", |t| t.requests),
    ("waited", "Requests that waited for an instance or were sent again", |t| t.waited),
    ("wait_microseconds", "Sum of those waits", |t| t.wait_sum_us),
    ("replayed", "Requests sent once more", |t| t.replayed),
];
const FAILURES: [OfFailures; 4] = [
    ("bad_gateway", |t| t.failures.bad_gateway),
    ("unavailable", |t| t.failures.unavailable),
    ("timeout", |t| t.failures.timeout),
    ("broken", |t| t.failures.broken),
];
const POOLS: [OfPool; 3] = [
    ("waiting", "Requests that wait for an instance now", Pool::waiting),
    ("pubsub_clients", "Clients with a Solana subscription socket", |p| p.registry.counts().0),
    ("subscriptions", "Solana subscriptions of clients", |p| p.registry.counts().1),
];
const INSTANCES: [OfInstance; 2] = [
    ("in_flight", "Requests in flight on an instance", |s| s.in_flight),
    ("tunnels", "Upgraded, TCP and subscription connections on an instance", |s| s.tunnels),
];
const INSTANCE_COUNTS: [OfInstance; 3] = [
    ("upstream_requests", "Requests sent to an instance", |s| s.requests),
    ("upstream_connect_errors", "Connections that an instance did not take", |s| s.connect_errors),
    ("upstream_resets", "Answers that an instance did not give or broke off", |s| s.resets),
];

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let gateway = &self.0;
        let version = gateway.model().map_or(0, |model| model.version);
        let own = [
            ("connections", "Client connections", gateway.open_connections()),
            ("table_version", "Version of the routes in force", version),
        ];
        for (name, help, value) in own {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value as i64).encode(metric)?;
        }
        let pools = gateway.pools();
        for (name, help, read) in TOTALS {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for pool in &pools {
                count(&mut family, &[("pool", &pool.name)], read(&pool.counters.totals()))?;
            }
        }
        let mut family =
            encoder.encode_descriptor("failures", "Requests that the gateway failed", None, MetricType::Counter)?;
        for pool in &pools {
            for (kind, read) in FAILURES {
                count(&mut family, &[("pool", &pool.name), ("kind", kind)], read(&pool.counters.totals()))?;
            }
        }
        for (name, help, read) in POOLS {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for pool in &pools {
                gauge(&mut family, &[("pool", &pool.name)], read(pool))?;
            }
        }
        let instances: Vec<_> = pools
            .iter()
            .flat_map(|pool| pool.stats().generations.into_iter().map(move |one| (&pool.name, one)))
            .collect();
        for (figures, kind) in [(&INSTANCES[..], MetricType::Gauge), (&INSTANCE_COUNTS[..], MetricType::Counter)] {
            for (name, help, read) in figures {
                let mut family = encoder.encode_descriptor(name, help, None, kind)?;
                for (pool, stats) in &instances {
                    let generation = stats.generation.to_string();
                    let labels = [("pool", pool.as_str()), ("generation", generation.as_str())];
                    match kind {
                        MetricType::Counter => count(&mut family, &labels, read(stats))?,
                        _ => gauge(&mut family, &labels, read(stats))?,
                    }
                }
            }
        }
        Ok(())
    }
}

fn count(family: &mut MetricEncoder<'_>, labels: &[(&str, &str)], value: u64) -> Result<(), fmt::Error> {
    ConstCounter::new(value).encode(family.encode_family(&labels)?)
}

fn gauge(family: &mut MetricEncoder<'_>, labels: &[(&str, &str)], value: u64) -> Result<(), fmt::Error> {
    ConstGauge::new(value as i64).encode(family.encode_family(&labels)?)
}
