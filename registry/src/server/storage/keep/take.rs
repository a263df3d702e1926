//! One content from a file into a folder of blobs.

use super::backup::By;
use crate::{
    limits,
    server::storage::{StorageError, error::io_error},
};
use rustix::{
    fs::{Mode, OFlags, ioctl_ficlone},
    io::Errno,
};
use slipway_oci::{
    Descriptor, Digest,
    blobs::{BlobError, Blobs},
    file,
};
use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

/// How it got there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It was there.
    Present,
    /// As another name of the same file, or with its blocks.
    Shared,
    /// Byte for byte, and its digest is right.
    Copied,
    /// None of the places has it, or not with these bytes.
    Lost,
}

/// Takes content from the first of `places` that has it.
pub(super) fn take(
    places: &[PathBuf],
    target: &Blobs,
    digest: &Digest,
    size_bytes: u64,
    by: By,
) -> Result<Taken, StorageError> {
    if target.size(digest)? == Some(size_bytes) {
        return Ok(Taken::Present);
    }
    for place in places {
        match take_from(place, target, digest, size_bytes, by)? {
            // deleted at this moment: it is at the next place
            Taken::Lost => {}
            taken => return Ok(taken),
        }
    }
    Ok(Taken::Lost)
}

fn take_from(
    place: &Path,
    target: &Blobs,
    digest: &Digest,
    size_bytes: u64,
    by: By,
) -> Result<Taken, StorageError> {
    // a link in a blob's place is none
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let source = match rustix::fs::open(place, flags, Mode::empty()) {
        Ok(source) => File::from(source),
        Err(Errno::NOENT | Errno::LOOP) => return Ok(Taken::Lost),
        Err(error) => return Err(io_error("open", place)(error.into())),
    };
    let metadata = source.metadata().map_err(io_error("read", place))?;
    if !metadata.is_file() || metadata.len() != size_bytes {
        return Ok(Taken::Lost);
    }
    let path = target.path(digest);
    if by == By::Links && link(place, &path)? || clone(&source, &path)? {
        return Ok(Taken::Shared);
    }
    copy(source, target, digest, size_bytes)
}

/// Another name of the same file; not on every file system, nor across two of them.
fn link(place: &Path, path: &Path) -> Result<bool, StorageError> {
    match fs::hard_link(place, path) {
        Ok(()) => Ok(true),
        // one of another length
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(path).map_err(io_error("remove", path))?;
            Ok(fs::hard_link(place, path).is_ok())
        }
        Err(_) => Ok(false),
    }
}

/// A file that shares its blocks until one of them is written (ioctl_ficlone(2)).
pub(super) fn clone(source: &File, path: &Path) -> Result<bool, StorageError> {
    let folder = path.parent().expect("a blob lies in its algorithm's folder");
    let temporary = folder.join(file::temporary_name("clone"));
    let target = File::create_new(&temporary).map_err(io_error("create", &temporary))?;
    let cloned = ioctl_ficlone(&target, source).is_ok() && target.sync_all().is_ok();
    if cloned {
        fs::rename(&temporary, path).map_err(io_error("rename", &temporary))?;
    } else {
        fs::remove_file(&temporary).map_err(io_error("remove", &temporary))?;
    }
    Ok(cloned)
}

pub(super) fn copy(
    source: File,
    target: &Blobs,
    digest: &Digest,
    size_bytes: u64,
) -> Result<Taken, StorageError> {
    let mut descriptor = Descriptor::of("application/octet-stream", b"");
    (descriptor.digest, descriptor.size_bytes) = (digest.clone(), size_bytes);
    match target.copy_from(io::BufReader::with_capacity(limits::PIECE_BYTES, source), &descriptor) {
        Ok(()) => Ok(Taken::Copied),
        Err(BlobError::DigestMismatch { .. } | BlobError::SizeMismatch { .. }) => Ok(Taken::Lost),
        // a disk that cannot read it any more
        Err(BlobError::Io { operation: "copy into", source, .. })
            if source.raw_os_error() == Some(Errno::IO.raw_os_error()) =>
        {
            Ok(Taken::Lost)
        }
        Err(error) => Err(error.into()),
    }
}
