//! The database file: pragmas and schema.

use super::StoreError;
use rusqlite::Connection;
use std::{path::Path, time::Duration};

const SCHEMA_VERSION: i64 = 1;

/// Version 1. Digests are text in their written form; times are seconds since 1970.
const SCHEMA: &str = "
CREATE TABLE images (
    digest      TEXT PRIMARY KEY,  -- of the manifest
    media_type  TEXT NOT NULL,
    size        INTEGER NOT NULL,  -- of the manifest, bytes
    config      TEXT NOT NULL,     -- digest of the configuration: docker's image id
    added       INTEGER NOT NULL
);
CREATE TABLE names (
    reference   TEXT PRIMARY KEY,  -- registry/repository:tag, fully written out
    digest      TEXT NOT NULL      -- of an image, or of the index that it was pulled by
);
CREATE INDEX names_by_digest ON names (digest);
CREATE TABLE layers (
    diff_id     TEXT PRIMARY KEY,
    archive     INTEGER NOT NULL,  -- size of the uncompressed archive, bytes
    unpacked_in TEXT,              -- boot id, 'synced', or NULL where the folder is not there
    unpacked_at INTEGER
);
CREATE TABLE forms (
    diff_id     TEXT NOT NULL,
    digest      TEXT NOT NULL,     -- of the blob
    media_type  TEXT NOT NULL,
    size        INTEGER NOT NULL,
    PRIMARY KEY (diff_id, digest)
);
CREATE TABLE sources (
    digest      TEXT NOT NULL,     -- of a blob
    repository  TEXT NOT NULL,     -- registry/repository that was seen to have it
    PRIMARY KEY (digest, repository)
);
CREATE TABLE cache (
    key         TEXT PRIMARY KEY,
    diff_id     TEXT,              -- NULL: the step changed nothing
    step        TEXT NOT NULL,     -- for people
    used        INTEGER NOT NULL
);
";

pub(super) fn open(path: &Path) -> Result<Connection, StoreError> {
    let mut database = Connection::open(path)?;
    // other processes write too; a writer waits rather than fails
    database.busy_timeout(Duration::from_secs(60))?;
    database.pragma_update(None, "journal_mode", "WAL")?;
    // names follow content: blobs are synced before; a lost last transaction is a lost name, not a wrong one
    database.pragma_update(None, "synchronous", "NORMAL")?;
    database.pragma_update(None, "cache_size", -8192)?;
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
        found => return Err(StoreError::Newer { found, known: SCHEMA_VERSION }),
    }
    Ok(database)
}
