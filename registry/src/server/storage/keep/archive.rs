//! A backup as one file: a tar of what a backup's folder has, the database last.
//!
//! ```text
//! blobs/<algorithm>/<hex>   each content that something points at, in the order of text
//! registry.db               the pointers of the moment
//! ```

use super::{
    backup::{Copied, is_registry, let_go, places},
    lock,
};
use crate::{
    limits,
    server::storage::{StorageError, error::io_error, pointers::sqlite::copy},
};
use slipway_oci::{
    Descriptor, Digest,
    blobs::{BlobError, Blobs},
    digest::HashingReader,
    file, private,
};
use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

/// The database's name in the archive.
const DATABASE: &str = "registry.db";

/// Writes a registry's folder as it is now, while it may be served, as one archive.
pub fn archive(
    from: &Path,
    to: &mut dyn Write,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Copied, StorageError> {
    is_registry(from)?;
    let _used = lock::share(from)?;
    let hold = lock::hold(from)?;
    let database = from.join("backup.db");
    // one that a crash left
    copy::remove(&database)?;
    let written = write_all(from, &database, to, progress);
    let removed = copy::remove(&database);
    drop(hold);
    let let_go = let_go(from);
    let written = written?;
    removed.and(let_go).map(|()| written)
}

fn failed(error: io::Error) -> StorageError {
    StorageError::Io { operation: "write", path: PathBuf::from("the archive"), source: error }
}

fn write_all(
    from: &Path,
    database: &Path,
    to: &mut dyn Write,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Copied, StorageError> {
    copy::copy(&from.join("registry.db"), database)?;
    let snapshot = copy::Snapshot::open(database)?;
    let in_all = snapshot.bytes()?;
    let mut archive = tar::Builder::new(to);
    let (mut copied, mut last) = (Copied::default(), String::new());
    loop {
        let page = snapshot.contents(&last, limits::SCRUB_PAGE)?;
        let Some((end, _)) = page.last() else { break };
        last = end.to_string();
        for (digest, size_bytes) in page {
            if !add(&mut archive, from, &digest, size_bytes)? {
                copied.lost.push(digest);
            }
            copied.contents += 1;
            copied.bytes += size_bytes;
            progress(copied.bytes, in_all);
        }
    }
    drop(snapshot);
    let file = File::open(database).map_err(io_error("open", database))?;
    let length = file.metadata().map_err(io_error("read", database))?.len();
    append(&mut archive, Path::new(DATABASE), length, file)?;
    archive.into_inner().and_then(Write::flush).map_err(failed)?;
    Ok(copied)
}

/// Adds one content; false where it is not there, or wrong: that is seen when its bytes have gone out, and again when they come back.
fn add(
    archive: &mut tar::Builder<&mut dyn Write>,
    from: &Path,
    digest: &Digest,
    size_bytes: u64,
) -> Result<bool, StorageError> {
    for place in places(from, digest) {
        let file = match File::open(&place) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(io_error("open", &place)(error)),
        };
        let metadata = file.metadata().map_err(io_error("read", &place))?;
        if !metadata.is_file() || metadata.len() != size_bytes {
            continue;
        }
        let mut reader = HashingReader::new(file, digest.algorithm());
        let name = Path::new("blobs").join(digest.algorithm().name()).join(digest.hex());
        append(archive, &name, size_bytes, &mut reader)?;
        return Ok(reader.finish().1 == *digest);
    }
    Ok(false)
}

fn append(
    archive: &mut tar::Builder<&mut dyn Write>,
    name: &Path,
    size_bytes: u64,
    bytes: impl Read,
) -> Result<(), StorageError> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(0o600);
    header.set_mtime(0);
    header.set_size(size_bytes);
    archive.append_data(&mut header, name, bytes).map_err(failed)
}

/// Brings an archive back into a folder that has no registry. What its entries are called is theirs to say, where they go is not.
pub fn unarchive(
    from: &mut dyn Read,
    to: &Path,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Copied, StorageError> {
    private::folder(to)?;
    let _alone = lock::alone(to)?;
    let database = to.join("registry.db");
    if database.exists() {
        return Err(StorageError::Registry(to.to_owned()));
    }
    let new = to.join("registry.db.new");
    copy::remove(&new)?;
    let target = Blobs::open(&to.join("blobs"), &to.join("uploads"))?;
    let unreadable = |error| io_error("read", Path::new("the archive"))(error);
    let mut archive = tar::Archive::new(from);
    let mut done = 0;
    for entry in archive.entries().map_err(unreadable)? {
        let mut entry = entry.map_err(unreadable)?;
        let size_bytes = entry.size();
        match named(&entry) {
            Some(Named::Content(digest)) => take(&target, &digest, size_bytes, &mut entry)?,
            Some(Named::Database) => write_new(&new, &mut entry)?,
            None => continue,
        }
        done += size_bytes;
        progress(done, done);
    }
    if !new.exists() {
        return Err(StorageError::NoArchive);
    }
    let copied = compare(&new, &target)?;
    fs::rename(&new, &database).map_err(io_error("rename", &new))?;
    file::sync_folder(to).map_err(io_error("sync", to))?;
    Ok(copied)
}

/// What an entry is, by its name.
enum Named {
    Content(Digest),
    Database,
}

fn named(entry: &tar::Entry<'_, &mut dyn Read>) -> Option<Named> {
    if entry.header().entry_type() != tar::EntryType::Regular {
        return None;
    }
    let path = entry.path_bytes();
    let name = std::str::from_utf8(&path).ok()?;
    if name == DATABASE {
        return Some(Named::Database);
    }
    let (algorithm, hex) = name.strip_prefix("blobs/")?.split_once('/')?;
    format!("{algorithm}:{hex}").parse().ok().map(Named::Content)
}

/// Content with wrong bytes is none; what it lacks is seen at the end.
fn take(target: &Blobs, digest: &Digest, size_bytes: u64, bytes: &mut dyn Read) -> Result<(), StorageError> {
    let mut descriptor = Descriptor::of("application/octet-stream", b"");
    (descriptor.digest, descriptor.size_bytes) = (digest.clone(), size_bytes);
    match target.copy_from(bytes, &descriptor) {
        Ok(()) | Err(BlobError::DigestMismatch { .. } | BlobError::SizeMismatch { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn write_new(path: &Path, bytes: &mut dyn Read) -> Result<(), StorageError> {
    let failed = |error| io_error("write", path)(error);
    let mut file = File::create(path).map_err(failed)?;
    io::copy(bytes, &mut file).map_err(failed)?;
    file.sync_all().map_err(failed)
}

/// What of the database's content is there; what it does not point at goes.
fn compare(database: &Path, target: &Blobs) -> Result<Copied, StorageError> {
    let snapshot = copy::Snapshot::open(database)?;
    let (mut copied, mut last) = (Copied::default(), String::new());
    loop {
        let page = snapshot.contents(&last, limits::SCRUB_PAGE)?;
        let Some((end, _)) = page.last() else { break };
        last = end.to_string();
        for (digest, size_bytes) in page {
            copied.contents += 1;
            copied.bytes += size_bytes;
            if target.size(&digest)? != Some(size_bytes) {
                copied.lost.push(digest);
            }
        }
    }
    for digest in target.list()? {
        if !snapshot.has(&digest)? {
            target.remove(&digest)?;
            copied.removed += 1;
        }
    }
    Ok(copied)
}
