//! Secrets that replicas share: a few small texts with names, sealed by who keeps them.

use super::connect::Pool;
use crate::server::storage::StorageError;
use std::sync::Arc;

/// Secrets in the database that replicas share.
pub struct SharedSecrets(pub(super) Arc<Pool>);

impl SharedSecrets {
    /// Those whose numbers are none of `known`: name, number and value. One statement.
    pub fn changed(&self, known: &[i64]) -> Result<Vec<(String, i64, Vec<u8>)>, StorageError> {
        self.0.read(|database| {
            let rows = database.rows(
                "SELECT name, number, value FROM secrets WHERE number <> ALL ($1::bigint[])",
                &[&known],
            )?;
            let secret = |row: &postgres::Row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?));
            rows.iter().map(secret).collect()
        })
    }

    /// Keeps one. Whoever looks sees the former or the new one.
    pub fn keep(&self, name: &str, value: &[u8]) -> Result<(), StorageError> {
        self.0.read(|database| {
            database.run(
                "INSERT INTO secrets (name, number, value) VALUES ($1, nextval('secret_numbers'), $2)
                 ON CONFLICT (name) DO UPDATE SET number = excluded.number, value = excluded.value",
                &[&name, &value],
            )
        })?;
        Ok(())
    }

    /// Puts the same secret, sealed otherwise, in the place of one that has not changed since.
    pub fn reseal(&self, name: &str, number: i64, value: &[u8]) -> Result<(), StorageError> {
        self.0.read(|database| {
            let text = "UPDATE secrets SET value = $3 WHERE name = $1 AND number = $2";
            database.run(text, &[&name, &number, &value])
        })?;
        Ok(())
    }
}
