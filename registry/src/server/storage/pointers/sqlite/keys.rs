//! The keys that tokens are signed with.

use crate::server::storage::{StorageError, pointers::SigningKey};
use rusqlite::Connection;

pub(super) fn all(database: &Connection) -> Result<Vec<SigningKey>, StorageError> {
    let mut statement = database.prepare_cached("SELECT id, seed, created FROM signing_keys")?;
    let key =
        |row: &rusqlite::Row<'_>| Ok(SigningKey { id: row.get(0)?, seed: row.get(1)?, created: row.get(2)? });
    let keys = statement.query_map([], key)?.collect::<Result<_, _>>()?;
    Ok(keys)
}

pub(super) fn add(database: &Connection, key: &SigningKey, young: i64, old: i64) -> Result<(), StorageError> {
    database.prepare_cached("DELETE FROM signing_keys WHERE created < ?1")?.execute([old])?;
    database
        .prepare_cached(
            "INSERT INTO signing_keys (id, seed, created) SELECT ?1, ?2, ?3
             WHERE NOT EXISTS (SELECT 1 FROM signing_keys WHERE created > ?4)",
        )?
        .execute((&key.id, &key.seed, key.created, young))?;
    Ok(())
}
