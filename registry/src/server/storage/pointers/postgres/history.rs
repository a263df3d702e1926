//! Moves of tags.

use super::{
    connect::Database,
    holds,
    reads::known,
    row::{Outside, digest, natural, number, optional_digest, optional_outside},
};
use crate::{
    limits,
    server::storage::{
        StorageError,
        pointers::{Change, Condition, ManifestKey, Pulls, TagEvent, TagFacts},
    },
};
use postgres::Row;
use slipway_oci::Digest;

/// What a tag points at.
pub(super) fn tagged(
    database: &mut Database,
    repository: i64,
    tag: &str,
) -> Result<Option<Digest>, StorageError> {
    Ok(seen(database, repository, tag)?.map(|(digest, ..)| digest))
}

/// What a tag points at, when it was pushed last, and pulled.
pub(super) fn seen(
    database: &mut Database,
    repository: i64,
    tag: &str,
) -> Result<Option<(Digest, i64, Option<i64>)>, StorageError> {
    let row = database.row(
        "SELECT digest, updated, pulled FROM tags WHERE repository = $1 AND name = $2",
        &[&repository, &tag],
    )?;
    row.map(|row| Ok((digest(&row, 0)?, row.try_get(1)?, row.try_get(2)?))).transpose()
}

/// Notes one move, and forgets the oldest beyond [`limits::TAG_MOVES`].
fn note(
    database: &mut Database,
    repository: i64,
    tag: &str,
    former: Option<&Digest>,
    digest: Option<&Digest>,
    change: &Change,
) -> Result<(), StorageError> {
    let (former, digest) = (former.map(Digest::to_string), digest.map(Digest::to_string));
    let (who, origin) = (change.who.as_deref().map(Outside), change.origin.as_deref().map(Outside));
    database.run(
        "INSERT INTO tag_history (repository, tag, former, digest, at, who, origin)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
        &[&repository, &tag, &former, &digest, &change.at, &who, &origin],
    )?;
    database.run(
        "DELETE FROM tag_history WHERE repository = $1 AND tag = $2 AND number <= (
            SELECT number FROM tag_history WHERE repository = $1 AND tag = $2
            ORDER BY number DESC LIMIT 1 OFFSET $3)",
        &[&repository, &tag, &number(limits::TAG_MOVES)],
    )?;
    Ok(())
}

/// Points a tag at a manifest, and lets go what it pointed at.
pub(super) fn point(
    database: &mut Database,
    repository: i64,
    tag: &str,
    digest: &Digest,
    change: &Change,
) -> Result<(), StorageError> {
    let former = tagged(database, repository, tag)?;
    database.run(
        "INSERT INTO tags (repository, name, digest, updated) VALUES ($1, $2, $3, $4)
         ON CONFLICT (repository, name) DO UPDATE SET digest = excluded.digest, updated = excluded.updated",
        &[&repository, &tag, &digest.to_string(), &change.at],
    )?;
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
    database: &mut Database,
    repository: i64,
    tag: &str,
    digest: &Digest,
    orphan: bool,
    change: &Change,
) -> Result<(), StorageError> {
    database.run("DELETE FROM tags WHERE repository = $1 AND name = $2", &[&repository, &tag])?;
    note(database, repository, tag, Some(digest), None, change)?;
    holds::settle(database, repository, &digest.to_string(), orphan, change.at)
}

/// Points a tag at a manifest that has to be there.
pub(super) fn set(
    database: &mut Database,
    name: &str,
    tag: &str,
    digest: &Digest,
    condition: &Condition,
    change: &Change,
) -> Result<(), StorageError> {
    let repository = known(database, name)?;
    condition.check(tag, tagged(database, repository, tag)?.as_ref())?;
    let text = digest.to_string();
    if !super::writes::is_manifest(database, repository, &text)? {
        return Err(StorageError::ManifestUnknown(text));
    }
    point(database, repository, tag, digest, change)?;
    holds::settle(database, repository, &text, false, change.at)
}

pub(super) fn list(
    database: &mut Database,
    name: &str,
    tag: Option<&str>,
    before: i64,
    count: u64,
) -> Result<Vec<TagEvent>, StorageError> {
    let repository = known(database, name)?;
    let rows = database.rows(
        "SELECT number, tag, former, digest, at, who, origin FROM tag_history
         WHERE repository = $1 AND ($2::text IS NULL OR tag = $2) AND number < $3 ORDER BY number DESC LIMIT $4",
        &[&repository, &tag, &before, &number(count)],
    )?;
    let event = |row: &Row| {
        let (who, origin) = (optional_outside(row, 5)?, optional_outside(row, 6)?);
        let change = Change { at: row.try_get(4)?, who, origin };
        let (former, digest) = (optional_digest(row, 2)?, optional_digest(row, 3)?);
        Ok(TagEvent { number: row.try_get(0)?, tag: row.try_get(1)?, former, digest, change })
    };
    rows.iter().map(event).collect()
}

pub(super) fn facts(
    database: &mut Database,
    name: &str,
    last: &str,
    count: u64,
) -> Result<Vec<TagFacts>, StorageError> {
    let repository = known(database, name)?;
    let rows = database.rows(
        "SELECT name, digest, updated, pulled, pulls FROM tags WHERE repository = $1 AND name > $2
         ORDER BY name LIMIT $3",
        &[&repository, &last, &number(count)],
    )?;
    let facts = |row: &Row| {
        Ok(TagFacts {
            tag: row.try_get(0)?,
            digest: digest(row, 1)?,
            updated: row.try_get(2)?,
            pulled: row.try_get(3)?,
            pulls: natural(row, 4)?,
        })
    };
    rows.iter().map(facts).collect()
}

pub(super) fn record_pulls(database: &mut Database, pulls: &[Pulls]) -> Result<(), StorageError> {
    // in one order, so that two replicas do not wait for each other's rows
    let mut pulls: Vec<(String, &Pulls)> = pulls.iter().map(|one| (one.key.to_string(), one)).collect();
    pulls.sort_by(|(key, one), (other, another)| (&one.repository, key).cmp(&(&another.repository, other)));
    for (key, one) in pulls {
        let column = match one.key {
            ManifestKey::Tag(_) => "name",
            ManifestKey::Digest(_) => "digest",
        };
        let text = format!(
            "UPDATE tags SET pulled = greatest(coalesce(pulled, 0), $3), pulls = pulls + $4
             WHERE {column} = $2 AND repository = (SELECT id FROM repositories WHERE name = $1)"
        );
        database.run(&text, &[&one.repository, &key, &one.at, &number(one.count)])?;
    }
    Ok(())
}
