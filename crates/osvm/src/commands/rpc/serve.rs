//! The foreground of `osvm rpc local`: tells what happens, starts the daemon again if it dies, and cleans up at Ctrl-C.

use osvm_control::{
    ClientError,
    client::{EventQuery, Lines},
};
use osvm_model::{Event, EventKind, ServiceName};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    cli::Context,
    daemon_process::{Found, find_or_start},
    failure::Failure,
};

/// SIGINT, SIGTERM and SIGHUP: each ends the command in an orderly way.
#[derive(Debug)]
pub(super) struct Interrupts([Signal; 3]);

impl Interrupts {
    pub(super) fn new() -> Result<Self, Failure> {
        let watch = |kind| signal(kind).map_err(|error| Failure::new("cannot watch signals").because(&error));
        Ok(Self([watch(SignalKind::interrupt())?, watch(SignalKind::terminate())?, watch(SignalKind::hangup())?]))
    }

    pub(super) async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// What ended the wait.
enum End {
    Interrupted,
    /// Another command stopped the service.
    StoppedElsewhere,
    DaemonGone,
}

pub(super) async fn until_interrupted(
    context: &Context,
    mut found: Found,
    name: &ServiceName,
    mut interrupts: Interrupts,
) -> Result<(), Failure> {
    let printer = &context.printer;
    let mut after = None;
    loop {
        let end = tokio::select! {
            end = watch(context, &found, name, &mut after) => end?,
            () = interrupts.next() => End::Interrupted,
        };
        match end {
            End::Interrupted => break,
            End::StoppedElsewhere => {
                printer.note(&format!("{name} was stopped by another command"));
                return Ok(());
            }
            End::DaemonGone => {
                printer.warning("the daemon ended; the node serves on; starting another daemon");
                let again = tokio::select! {
                    again = find_or_start(&context.state_dir) => again?,
                    () = interrupts.next() => return Err(Failure::new("interrupted while no daemon ran; the node may still run")
                        .help("osvm down")),
                };
                // Whoever started it: the daemon that this command is responsible for is the one it keeps alive.
                found = Found { started: found.started || again.started, client: again.client };
            }
        }
    }
    let progress = printer.progress("stopping");
    tokio::select! {
        () = clean_up(&found, Some(name)) => {}
        () = interrupts.next() => {
            return Err(Failure::new(format!("interrupted while {name} stopped")).help("osvm ps shows what is left, osvm down ends it"));
        }
    }
    drop(progress);
    printer.note(&format!("{name} stopped; its state is kept"));
    Ok(())
}

/// Stops the service, and the daemon with its gateway if this command started it and nothing else is wanted.
pub(super) async fn clean_up(found: &Found, name: Option<&ServiceName>) {
    if let Some(name) = name {
        // Not declared after all, or stopped by another command: nothing is left to stop.
        let _ = found.client.stop(name).await;
    }
    if !found.started {
        return;
    }
    if let Ok(list) = found.client.services().await
        && !list.services.iter().any(|service| service.wanted)
    {
        // The daemon ends by this request; that it ended earlier is as good.
        let _ = found.client.down().await;
    }
}

/// The events that are news; none if the daemon is gone. `after` is the last one that was told.
async fn news(found: &Found, name: &ServiceName, after: Option<u64>) -> Result<Option<Lines<Event>>, ClientError> {
    let follow = async || {
        let after = match after {
            Some(after) => after,
            None => {
                let query = EventQuery { after: None, service: Some(name.clone()), last: Some(1) };
                found.client.events(&query).await?.last().map_or(0, |event| event.id)
            }
        };
        found.client.follow_events(&EventQuery { after: Some(after), service: None, last: None }).await
    };
    match follow().await {
        Ok(events) => Ok(Some(events)),
        Err(error @ (ClientError::Answered(_) | ClientError::Shape(_))) => Err(error),
        Err(_) => Ok(None),
    }
}

/// Tells each event until the service is stopped or the daemon is gone.
async fn watch(context: &Context, found: &Found, name: &ServiceName, after: &mut Option<u64>) -> Result<End, Failure> {
    let Some(mut events) = news(found, name, *after).await? else { return Ok(End::DaemonGone) };
    while let Some(Ok(event)) = events.next().await {
        *after = Some(event.id);
        if event.service.as_ref().is_some_and(|service| service != name) {
            continue;
        }
        context.printer.note(&event.message);
        let is_about_it = event.kind == EventKind::Service && event.service.as_ref() == Some(name);
        if is_about_it && !is_wanted(found, name).await {
            return Ok(End::StoppedElsewhere);
        }
    }
    Ok(End::DaemonGone)
}

/// Whether the service should still run. A daemon that does not answer has told nothing else.
async fn is_wanted(found: &Found, name: &ServiceName) -> bool {
    match found.client.services().await {
        Ok(list) => list.services.iter().any(|service| service.name == *name && service.wanted),
        Err(_) => true,
    }
}
