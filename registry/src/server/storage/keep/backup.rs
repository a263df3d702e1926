//! A registry's folder, copied as it is at one moment while it is served, and brought back.
//!
//! A backup is a registry's folder itself: it can be verified, served and backed up like any other. While one is made, content that
//! is deleted goes into `held/` instead (`remove` of a folder's content), so that everything that the database of its moment points at can be
//! copied, however long that takes. Content comes first, the database last; what an earlier backup has is not copied again.

use super::{
    lock,
    spread::spread,
    take::{Taken, take},
};
use crate::{
    limits,
    server::storage::{StorageError, error::io_error, pointers::sqlite::copy},
};
use slipway_oci::{Digest, blobs::Blobs, file, private, spec::rfc3339};
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

/// What a backup says of itself.
const ABOUT: &str = "backup.json";

/// How content may get from one folder into another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// As another name of the same file, where that can be had; else like the next.
    Links,
    /// As a copy, which shares its blocks where the file system can do that.
    Copies,
}

/// What was copied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Contents that it has.
    pub contents: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Contents that were there already.
    pub present: u64,
    /// Those that are another name of the same file, or share its blocks.
    pub shared: u64,
    /// Contents that went, because nothing points at them any more.
    pub removed: u64,
    /// Contents that the source itself does not have any more, or not with the right bytes.
    pub lost: Vec<Digest>,
}

/// Copies a registry's folder as it is now, while it may be served, into one that is new or an earlier backup.
pub fn backup(
    from: &Path,
    to: &Path,
    by: By,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Copied, StorageError> {
    is_registry(from)?;
    private::folder(to)?;
    let to = to.canonicalize().map_err(io_error("look up", to))?;
    let from = from.canonicalize().map_err(io_error("look up", from))?;
    if to.starts_with(&from) || from.starts_with(&to) {
        return Err(StorageError::Within(to));
    }
    let earlier = to.join(ABOUT).is_file();
    if !earlier && !is_empty(&to)? {
        return Err(StorageError::NoBackup(to));
    }
    let _alone = lock::alone(&to)?;
    if !earlier {
        // what an interruption leaves is a backup that can be gone on with
        describe(&to, None)?;
    }
    let used = lock::share(&from)?;
    let hold = lock::hold(&from)?;
    let copied = copy_all(&from, &to, by, progress);
    drop(hold);
    let let_go = let_go(&from);
    drop(used);
    let copied = copied?;
    let_go?;
    describe(&to, Some(&copied))?;
    Ok(copied)
}

/// Brings a backup back into a folder that has no registry.
pub fn restore(from: &Path, to: &Path, progress: &(dyn Fn(u64, u64) + Sync)) -> Result<Copied, StorageError> {
    is_registry(from)?;
    private::folder(to)?;
    let _alone = lock::alone(to)?;
    if to.join("registry.db").exists() {
        return Err(StorageError::Registry(to.to_owned()));
    }
    // a backup may lie where nobody writes
    let used = match lock::share(from) {
        Err(StorageError::Io { .. }) => None,
        used => Some(used?),
    };
    // names of the same files would let one damage hit both
    let copied = copy_all(from, to, By::Copies, progress);
    drop(used);
    copied
}

pub(super) fn is_registry(folder: &Path) -> Result<(), StorageError> {
    match folder.join("registry.db").is_file() {
        true => Ok(()),
        false => Err(StorageError::NoRegistry(folder.to_owned())),
    }
}

/// Whether there is nothing but what a refused attempt left.
fn is_empty(folder: &Path) -> Result<bool, StorageError> {
    for entry in fs::read_dir(folder).map_err(io_error("list", folder))? {
        let entry = entry.map_err(io_error("list", folder))?;
        if entry.file_name() != "in-use.lock" {
            return Ok(false);
        }
    }
    Ok(true)
}

fn describe(folder: &Path, copied: Option<&Copied>) -> Result<(), StorageError> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let about = serde_json::json!({
        "version": 1,
        "taken": copied.map(|_| rfc3339::format(since.as_secs() as i64)),
        "contents": copied.map(|copied| copied.contents),
        "bytes": copied.map(|copied| copied.bytes),
        "lost": copied.map(|copied| &copied.lost),
    });
    let path = folder.join(ABOUT);
    file::write_atomic(&path, format!("{about}\n").as_bytes()).map_err(io_error("write", &path))
}

fn copy_all(
    from: &Path,
    to: &Path,
    by: By,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Copied, StorageError> {
    let (database, new) = (to.join("registry.db"), to.join("registry.db.new"));
    copy::remove(&new)?;
    copy::copy(&from.join("registry.db"), &new)?;
    let snapshot = copy::Snapshot::open(&new)?;
    let in_all = snapshot.bytes()?;
    let (blobs, uploads) = (to.join("blobs"), to.join("uploads"));
    let target = Blobs::open(&blobs, &uploads)?;
    let (done, present, shared) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let lost = Mutex::new(Vec::new());
    let page = |last: &str| snapshot.contents(last, limits::SCRUB_PAGE);
    let (contents, bytes) = spread(&page, &|digest, size_bytes, _| {
        let count = match take(&places(from, digest), &target, digest, size_bytes, by)? {
            Taken::Present => Some(&present),
            Taken::Shared => Some(&shared),
            Taken::Copied => None,
            Taken::Lost => {
                lost.lock().unwrap_or_else(PoisonError::into_inner).push(digest.clone());
                None
            }
        };
        if let Some(count) = count {
            count.fetch_add(1, Ordering::Relaxed);
        }
        progress(done.fetch_add(size_bytes, Ordering::Relaxed) + size_bytes, in_all);
        Ok(())
    })?;
    for folder in ["sha256", "sha512"].map(|name| blobs.join(name)) {
        file::sync_folder(&folder).map_err(io_error("sync", &folder))?;
    }
    // what earlier backups had, as what comes next has to be found without it
    let removed = remove_rest(&target, &snapshot)?;
    drop(snapshot);
    copy::remove_log(&database)?;
    fs::rename(&new, &database).map_err(io_error("rename", &new))?;
    file::sync_folder(to).map_err(io_error("sync", to))?;
    let mut lost = lost.into_inner().unwrap_or_else(PoisonError::into_inner);
    lost.sort_unstable();
    let (present, shared) = (present.into_inner(), shared.into_inner());
    Ok(Copied { contents, bytes, present, shared, removed, lost })
}

fn remove_rest(target: &Blobs, snapshot: &copy::Snapshot) -> Result<u64, StorageError> {
    let mut removed = 0;
    for digest in target.list()? {
        if !snapshot.has(&digest)? {
            target.remove(&digest)?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Where content may lie while deletes go on beside.
pub(super) fn places(folder: &Path, digest: &Digest) -> [PathBuf; 2] {
    let (algorithm, hex) = (digest.algorithm().name(), digest.hex());
    [folder.join("blobs").join(algorithm).join(&hex), folder.join("held").join(format!("{algorithm}-{hex}"))]
}

/// What a backup that was interrupted left of content that was deleted beside it. Nothing, where one is under way.
pub(in crate::server::storage) fn let_go(folder: &Path) -> Result<(), StorageError> {
    let (held, old) = (folder.join("held"), folder.join("held.old"));
    remove_folder(&old)?;
    if !held.exists() {
        return Ok(());
    }
    let hold = match lock::hold(folder) {
        Ok(hold) => hold,
        Err(StorageError::BackupUnderWay) => return Ok(()),
        Err(error) => return Err(error),
    };
    match fs::rename(&held, &old) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(io_error("rename", &held)(error));
        }
        _ => {}
    }
    // whoever removes something while this holds adds to another one, which goes the next time
    drop(hold);
    remove_folder(&old)
}

fn remove_folder(folder: &Path) -> Result<(), StorageError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", folder)(error)),
        _ => Ok(()),
    }
}
