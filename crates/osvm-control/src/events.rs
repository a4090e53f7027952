//! Noting events, and waking up whoever follows them.

use osvm_model::{EventKind, Generation, RevisionNumber, RolloutId, ServiceName};
use tokio::sync::watch;

use crate::{
    error::chain,
    store::{NewEvent, Store},
};

/// The events of one daemon.
#[derive(Clone, Debug)]
pub(crate) struct Events {
    store: Store,
    newest: watch::Sender<u64>,
}

/// An event that is about to be noted.
#[derive(Clone, Debug)]
pub(crate) struct Note(NewEvent);

impl Note {
    pub(crate) fn new(kind: EventKind, message: impl Into<String>) -> Self {
        Self(NewEvent {
            kind,
            service: None,
            revision: None,
            generation: None,
            rollout: None,
            message: message.into(),
            fields: Default::default(),
        })
    }

    pub(crate) fn service(mut self, name: &ServiceName) -> Self {
        self.0.service = Some(name.clone());
        self
    }

    pub(crate) fn revision(mut self, number: RevisionNumber) -> Self {
        self.0.revision = Some(number);
        self
    }

    pub(crate) fn instance(mut self, revision: RevisionNumber, generation: Generation) -> Self {
        self.0.revision = Some(revision);
        self.0.generation = Some(generation);
        self
    }

    pub(crate) fn rollout(mut self, id: RolloutId) -> Self {
        self.0.rollout = Some(id);
        self
    }

    pub(crate) fn pid(self, pid: u32) -> Self {
        if pid == 0 { self } else { self.field("pid", pid) }
    }

    pub(crate) fn field(mut self, name: &str, value: impl Into<serde_json::Value>) -> Self {
        self.0.fields.insert(name.to_owned(), value.into());
        self
    }
}

impl Events {
    pub(crate) fn new(store: Store) -> Self {
        Self { store, newest: watch::Sender::new(0) }
    }

    /// Notes an event. That it cannot be noted (a full disk) stops nothing: it goes to the daemon's log.
    pub(crate) fn note(&self, note: Note) {
        tracing::info!(service = note.0.service.as_ref().map(ServiceName::as_str), "{}", note.0.message);
        match self.store.add_event(&note.0) {
            Ok(id) => drop(self.newest.send_replace(id)),
            Err(error) => tracing::error!(error = chain(&error), "cannot note the event"),
        }
    }

    /// Changes with each event.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }
}
