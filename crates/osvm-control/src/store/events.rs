//! Events, bounded: the oldest go.

use std::collections::BTreeMap;

use osvm_model::{Event, EventKind, Generation, RevisionNumber, RolloutId, ServiceName};
use rusqlite::{Row, params};

use super::{Store, StoreError, as_word, from_json, json, now_ms, word};

/// Events that are kept.
const EVENTS_KEPT: u64 = 20_000;
/// How many events come between two prunings.
const PRUNE_EVERY: u64 = 256;
/// The most events in one answer.
pub(crate) const EVENTS_AT_ONCE: u64 = 1000;

/// An event that is about to be noted.
#[derive(Clone, Debug)]
pub(crate) struct NewEvent {
    pub(crate) kind: EventKind,
    pub(crate) service: Option<ServiceName>,
    pub(crate) revision: Option<RevisionNumber>,
    pub(crate) generation: Option<Generation>,
    pub(crate) rollout: Option<RolloutId>,
    pub(crate) message: String,
    pub(crate) fields: BTreeMap<String, serde_json::Value>,
}

/// Which events are wanted.
#[derive(Clone, Debug, Default)]
pub(crate) struct EventFilter {
    /// Those with a greater id.
    pub(crate) after: u64,
    pub(crate) service: Option<ServiceName>,
}

impl Store {
    /// Notes an event and returns its id.
    pub(crate) fn add_event(&self, event: &NewEvent) -> Result<u64, StoreError> {
        self.with(|connection| {
            connection
                .prepare_cached(
                    "INSERT INTO events (unix_ms, kind, service, revision, generation, rollout, message, fields)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                )?
                .execute(params![
                    now_ms(),
                    as_word(&event.kind)?,
                    event.service.as_ref().map(ServiceName::as_str),
                    event.revision.map(|number| number.0),
                    event.generation.map(|number| number.0),
                    event.rollout.map(|number| number.0),
                    event.message,
                    json(&event.fields)?,
                ])?;
            let id = connection.last_insert_rowid() as u64;
            if id.is_multiple_of(PRUNE_EVERY) {
                connection.execute("DELETE FROM events WHERE id + ?1 <= ?2", params![EVENTS_KEPT, id])?;
            }
            Ok(id)
        })
    }

    /// The next events, oldest first, at most [`EVENTS_AT_ONCE`].
    pub(crate) fn events(&self, filter: &EventFilter) -> Result<Vec<Event>, StoreError> {
        self.with(|connection| {
            let mut query = connection.prepare_cached(
                "SELECT * FROM events WHERE id > ?1 AND (?2 IS NULL OR service = ?2) ORDER BY id LIMIT ?3",
            )?;
            query
                .query_map(
                    params![filter.after, filter.service.as_ref().map(ServiceName::as_str), EVENTS_AT_ONCE],
                    event,
                )?
                .collect()
        })
    }

    /// The id after which the last `count` events that the filter takes come.
    pub(crate) fn before_last_events(&self, filter: &EventFilter, count: u64) -> Result<u64, StoreError> {
        self.with(|connection| {
            connection.query_row(
                "SELECT coalesce(min(id) - 1, ?1) FROM (SELECT id FROM events
                 WHERE id > ?1 AND (?2 IS NULL OR service = ?2) ORDER BY id DESC LIMIT ?3)",
                params![filter.after, filter.service.as_ref().map(ServiceName::as_str), count],
                |row| row.get(0),
            )
        })
    }

    /// The newest event's id; 0 if there is none.
    pub(crate) fn last_event_id(&self) -> Result<u64, StoreError> {
        self.with(|connection| connection.query_row("SELECT coalesce(max(id), 0) FROM events", [], |row| row.get(0)))
    }
}

fn event(row: &Row<'_>) -> rusqlite::Result<Event> {
    let service: Option<String> = row.get("service")?;
    Ok(Event {
        id: row.get("id")?,
        unix_ms: row.get("unix_ms")?,
        kind: word(row, "kind")?,
        service: service.map(|_| word(row, "service")).transpose()?,
        revision: row.get::<_, Option<u64>>("revision")?.map(RevisionNumber),
        generation: row.get::<_, Option<u64>>("generation")?.map(Generation),
        rollout: row.get::<_, Option<u64>>("rollout")?.map(RolloutId),
        message: row.get("message")?,
        fields: from_json(row, "fields")?,
    })
}
