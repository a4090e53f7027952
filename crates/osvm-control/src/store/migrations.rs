//! The schema, version by version. A step is never changed once it was released; `user_version` counts the steps done.

use rusqlite::Connection;

/// The schema of this version.
pub(super) const VERSION: u32 = STEPS.len() as u32;

const STEPS: &[&str] = &["
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;

CREATE TABLE services (
    name TEXT PRIMARY KEY,
    wanted INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    previous INTEGER,
    generation INTEGER NOT NULL,
    volume INTEGER
) STRICT;

CREATE TABLE revisions (
    service TEXT NOT NULL REFERENCES services (name) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    spec TEXT NOT NULL,
    digest TEXT NOT NULL,
    failed INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (service, number)
) STRICT;

CREATE TABLE instances (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    service TEXT NOT NULL REFERENCES services (name) ON DELETE CASCADE,
    generation INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    level TEXT NOT NULL,
    volume INTEGER NOT NULL,
    state TEXT NOT NULL,
    pid INTEGER,
    start_time INTEGER,
    started_ms INTEGER NOT NULL,
    restarts INTEGER NOT NULL,
    exit TEXT,
    UNIQUE (service, generation)
) STRICT;

CREATE TABLE rollouts (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    service TEXT NOT NULL REFERENCES services (name) ON DELETE CASCADE,
    from_revision INTEGER NOT NULL,
    from_generation INTEGER NOT NULL,
    to_revision INTEGER NOT NULL,
    to_generation INTEGER NOT NULL,
    previous INTEGER,
    phase TEXT NOT NULL,
    outcome TEXT NOT NULL,
    error TEXT,
    longest_wait_us INTEGER,
    failed_requests INTEGER
) STRICT;
CREATE INDEX rollouts_of_service ON rollouts (service, id);

CREATE TABLE phases (
    rollout INTEGER NOT NULL REFERENCES rollouts (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    phase TEXT NOT NULL,
    detail TEXT NOT NULL,
    duration_us INTEGER NOT NULL,
    ok INTEGER NOT NULL,
    PRIMARY KEY (rollout, number)
) STRICT;

CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    unix_ms INTEGER NOT NULL,
    kind TEXT NOT NULL,
    service TEXT,
    revision INTEGER,
    generation INTEGER,
    rollout INTEGER,
    message TEXT NOT NULL,
    fields TEXT NOT NULL
) STRICT;
CREATE INDEX events_of_service ON events (service, id);
"];

/// Does the steps that are missing, each in one transaction, and returns the version that the file then has.
pub(super) fn run(connection: &mut Connection) -> rusqlite::Result<u32> {
    let mut version: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    for step in STEPS.iter().skip(version as usize) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(step)?;
        version += 1;
        transaction.pragma_update(None, "user_version", version)?;
        transaction.commit()?;
    }
    Ok(version)
}
