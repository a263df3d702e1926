//! The database: schema, and connections.

use crate::{limits, server::storage::StorageError};
use rusqlite::{Connection, Transaction};
use slipway_oci::database::{self, OpenError, Schema, Settings};
use std::{
    path::{Path, PathBuf},
    sync::{Condvar, Mutex, MutexGuard},
    time::Duration,
};

/// The version of [`SCHEMA`].
const SCHEMA_VERSION: i64 = 3;

/// Version 3. Digests are text in their written form; times are seconds since 1970. Names and tags sort by byte, as
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
    media_type    TEXT NOT NULL,    -- as first pushed
    size          INTEGER NOT NULL, -- bytes
    subject       TEXT,             -- digest
    artifact_type TEXT,             -- what a referrers entry shows
    annotations   TEXT,             -- JSON object, only where there is a subject
    PRIMARY KEY (repository, digest)
) WITHOUT ROWID;
CREATE INDEX manifests_by_digest ON manifests (digest);
CREATE INDEX manifests_by_subject ON manifests (repository, subject, digest) WHERE subject IS NOT NULL;
CREATE TABLE edges (                -- what a manifest needs in its repository
    repository    INTEGER NOT NULL REFERENCES repositories (id),
    manifest      TEXT NOT NULL,
    target        TEXT NOT NULL,    -- digest
    kind          INTEGER NOT NULL, -- 1: a blob; 2: a manifest, or a blob in its place; 3: the subject
    PRIMARY KEY (repository, manifest, target, kind)
) WITHOUT ROWID;
CREATE INDEX edges_by_target ON edges (repository, target, kind);
CREATE TABLE tags (
    repository    INTEGER NOT NULL REFERENCES repositories (id),
    name          TEXT NOT NULL,
    digest        TEXT NOT NULL,    -- of a manifest of the same repository
    updated       INTEGER NOT NULL,
    PRIMARY KEY (repository, name)
) WITHOUT ROWID;
CREATE INDEX tags_by_digest ON tags (repository, digest);
CREATE TABLE condemned (            -- content that nothing points at and that is being removed
    digest        TEXT PRIMARY KEY,
    since         INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE uploads (
    id            TEXT PRIMARY KEY,
    repository    TEXT NOT NULL,    -- by name: a repository begins with its first finished push
    algorithm     TEXT NOT NULL,
    started       INTEGER NOT NULL,
    touched       INTEGER NOT NULL,
    length        INTEGER NOT NULL, -- bytes that were acknowledged
    hash          BLOB,             -- the hash state over these bytes
    place         BLOB NOT NULL     -- what content needs to go on
) WITHOUT ROWID;
CREATE INDEX uploads_by_repository ON uploads (repository, touched);
CREATE INDEX uploads_by_age ON uploads (touched);
CREATE TABLE signing_keys (         -- what tokens are signed with
    id            TEXT PRIMARY KEY,
    seed          BLOB NOT NULL,    -- the secret of Ed25519
    created       INTEGER NOT NULL
) WITHOUT ROWID;
";

/// What version 3 has beyond version 2.
const FROM_2: &str = "
CREATE TABLE signing_keys (
    id            TEXT PRIMARY KEY,
    seed          BLOB NOT NULL,
    created       INTEGER NOT NULL
) WITHOUT ROWID;
";

/// A registry that lost its last answered push would have lied, so every commit is on the disk.
const SETTINGS: Settings = Settings { synchronous: "FULL", busy: Duration::from_secs(30), cache_kib: 4096 };

/// Opens the database for writing, making or refusing its schema.
pub(super) fn open(path: &Path) -> Result<Connection, StorageError> {
    let migrate = |transaction: &Transaction<'_>, found| match found {
        2 => Ok(transaction.execute_batch(FROM_2)?),
        _ => Err(StorageError::Older { found, known: SCHEMA_VERSION }),
    };
    let schema = Schema { version: SCHEMA_VERSION, create: SCHEMA, migrate: &migrate };
    let database = database::open(path, &SETTINGS, &schema).map_err(|error| match error {
        OpenError::Sqlite(error) => error.into(),
        OpenError::Newer { found, known } => StorageError::Newer { found, known },
        OpenError::Migration(error) => error,
    })?;
    Ok(prepared(database))
}

fn connect(path: &Path) -> Result<Connection, StorageError> {
    Ok(prepared(database::connect(path, &SETTINGS)?))
}

fn prepared(database: Connection) -> Connection {
    database.set_prepared_statement_cache_capacity(64);
    database
}

/// Connections that only read; WAL lets them run beside the writer. Each is two descriptors, so there is a cap, and who
/// finds none free waits.
pub(super) struct Readers {
    path: PathBuf,
    pool: Mutex<Pool>,
    returned: Condvar,
}

#[derive(Default)]
struct Pool {
    idle: Vec<Connection>,
    in_use: usize,
}

impl Readers {
    pub(super) fn new(path: PathBuf) -> Readers {
        Readers { path, pool: Mutex::default(), returned: Condvar::new() }
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().expect("no panic happens while the pool is held")
    }

    /// Runs `work` on a connection of its own.
    pub(super) fn read<T>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let database = self.take()?;
        let result = work(&database);
        let mut pool = self.pool();
        pool.in_use -= 1;
        pool.idle.push(database);
        drop(pool);
        self.returned.notify_one();
        result
    }

    fn take(&self) -> Result<Connection, StorageError> {
        let mut pool = self.pool();
        while pool.idle.is_empty() && pool.in_use >= limits::DATABASE_READERS {
            pool = self.returned.wait(pool).expect("no panic happens while the pool is held");
        }
        pool.in_use += 1;
        if let Some(database) = pool.idle.pop() {
            return Ok(database);
        }
        drop(pool);
        connect(&self.path).inspect_err(|_| {
            self.pool().in_use -= 1;
            self.returned.notify_one();
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_of_the_version_before_is_taken_over() {
        let folder = tempfile::tempdir().expect("folder");
        let (old, new) = (folder.path().join("old.db"), folder.path().join("new.db"));
        let (before, _) = SCHEMA.split_once("CREATE TABLE signing_keys").expect("the newest table");
        let database = Connection::open(&old).expect("a database");
        database.execute_batch(before).expect("version 2");
        database.pragma_update(None, "user_version", 2).expect("its number");
        database.execute("INSERT INTO repositories (name) VALUES ('a')", []).expect("a row");
        drop(database);
        let tables = |database: &Connection| -> Vec<(String, String)> {
            let mut statement = database
                .prepare("SELECT m.name, c.name || c.type || c.\"notnull\" || c.pk FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table' ORDER BY 1, c.cid")
                .expect("a statement");
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("rows");
            rows.collect::<Result<_, _>>().expect("tables")
        };
        let (migrated, made) = (open(&old).expect("migrated"), open(&new).expect("made"));
        assert_eq!(tables(&migrated), tables(&made));
        let name: String =
            migrated.query_row("SELECT name FROM repositories", [], |row| row.get(0)).expect("the row");
        assert_eq!(name, "a");
    }
}
