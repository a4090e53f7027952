//! `osvm schema`: the JSON schemas of what osvm reads and prints, made from the types themselves.

use std::collections::BTreeMap;

use clap::Args;
use osvm_model::{Event, RolloutStatus, RouteTable, ServiceSpec, ServiceStatus, api};
use schemars::{Schema, schema_for};

use crate::{failure::Failure, output::Printer};

#[derive(Debug, Args)]
pub(crate) struct SchemaArgs {
    /// Only this one [default: all, by name]
    name: Option<String>,
}

pub(crate) fn run(args: &SchemaArgs, printer: &Printer) -> Result<(), Failure> {
    let all = all();
    let text = match &args.name {
        None => serde_json::to_string_pretty(&all),
        Some(name) => match all.get(name.as_str()) {
            Some(schema) => serde_json::to_string_pretty(schema),
            None => {
                let names: Vec<_> = all.keys().copied().collect();
                return Err(Failure::usage(format!("no schema {name:?}")).help(format!("one of {}", names.join(", "))));
            }
        },
    };
    printer.line(&text.map_err(|error| Failure::new("cannot write the schema").because(&error))?)
}

fn all() -> BTreeMap<&'static str, Schema> {
    BTreeMap::from([
        ("error", schema_for!(api::ErrorBody)),
        ("event", schema_for!(Event)),
        ("events", schema_for!(api::EventList)),
        ("log-line", schema_for!(api::LogLine)),
        ("ps", schema_for!(api::InstanceList)),
        ("ready", schema_for!(api::Ready)),
        ("route-table", schema_for!(RouteTable)),
        ("service-spec", schema_for!(ServiceSpec)),
        ("stats", schema_for!(api::StatsList)),
        ("status", schema_for!(ServiceStatus)),
        ("swap", schema_for!(RolloutStatus)),
    ])
}
