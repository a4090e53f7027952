//! Rollouts and the phases that they went through.

use osvm_model::{
    Generation, Phase, PhaseReport, RevisionNumber, RolloutId, RolloutOutcome, RolloutStatus, ServiceName,
};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Store, StoreError, as_word, word};

/// Rollouts that are kept of a service.
const ROLLOUTS_KEPT: u64 = 100;

/// A rollout that begins.
#[derive(Clone, Debug)]
pub(crate) struct NewRollout {
    pub(crate) service: ServiceName,
    pub(crate) from: (RevisionNumber, Generation),
    pub(crate) to: (RevisionNumber, Generation),
    /// Where a rollback would have gone before.
    pub(crate) previous: Option<RevisionNumber>,
}

/// A rollout with the phase that was begun last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RolloutRecord {
    pub(crate) status: RolloutStatus,
    pub(crate) phase: Phase,
    /// Where a rollback would have gone before.
    pub(crate) previous: Option<RevisionNumber>,
}

impl Store {
    /// Notes that a rollout begins, with its first phase.
    pub(crate) fn add_rollout(&self, new: &NewRollout) -> Result<RolloutId, StoreError> {
        self.with(|connection| {
            let transaction = connection.transaction()?;
            transaction.execute(
                "INSERT INTO rollouts
                 (service, from_revision, from_generation, to_revision, to_generation, phase, outcome, previous)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                params![
                    new.service.as_str(),
                    new.from.0.0,
                    new.from.1.0,
                    new.to.0.0,
                    new.to.1.0,
                    as_word(&Phase::Start)?,
                    as_word(&RolloutOutcome::Running)?,
                    new.previous.map(|number| number.0),
                ],
            )?;
            let id = transaction.last_insert_rowid() as u64;
            transaction.execute(
                "DELETE FROM rollouts WHERE service = ?1 AND id NOT IN
                 (SELECT id FROM rollouts WHERE service = ?1 ORDER BY id DESC LIMIT ?2)",
                params![new.service.as_str(), ROLLOUTS_KEPT],
            )?;
            transaction.commit()?;
            Ok(RolloutId(id))
        })
    }

    /// Notes the phase that is about to begin.
    pub(crate) fn begin_phase(&self, id: RolloutId, phase: Phase) -> Result<(), StoreError> {
        self.with(|connection| {
            connection
                .prepare_cached("UPDATE rollouts SET phase = ?2 WHERE id = ?1")?
                .execute(params![id.0, as_word(&phase)?])
                .map(drop)
        })
    }

    /// Notes how a phase ended.
    pub(crate) fn end_phase(&self, id: RolloutId, report: &PhaseReport) -> Result<(), StoreError> {
        self.with(|connection| {
            connection
                .prepare_cached(
                    "INSERT INTO phases (rollout, number, phase, detail, duration_us, ok) VALUES
                     (?1, (SELECT count(*) FROM phases WHERE rollout = ?1), ?2, ?3, ?4, ?5)",
                )?
                .execute(params![id.0, as_word(&report.phase)?, report.detail, report.duration_us, report.ok])
                .map(drop)
        })
    }

    /// Notes how a rollout ended.
    pub(crate) fn end_rollout(
        &self,
        id: RolloutId,
        outcome: RolloutOutcome,
        error: Option<&str>,
        longest_wait_us: Option<u64>,
        failed_requests: Option<u64>,
    ) -> Result<(), StoreError> {
        self.with(|connection| {
            connection
                .execute(
                    "UPDATE rollouts SET outcome = ?2, error = ?3, longest_wait_us = ?4, failed_requests = ?5
                     WHERE id = ?1",
                    params![id.0, as_word(&outcome)?, error, longest_wait_us, failed_requests],
                )
                .map(drop)
        })
    }

    /// The newest rollout of a service.
    pub(crate) fn last_rollout(&self, name: &ServiceName) -> Result<Option<RolloutRecord>, StoreError> {
        self.with(|connection| {
            let found = connection
                .prepare_cached("SELECT * FROM rollouts WHERE service = ?1 ORDER BY id DESC LIMIT 1")?
                .query_row([name.as_str()], rollout)
                .optional()?;
            let Some(mut record) = found else { return Ok(None) };
            record.status.phases = phases(connection, record.status.id)?;
            Ok(Some(record))
        })
    }

    /// All rollouts that are kept, oldest first, for metrics.
    pub(crate) fn rollouts(&self) -> Result<Vec<RolloutStatus>, StoreError> {
        self.with(|connection| {
            let mut all = connection
                .prepare("SELECT * FROM rollouts ORDER BY id")?
                .query_map([], rollout)?
                .map(|record| record.map(|record| record.status))
                .collect::<rusqlite::Result<Vec<_>>>()?;
            for status in &mut all {
                status.phases = phases(connection, status.id)?;
            }
            Ok(all)
        })
    }
}

fn rollout(row: &Row<'_>) -> rusqlite::Result<RolloutRecord> {
    let end = |revision: &str, generation: &str| -> rusqlite::Result<_> {
        Ok((RevisionNumber(row.get(revision)?), Generation(row.get(generation)?)))
    };
    Ok(RolloutRecord {
        phase: word(row, "phase")?,
        previous: row.get::<_, Option<u64>>("previous")?.map(RevisionNumber),
        status: RolloutStatus {
            id: RolloutId(row.get("id")?),
            service: word(row, "service")?,
            from: end("from_revision", "from_generation")?,
            to: end("to_revision", "to_generation")?,
            outcome: word(row, "outcome")?,
            error: row.get("error")?,
            phases: Vec::new(),
            longest_wait_us: row.get("longest_wait_us")?,
            failed_requests: row.get("failed_requests")?,
        },
    })
}

fn phases(connection: &Connection, id: RolloutId) -> rusqlite::Result<Vec<PhaseReport>> {
    let mut query = connection.prepare_cached("SELECT * FROM phases WHERE rollout = ?1 ORDER BY number")?;
    let rows = query.query_map([id.0], |row| {
        Ok(PhaseReport {
            phase: word(row, "phase")?,
            detail: row.get("detail")?,
            duration_us: row.get("duration_us")?,
            ok: row.get("ok")?,
        })
    })?;
    rows.collect()
}
