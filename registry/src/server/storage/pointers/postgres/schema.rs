//! The tables: made by whoever comes first, refused where another version made them.

use super::connect::{Database, Pool};
use crate::server::storage::StorageError;

/// The version of `schema.sql`.
const VERSION: i64 = 1;

/// Its key among the advisory locks (see [`super::locks`]).
const LOCK: i64 = 3 << 60;

/// Makes the tables where there are none. Any number of replicas may begin at once.
pub(super) fn prepare(pool: &Pool) -> Result<(), StorageError> {
    pool.write(|database| {
        database.row("SELECT pg_advisory_xact_lock($1)", &[&LOCK])?;
        match found(database)? {
            Some(VERSION) => Ok(()),
            Some(found) if found > VERSION => Err(StorageError::Newer { found, known: VERSION }),
            Some(found) => Err(StorageError::Older { found, known: VERSION }),
            None => make(database),
        }
    })
}

fn found(database: &mut Database) -> Result<Option<i64>, StorageError> {
    if !database.one::<bool>("SELECT to_regclass('slipway.version') IS NOT NULL", &[])? {
        return Ok(None);
    }
    Ok(Some(database.one("SELECT number FROM slipway.version", &[])?))
}

fn make(database: &mut Database) -> Result<(), StorageError> {
    // a role that may not make schemas may have been given this one
    if !database.one::<bool>("SELECT to_regnamespace('slipway') IS NOT NULL", &[])? {
        database.batch("CREATE SCHEMA slipway")?;
    }
    database.batch("CREATE TABLE slipway.version (number bigint NOT NULL)")?;
    database.batch(include_str!("schema.sql"))?;
    database.run("INSERT INTO slipway.version VALUES ($1)", &[&VERSION])?;
    Ok(())
}
