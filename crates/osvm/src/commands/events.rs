//! `osvm events`: what happened.

use clap::Args;
use osvm_control::{Client, client::EventQuery};
use osvm_model::{
    Event, ServiceName,
    api::{EventList, SCHEMA},
};

use crate::{cli::Context, failure::Failure, format, output::Printer};

#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Only this service's
    name: Option<ServiceName>,
    /// Go on and show each new event
    #[arg(short, long)]
    follow: bool,
    /// Only those of the last rollout; without any rollout, only the last event
    #[arg(long, conflicts_with = "follow")]
    last: bool,
    /// Only the last so many
    #[arg(short = 'n', long, value_name = "N", conflicts_with = "last")]
    lines: Option<u64>,
}

pub(crate) async fn run(context: &Context, args: &EventsArgs) -> Result<(), Failure> {
    let client = Client::new(&context.state_dir);
    let printer = &context.printer;
    let query = EventQuery { after: None, service: args.name.clone(), last: args.lines };
    if !args.follow {
        let mut events = client.events(&query).await?;
        if args.last {
            events = of_last_rollout(events);
        }
        if printer.is_json() {
            return printer.json(&EventList { schema: SCHEMA.to_owned(), events });
        }
        return events.iter().try_for_each(|event| show(printer, event));
    }
    let mut lines = client.follow_events(&query).await?;
    loop {
        tokio::select! {
            next = lines.next() => match next {
                Some(event) => show(printer, &event?)?,
                None => return Err(Failure::new("the daemon ended")),
            },
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
    }
}

fn of_last_rollout(mut events: Vec<Event>) -> Vec<Event> {
    match events.iter().filter_map(|event| event.rollout).max() {
        Some(last) => events.retain(|event| event.rollout == Some(last)),
        None => drop(events.drain(..events.len().saturating_sub(1))),
    }
    events
}

/// One event on one line; as JSON when it is one of a stream.
fn show(printer: &Printer, event: &Event) -> Result<(), Failure> {
    if printer.is_json() {
        return printer.json(event);
    }
    let service = event.service.as_ref().map(ToString::to_string).unwrap_or_else(|| "-".to_owned());
    printer.line(&format!("{}  {service:<12}  {}", format::utc(event.unix_ms), event.message))
}
