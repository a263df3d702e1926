//! The database: schema, and connections.

use super::tally;
use crate::{limits, server::storage::StorageError};
use rusqlite::{Connection, Transaction};
use slipway_oci::database::{self, OpenError, Schema, Settings};
use std::{
    path::{Path, PathBuf},
    sync::{Condvar, Mutex, MutexGuard},
    time::Duration,
};

/// The version of [`SCHEMA`].
const SCHEMA_VERSION: i64 = 5;

/// Version 5, but for what [`tally`] has. Digests are text in their written form; times are seconds since 1970. Names and tags sort by byte, as
/// every registry's do.
const SCHEMA: &str = "
CREATE TABLE repositories (
    id            INTEGER PRIMARY KEY,
    name          TEXT NOT NULL UNIQUE,
    bytes         INTEGER NOT NULL DEFAULT 0, -- of different contents that count for quotas
    tags          INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE blobs (               -- which repository has which blob: the one source of truth for membership
    repository    INTEGER NOT NULL REFERENCES repositories (id),
    digest        TEXT NOT NULL,
    size          INTEGER NOT NULL, -- bytes
    loose         INTEGER,          -- since when no manifest holds it
    deleted       INTEGER,          -- since when it lies in the trash
    counted       INTEGER NOT NULL DEFAULT 0, -- 1: it counts for quotas; never what lies in the trash
    PRIMARY KEY (repository, digest)
) WITHOUT ROWID;
CREATE INDEX blobs_by_digest ON blobs (digest);
CREATE INDEX blobs_loose ON blobs (loose) WHERE loose IS NOT NULL;
CREATE INDEX blobs_deleted ON blobs (deleted) WHERE deleted IS NOT NULL;
CREATE TABLE manifests (
    repository    INTEGER NOT NULL REFERENCES repositories (id),
    digest        TEXT NOT NULL,
    media_type    TEXT NOT NULL,    -- as first pushed
    size          INTEGER NOT NULL, -- bytes
    subject       TEXT,             -- digest
    artifact_type TEXT,             -- what a referrers entry shows
    annotations   TEXT,             -- JSON object, only where there is a subject
    pushed        INTEGER NOT NULL DEFAULT 0,
    loose         INTEGER,          -- since when neither a tag, nor an index, nor its subject holds it
    orphan        INTEGER NOT NULL DEFAULT 0, -- 1: what held it was taken away
    deleted       INTEGER,          -- since when it lies in the trash
    PRIMARY KEY (repository, digest)
) WITHOUT ROWID;
CREATE INDEX manifests_by_digest ON manifests (digest);
CREATE INDEX manifests_loose ON manifests (loose) WHERE loose IS NOT NULL;
CREATE INDEX manifests_deleted ON manifests (deleted) WHERE deleted IS NOT NULL;
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
    pulled        INTEGER,          -- the last time that is known
    pulls         INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (repository, name)
) WITHOUT ROWID;
CREATE INDEX tags_by_digest ON tags (repository, digest);
CREATE TABLE tag_history (          -- every move of a tag
    number        INTEGER PRIMARY KEY,
    repository    INTEGER NOT NULL REFERENCES repositories (id),
    tag           TEXT NOT NULL,
    former        TEXT,             -- digest; none where the tag was new
    digest        TEXT,             -- none where the tag was deleted
    at            INTEGER NOT NULL,
    who           TEXT,             -- the user
    origin        TEXT              -- the client's address, or the command
);
CREATE INDEX tag_history_by_tag ON tag_history (repository, tag, number);
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

/// What version 5 has beyond version 4, before anything is counted.
const FROM_4: &str = "
ALTER TABLE repositories ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE repositories ADD COLUMN tags INTEGER NOT NULL DEFAULT 0;
ALTER TABLE blobs ADD COLUMN counted INTEGER NOT NULL DEFAULT 0;
";

/// What version 4 has beyond version 3. What is loose has been so for no longer than is known.
const FROM_3: &str = "
ALTER TABLE blobs ADD COLUMN loose INTEGER;
ALTER TABLE blobs ADD COLUMN deleted INTEGER;
ALTER TABLE manifests ADD COLUMN pushed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE manifests ADD COLUMN loose INTEGER;
ALTER TABLE manifests ADD COLUMN orphan INTEGER NOT NULL DEFAULT 0;
ALTER TABLE manifests ADD COLUMN deleted INTEGER;
ALTER TABLE tags ADD COLUMN pulled INTEGER;
ALTER TABLE tags ADD COLUMN pulls INTEGER NOT NULL DEFAULT 0;
CREATE TABLE tag_history (
    number        INTEGER PRIMARY KEY,
    repository    INTEGER NOT NULL REFERENCES repositories (id),
    tag           TEXT NOT NULL,
    former        TEXT,
    digest        TEXT,
    at            INTEGER NOT NULL,
    who           TEXT,
    origin        TEXT
);
CREATE INDEX tag_history_by_tag ON tag_history (repository, tag, number);
INSERT INTO tag_history (repository, tag, digest, at) SELECT repository, name, digest, updated FROM tags;
UPDATE blobs SET loose = CAST(strftime('%s', 'now') AS INTEGER) WHERE NOT EXISTS (
    SELECT 1 FROM edges e WHERE e.repository = blobs.repository AND e.target = blobs.digest AND e.kind IN (1, 2));
UPDATE manifests SET pushed = CAST(strftime('%s', 'now') AS INTEGER);
UPDATE manifests SET loose = pushed WHERE NOT EXISTS (
    SELECT 1 FROM tags t WHERE t.repository = manifests.repository AND t.digest = manifests.digest)
AND NOT EXISTS (
    SELECT 1 FROM edges e WHERE e.repository = manifests.repository AND e.target = manifests.digest AND e.kind = 2)
AND NOT EXISTS (
    SELECT 1 FROM manifests s WHERE s.repository = manifests.repository AND s.digest = manifests.subject);
CREATE INDEX blobs_loose ON blobs (loose) WHERE loose IS NOT NULL;
CREATE INDEX blobs_deleted ON blobs (deleted) WHERE deleted IS NOT NULL;
CREATE INDEX manifests_loose ON manifests (loose) WHERE loose IS NOT NULL;
CREATE INDEX manifests_deleted ON manifests (deleted) WHERE deleted IS NOT NULL;
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
    let migrate = |transaction: &Transaction<'_>, found| {
        let steps: &[&str] = match found {
            2 => &[FROM_2, FROM_3, FROM_4],
            3 => &[FROM_3, FROM_4],
            4 => &[FROM_4],
            _ => return Err(StorageError::Older { found, known: SCHEMA_VERSION }),
        };
        steps.iter().try_for_each(|step| transaction.execute_batch(step))?;
        tally::begin(transaction)
    };
    let create = [SCHEMA, tally::TABLES, &tally::triggers()].concat();
    let schema = Schema { version: SCHEMA_VERSION, create: &create, migrate: &migrate };
    let database = database::open(path, &SETTINGS, &schema).map_err(|error| match error {
        OpenError::Sqlite(error) => error.into(),
        OpenError::Newer { found, known } => StorageError::Newer { found, known },
        OpenError::Migration(error) => error,
    })?;
    Ok(prepared(database))
}

pub(super) fn connect(path: &Path) -> Result<Connection, StorageError> {
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

    /// The tables of version 2, as it was released.
    const VERSION_2: &str = include_str!("schema_2.sql");

    fn shape(database: &Connection) -> Vec<(String, String)> {
        let mut statement = database
            .prepare(
                "SELECT m.name, c.name || c.type || c.\"notnull\" || c.pk FROM sqlite_master m,
                 pragma_table_info(m.name) c WHERE m.type = 'table'
                 UNION ALL SELECT m.name, c.name FROM sqlite_master m, pragma_index_info(m.name) c
                 WHERE m.type = 'index' ORDER BY 1, 2",
            )
            .expect("a statement");
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("rows");
        rows.collect::<Result<_, _>>().expect("tables")
    }

    fn texts(database: &Connection, query: &str) -> Vec<String> {
        let mut statement = database.prepare(query).expect("a statement");
        let rows = statement.query_map([], |row| row.get(0)).expect("rows");
        rows.collect::<Result<_, _>>().expect("texts")
    }

    #[test]
    fn databases_of_the_versions_before_are_taken_over() {
        for (version, more, last) in [(2, "", ""), (3, FROM_2, ""), (4, FROM_2, FROM_3)] {
            let folder = tempfile::tempdir().expect("folder");
            let (old, new) = (folder.path().join("old.db"), folder.path().join("new.db"));
            let database = Connection::open(&old).expect("a database");
            database.execute_batch(VERSION_2).expect("version 2");
            database.execute_batch(more).expect("what came after");
            database.pragma_update(None, "user_version", version).expect("its number");
            let rows = "INSERT INTO repositories VALUES (1, 'a'), (2, 't/u/a'), (3, 't/b'), (4, 'd/e/e/p/e/r');
                INSERT INTO blobs VALUES (2, 'shared', 100), (3, 'shared', 100), (3, 'sole', 1000), (4, 'shared', 100);
                INSERT INTO manifests VALUES (2, 'shared', 't', 100, NULL, NULL, NULL);
                INSERT INTO tags VALUES (2, 'v', 'shared', 7), (3, 'v', 'none', 7), (3, 'w', 'none', 7);
                INSERT INTO blobs VALUES (1, 'held', 1), (1, 'free', 1), (1, 'cached', 1);
                INSERT INTO manifests VALUES (1, 'm', 't', 1, NULL, NULL, NULL), (1, 'i', 't', 1, NULL, NULL, NULL),
                    (1, 's', 't', 1, 'm', NULL, NULL), (1, 'alone', 't', 1, 'gone', NULL, NULL),
                    (1, 'child', 't', 1, NULL, NULL, NULL);
                INSERT INTO edges VALUES (1, 'm', 'held', 1), (1, 'i', 'child', 2), (1, 'i', 'cached', 2), (1, 's', 'm', 3);
                INSERT INTO tags VALUES (1, 'v', 'm', 7), (1, 'w', 'i', 8);";
            database.execute_batch(rows).expect("rows");
            database.execute_batch(last).expect("what came last");
            drop(database);
            let (migrated, made) = (open(&old).expect("migrated"), open(&new).expect("made"));
            assert_eq!(shape(&migrated), shape(&made), "{version}");
            let loose =
                |table| format!("SELECT digest FROM {table} WHERE loose IS NOT NULL AND repository = 1");
            assert_eq!(texts(&migrated, &loose("blobs")), ["free"]);
            assert_eq!(texts(&migrated, &loose("manifests")), ["alone"]);
            assert_eq!(
                texts(
                    &migrated,
                    "SELECT tag || digest || at FROM tag_history WHERE repository = 1 ORDER BY tag"
                ),
                ["vm7", "wi8"]
            );
            assert_eq!(texts(&migrated, "SELECT digest FROM manifests WHERE pushed = 0"), [""; 0]);
            assert_eq!(
                tally::tests::picture(&migrated),
                [
                    "r a 8 2",
                    "r d/e/e/p/e/r 100 0",
                    "r t/b 1100 2",
                    "r t/u/a 100 1",
                    "n  1108 5",
                    "n d 100 0",
                    "n d/e 100 0",
                    "n d/e/e 100 0",
                    "n d/e/e/p 100 0",
                    "n t 1100 3",
                    "n t/u 100 1",
                    "h d shared 100 1",
                    "h d/e shared 100 1",
                    "h d/e/e shared 100 1",
                    "h d/e/e/p shared 100 1",
                    "h t shared 100 2",
                    "h t sole 1000 1",
                    "h t/u shared 100 1",
                ]
            );
            let triggers = "SELECT name FROM sqlite_schema WHERE type = 'trigger' ORDER BY name";
            assert_eq!(texts(&migrated, triggers), texts(&made, triggers));
        }
    }
}
