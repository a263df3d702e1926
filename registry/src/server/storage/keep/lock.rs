//! Who has a registry's folder open: any number who work by its rules, or one who makes it anew.

use crate::{
    limits,
    server::storage::{StorageError, error::io_error},
};
use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    path::Path,
    thread,
    time::{Duration, Instant},
};

/// The file that says who has the folder open.
const USED: &str = "in-use.lock";

/// The file that a backup holds while deleted content has to stay.
const HOLD: &str = "backup.lock";

fn open(folder: &Path, name: &str) -> Result<File, StorageError> {
    let path = folder.join(name);
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    file.map_err(io_error("open", &path))
}

fn held(folder: &Path, file: File, locked: Result<(), TryLockError>) -> Result<File, StorageError> {
    match locked {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StorageError::InUse(folder.to_owned())),
        Err(TryLockError::Error(error)) => Err(io_error("lock", folder)(error)),
    }
}

/// One of many.
pub(in crate::server::storage) fn share(folder: &Path) -> Result<File, StorageError> {
    let file = open(folder, USED)?;
    let locked = file.try_lock_shared();
    held(folder, file, locked)
}

/// The only one.
pub(in crate::server::storage) fn alone(folder: &Path) -> Result<File, StorageError> {
    let file = open(folder, USED)?;
    let locked = file.try_lock();
    held(folder, file, locked)
}

/// Has content that is deleted from now on held for a backup, until this is dropped: whoever is about to remove some is waited for.
pub(in crate::server::storage) fn hold(folder: &Path) -> Result<File, StorageError> {
    let file = open(folder, HOLD)?;
    let began = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            // a removal takes a moment, a backup does not
            Err(TryLockError::WouldBlock) if began.elapsed() < limits::HOLD_TIME => {
                thread::sleep(Duration::from_millis(5));
            }
            Err(TryLockError::WouldBlock) => return Err(StorageError::BackupUnderWay),
            Err(TryLockError::Error(error)) => return Err(io_error("lock", folder)(error)),
        }
    }
}

/// Makes the file that [`removing`] needs: on a full disk nobody could any more.
pub(in crate::server::storage) fn prepare(folder: &Path) -> Result<(), StorageError> {
    match open(folder, HOLD) {
        Err(error) if error.is_full() => Ok(()),
        opened => opened.map(drop),
    }
}

/// What whoever removes content holds until that is done.
pub(in crate::server::storage) enum Removing {
    /// It may go.
    Free(Option<File>),
    /// A backup may need it yet.
    Held,
}

/// Asks whether content may be removed.
pub(in crate::server::storage) fn removing(folder: &Path) -> Result<Removing, StorageError> {
    let path = folder.join(HOLD);
    let file = match File::open(&path) {
        Ok(file) => file,
        // no backup was ever made
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Removing::Free(None)),
        Err(error) => return Err(io_error("open", &path)(error)),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(Removing::Free(Some(file))),
        Err(TryLockError::WouldBlock) => Ok(Removing::Held),
        Err(TryLockError::Error(error)) => Err(io_error("lock", folder)(error)),
    }
}
