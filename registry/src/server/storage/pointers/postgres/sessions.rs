//! Upload sessions, and the keys that tokens are signed with.

use super::{
    connect::Database,
    row::{natural, number, texts},
};
use crate::server::storage::{
    StorageError, UploadId,
    pointers::{Progress, Session, SessionCaps, SigningKey},
};
use postgres::Row;
use slipway_oci::Algorithm;

/// The caps stop floods: of many replicas that begin sessions in the same moment, each may let one more in.
pub(super) fn start(
    database: &mut Database,
    repository: &str,
    id: &UploadId,
    session: &Session,
    caps: SessionCaps,
    now: i64,
) -> Result<(), StorageError> {
    let Progress { length, hash, place } = &session.progress;
    let count = database.run(
        "INSERT INTO uploads (id, repository, algorithm, started, touched, length, hash, place)
         SELECT $1, $2, $3, $4, $4, $5, $6, $7
         WHERE (SELECT count(*) FROM uploads WHERE repository = $2) < $8 AND (SELECT count(*) FROM uploads) < $9",
        &[
            &id.as_str(),
            &repository,
            &session.algorithm.name(),
            &now,
            &number(*length),
            hash,
            place,
            &number(caps.repository),
            &number(caps.registry),
        ],
    )?;
    if count == 0 { Err(StorageError::SessionsMany) } else { Ok(()) }
}

pub(super) fn find(
    database: &mut Database,
    repository: &str,
    id: &UploadId,
) -> Result<Session, StorageError> {
    let found = database.row(
        "SELECT algorithm, length, hash, place FROM uploads WHERE id = $1 AND repository = $2",
        &[&id.as_str(), &repository],
    )?;
    let row = found.ok_or(StorageError::UploadUnknown)?;
    let name: &str = row.try_get(0)?;
    let algorithm = if name == "sha512" { Algorithm::Sha512 } else { Algorithm::Sha256 };
    let progress = Progress { length: natural(&row, 1)?, hash: row.try_get(2)?, place: row.try_get(3)? };
    Ok(Session { algorithm, progress })
}

pub(super) fn advance(
    database: &mut Database,
    id: &UploadId,
    from: u64,
    progress: &Progress,
    now: i64,
) -> Result<(), StorageError> {
    let count = database.run(
        "UPDATE uploads SET length = $3, hash = $4, place = $5, touched = $6 WHERE id = $1 AND length = $2",
        &[&id.as_str(), &number(from), &number(progress.length), &progress.hash, &progress.place, &now],
    )?;
    match count {
        0 if exists(database, id)? => Err(StorageError::UploadBusy),
        0 => Err(StorageError::UploadUnknown),
        _ => Ok(()),
    }
}

pub(super) fn end(database: &mut Database, id: &UploadId) -> Result<(), StorageError> {
    database.run("DELETE FROM uploads WHERE id = $1", &[&id.as_str()])?;
    Ok(())
}

pub(super) fn idle(
    database: &mut Database,
    repository: Option<&str>,
    before: i64,
    count: u64,
) -> Result<Vec<UploadId>, StorageError> {
    let rows = match repository {
        Some(repository) => database.rows(
            "SELECT id FROM uploads WHERE repository = $1 AND touched < $2 ORDER BY touched LIMIT $3",
            &[&repository, &before, &number(count)],
        )?,
        None => database.rows(
            "SELECT id FROM uploads WHERE touched < $1 ORDER BY touched LIMIT $2",
            &[&before, &number(count)],
        )?,
    };
    texts(&rows)?.iter().map(|name| name.parse()).collect()
}

pub(super) fn exists(database: &mut Database, id: &UploadId) -> Result<bool, StorageError> {
    database.one("SELECT EXISTS (SELECT 1 FROM uploads WHERE id = $1)", &[&id.as_str()])
}

pub(super) fn keys(database: &mut Database) -> Result<Vec<SigningKey>, StorageError> {
    let rows = database.rows("SELECT id, seed, created FROM signing_keys", &[])?;
    let key =
        |row: &Row| Ok(SigningKey { id: row.try_get(0)?, seed: row.try_get(1)?, created: row.try_get(2)? });
    rows.iter().map(key).collect()
}

pub(super) fn reseal(database: &mut Database, id: &str, from: &[u8], to: &[u8]) -> Result<(), StorageError> {
    database.run("UPDATE signing_keys SET seed = $3 WHERE id = $1 AND seed = $2", &[&id, &from, &to])?;
    Ok(())
}

/// Of replicas that begin together one makes the key: the table is locked for the moment.
pub(super) fn add_key(
    database: &mut Database,
    key: &SigningKey,
    young: i64,
    old: i64,
) -> Result<(), StorageError> {
    database.batch("LOCK TABLE signing_keys IN SHARE ROW EXCLUSIVE MODE")?;
    database.run("DELETE FROM signing_keys WHERE created < $1", &[&old])?;
    database.run(
        "INSERT INTO signing_keys (id, seed, created) SELECT $1, $2, $3
         WHERE NOT EXISTS (SELECT 1 FROM signing_keys WHERE created > $4)",
        &[&key.id, &key.seed, &key.created, &young],
    )?;
    Ok(())
}
