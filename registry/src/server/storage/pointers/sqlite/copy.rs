//! A copy of the whole database as it is at one moment, made while others write.

use super::{reads, schema};
use crate::server::storage::{StorageError, error::io_error};
use rusqlite::Connection;
use slipway_oci::Digest;
use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

/// Copies the database into a file that is not there yet, and brings it to the disk. What is of one machine and moment alone stays behind:
/// unfinished uploads, and content that was on its way out.
pub(in crate::server::storage) fn copy(from: &Path, to: &Path) -> Result<(), StorageError> {
    let source = schema::connect(from)?;
    // a read transaction: writers go on (lang_vacuum.html, "VACUUM INTO")
    source.execute("VACUUM INTO ?1", [to.to_string_lossy()])?;
    drop(source);
    let target = Connection::open(to)?;
    target.execute_batch("PRAGMA journal_mode = DELETE; DELETE FROM uploads; DELETE FROM condemned;")?;
    // the copy is no end of a move
    super::rows::release(&target)?;
    target.close().map_err(|(_, error)| error)?;
    File::open(to).and_then(|file| file.sync_all()).map_err(io_error("sync", to))
}

fn with_end(database: &Path, end: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

fn remove_file(path: &Path) -> Result<(), StorageError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Removes what SQLite keeps beside a database whose place another one is about to take.
pub(in crate::server::storage) fn remove_log(database: &Path) -> Result<(), StorageError> {
    ["-wal", "-shm", "-journal"].into_iter().try_for_each(|end| remove_file(&with_end(database, end)))
}

/// Removes a database and what SQLite keeps beside it.
pub(in crate::server::storage) fn remove(database: &Path) -> Result<(), StorageError> {
    remove_file(database)?;
    remove_log(database)
}

/// A copy that nobody changes.
pub(in crate::server::storage) struct Snapshot(Connection);

impl Snapshot {
    pub(in crate::server::storage) fn open(path: &Path) -> Result<Snapshot, StorageError> {
        Ok(Snapshot(Connection::open(path)?))
    }

    /// Bytes of all content.
    pub(in crate::server::storage) fn bytes(&self) -> Result<u64, StorageError> {
        super::survey::bytes_of(&self.0)
    }

    /// Content after `last`, in the order of text.
    pub(in crate::server::storage) fn contents(
        &self,
        last: &str,
        count: u64,
    ) -> Result<Vec<(Digest, u64)>, StorageError> {
        reads::contents(&self.0, last, count)
    }

    /// Whether anything points at the content.
    pub(in crate::server::storage) fn has(&self, digest: &Digest) -> Result<bool, StorageError> {
        reads::is_needed(&self.0, digest)
    }
}
