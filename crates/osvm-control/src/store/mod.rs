//! The store: everything that the next daemon must know, in one SQLite file.
//!
//! A commit survives the death of the daemon at once; it survives a power cut once [`Store::sync`] ran. No instance survives a
//! power cut, so only the step that deletes a state has to wait for the disk: it syncs first. All else would pay for that with a
//! longer pause of a swap.
//!
//! Calls take some tens of microseconds and are made in place; `sync` and `open` may take longer.

mod events;
mod instances;
mod migrations;
mod rollouts;
mod services;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, params};
use serde::{Serialize, de::DeserializeOwned};

pub(crate) use events::{EventFilter, NewEvent};
pub(crate) use instances::{InstanceRecord, NewInstance};
pub(crate) use rollouts::{NewRollout, RolloutRecord};
pub(crate) use services::{Revision, Service};

/// Pages of the write-ahead log before SQLite copies them back by itself.
const CHECKPOINT_PAGES: u32 = 4000;

/// Why the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file is not a whole database.
    #[error("the database {} is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        #[source]
        source: rusqlite::Error,
    },
    /// The file was written by a later version.
    #[error("the database {} has schema {found}, this version knows up to {known}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// The file could not be read or written.
    #[error("cannot use the database {}", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        #[source]
        source: rusqlite::Error,
    },
    /// Something that must be there is not.
    #[error("the database has no {0}")]
    Missing(String),
    /// A value in it has another shape than this version writes.
    #[error("a value in the database is not understood")]
    Shape(#[source] serde_json::Error),
}

impl StoreError {
    /// What to do about it.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Damaged { path, .. } => Some(format!(
                "move it away and declare the services again; their state is kept: mv {0} {0}.damaged",
                path.display()
            )),
            Self::Newer { .. } => Some("use the newer osvm, or another state folder: `--state-dir DIR`".to_owned()),
            Self::Sqlite { source, .. } if source.sqlite_error_code() == Some(ErrorCode::DiskFull) => {
                Some("make room on the disk".to_owned())
            }
            _ => None,
        }
    }
}

/// Milliseconds of Unix time.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// The open database. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    path: Arc<PathBuf>,
    connection: Arc<Mutex<Connection>>,
}

impl Store {
    /// Opens or makes the database, and brings its schema up to this version.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let prepare = || {
            let mut connection = Connection::open_with_flags(path, flags)?;
            connection.pragma_update(None, "journal_mode", "wal")?;
            connection.pragma_update(None, "synchronous", "normal")?;
            connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
            connection.pragma_update(None, "foreign_keys", true)?;
            let verdict: String = connection.pragma_query_value(None, "quick_check", |row| row.get(0))?;
            let version = migrations::run(&mut connection)?;
            Ok((connection, version, verdict))
        };
        let store_error = |source| fail(path, source);
        let (connection, version, verdict) = prepare().map_err(store_error)?;
        if version > migrations::VERSION {
            return Err(StoreError::Newer { path: path.to_owned(), found: version, known: migrations::VERSION });
        }
        if verdict != "ok" {
            let source = rusqlite::Error::SqliteFailure(
                rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT),
                Some(verdict.lines().next().unwrap_or_default().to_owned()),
            );
            return Err(StoreError::Damaged { path: path.to_owned(), source });
        }
        Ok(Self { path: Arc::new(path.to_owned()), connection: Arc::new(Mutex::new(connection)) })
    }

    /// Waits until all that was committed is on the disk.
    pub(crate) async fn sync(&self) -> Result<(), StoreError> {
        let store = self.clone();
        let synced = tokio::task::spawn_blocking(move || {
            store.with(|connection| {
                // SQLite syncs the write-ahead log before it copies it back.
                connection.pragma_update(None, "synchronous", "full")?;
                let done = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
                connection.pragma_update(None, "synchronous", "normal")?;
                done
            })
        });
        // The task neither panics nor is it cancelled before it ran, but with the runtime.
        synced.await.unwrap_or(Ok(()))
    }

    /// A setting of the daemon's own.
    pub(crate) fn meta<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, StoreError> {
        let text: Option<String> = self.with(|connection| {
            connection.query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0)).optional()
        })?;
        text.map(|text| serde_json::from_str(&text)).transpose().map_err(StoreError::Shape)
    }

    /// Sets a setting of the daemon's own.
    pub(crate) fn set_meta<T: Serialize>(&self, key: &str, value: &T) -> Result<(), StoreError> {
        let text = serde_json::to_string(value).map_err(StoreError::Shape)?;
        self.with(|connection| {
            connection.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?1, ?2)", params![key, text]).map(drop)
        })
    }

    fn with<T>(&self, work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        work(&mut self.lock()).map_err(|source| fail(&self.path, source))
    }

    /// A panic under the lock leaves SQLite's own state whole: an open transaction is rolled back.
    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn fail(path: &Path, source: rusqlite::Error) -> StoreError {
    let path = path.to_owned();
    match source.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => StoreError::Damaged { path, source },
        _ => StoreError::Sqlite { path, source },
    }
}

/// A value as the text of its JSON, for a column.
fn json<T: Serialize>(value: &T) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}

/// The value of a column that holds JSON.
fn from_json<T: DeserializeOwned>(row: &rusqlite::Row<'_>, column: &str) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text).map_err(|error| {
        let index = row.as_ref().column_index(column).unwrap_or(0);
        rusqlite::Error::FromSqlConversionFailure(index, rusqlite::types::Type::Text, error.into())
    })
}

/// The value of a column that holds one word (an enum without fields, a name).
fn word<T: DeserializeOwned>(row: &rusqlite::Row<'_>, column: &str) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    serde_json::from_value(serde_json::Value::String(text)).map_err(|error| {
        let index = row.as_ref().column_index(column).unwrap_or(0);
        rusqlite::Error::FromSqlConversionFailure(index, rusqlite::types::Type::Text, error.into())
    })
}

/// One word for a column.
fn as_word<T: Serialize>(value: &T) -> rusqlite::Result<String> {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(text)) => Ok(text),
        Ok(other) => Err(rusqlite::Error::ToSqlConversionFailure(format!("{other} is not one word").into())),
        Err(error) => Err(rusqlite::Error::ToSqlConversionFailure(error.into())),
    }
}

#[cfg(test)]
mod tests;
