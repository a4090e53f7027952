//! What the interface consists of.

use std::sync::Arc;

use axum::routing::{MethodRouter, delete, get, post, put};
use osvm_model::{
    Event, ServiceSpec, ServiceStatus,
    api::{DaemonStatus, EventList, InstanceList, LogLine, Progress, ServiceList, SwapRequest},
};
use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::handlers as h;
use crate::manager::Manager;

/// Makes a type's schema.
pub(super) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// What a request is answered with.
pub(super) enum Answer {
    /// One JSON value.
    Json(SchemaOf),
    /// One JSON value, or with `follow=1` a stream of another.
    JsonOrStream(SchemaOf, SchemaOf),
    /// One JSON value a line.
    Stream(SchemaOf),
    /// Text of this type.
    Text(&'static str),
    /// Nothing.
    Empty,
}

/// One method of one path.
pub(super) struct Entry {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) summary: &'static str,
    /// Names and meanings.
    pub(super) query: &'static [(&'static str, &'static str)],
    pub(super) body: Option<SchemaOf>,
    pub(super) answer: Answer,
    pub(super) route: fn() -> MethodRouter<Arc<Manager>>,
}

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// All of them.
pub(super) fn table() -> Vec<Entry> {
    let entry =
        |method, path, summary, answer, route| Entry { method, path, summary, query: &[], body: None, answer, route };
    let status = || Answer::Json(of::<ServiceStatus>);
    vec![
        entry("get", "/v1/daemon", "The daemon itself", Answer::Json(of::<DaemonStatus>), || get(h::daemon)),
        entry("get", "/v1/services", "All services", Answer::Json(of::<ServiceList>), || get(h::services)),
        entry("get", "/v1/services/{name}", "One service", status(), || get(h::service)),
        Entry {
            body: Some(of::<ServiceSpec>),
            ..entry("put", "/v1/services/{name}", "Declare a service and start it", status(), || put(h::declare))
        },
        entry("delete", "/v1/services/{name}", "Stop a service and remove it with its state", Answer::Empty, || {
            delete(h::remove)
        }),
        Entry {
            query: &[("timeout_ms", "how long to wait")],
            ..entry("get", "/v1/services/{name}/ready", "Wait until the service takes traffic", status(), || {
                get(h::ready)
            })
        },
        Entry {
            body: Some(of::<SwapRequest>),
            ..entry(
                "post",
                "/v1/services/{name}/swap",
                "Replace the serving instance",
                Answer::Stream(of::<Progress>),
                || post(h::swap),
            )
        },
        entry(
            "post",
            "/v1/services/{name}/rollback",
            "Go back to the revision that served before",
            Answer::Stream(of::<Progress>),
            || post(h::rollback),
        ),
        entry("post", "/v1/services/{name}/stop", "End the service's instances", status(), || post(h::stop)),
        entry("post", "/v1/services/{name}/start", "Start a stopped service on its state", status(), || post(h::start)),
        entry("post", "/v1/services/{name}/restart", "End the instance and start another", status(), || {
            post(h::restart)
        }),
        Entry {
            query: &[("lines", "the last so many lines"), ("follow", "1: go on with each new line")],
            ..entry(
                "get",
                "/v1/services/{name}/logs",
                "What the newest instance wrote to stdout and stderr",
                Answer::Stream(of::<LogLine>),
                || get(h::logs),
            )
        },
        entry("get", "/v1/instances", "All instances", Answer::Json(of::<InstanceList>), || get(h::instances)),
        Entry {
            query: &[
                ("after", "only events with a greater id"),
                ("service", "only this service's"),
                ("last", "only the last so many"),
                ("follow", "1: a stream that goes on with each new event"),
            ],
            ..entry("get", "/v1/events", "What happened", Answer::JsonOrStream(of::<EventList>, of::<Event>), || {
                get(h::events)
            })
        },
        entry("post", "/v1/down", "Stop all services, the gateway and the daemon", Answer::Empty, || post(h::down)),
        entry("get", "/metrics", "Figures for Prometheus", Answer::Text("text/plain; version=0.0.4"), || {
            get(h::metrics)
        }),
        entry("get", "/openapi.json", "This document", Answer::Text("application/json"), || get(h::openapi)),
    ]
}
