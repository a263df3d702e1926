//! One content from whoever has it into a registry's own, digested on the way.

use crate::{
    limits,
    server::storage::{
        StorageError, UploadId,
        content::{Content, Reader},
        examine::unreadable,
    },
};
use slipway_oci::{Digest, Hasher};
use std::io;

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Carried {
    /// It lies under its digest.
    Whole,
    /// Its bytes have another digest, and lie nowhere.
    Wrong(Digest),
    /// It cannot be read, or went while it was.
    Unreadable,
}

/// Copies it; `tell` hears of bytes.
pub(super) fn carry(
    reader: &dyn Reader,
    digest: &Digest,
    size_bytes: u64,
    to: &dyn Content,
    tell: &dyn Fn(u64),
) -> Result<Carried, StorageError> {
    let id = UploadId::random()?;
    let mut staged = to.stage(&id)?;
    let mut hasher = Hasher::new(digest.algorithm());
    let mut piece = vec![0; limits::PIECE_BYTES.min(usize::try_from(size_bytes).unwrap_or(usize::MAX))];
    let mut offset = 0;
    let mut read = Ok(());
    while offset < size_bytes && read.is_ok() {
        let count = piece.len().min(usize::try_from(size_bytes - offset).unwrap_or(usize::MAX));
        read = reader.read_once(&mut piece[..count], offset);
        if read.is_ok() {
            hasher.update(&piece[..count]);
            staged.append(&piece[..count], offset)?;
            offset += count as u64;
            tell(count as u64);
        }
    }
    let carried = match read {
        Ok(()) => match hasher.finish() {
            actual if actual == *digest => Carried::Whole,
            actual => Carried::Wrong(actual),
        },
        // removed while it was read
        Err(error) if error.kind() == io::ErrorKind::NotFound => Carried::Unreadable,
        Err(source) => {
            let path = digest.to_string().into();
            unreadable(StorageError::Io { operation: "read", path, source })?;
            Carried::Unreadable
        }
    };
    if carried == Carried::Whole {
        staged.place(digest)?;
    }
    drop(staged);
    to.discard(&id)?;
    Ok(carried)
}
