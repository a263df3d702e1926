//! A database made from what a journal kept.

use super::{schema, tally, writes};
use crate::{
    limits,
    server::storage::{
        StorageError,
        content::Content,
        described_from,
        keep::{Kept, KeptManifest, KeptMove, KeptRepository, Lost},
        pointers::Change,
    },
};
use rusqlite::Connection;
use slipway_oci::Digest;
use std::{collections::BTreeMap, path::Path};

/// How much there is.
#[derive(Debug, Default)]
pub(in crate::server::storage) struct Rebuilt {
    pub(in crate::server::storage) blobs: u64,
    pub(in crate::server::storage) manifests: u64,
    pub(in crate::server::storage) tags: u64,
}

/// What holds what, where all is there.
const SETTLE: &str = "
UPDATE blobs SET loose = CASE WHEN EXISTS (
    SELECT 1 FROM edges e WHERE e.repository = blobs.repository AND e.target = blobs.digest AND e.kind IN (1, 2))
    THEN NULL ELSE ?1 END;
UPDATE manifests SET orphan = 0, loose = CASE WHEN deleted IS NOT NULL OR EXISTS (
    SELECT 1 FROM tags t WHERE t.repository = manifests.repository AND t.digest = manifests.digest)
OR EXISTS (
    SELECT 1 FROM edges e JOIN manifests p ON p.repository = e.repository AND p.digest = e.manifest AND p.deleted IS NULL
    WHERE e.repository = manifests.repository AND e.target = manifests.digest AND e.kind = 2)
OR EXISTS (
    SELECT 1 FROM manifests s WHERE s.repository = manifests.repository AND s.digest = manifests.subject
    AND s.deleted IS NULL)
    THEN NULL ELSE ?1 END;
";

/// Makes the database at `path`, where none is.
pub(in crate::server::storage) fn rebuild(
    path: &Path,
    kept: &Kept,
    content: &dyn Content,
    now: i64,
    lost: &dyn Fn(&Lost),
) -> Result<Rebuilt, StorageError> {
    let mut database = schema::open(path)?;
    let mut done = Rebuilt::default();
    let transaction = database.transaction()?;
    for (name, own) in kept {
        let told = |digest: &Digest| {
            lost(&Lost::Content { repository: name.clone(), digest: digest.clone() });
        };
        let repository = writes::ensure(&transaction, name)?;
        for (digest, blob) in &own.blobs {
            transaction
                .prepare_cached(
                    "INSERT INTO blobs (repository, digest, size, deleted) VALUES (?1, ?2, ?3, ?4)",
                )?
                .execute((repository, digest.to_string(), blob.size_bytes, blob.deleted))?;
            done.blobs += 1;
            if content.size(digest)? != Some(blob.size_bytes) {
                told(digest);
            }
        }
        for (digest, manifest) in &own.manifests {
            put_manifest(&transaction, (name, repository), digest, manifest, content, &told)?;
            done.manifests += 1;
        }
        done.tags += put_tags(&transaction, name, repository, own, lost)?;
    }
    for statement in SETTLE.split_inclusive(';').filter(|text| !text.trim().is_empty()) {
        transaction.execute(statement, [now])?;
    }
    transaction.execute_batch(tally::COUNTED)?;
    transaction.commit()?;
    // what is renamed next is one file
    database.pragma_update(None, "wal_checkpoint", "TRUNCATE")?;
    Ok(done)
}

fn put_manifest(
    database: &Connection,
    (name, repository): (&str, i64),
    digest: &Digest,
    kept: &KeptManifest,
    content: &dyn Content,
    told: &dyn Fn(&Digest),
) -> Result<(), StorageError> {
    let KeptManifest { media_type, size_bytes, pushed, deleted } = kept;
    let described = described_from(content, digest, *size_bytes, Some(media_type))?;
    let put = described.map(|mut manifest| {
        // what it needs was looked at when it was pushed
        manifest.required.iter_mut().for_each(|required| required.optional = true);
        writes::put_manifest(database, name, &manifest, &Change { at: *pushed, ..Change::default() })
    });
    match put {
        // bytes that are gone or wrong, or that contradict a blob of the journal: the pointer stays for the push that heals it
        None | Some(Err(StorageError::ReferenceSize { .. })) => {
            told(digest);
            let row = (repository, digest.to_string(), media_type, size_bytes, pushed);
            database
                .prepare_cached(
                    "INSERT INTO manifests (repository, digest, media_type, size, pushed) VALUES (?1, ?2, ?3, ?4, ?5)",
                )?
                .execute(row)?;
        }
        Some(other) => other?,
    }
    if deleted.is_some() {
        database
            .prepare_cached("UPDATE manifests SET deleted = ?3 WHERE repository = ?1 AND digest = ?2")?
            .execute((repository, digest.to_string(), deleted))?;
    }
    Ok(())
}

fn put_tags(
    database: &Connection,
    name: &str,
    repository: i64,
    own: &KeptRepository,
    lost: &dyn Fn(&Lost),
) -> Result<u64, StorageError> {
    let mut count = 0;
    for (tag, (digest, updated)) in &own.tags {
        if own.manifests.get(digest).is_none_or(|manifest| manifest.deleted.is_some()) {
            let (repository, tag, digest) = (name.to_owned(), tag.clone(), digest.clone());
            lost(&Lost::Tag { repository, tag, digest });
            continue;
        }
        database
            .prepare_cached("INSERT INTO tags (repository, name, digest, updated) VALUES (?1, ?2, ?3, ?4)")?
            .execute((repository, tag, digest.to_string(), updated))?;
        count += 1;
    }
    let mut of_tag: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    own.moves.iter().enumerate().for_each(|(at, one)| of_tag.entry(&one.tag).or_default().push(at));
    let most = limits::TAG_MOVES as usize;
    let mut newest: Vec<usize> =
        of_tag.into_values().flat_map(|all| all[all.len().saturating_sub(most)..].to_vec()).collect();
    newest.sort_unstable();
    for KeptMove { at, tag, former, digest, who, origin } in newest.into_iter().map(|at| &own.moves[at]) {
        database
            .prepare_cached(
                "INSERT INTO tag_history (repository, tag, former, digest, at, who, origin)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute((repository, tag, former, digest, at, who, origin))?;
    }
    Ok(count)
}
