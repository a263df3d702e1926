//! Upload sessions.

use crate::server::storage::{
    StorageError, UploadId,
    pointers::{Progress, Session, SessionCaps},
};
use rusqlite::{Connection, OptionalExtension};
use slipway_oci::Algorithm;

pub(super) fn start(
    database: &Connection,
    repository: &str,
    id: &UploadId,
    session: &Session,
    caps: SessionCaps,
    now: i64,
) -> Result<(), StorageError> {
    let mine: u64 = database
        .prepare_cached("SELECT count(*) FROM uploads WHERE repository = ?1")?
        .query_row([repository], |row| row.get(0))?;
    let all: u64 =
        database.prepare_cached("SELECT count(*) FROM uploads")?.query_row([], |row| row.get(0))?;
    if mine >= caps.repository || all >= caps.registry {
        return Err(StorageError::SessionsMany);
    }
    database
        .prepare_cached(
            "INSERT INTO uploads (id, repository, algorithm, started, touched, length, hash, place)
             VALUES (?1, ?2, ?3, ?4, ?4, ?5, ?6, ?7)",
        )?
        .execute((
            id.as_str(),
            repository,
            session.algorithm.name(),
            now,
            session.progress.length,
            &session.progress.hash,
            &session.progress.place,
        ))?;
    Ok(())
}

pub(super) fn find(database: &Connection, repository: &str, id: &UploadId) -> Result<Session, StorageError> {
    let found = database
        .prepare_cached(
            "SELECT algorithm, length, hash, place FROM uploads WHERE id = ?1 AND repository = ?2",
        )?
        .query_row((id.as_str(), repository), |row| {
            let name: String = row.get(0)?;
            let algorithm = if name == "sha512" { Algorithm::Sha512 } else { Algorithm::Sha256 };
            let progress = Progress { length: row.get(1)?, hash: row.get(2)?, place: row.get(3)? };
            Ok(Session { algorithm, progress })
        })
        .optional()?;
    found.ok_or(StorageError::UploadUnknown)
}

pub(super) fn advance(
    database: &Connection,
    id: &UploadId,
    from: u64,
    progress: &Progress,
    now: i64,
) -> Result<(), StorageError> {
    let count = database
        .prepare_cached(
            "UPDATE uploads SET length = ?3, hash = ?4, place = ?5, touched = ?6 WHERE id = ?1 AND length = ?2",
        )?
        .execute((id.as_str(), from, progress.length, &progress.hash, &progress.place, now))?;
    match count {
        0 if exists(database, id)? => Err(StorageError::UploadBusy),
        0 => Err(StorageError::UploadUnknown),
        _ => Ok(()),
    }
}

pub(super) fn end(database: &Connection, id: &UploadId) -> Result<(), StorageError> {
    database.prepare_cached("DELETE FROM uploads WHERE id = ?1")?.execute([id.as_str()])?;
    Ok(())
}

pub(super) fn idle(
    database: &Connection,
    repository: Option<&str>,
    before: i64,
    count: u64,
) -> Result<Vec<UploadId>, StorageError> {
    let id = |row: &rusqlite::Row<'_>| row.get::<_, String>(0);
    let names: Vec<String> = match repository {
        Some(repository) => database
            .prepare_cached(
                "SELECT id FROM uploads WHERE repository = ?1 AND touched < ?2 ORDER BY touched LIMIT ?3",
            )?
            .query_map((repository, before, count), id)?
            .collect::<Result<_, _>>()?,
        None => database
            .prepare_cached("SELECT id FROM uploads WHERE touched < ?1 ORDER BY touched LIMIT ?2")?
            .query_map((before, count), id)?
            .collect::<Result<_, _>>()?,
    };
    names.iter().map(|name| name.parse()).collect()
}

pub(super) fn exists(database: &Connection, id: &UploadId) -> Result<bool, StorageError> {
    let mut statement = database.prepare_cached("SELECT EXISTS (SELECT 1 FROM uploads WHERE id = ?1)")?;
    Ok(statement.query_row([id.as_str()], |row| row.get(0))?)
}
