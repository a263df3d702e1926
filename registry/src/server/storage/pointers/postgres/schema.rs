//! The tables: made by whoever comes first, brought up to date by whoever is newer, refused by whoever is older.
//!
//! A step adds and takes nothing away that the version before it reads or writes: replicas of that version, which looked when they
//! began, go on serving beside the newer ones until they are replaced.

use super::{
    address::DatabaseAddress,
    connect::{Database, Pool},
};
use crate::server::storage::StorageError;

/// What makes each version of the one before.
pub(super) const STEPS: [&str; 5] = [
    include_str!("schema.sql"),
    include_str!("schema_2.sql"),
    include_str!("schema_3.sql"),
    include_str!("schema_4.sql"),
    include_str!("schema_5.sql"),
];

/// The version that all of them make.
const VERSION: i64 = STEPS.len() as i64;

/// Its key among the advisory locks (see [`super::locks`]).
const LOCK: i64 = 3 << 60;

/// Whether a database is a registry's at all.
pub(super) fn exists(pool: &Pool, address: &DatabaseAddress) -> Result<(), StorageError> {
    match pool.read(found)? {
        0 => Err(StorageError::NoTables(address.to_string())),
        _ => Ok(()),
    }
}

/// Makes the tables, or what they lack. Any number of replicas may begin at once.
pub(super) fn prepare(pool: &Pool) -> Result<(), StorageError> {
    pool.write(|database| {
        // an index over everything that is there takes its time
        database.take_time()?;
        database.row("SELECT pg_advisory_xact_lock($1)", &[&LOCK])?;
        let found = found(database)?;
        if found > VERSION {
            return Err(StorageError::Newer { found, known: VERSION });
        }
        if found == 0 {
            begin(database)?;
        }
        for step in &STEPS[usize::try_from(found).unwrap_or_default()..] {
            database.batch(step)?;
        }
        database.run("UPDATE slipway.version SET number = $1 WHERE number < $1", &[&VERSION])?;
        Ok(())
    })
}

/// The version of the tables, or 0 where there are none.
fn found(database: &mut Database) -> Result<i64, StorageError> {
    if !database.one::<bool>("SELECT to_regclass('slipway.version') IS NOT NULL", &[])? {
        return Ok(0);
    }
    database.one("SELECT number FROM slipway.version", &[])
}

fn begin(database: &mut Database) -> Result<(), StorageError> {
    // a role that may not make schemas may have been given this one
    if !database.one::<bool>("SELECT to_regnamespace('slipway') IS NOT NULL", &[])? {
        database.batch("CREATE SCHEMA slipway")?;
    }
    database.batch("CREATE TABLE slipway.version (number bigint NOT NULL)")?;
    database.batch("INSERT INTO slipway.version VALUES (0)")
}
