//! Who has a registry's folder open: any number who work by its rules, or one who makes it anew.

use crate::server::storage::{StorageError, error::io_error};
use std::{
    fs::{File, OpenOptions, TryLockError},
    path::Path,
};

/// The file that is locked.
fn open(folder: &Path) -> Result<File, StorageError> {
    let path = folder.join("in-use.lock");
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
    let file = open(folder)?;
    let locked = file.try_lock_shared();
    held(folder, file, locked)
}

/// The only one.
pub(in crate::server::storage) fn alone(folder: &Path) -> Result<File, StorageError> {
    let file = open(folder)?;
    let locked = file.try_lock();
    held(folder, file, locked)
}
