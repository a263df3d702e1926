//! What goes and what comes back: loose pointers, the trash.

use super::{
    connect::Database,
    holds,
    reads::{find, known},
    row::{digest, digests, natural, number},
    writes::condemn,
};
use crate::server::storage::{
    StorageError,
    pointers::{Candidate, Kind, Pointer, Reason, Undeleted},
};
use postgres::types::ToSql;
use slipway_oci::Digest;

/// Where pointers of one kind that may go for a reason stand.
pub(super) fn places(reason: Reason) -> &'static [(Kind, &'static str, &'static str)] {
    match reason {
        Reason::Loose => &[
            (Kind::Manifest, "manifests", "t.loose < $1 AND t.orphan AND t.deleted IS NULL"),
            (Kind::Blob, "blobs", "t.loose < $1 AND t.deleted IS NULL"),
        ],
        Reason::Untagged => &[(Kind::Manifest, "manifests", "t.loose < $1 AND t.deleted IS NULL")],
        Reason::Trashed => {
            &[(Kind::Manifest, "manifests", "t.deleted < $1"), (Kind::Blob, "blobs", "t.deleted < $1")]
        }
    }
}

/// What finds them: the oldest come by an index, and no more are looked at than are asked for.
pub(super) fn found_text(table: &str, wanted: &str, since: &str, of_repository: bool) -> String {
    let own =
        if of_repository { "AND t.repository = (SELECT id FROM repositories WHERE name = $3)" } else { "" };
    format!(
        "SELECT r.name, t.digest, t.size, t.{since}
         FROM (SELECT * FROM {table} t WHERE {wanted} {own} ORDER BY t.{since} LIMIT $2) AS t
         JOIN repositories r ON r.id = t.repository ORDER BY t.{since}, r.name, t.digest"
    )
}

pub(super) fn candidates(
    database: &mut Database,
    reason: Reason,
    repository: Option<&str>,
    before: i64,
    count: u64,
) -> Result<Vec<Candidate>, StorageError> {
    let mut found = Vec::new();
    for (kind, table, wanted) in places(reason) {
        let since = if reason == Reason::Trashed { "deleted" } else { "loose" };
        let text = found_text(table, wanted, since, repository.is_some());
        let left = number(count - found.len() as u64);
        let mut values: Vec<&(dyn ToSql + Sync)> = vec![&before, &left];
        values.extend(repository.as_ref().map(|name| name as &(dyn ToSql + Sync)));
        for row in database.rows(&text, &values)? {
            let pointer = Pointer { repository: row.try_get(0)?, kind: *kind, digest: digest(&row, 1)? };
            found.push(Candidate { pointer, size_bytes: natural(&row, 2)?, since: row.try_get(3)? });
        }
    }
    Ok(found)
}

pub(super) fn collect(
    database: &mut Database,
    pointers: &[Pointer],
    reason: Reason,
    before: i64,
    trash: bool,
    now: i64,
) -> Result<(u64, Vec<Digest>), StorageError> {
    let (mut gone, mut condemned) = (0, Vec::new());
    for pointer in pointers {
        let Some((_, table, wanted)) = places(reason).iter().find(|(kind, ..)| *kind == pointer.kind) else {
            continue;
        };
        let Some(repository) = find(database, &pointer.repository)? else { continue };
        let digest = pointer.digest.to_string();
        // it may have been pushed, named or asked for since it was found
        let text = format!("SELECT 1 FROM {table} t WHERE {wanted} AND t.repository = $2 AND t.digest = $3");
        if database.row(&text, &[&before, &repository, &digest])?.is_none() {
            continue;
        }
        gone += 1;
        remove(database, repository, pointer, reason, trash, now)?;
        if !stays(pointer, reason, trash) && condemn(database, &pointer.digest, now)? {
            condemned.push(pointer.digest.clone());
        }
    }
    Ok((gone, condemned))
}

/// Whether what is collected stays for a while, in the trash.
pub(super) fn stays(pointer: &Pointer, reason: Reason, trash: bool) -> bool {
    trash && pointer.kind == Kind::Manifest && reason != Reason::Trashed
}

fn remove(
    database: &mut Database,
    repository: i64,
    pointer: &Pointer,
    reason: Reason,
    trash: bool,
    now: i64,
) -> Result<(), StorageError> {
    let digest = pointer.digest.to_string();
    match pointer.kind {
        Kind::Blob => {
            let text = "DELETE FROM blobs WHERE repository = $1 AND digest = $2";
            database.run(text, &[&repository, &digest])?;
            Ok(())
        }
        Kind::Manifest if reason == Reason::Trashed => {
            holds::drop_manifest(database, repository, &digest, now)
        }
        Kind::Manifest => remove_manifest(database, repository, &digest, trash, now),
    }
}

/// Takes a manifest that no tag points at away, for good or into the trash.
pub(super) fn remove_manifest(
    database: &mut Database,
    repository: i64,
    digest: &str,
    trash: bool,
    now: i64,
) -> Result<(), StorageError> {
    database.run(
        "UPDATE manifests SET deleted = $3, loose = NULL, orphan = false WHERE repository = $1 AND digest = $2",
        &[&repository, &digest, &now],
    )?;
    holds::orphan_below(database, repository, digest, now)?;
    holds::discount_below(database, repository, digest)?;
    if trash { Ok(()) } else { holds::drop_manifest(database, repository, digest, now) }
}

/// Takes a manifest out of the trash, with what it needs.
pub(super) fn undelete(
    database: &mut Database,
    name: &str,
    digest: &Digest,
    now: i64,
) -> Result<Undeleted, StorageError> {
    let repository = known(database, name)?;
    let mut found = Undeleted::default();
    let mut waiting = vec![digest.clone()];
    while let Some(one) = waiting.pop() {
        let text = one.to_string();
        let pointer = |kind, digest| Pointer { repository: name.to_owned(), kind, digest };
        let revived = database.run(
            "UPDATE manifests SET deleted = NULL WHERE repository = $1 AND digest = $2 AND deleted IS NOT NULL",
            &[&repository, &text],
        )?;
        if revived == 0 {
            continue;
        }
        found.back.push(pointer(Kind::Manifest, one));
        for target in needed(database, repository, &text)? {
            let count = database.run(
                "UPDATE blobs SET deleted = NULL WHERE repository = $1 AND digest = $2 AND deleted IS NOT NULL",
                &[&repository, &target.to_string()],
            )?;
            if count > 0 {
                found.back.push(pointer(Kind::Blob, target.clone()));
            }
            if !is_there(database, repository, &target)? {
                found.missing.push(target.clone());
            }
            waiting.push(target);
        }
        holds::hold_below(database, repository, &text)?;
        holds::settle(database, repository, &text, false, now)?;
    }
    if found.back.is_empty() { Err(StorageError::ManifestUnknown(digest.to_string())) } else { Ok(found) }
}

/// What a manifest needs.
fn needed(database: &mut Database, repository: i64, digest: &str) -> Result<Vec<Digest>, StorageError> {
    let rows = database.rows(
        "SELECT target FROM edges WHERE repository = $1 AND manifest = $2 AND kind IN (1, 2) ORDER BY target",
        &[&repository, &digest],
    )?;
    Ok(digests(&rows)?)
}

/// Whether a repository has something, in the trash too.
fn is_there(database: &mut Database, repository: i64, digest: &Digest) -> Result<bool, StorageError> {
    database.one(
        "SELECT EXISTS (SELECT 1 FROM blobs WHERE repository = $1 AND digest = $2)
             OR EXISTS (SELECT 1 FROM manifests WHERE repository = $1 AND digest = $2)",
        &[&repository, &digest.to_string()],
    )
}
