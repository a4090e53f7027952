//! Instances, alive and ended.

use osvm_model::{Generation, InstanceState, InstanceStatus, IsolationLevel, ResourceUse, RevisionNumber, ServiceName};
use rusqlite::{OptionalExtension, Row, params};

use super::{Store, StoreError, as_word, now_ms, word};

/// Ended instances that are kept of a service.
const ENDED_KEPT: u64 = 20;

/// One instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InstanceRecord {
    /// Its number on this machine, which names its socket.
    pub(crate) id: u64,
    pub(crate) service: ServiceName,
    pub(crate) generation: Generation,
    pub(crate) revision: RevisionNumber,
    pub(crate) level: IsolationLevel,
    pub(crate) volume: u64,
    pub(crate) state: InstanceState,
    /// Its process and that process's start time, once it was started.
    pub(crate) process: Option<(u32, u64)>,
    pub(crate) started_ms: u64,
    pub(crate) restarts: u32,
}

/// What is known of an instance before it starts.
#[derive(Clone, Debug)]
pub(crate) struct NewInstance {
    pub(crate) service: ServiceName,
    pub(crate) revision: RevisionNumber,
    pub(crate) level: IsolationLevel,
    /// The state to start on; none makes a new one, named by the instance's own number.
    pub(crate) volume: Option<u64>,
    pub(crate) restarts: u32,
}

impl InstanceRecord {
    /// As users see it, without figures of its process.
    pub(crate) fn status(&self) -> InstanceStatus {
        InstanceStatus {
            name: self.service.clone(),
            generation: self.generation,
            revision: self.revision,
            level: self.level,
            state: self.state,
            pid: self.process.map(|(pid, _)| pid),
            started_unix_ms: self.started_ms,
            restarts: self.restarts,
            used: ResourceUse::default(),
        }
    }
}

impl Store {
    /// Adds an instance, takes the service's next generation for it and forgets the oldest ended ones.
    pub(crate) fn add_instance(&self, new: &NewInstance) -> Result<InstanceRecord, StoreError> {
        self.with(|connection| {
            let transaction = connection.transaction()?;
            let generation: u64 = transaction.query_row(
                "UPDATE services SET generation = generation + 1 WHERE name = ?1 RETURNING generation",
                [new.service.as_str()],
                |row| row.get(0),
            )?;
            let started_ms = now_ms();
            transaction.execute(
                "INSERT INTO instances (service, generation, revision, level, volume, state, started_ms, restarts)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                params![
                    new.service.as_str(),
                    generation,
                    new.revision.0,
                    as_word(&new.level)?,
                    new.volume.unwrap_or(0),
                    as_word(&InstanceState::Starting)?,
                    started_ms,
                    new.restarts,
                ],
            )?;
            let id = transaction.last_insert_rowid() as u64;
            let volume = new.volume.unwrap_or(id);
            transaction.execute("UPDATE instances SET volume = ?2 WHERE id = ?1", params![id, volume])?;
            transaction.execute(
                "DELETE FROM instances WHERE service = ?1 AND generation + ?2 < ?3 AND state IN ('stopped', 'failed')",
                params![new.service.as_str(), ENDED_KEPT, generation],
            )?;
            transaction.commit()?;
            Ok(InstanceRecord {
                id,
                service: new.service.clone(),
                generation: Generation(generation),
                revision: new.revision,
                level: new.level,
                volume,
                state: InstanceState::Starting,
                process: None,
                started_ms,
                restarts: new.restarts,
            })
        })
    }

    /// Notes an instance's process.
    pub(crate) fn set_process(&self, id: u64, pid: u32, start_time: u64) -> Result<(), StoreError> {
        self.with(|connection| {
            connection
                .execute("UPDATE instances SET pid = ?2, start_time = ?3 WHERE id = ?1", params![id, pid, start_time])
                .map(drop)
        })
    }

    /// Forgets all processes: the machine was started again.
    pub(crate) fn forget_processes(&self) -> Result<(), StoreError> {
        self.with(|connection| {
            connection.execute("UPDATE instances SET pid = NULL, start_time = NULL", [])?;
            connection.execute("DELETE FROM meta WHERE key = 'gateway'", []).map(drop)
        })
    }

    /// Notes where an instance is in its life, and how it ended if it did.
    pub(crate) fn set_state(&self, id: u64, state: InstanceState, exit: Option<&str>) -> Result<(), StoreError> {
        self.with(|connection| {
            connection
                .execute(
                    "UPDATE instances SET state = ?2, exit = ?3 WHERE id = ?1",
                    params![id, as_word(&state)?, exit],
                )
                .map(drop)
        })
    }

    /// The instances that should be alive, of one service or of all, by name and generation.
    pub(crate) fn live_instances(&self, name: Option<&ServiceName>) -> Result<Vec<InstanceRecord>, StoreError> {
        self.with(|connection| {
            let mut query = connection.prepare_cached(
                "SELECT * FROM instances WHERE (?1 IS NULL OR service = ?1) AND state NOT IN ('stopped', 'failed')
                 ORDER BY service, generation",
            )?;
            query.query_map([name.map(ServiceName::as_str)], instance)?.collect()
        })
    }

    /// One instance, alive or not.
    pub(crate) fn instance(
        &self,
        name: &ServiceName,
        generation: Generation,
    ) -> Result<Option<InstanceRecord>, StoreError> {
        self.with(|connection| {
            let mut query =
                connection.prepare_cached("SELECT * FROM instances WHERE service = ?1 AND generation = ?2")?;
            query.query_row(params![name.as_str(), generation.0], instance).optional()
        })
    }
}

fn instance(row: &Row<'_>) -> rusqlite::Result<InstanceRecord> {
    let pid: Option<u32> = row.get("pid")?;
    let start_time: Option<u64> = row.get("start_time")?;
    Ok(InstanceRecord {
        id: row.get("id")?,
        service: word(row, "service")?,
        generation: Generation(row.get("generation")?),
        revision: RevisionNumber(row.get("revision")?),
        level: word(row, "level")?,
        volume: row.get("volume")?,
        state: word(row, "state")?,
        process: pid.zip(start_time),
        started_ms: row.get("started_ms")?,
        restarts: row.get("restarts")?,
    })
}
