//! Content that a page looks into, of a repository that its visitor may read.

use crate::server::storage::{ManifestKey, ManifestRecord, Reader, Storage, StorageError};
use slipway_oci::{Descriptor, Digest, Hasher, spec::Parsed};
use std::{
    io::{self, Read},
    sync::Arc,
};

/// A reference as it is asked for.
pub(in crate::server) fn key(reference: &str) -> ManifestKey {
    // the route has looked at it
    reference.parse().map_or_else(|_| ManifestKey::Tag(reference.to_owned()), ManifestKey::Digest)
}

/// A manifest, parsed; `None` where it is of a form that is stored and not understood.
pub(in crate::server) fn manifest(
    storage: &Storage,
    repository: &str,
    key: &ManifestKey,
) -> Result<(ManifestRecord, Option<Parsed>), StorageError> {
    let record = storage.manifest(repository, key)?;
    let bytes = storage.manifest_bytes(&record)?;
    let parsed = Parsed::from_bytes(&bytes, Some(&record.media_type)).ok();
    Ok((record, parsed))
}

/// A whole blob of at most `most` bytes, verified; `None` where it is larger, not here or damaged.
pub(in crate::server) fn blob(
    storage: &Storage,
    repository: &str,
    digest: &Digest,
    most: u64,
) -> Result<Option<Vec<u8>>, StorageError> {
    let Some(mut blob) = Blob::open(storage, repository, digest)? else { return Ok(None) };
    if blob.size > most {
        return Ok(None);
    }
    let mut bytes = Vec::with_capacity(blob.size as usize);
    if blob.read_to_end(&mut bytes).is_err() {
        return Ok(None);
    }
    let mut hasher = Hasher::new(digest.algorithm());
    hasher.update(&bytes);
    Ok((hasher.finish() == *digest).then_some(bytes))
}

/// A JSON document that a descriptor names.
pub(in crate::server) fn document(
    storage: &Storage,
    repository: &str,
    descriptor: &Descriptor,
) -> Result<Option<serde_json::Value>, StorageError> {
    let bytes = blob(storage, repository, &descriptor.digest, crate::limits::WEB_DOCUMENT_BYTES)?;
    Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

/// A blob from its beginning to its end.
pub(in crate::server) struct Blob {
    reader: Arc<dyn Reader>,
    offset: u64,
    size: u64,
}

impl Blob {
    /// `None` where the repository has none.
    pub(in crate::server) fn open(
        storage: &Storage,
        repository: &str,
        digest: &Digest,
    ) -> Result<Option<Blob>, StorageError> {
        let size = match storage.blob_size(repository, digest) {
            Ok(size) => size,
            Err(StorageError::BlobUnknown(_) | StorageError::RepositoryUnknown(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        match storage.open_blob(digest, size) {
            Ok(reader) => Ok(Some(Blob { reader, offset: 0, size })),
            Err(StorageError::BlobUnknown(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Read for Blob {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.size - self.offset).unwrap_or(usize::MAX);
        let count = buffer.len().min(left);
        self.reader.read_exact_at(&mut buffer[..count], self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}
