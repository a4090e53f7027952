//! Services and their revisions.

use osvm_model::{Digest, Generation, RevisionNumber, ServiceName, ServiceSpec};
use rusqlite::{OptionalExtension, Row, params};

use super::{Store, StoreError, as_word, from_json, json, word};

/// Revisions that are kept of a service, besides those that it may go back to.
const REVISIONS_KEPT: u64 = 10;

/// A declared service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    pub(crate) name: ServiceName,
    /// Whether it should run.
    pub(crate) wanted: bool,
    /// The revision that serves.
    pub(crate) revision: RevisionNumber,
    /// The revision that served before, to go back to.
    pub(crate) previous: Option<RevisionNumber>,
    /// The newest instance's number.
    pub(crate) generation: Generation,
    /// The state that the serving instance has or that the next one starts on.
    pub(crate) volume: Option<u64>,
}

/// One revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Revision {
    pub(crate) number: RevisionNumber,
    pub(crate) spec: ServiceSpec,
    pub(crate) digest: Digest,
    /// A rollout to it failed.
    pub(crate) failed: bool,
}

impl Store {
    pub(crate) fn services(&self) -> Result<Vec<Service>, StoreError> {
        self.with(|connection| {
            let mut query = connection.prepare_cached("SELECT * FROM services ORDER BY name")?;
            query.query_map([], service)?.collect()
        })
    }

    pub(crate) fn service(&self, name: &ServiceName) -> Result<Option<Service>, StoreError> {
        self.with(|connection| {
            let mut query = connection.prepare_cached("SELECT * FROM services WHERE name = ?1")?;
            query.query_row([name.as_str()], service).optional()
        })
    }

    /// Adds a service with its first revision. It is wanted and has no instance.
    pub(crate) fn add_service(
        &self,
        spec: &ServiceSpec,
        digest: &Digest,
        volume: Option<u64>,
    ) -> Result<(), StoreError> {
        self.with(|connection| {
            let transaction = connection.transaction()?;
            transaction.execute(
                "INSERT INTO services (name, wanted, revision, generation, volume) VALUES (?1, 1, 1, 0, ?2)",
                params![spec.name.as_str(), volume],
            )?;
            add_revision(&transaction, spec, digest)?;
            transaction.commit()
        })
    }

    /// Adds a revision, which does not serve yet.
    pub(crate) fn add_revision(&self, spec: &ServiceSpec, digest: &Digest) -> Result<RevisionNumber, StoreError> {
        self.with(|connection| {
            let transaction = connection.transaction()?;
            let number = add_revision(&transaction, spec, digest)?;
            transaction.commit()?;
            Ok(number)
        })
    }

    pub(crate) fn revision(&self, name: &ServiceName, number: RevisionNumber) -> Result<Option<Revision>, StoreError> {
        self.with(|connection| {
            let mut query = connection.prepare_cached("SELECT * FROM revisions WHERE service = ?1 AND number = ?2")?;
            query.query_row(params![name.as_str(), number.0], revision).optional()
        })
    }

    /// Notes that a rollout to the revision failed.
    pub(crate) fn fail_revision(&self, name: &ServiceName, number: RevisionNumber) -> Result<(), StoreError> {
        self.with(|connection| {
            connection
                .execute(
                    "UPDATE revisions SET failed = 1 WHERE service = ?1 AND number = ?2",
                    params![name.as_str(), number.0],
                )
                .map(drop)
        })
    }

    /// Forgets the oldest revisions that nothing needs any more.
    pub(crate) fn prune_revisions(&self, name: &ServiceName) -> Result<(), StoreError> {
        self.with(|connection| {
            connection
                .execute(
                    "DELETE FROM revisions WHERE service = ?1
                     AND number + ?2 < (SELECT max(number) FROM revisions WHERE service = ?1)
                     AND number NOT IN (SELECT revision FROM services WHERE name = ?1)
                     AND number NOT IN (SELECT previous FROM services WHERE name = ?1 AND previous IS NOT NULL)",
                    params![name.as_str(), REVISIONS_KEPT],
                )
                .map(drop)
        })
    }

    /// The digests that any revision has.
    pub(crate) fn digests(&self) -> Result<Vec<Digest>, StoreError> {
        self.with(|connection| {
            let mut query = connection.prepare("SELECT DISTINCT digest FROM revisions")?;
            query.query_map([], |row| word(row, "digest"))?.collect()
        })
    }

    pub(crate) fn set_wanted(&self, name: &ServiceName, wanted: bool) -> Result<(), StoreError> {
        self.with(|connection| {
            connection
                .execute("UPDATE services SET wanted = ?2 WHERE name = ?1", params![name.as_str(), wanted])
                .map(drop)
        })
    }

    /// Makes another revision and state the ones that serve. `previous` is where a rollback goes.
    pub(crate) fn set_serving(
        &self,
        name: &ServiceName,
        revision: RevisionNumber,
        volume: Option<u64>,
        previous: Option<RevisionNumber>,
    ) -> Result<(), StoreError> {
        self.with(|connection| {
            connection
                .execute(
                    "UPDATE services SET revision = ?2, volume = ?3, previous = ?4 WHERE name = ?1",
                    params![name.as_str(), revision.0, volume, previous.map(|number| number.0)],
                )
                .map(drop)
        })
    }

    /// Removes the service with its revisions, instances and rollouts. Its events stay.
    pub(crate) fn remove_service(&self, name: &ServiceName) -> Result<(), StoreError> {
        self.with(|connection| connection.execute("DELETE FROM services WHERE name = ?1", [name.as_str()]).map(drop))
    }
}

fn add_revision(
    connection: &rusqlite::Connection,
    spec: &ServiceSpec,
    digest: &Digest,
) -> rusqlite::Result<RevisionNumber> {
    let number: u64 = connection.query_row(
        "SELECT coalesce(max(number), 0) + 1 FROM revisions WHERE service = ?1",
        [spec.name.as_str()],
        |row| row.get(0),
    )?;
    connection.execute(
        "INSERT INTO revisions (service, number, spec, digest) VALUES (?1, ?2, ?3, ?4)",
        params![spec.name.as_str(), number, json(spec)?, as_word(digest)?],
    )?;
    Ok(RevisionNumber(number))
}

fn service(row: &Row<'_>) -> rusqlite::Result<Service> {
    Ok(Service {
        name: word(row, "name")?,
        wanted: row.get("wanted")?,
        revision: RevisionNumber(row.get("revision")?),
        previous: row.get::<_, Option<u64>>("previous")?.map(RevisionNumber),
        generation: Generation(row.get("generation")?),
        volume: row.get("volume")?,
    })
}

fn revision(row: &Row<'_>) -> rusqlite::Result<Revision> {
    Ok(Revision {
        number: RevisionNumber(row.get("number")?),
        spec: from_json(row, "spec")?,
        digest: word(row, "digest")?,
        failed: row.get("failed")?,
    })
}
