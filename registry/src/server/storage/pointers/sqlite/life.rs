//! What goes and what comes back: loose pointers, the trash.

use super::{
    holds,
    reads::{digest_column, known},
    writes::condemn,
};
use crate::server::storage::{
    StorageError,
    pointers::{Candidate, Kind, Pointer, Reason, Undeleted},
};
use rusqlite::{Connection, OptionalExtension};
use slipway_oci::Digest;

/// Where pointers of one kind that may go for a reason stand.
fn places(reason: Reason) -> &'static [(Kind, &'static str, &'static str)] {
    match reason {
        Reason::Loose => &[
            (Kind::Manifest, "manifests", "t.loose < ?1 AND t.orphan = 1 AND t.deleted IS NULL"),
            (Kind::Blob, "blobs", "t.loose < ?1 AND t.deleted IS NULL"),
        ],
        Reason::Untagged => &[(Kind::Manifest, "manifests", "t.loose < ?1 AND t.deleted IS NULL")],
        Reason::Trashed => {
            &[(Kind::Manifest, "manifests", "t.deleted < ?1"), (Kind::Blob, "blobs", "t.deleted < ?1")]
        }
    }
}

pub(super) fn candidates(
    database: &Connection,
    reason: Reason,
    repository: Option<&str>,
    before: i64,
    count: u64,
) -> Result<Vec<Candidate>, StorageError> {
    let mut found = Vec::new();
    for (kind, table, wanted) in places(reason) {
        let since = if reason == Reason::Trashed { "deleted" } else { "loose" };
        let mut statement = database.prepare_cached(&format!(
            "SELECT r.name, t.digest, t.size, t.{since} FROM {table} t JOIN repositories r ON r.id = t.repository
             WHERE {wanted} AND (?3 IS NULL OR r.name = ?3) ORDER BY t.{since}, r.name, t.digest LIMIT ?2"
        ))?;
        let candidate = |row: &rusqlite::Row<'_>| {
            let pointer = Pointer { repository: row.get(0)?, kind: *kind, digest: digest_column(row, 1)? };
            Ok(Candidate { pointer, size_bytes: row.get(2)?, since: row.get(3)? })
        };
        let left = count - found.len() as u64;
        for row in statement.query_map((before, left, repository), candidate)? {
            found.push(row?);
        }
    }
    Ok(found)
}

pub(super) fn collect(
    database: &Connection,
    pointers: &[Pointer],
    reason: Reason,
    before: i64,
    trash: bool,
    now: i64,
) -> Result<(u64, Vec<Digest>), StorageError> {
    let (mut gone, mut condemned) = (0, Vec::new());
    let mut of: Option<(&str, i64)> = None;
    for pointer in pointers {
        let Some((_, table, wanted)) = places(reason).iter().find(|(kind, ..)| *kind == pointer.kind) else {
            continue;
        };
        // they come sorted by repository
        let name = pointer.repository.as_str();
        let repository = match of {
            Some((last, repository)) if last == name => repository,
            _ => match super::reads::find(database, name)? {
                Some(repository) => of.insert((name, repository)).1,
                None => continue,
            },
        };
        let digest = pointer.digest.to_string();
        // it may have been pushed, named or asked for since it was found
        let still = format!("{table} AS t WHERE {wanted} AND t.repository = ?2 AND t.digest = ?3");
        let taken = match pointer.kind {
            Kind::Blob => {
                let mut statement = database.prepare_cached(&format!("DELETE FROM {still}"))?;
                statement.execute((before, repository, &digest))? > 0
            }
            Kind::Manifest => {
                let mut statement = database.prepare_cached(&format!("SELECT 1 FROM {still}"))?;
                let found = statement.query_row((before, repository, &digest), |_| Ok(())).optional()?;
                if found.is_some() {
                    remove(database, repository, &digest, reason, trash, now)?;
                }
                found.is_some()
            }
        };
        gone += u64::from(taken);
        let stays = trash && pointer.kind == Kind::Manifest && reason != Reason::Trashed;
        if taken && !stays && condemn(database, &pointer.digest, now)? {
            condemned.push(pointer.digest.clone());
        }
    }
    Ok((gone, condemned))
}

/// Takes a manifest away that may go.
fn remove(
    database: &Connection,
    repository: i64,
    digest: &str,
    reason: Reason,
    trash: bool,
    now: i64,
) -> Result<(), StorageError> {
    match reason {
        Reason::Trashed => holds::drop_manifest(database, repository, digest, now),
        Reason::Loose | Reason::Untagged => remove_manifest(database, repository, digest, trash, now),
    }
}

/// Takes a manifest that no tag points at away, for good or into the trash.
pub(super) fn remove_manifest(
    database: &Connection,
    repository: i64,
    digest: &str,
    trash: bool,
    now: i64,
) -> Result<(), StorageError> {
    database
        .prepare_cached(
            "UPDATE manifests SET deleted = ?3, loose = NULL, orphan = 0 WHERE repository = ?1 AND digest = ?2",
        )?
        .execute((repository, digest, now))?;
    holds::orphan_below(database, repository, digest, now)?;
    holds::discount_below(database, repository, digest)?;
    if trash { Ok(()) } else { holds::drop_manifest(database, repository, digest, now) }
}

/// Takes a manifest out of the trash, with what it needs.
pub(super) fn undelete(
    database: &Connection,
    name: &str,
    digest: &Digest,
    now: i64,
) -> Result<Undeleted, StorageError> {
    let repository = known(database, name)?;
    let mut found = Undeleted::default();
    let mut waiting = vec![digest.to_string()];
    while let Some(one) = waiting.pop() {
        let pointer = |kind, digest| Pointer { repository: name.to_owned(), kind, digest };
        let revived = database
            .prepare_cached(
                "UPDATE manifests SET deleted = NULL WHERE repository = ?1 AND digest = ?2 AND deleted IS NOT NULL",
            )?
            .execute((repository, &one))?;
        if revived == 0 {
            continue;
        }
        let parsed: Digest = one.parse().expect("only digests are stored");
        found.back.push(pointer(Kind::Manifest, parsed));
        for target in needed(database, repository, &one)? {
            let text = target.to_string();
            let count = database
                .prepare_cached(
                    "UPDATE blobs SET deleted = NULL WHERE repository = ?1 AND digest = ?2 AND deleted IS NOT NULL",
                )?
                .execute((repository, &text))?;
            if count > 0 {
                found.back.push(pointer(Kind::Blob, target.clone()));
            }
            if !is_there(database, repository, &text)? {
                found.missing.push(target);
            }
            waiting.push(text);
        }
        holds::hold_below(database, repository, &one)?;
        holds::settle(database, repository, &one, false, now)?;
    }
    if found.back.is_empty() { Err(StorageError::ManifestUnknown(digest.to_string())) } else { Ok(found) }
}

/// What a manifest needs.
fn needed(database: &Connection, repository: i64, digest: &str) -> Result<Vec<Digest>, StorageError> {
    let mut statement = database.prepare_cached(
        "SELECT target FROM edges WHERE repository = ?1 AND manifest = ?2 AND kind IN (1, 2) ORDER BY target",
    )?;
    let edges =
        statement.query_map((repository, digest), |row| digest_column(row, 0))?.collect::<Result<_, _>>()?;
    Ok(edges)
}

/// Whether a repository has something, in the trash too.
fn is_there(database: &Connection, repository: i64, digest: &str) -> Result<bool, StorageError> {
    let mut statement = database.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM blobs WHERE repository = ?1 AND digest = ?2)
             OR EXISTS (SELECT 1 FROM manifests WHERE repository = ?1 AND digest = ?2)",
    )?;
    Ok(statement.query_row((repository, digest), |row| row.get(0))?)
}
