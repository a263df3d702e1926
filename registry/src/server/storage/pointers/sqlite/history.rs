//! Moves of tags.

use super::{holds, reads::digest_column, reads::known};
use crate::{
    limits,
    server::storage::{
        StorageError,
        pointers::{Change, Condition, ManifestKey, Pulls, TagEvent, TagFacts},
    },
};
use rusqlite::{Connection, OptionalExtension, Row};
use slipway_oci::Digest;

/// What a tag points at.
pub(super) fn tagged(
    database: &Connection,
    repository: i64,
    tag: &str,
) -> Result<Option<Digest>, StorageError> {
    let mut statement =
        database.prepare_cached("SELECT digest FROM tags WHERE repository = ?1 AND name = ?2")?;
    Ok(statement.query_row((repository, tag), |row| digest_column(row, 0)).optional()?)
}

/// What a tag points at, when it was pushed last, and pulled.
pub(super) fn seen(
    database: &Connection,
    repository: i64,
    tag: &str,
) -> Result<Option<(Digest, i64, Option<i64>)>, StorageError> {
    let mut statement = database
        .prepare_cached("SELECT digest, updated, pulled FROM tags WHERE repository = ?1 AND name = ?2")?;
    let row = |row: &Row<'_>| Ok((digest_column(row, 0)?, row.get(1)?, row.get(2)?));
    Ok(statement.query_row((repository, tag), row).optional()?)
}

/// Notes one move, and forgets the oldest beyond [`limits::TAG_MOVES`].
fn note(
    database: &Connection,
    repository: i64,
    tag: &str,
    former: Option<&Digest>,
    digest: Option<&Digest>,
    change: &Change,
) -> Result<(), StorageError> {
    database
        .prepare_cached(
            "INSERT INTO tag_history (repository, tag, former, digest, at, who, origin)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute((
            repository,
            tag,
            former.map(Digest::to_string),
            digest.map(Digest::to_string),
            change.at,
            &change.who,
            &change.origin,
        ))?;
    database
        .prepare_cached(
            "DELETE FROM tag_history WHERE repository = ?1 AND tag = ?2 AND number <= (
                SELECT number FROM tag_history WHERE repository = ?1 AND tag = ?2
                ORDER BY number DESC LIMIT 1 OFFSET ?3)",
        )?
        .execute((repository, tag, limits::TAG_MOVES))?;
    Ok(())
}

/// Points a tag at a manifest, and lets go what it pointed at.
pub(super) fn point(
    database: &Connection,
    repository: i64,
    tag: &str,
    digest: &Digest,
    change: &Change,
) -> Result<(), StorageError> {
    let former = tagged(database, repository, tag)?;
    database
        .prepare_cached(
            "INSERT INTO tags (repository, name, digest, updated) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (repository, name) DO UPDATE SET digest = ?3, updated = ?4",
        )?
        .execute((repository, tag, digest.to_string(), change.at))?;
    if former.as_ref() == Some(digest) {
        return Ok(());
    }
    note(database, repository, tag, former.as_ref(), Some(digest), change)?;
    match former {
        Some(former) => holds::settle(database, repository, &former.to_string(), false, change.at),
        None => Ok(()),
    }
}

/// Takes a tag away. `orphan`: what it pointed at goes with it, unless something else holds that.
pub(super) fn unpoint(
    database: &Connection,
    repository: i64,
    tag: &str,
    digest: &Digest,
    orphan: bool,
    change: &Change,
) -> Result<(), StorageError> {
    database
        .prepare_cached("DELETE FROM tags WHERE repository = ?1 AND name = ?2")?
        .execute((repository, tag))?;
    note(database, repository, tag, Some(digest), None, change)?;
    holds::settle(database, repository, &digest.to_string(), orphan, change.at)
}

/// Points a tag at a manifest that has to be there.
pub(super) fn set(
    database: &Connection,
    name: &str,
    tag: &str,
    digest: &Digest,
    condition: &Condition,
    change: &Change,
) -> Result<(), StorageError> {
    let repository = known(database, name)?;
    condition.check(tag, tagged(database, repository, tag)?.as_ref())?;
    let text = digest.to_string();
    let mut statement = database.prepare_cached(
        "SELECT 1 FROM manifests WHERE repository = ?1 AND digest = ?2 AND deleted IS NULL",
    )?;
    let found = statement.query_row((repository, &text), |_| Ok(())).optional()?;
    found.ok_or_else(|| StorageError::ManifestUnknown(text.clone()))?;
    point(database, repository, tag, digest, change)?;
    holds::settle(database, repository, &text, false, change.at)
}

fn optional_digest(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<Digest>> {
    let text: Option<String> = row.get(index)?;
    text.map(|_| digest_column(row, index)).transpose()
}

pub(super) fn list(
    database: &Connection,
    name: &str,
    tag: Option<&str>,
    before: i64,
    count: u64,
) -> Result<Vec<TagEvent>, StorageError> {
    let repository = known(database, name)?;
    let mut statement = database.prepare_cached(
        "SELECT number, tag, former, digest, at, who, origin FROM tag_history
         WHERE repository = ?1 AND (?2 IS NULL OR tag = ?2) AND number < ?3 ORDER BY number DESC LIMIT ?4",
    )?;
    let event = |row: &Row<'_>| {
        let change = Change { at: row.get(4)?, who: row.get(5)?, origin: row.get(6)? };
        let (former, digest) = (optional_digest(row, 2)?, optional_digest(row, 3)?);
        Ok(TagEvent { number: row.get(0)?, tag: row.get(1)?, former, digest, change })
    };
    let events = statement.query_map((repository, tag, before, count), event)?.collect::<Result<_, _>>()?;
    Ok(events)
}

pub(super) fn facts(
    database: &Connection,
    name: &str,
    last: &str,
    count: u64,
) -> Result<Vec<TagFacts>, StorageError> {
    let repository = known(database, name)?;
    let mut statement = database.prepare_cached(
        "SELECT name, digest, updated, pulled, pulls FROM tags WHERE repository = ?1 AND name > ?2
         ORDER BY name LIMIT ?3",
    )?;
    let facts = |row: &Row<'_>| {
        let digest = digest_column(row, 1)?;
        Ok(TagFacts {
            tag: row.get(0)?,
            digest,
            updated: row.get(2)?,
            pulled: row.get(3)?,
            pulls: row.get(4)?,
        })
    };
    let all = statement.query_map((repository, last, count), facts)?.collect::<Result<_, _>>()?;
    Ok(all)
}

pub(super) fn record_pulls(database: &Connection, pulls: &[Pulls]) -> Result<(), StorageError> {
    for one in pulls {
        let statement = match one.key {
            ManifestKey::Tag(_) => {
                "UPDATE tags SET pulled = max(coalesce(pulled, 0), ?3), pulls = pulls + ?4
                 WHERE name = ?2 AND repository = (SELECT id FROM repositories WHERE name = ?1)"
            }
            ManifestKey::Digest(_) => {
                "UPDATE tags SET pulled = max(coalesce(pulled, 0), ?3), pulls = pulls + ?4
                 WHERE digest = ?2 AND repository = (SELECT id FROM repositories WHERE name = ?1)"
            }
        };
        let key = one.key.to_string();
        database.prepare_cached(statement)?.execute((&one.repository, key, one.at, one.count))?;
    }
    Ok(())
}
