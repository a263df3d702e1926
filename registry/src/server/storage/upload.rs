//! Uploads: bytes that come in, under a session's name until their digest is known to be right.
//!
//! `uploads/<uuid>` holds the bytes; its length is the session's length, so there is no second number to disagree. One
//! writer at a time: whoever holds the file's lock (`flock`, which dies with its owner). The hash state is kept in
//! memory between requests together with the length it stands for; where the two disagree, or nothing is kept, the
//! closing digest is computed from the file. A blob is therefore always named by the bytes that lie on disk.

use super::{Storage, StorageError, error::io_error, writer::Durability};
use crate::limits;
use rusqlite::OptionalExtension;
use slipway_oci::{Algorithm, Digest, Hasher};
use std::{
    fmt,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read},
    os::unix::fs::{FileExt, MetadataExt},
    path::PathBuf,
    str::FromStr,
    sync::Arc,
};

/// The random name of an upload session, a version 4 UUID.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct UploadId(String);

impl UploadId {
    fn random() -> Result<UploadId, StorageError> {
        let mut bytes = [0_u8; 16];
        getrandom::fill(&mut bytes)?;
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let number = u128::from_be_bytes(bytes);
        let hex = format!("{number:032x}");
        Ok(UploadId(format!(
            "{}-{}-{}-{}-{}",
            &hex[..8],
            &hex[8..12],
            &hex[12..16],
            &hex[16..20],
            &hex[20..]
        )))
    }
}

impl FromStr for UploadId {
    type Err = StorageError;
    fn from_str(text: &str) -> Result<UploadId, StorageError> {
        let valid = text.len() == 36
            && text.bytes().enumerate().all(|(index, byte)| match index {
                8 | 13 | 18 | 23 => byte == b'-',
                _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
            });
        // what is no id names no session; the text becomes a file name only after this check
        if valid { Ok(UploadId(text.to_owned())) } else { Err(StorageError::UploadUnknown) }
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A hash state and the length it stands for.
pub(super) struct HashState {
    length: u64,
    hasher: Hasher,
}

/// An upload that this request alone writes to. Dropping it ends the lease and keeps the session.
pub struct Upload {
    storage: Arc<Storage>,
    id: UploadId,
    repository: String,
    algorithm: Algorithm,
    file: File,
    length: u64,
    /// Stands for exactly the first `length` bytes of the file; `None` where that is not certain.
    hasher: Option<Hasher>,
    /// Whether a session refers to the file; otherwise it goes when the upload is dropped.
    session: bool,
}

impl Storage {
    fn upload_path(&self, id: &UploadId) -> PathBuf {
        self.uploads.join(&id.0)
    }

    /// An upload without a session, for content that comes in one request.
    pub fn stage(self: &Arc<Self>, repository: &str, algorithm: Algorithm) -> Result<Upload, StorageError> {
        let id = UploadId::random()?;
        let path = self.upload_path(&id);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(io_error("create", &path))?;
        file.lock().map_err(io_error("lock", &path))?;
        Ok(Upload {
            storage: Arc::clone(self),
            id,
            repository: repository.to_owned(),
            algorithm,
            file,
            length: 0,
            hasher: Some(Hasher::new(algorithm)),
            session: false,
        })
    }

    /// Starts an upload session. `algorithm` is only a hint for what is hashed while it streams.
    pub fn start_upload(
        self: &Arc<Self>,
        repository: &str,
        algorithm: Algorithm,
    ) -> Result<UploadId, StorageError> {
        let mut upload = self.stage(repository, algorithm)?;
        let (id, name) = (upload.id.to_string(), repository.to_owned());
        let started = super::now_seconds();
        self.writer.write(Durability::Lazy, move |database, _| {
            database
                .prepare_cached(
                    "INSERT INTO uploads (id, repository, algorithm, started) VALUES (?1, ?2, ?3, ?4)",
                )?
                .execute((id, name, algorithm.name(), started))?;
            Ok(())
        })?;
        upload.session = true;
        Ok(upload.id.clone())
    }

    fn session(&self, repository: &str, id: &UploadId) -> Result<Algorithm, StorageError> {
        let name: Option<String> = self.readers.read(|database| {
            let mut statement =
                database.prepare_cached("SELECT algorithm FROM uploads WHERE id = ?1 AND repository = ?2")?;
            Ok(statement.query_row((&id.0, repository), |row| row.get(0)).optional()?)
        })?;
        match name.ok_or(StorageError::UploadUnknown)?.as_str() {
            "sha512" => Ok(Algorithm::Sha512),
            _ => Ok(Algorithm::Sha256),
        }
    }

    /// How many bytes a session has. Needs no lease.
    pub fn upload_length(&self, repository: &str, id: &UploadId) -> Result<u64, StorageError> {
        self.session(repository, id)?;
        let path = self.upload_path(id);
        match fs::metadata(&path) {
            Ok(metadata) => Ok(metadata.len()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(StorageError::UploadUnknown),
            Err(error) => Err(io_error("read", &path)(error)),
        }
    }

    /// Takes the lease on a session.
    pub fn open_upload(self: &Arc<Self>, repository: &str, id: &UploadId) -> Result<Upload, StorageError> {
        let algorithm = self.session(repository, id)?;
        let path = self.upload_path(id);
        let file = match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(StorageError::UploadUnknown),
            Err(error) => return Err(io_error("open", &path)(error)),
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StorageError::UploadBusy),
            Err(TryLockError::Error(error)) => return Err(io_error("lock", &path)(error)),
        }
        // between open and lock the session may have closed: then this file is a finished blob and must not be touched
        let metadata = file.metadata().map_err(io_error("read", &path))?;
        let named = fs::metadata(&path).is_ok_and(|named| named.ino() == metadata.ino());
        if !named {
            return Err(StorageError::UploadUnknown);
        }
        let length = metadata.len();
        let kept = self.hash_states.lock().expect("no panic happens while the states are held").remove(id);
        let hasher = match kept {
            Some(state) if state.length == length => Some(state.hasher),
            _ if length == 0 => Some(Hasher::new(algorithm)),
            _ => None,
        };
        let (storage, id, repository) = (Arc::clone(self), id.clone(), repository.to_owned());
        Ok(Upload { storage, id, repository, algorithm, file, length, hasher, session: true })
    }
}

impl Upload {
    /// The session's id.
    pub fn id(&self) -> &UploadId {
        &self.id
    }

    /// How many bytes are there.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Adds bytes at the end. After a failure the upload is as long as before.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        if let Err(error) = self.file.write_all_at(bytes, self.length) {
            let failure = io_error("write", &self.storage.upload_path(&self.id))(error);
            self.truncate(self.length)?;
            return Err(failure);
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Cuts the upload back to `length` bytes.
    pub fn truncate(&mut self, length: u64) -> Result<(), StorageError> {
        assert!(length <= self.length, "an upload is only ever cut back");
        if length != self.length {
            self.hasher = None;
        }
        let path = self.storage.upload_path(&self.id);
        self.file.set_len(length).map_err(io_error("truncate", &path))?;
        self.length = length;
        Ok(())
    }

    /// The digest of the bytes on disk.
    fn digest(&self, algorithm: Algorithm) -> Result<Digest, StorageError> {
        if let Some(hasher) = self.hasher.as_ref().filter(|_| algorithm == self.algorithm) {
            return Ok(hasher.clone().finish());
        }
        let path = self.storage.upload_path(&self.id);
        let mut file = File::open(&path).map_err(io_error("open", &path))?;
        let mut hasher = Hasher::new(algorithm);
        let mut buffer = vec![0; limits::PIECE_BYTES];
        let mut total = 0;
        loop {
            let count = file.read(&mut buffer).map_err(io_error("read", &path))?;
            if count == 0 {
                break;
            }
            hasher.update(&buffer[..count]);
            total += count as u64;
        }
        assert_eq!(total, self.length, "nobody else writes while the lease is held");
        Ok(hasher.finish())
    }

    /// Closes the upload: verifies the digest, makes the bytes durable and puts the blob into the repository. Bytes that
    /// do not match are thrown away with their session, for no continuation could mend them.
    pub fn finish(mut self, expected: &Digest) -> Result<(), StorageError> {
        let actual = self.digest(expected.algorithm())?;
        if actual != *expected {
            self.cancel()?;
            return Err(StorageError::DigestMismatch { expected: expected.clone(), actual });
        }
        let (id, repository, size) = (self.id.0.clone(), self.repository.clone(), self.length);
        let digest = expected.clone();
        self.place(expected, move |database| {
            let repository = super::repository::ensure(database, &repository)?;
            database
                .prepare_cached(
                    "INSERT OR REPLACE INTO blobs (repository, digest, size) VALUES (?1, ?2, ?3)",
                )?
                .execute((repository, digest.to_string(), size))?;
            database.prepare_cached("DELETE FROM uploads WHERE id = ?1")?.execute([id])?;
            Ok(())
        })?;
        self.session = false;
        Ok(())
    }

    /// Syncs the bytes, gives them their name and writes the pointers, in this order; `pointers` may still refuse.
    pub(super) fn place<T: Send + 'static>(
        &mut self,
        digest: &Digest,
        pointers: impl FnOnce(&rusqlite::Connection) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let source = self.storage.upload_path(&self.id);
        self.file.sync_data().map_err(io_error("sync", &source))?;
        let target = self.storage.blobs.path(digest);
        self.storage.writer.write(Durability::Durable, move |database, batch| {
            let result = pointers(database)?;
            // a crash from here to the commit leaves a blob that no repository has: garbage, never a wrong answer
            fs::rename(&source, &target).map_err(io_error("rename", &target))?;
            let folder = target.parent().expect("a blob lies in its algorithm's folder");
            batch.renamed_into.insert(folder.to_owned());
            Ok(result)
        })
    }

    /// Ends the session and drops its bytes.
    pub fn cancel(&mut self) -> Result<(), StorageError> {
        let id = self.id.0.clone();
        if std::mem::replace(&mut self.session, false) {
            self.storage.writer.write(Durability::Lazy, move |database, _| {
                database.prepare_cached("DELETE FROM uploads WHERE id = ?1")?.execute([id])?;
                Ok(())
            })?;
        }
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.session {
            // gone already after a rename; what a failed removal leaves is swept
            let _ = fs::remove_file(self.storage.upload_path(&self.id));
            return;
        }
        let mut states = self.storage.hash_states.lock().expect("no panic happens while the states are held");
        if let Some(hasher) = self.hasher.take().filter(|_| states.len() < limits::HASH_STATES) {
            states.insert(self.id.clone(), HashState { length: self.length, hasher });
        }
        // the lock on the file goes with it, after the state is back
    }
}
