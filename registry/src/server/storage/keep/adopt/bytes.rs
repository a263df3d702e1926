//! The bytes of one content of distribution's, digested before anybody is served from them.

use super::{
    Why,
    folder::{Folder, Odd},
    layout::Source,
};
use crate::{
    limits,
    server::storage::{
        StorageError,
        content::{Content, read_file},
        error::io_error,
        keep::{
            carry::{Carried, carry},
            take::{self, Taken},
        },
    },
};
use rustix::{
    fs::{AtFlags, CWD, linkat},
    io::Errno,
};
use slipway_oci::{Digest, Hasher, blobs::Blobs};
use std::{
    fs::File,
    io::{self, Seek},
    os::{
        fd::AsRawFd,
        unix::fs::{FileExt, MetadataExt},
    },
    path::Path,
};

/// How content gets from the source into the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Means {
    /// As another name of the same file, where both are on one file system; else byte for byte.
    Links,
    /// Byte for byte, or with the same blocks where the file system can share them.
    Copies,
    /// Its name is taken away from the source.
    Moves,
}

/// What taking one content came to.
pub(super) enum Got {
    Taken { size_bytes: u64, is_shared: bool, was_present: bool },
    Unfit(Why),
}

/// Takes one content into whatever a registry keeps it in.
pub(super) fn take_into(source: &Source, digest: &Digest, to: &dyn Content) -> Result<Got, StorageError> {
    let found = source.blob(digest).and_then(|folder| {
        folder.as_ref().map(|folder| folder.file("data")).transpose().map(Option::flatten)
    });
    let file = match found {
        Ok(Some(file)) => file,
        Ok(None) => return Ok(Got::Unfit(Why::Missing)),
        Err(odd) => return Ok(Got::Unfit(Why::Odd(odd))),
    };
    let size_bytes = file.metadata().map_err(io_error("read", Path::new(&digest.to_string())))?.len();
    if to.size(digest)? == Some(size_bytes) {
        return Ok(Got::Taken { size_bytes, is_shared: false, was_present: true });
    }
    Ok(match carry(&*read_file(file), digest, size_bytes, to, &|_| {})? {
        Carried::Whole => Got::Taken { size_bytes, is_shared: false, was_present: false },
        Carried::Wrong(actual) => Got::Unfit(Why::Damaged(actual)),
        Carried::Unreadable => Got::Unfit(Why::Missing),
    })
}

pub(super) fn take(source: &Source, target: &Blobs, digest: &Digest, by: Means) -> Result<Got, StorageError> {
    let unfit = |odd: Odd| Ok(Got::Unfit(Why::Odd(odd)));
    let folder = match source.blob(digest) {
        Ok(folder) => folder,
        Err(odd) => return unfit(odd),
    };
    let file = match folder.as_ref().map(|folder| folder.file("data")).transpose() {
        Ok(file) => file.flatten(),
        Err(odd) => return unfit(odd),
    };
    let there = target.size(digest)?;
    let (Some(folder), Some(file)) = (folder, file) else {
        // what an earlier run moved is here
        return Ok(match there {
            Some(size_bytes) => Got::Taken { size_bytes, is_shared: false, was_present: true },
            None => Got::Unfit(Why::Missing),
        });
    };
    let size_bytes = match file.metadata() {
        Ok(metadata) => metadata.len(),
        Err(error) => return unfit(Odd::Unreadable(error.to_string())),
    };
    if there == Some(size_bytes) {
        return Ok(Got::Taken { size_bytes, is_shared: false, was_present: true });
    }
    match digested(&file, digest, size_bytes) {
        Ok(actual) if actual == *digest => {}
        Ok(actual) => return Ok(Got::Unfit(Why::Damaged(actual))),
        Err(error) => return unfit(Odd::Unreadable(error.to_string())),
    }
    let is_shared = bring(&folder, file, target, digest, size_bytes, by)?;
    Ok(match is_shared {
        Some(is_shared) => Got::Taken { size_bytes, is_shared, was_present: false },
        // it was written to since
        None => Got::Unfit(Why::Missing),
    })
}

fn digested(file: &File, digest: &Digest, size_bytes: u64) -> io::Result<Digest> {
    let mut hasher = Hasher::new(digest.algorithm());
    let mut buffer = vec![0; size_bytes.min(limits::PIECE_BYTES as u64) as usize];
    let mut offset = 0;
    while offset < size_bytes {
        let count = (size_bytes - offset).min(buffer.len() as u64) as usize;
        file.read_exact_at(&mut buffer[..count], offset)?;
        hasher.update(&buffer[..count]);
        offset += count as u64;
    }
    Ok(hasher.finish())
}

/// Whether it shares what the source has; `None` where its bytes are not right any more.
fn bring(
    folder: &Folder,
    mut file: File,
    target: &Blobs,
    digest: &Digest,
    size_bytes: u64,
    by: Means,
) -> Result<Option<bool>, StorageError> {
    let path = target.path(digest);
    if by == Means::Moves {
        file.sync_all().map_err(io_error("sync", &path))?;
        folder.rename_out("data", &path).map_err(io_error("move to", &path))?;
        let own = file.metadata().map_err(io_error("read", &path))?.ino();
        // somebody who changes the source meanwhile could have had another file moved, or a link
        if std::fs::symlink_metadata(&path).is_ok_and(|moved| moved.ino() == own) {
            return Ok(Some(true));
        }
        target.remove(digest)?;
        return Ok(None);
    }
    // the very file that was digested, whatever has its name by now (linkat(2), "AT_SYMLINK_FOLLOW" with /proc/self/fd)
    let own = format!("/proc/self/fd/{}", file.as_raw_fd());
    if by == Means::Links && file.sync_all().is_ok() {
        match linkat(CWD, &own, CWD, &path, AtFlags::SYMLINK_FOLLOW) {
            Ok(()) => return Ok(Some(true)),
            // one of another length, which is damaged
            Err(Errno::EXIST) => {
                target.remove(digest)?;
                if linkat(CWD, &own, CWD, &path, AtFlags::SYMLINK_FOLLOW).is_ok() {
                    return Ok(Some(true));
                }
            }
            Err(_) => {}
        }
    }
    if take::clone(&file, &path)? {
        return Ok(Some(true));
    }
    file.rewind().map_err(io_error("read", &path))?;
    match take::copy(file, target, digest, size_bytes)? {
        Taken::Copied => Ok(Some(false)),
        _ => Ok(None),
    }
}
