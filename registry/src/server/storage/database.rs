//! The database file `registry.db`: pragmas, schema, and a pool of readers.

use super::StorageError;
use rusqlite::Connection;
use std::{
    path::{Path, PathBuf},
    sync::Mutex,
    time::Duration,
};

pub(super) const SCHEMA_VERSION: i64 = 1;

/// Version 1. Digests are text in their written form; times are seconds since 1970. Names and tags sort by byte, as
/// every registry's do.
const SCHEMA: &str = "
CREATE TABLE repositories (
    id            INTEGER PRIMARY KEY,
    name          TEXT NOT NULL UNIQUE
);
CREATE TABLE blobs (               -- which repository has which blob: the one source of truth for membership
    repository    INTEGER NOT NULL REFERENCES repositories (id),
    digest        TEXT NOT NULL,
    size          INTEGER NOT NULL, -- bytes
    PRIMARY KEY (repository, digest)
) WITHOUT ROWID;
CREATE INDEX blobs_by_digest ON blobs (digest);
CREATE TABLE manifests (
    repository    INTEGER NOT NULL REFERENCES repositories (id),
    digest        TEXT NOT NULL,
    media_type    TEXT NOT NULL,    -- as pushed
    size          INTEGER NOT NULL, -- bytes
    subject       TEXT,             -- digest
    artifact_type TEXT,             -- what a referrers entry shows
    annotations   TEXT,             -- JSON object, only where there is a subject
    PRIMARY KEY (repository, digest)
) WITHOUT ROWID;
CREATE INDEX manifests_by_digest ON manifests (digest);
CREATE INDEX manifests_by_subject ON manifests (repository, subject, digest) WHERE subject IS NOT NULL;
CREATE TABLE tags (
    repository    INTEGER NOT NULL REFERENCES repositories (id),
    name          TEXT NOT NULL,
    digest        TEXT NOT NULL,    -- of a manifest of the same repository
    updated       INTEGER NOT NULL,
    PRIMARY KEY (repository, name)
) WITHOUT ROWID;
CREATE INDEX tags_by_digest ON tags (repository, digest);
CREATE TABLE uploads (              -- the length of a session is that of its file
    id            TEXT PRIMARY KEY,
    repository    TEXT NOT NULL,    -- by name: a repository begins with its first finished push
    algorithm     TEXT NOT NULL,
    started       INTEGER NOT NULL
) WITHOUT ROWID;
";

/// Opens the database for writing, making or refusing its schema.
pub(super) fn open(path: &Path) -> Result<Connection, StorageError> {
    let mut database = connect(path)?;
    database.pragma_update(None, "journal_mode", "WAL")?;
    let version =
        |database: &Connection| database.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0));
    match version(&database)? {
        SCHEMA_VERSION => {}
        0 => {
            let transaction = database.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
            // another process may have been first
            if version(&transaction)? == 0 {
                transaction.execute_batch(SCHEMA)?;
                transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
            }
            transaction.commit()?;
        }
        found => return Err(StorageError::Newer { found, known: SCHEMA_VERSION }),
    }
    Ok(database)
}

fn connect(path: &Path) -> Result<Connection, StorageError> {
    let database = Connection::open(path)?;
    // another server on the same folder may write; waiting is better than failing
    database.busy_timeout(Duration::from_secs(30))?;
    database.pragma_update(None, "synchronous", "FULL")?;
    database.pragma_update(None, "cache_size", -4096)?;
    database.set_prepared_statement_cache_capacity(64);
    Ok(database)
}

/// Connections that only read; WAL lets them run beside the writer.
pub(super) struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    pub(super) fn new(path: PathBuf) -> Readers {
        Readers { path, idle: Mutex::new(Vec::new()) }
    }

    /// Runs `work` on a connection of its own.
    pub(super) fn read<T>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let idle = self.idle.lock().expect("no panic happens while the pool is held").pop();
        let database = match idle {
            Some(database) => database,
            None => connect(&self.path)?,
        };
        let result = work(&database);
        let mut idle = self.idle.lock().expect("no panic happens while the pool is held");
        if idle.len() < MOST_IDLE {
            idle.push(database);
        }
        result
    }
}

/// Connections kept for the next readers; more exist only while they are used.
const MOST_IDLE: usize = 8;
