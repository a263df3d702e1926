//! Who has a registry's folder open: any number who work by its rules, or one who makes it anew.

use crate::{
    limits,
    server::storage::{StorageError, error::io_error},
};
use slipway_oci::lock::Lock;
use std::{
    fs::{File, OpenOptions},
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

fn held(folder: &Path, locked: io::Result<Option<Lock>>) -> Result<Lock, StorageError> {
    locked.map_err(io_error("lock", folder))?.ok_or_else(|| StorageError::InUse(folder.to_owned()))
}

/// One of many.
pub(in crate::server::storage) fn share(folder: &Path) -> Result<Lock, StorageError> {
    held(folder, Lock::try_shared(open(folder, USED)?))
}

/// The only one.
pub(in crate::server::storage) fn alone(folder: &Path) -> Result<Lock, StorageError> {
    held(folder, Lock::try_alone(open(folder, USED)?))
}

/// Has content that is deleted from now on held for a backup, until this is dropped: whoever is about to remove some is waited for.
pub(in crate::server::storage) fn hold(folder: &Path) -> Result<Lock, StorageError> {
    let began = Instant::now();
    loop {
        if let Some(lock) = Lock::try_alone(open(folder, HOLD)?).map_err(io_error("lock", folder))? {
            return Ok(lock);
        }
        // a removal takes a moment, a backup does not
        if began.elapsed() >= limits::HOLD_TIME {
            return Err(StorageError::BackupUnderWay);
        }
        thread::sleep(Duration::from_millis(5));
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
    Free(Option<Lock>),
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
    let lock = Lock::try_shared(file).map_err(io_error("lock", folder))?;
    Ok(lock.map_or(Removing::Held, |lock| Removing::Free(Some(lock))))
}
