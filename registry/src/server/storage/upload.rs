//! Uploads: bytes that come in, under a session's name until their digest is known to be right.
//!
//! How long a session is, and the hash state over exactly these bytes, lie with the pointers: whatever process takes the
//! session up goes on from there. What content holds beyond was never acknowledged and is cut off. One writer at a time;
//! of two that get past each other, the pointers let one move on. Where no hash state is certain (a power cut, another
//! algorithm), the closing digest is computed from the bytes. A blob is therefore always named by the bytes that are kept.

use super::{
    Reader, Storage, StorageError,
    content::Staged,
    now_seconds,
    pointers::{Progress, Session},
};
use crate::limits;
use slipway_oci::{Algorithm, Digest, Hasher};
use std::{fmt, io, os::unix::fs::FileExt, str::FromStr, sync::Arc, time::SystemTime};

/// The random name of an upload session, a version 4 UUID.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UploadId(String);

impl UploadId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn random() -> Result<UploadId, StorageError> {
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

/// An upload that this request alone writes to. Dropping it ends the lease and keeps the session with what arrived.
pub struct Upload {
    storage: Arc<Storage>,
    id: UploadId,
    repository: String,
    algorithm: Algorithm,
    /// `None` once it was let go.
    staged: Option<Box<dyn Staged>>,
    length: u64,
    /// The length that the session's pointer says.
    saved: u64,
    /// Stands for exactly the first `length` bytes; `None` where that is not certain.
    hasher: Option<Hasher>,
    /// Where they lie too for those who read them while they come in.
    followed: Option<Arc<Followed>>,
    /// Whether a session refers to the bytes; otherwise they go when the upload is dropped.
    session: bool,
}

impl Storage {
    /// An upload without a session, for content that comes in one request.
    pub fn stage(self: &Arc<Self>, repository: &str, algorithm: Algorithm) -> Result<Upload, StorageError> {
        let id = UploadId::random()?;
        let staged = self.content.stage(&id)?;
        Ok(Upload {
            storage: Arc::clone(self),
            id,
            repository: repository.to_owned(),
            algorithm,
            staged: Some(staged),
            length: 0,
            saved: 0,
            hasher: Some(Hasher::new(algorithm)),
            followed: None,
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
        let session = Session { algorithm, progress: upload.progress()? };
        let start =
            || self.pointers.start_session(repository, &upload.id, &session, self.caps, now_seconds());
        match start() {
            Err(StorageError::SessionsMany) => {
                // those that stand still make room, first of this repository, then of all
                let now = SystemTime::now();
                if self.end_idle(Some(repository), now, limits::SESSION_IDLE)? == 0 {
                    self.end_idle(None, now, limits::SESSION_IDLE)?;
                }
                start()?;
            }
            other => other?,
        }
        upload.session = true;
        Ok(upload.id.clone())
    }

    /// How many bytes a session has. Needs no lease.
    pub fn upload_length(&self, repository: &str, id: &UploadId) -> Result<u64, StorageError> {
        let session = self.pointers.session(repository, id)?;
        let found = self.content.staged_length(id)?.ok_or(StorageError::UploadUnknown)?;
        Ok(session.progress.length.min(found))
    }

    /// Takes the lease on a session.
    pub fn open_upload(self: &Arc<Self>, repository: &str, id: &UploadId) -> Result<Upload, StorageError> {
        // before the lease, so that strangers to the session learn nothing of it
        let algorithm = self.pointers.session(repository, id)?.algorithm;
        let read = std::cell::OnceCell::new();
        let resumed = self.content.resume(id, &|| {
            let progress = self.pointers.session(repository, id)?.progress;
            let told = (progress.length, progress.place.clone());
            // asked once; a second time would tell the same
            let _ = read.set(progress);
            Ok(told)
        })?;
        let progress = read.into_inner().ok_or(StorageError::UploadUnknown)?;
        let hasher = match progress.hash {
            _ if resumed.length == 0 => Some(Hasher::new(algorithm)),
            Some(state) if resumed.is_certain && resumed.length == progress.length => {
                Hasher::restore(algorithm, &state)
            }
            _ => None,
        };
        Ok(Upload {
            storage: Arc::clone(self),
            id: id.clone(),
            repository: repository.to_owned(),
            algorithm,
            staged: Some(resumed.staged),
            length: resumed.length,
            saved: progress.length,
            hasher,
            followed: None,
            session: true,
        })
    }
}

/// A file that grows.
struct Followed(std::fs::File);

impl Reader for Followed {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }
}

impl Upload {
    /// The session's id.
    pub fn id(&self) -> &UploadId {
        &self.id
    }

    /// Whether the closing digest needs no reading back.
    #[cfg(test)]
    pub(super) fn has_state(&self) -> bool {
        self.hasher.is_some()
    }

    /// Reads what is there and what comes from now on, also when it has its place.
    pub(in crate::server) fn follow(&mut self) -> Result<Arc<dyn Reader>, StorageError> {
        assert_eq!(self.length, 0, "an upload is followed from its begin");
        let Some(file) = self.storage.content.spool()? else { return self.staged().reader() };
        let followed = Arc::new(Followed(file));
        self.followed = Some(Arc::clone(&followed));
        Ok(followed)
    }

    /// How many bytes are there.
    pub fn length(&self) -> u64 {
        self.length
    }

    fn staged(&mut self) -> &mut dyn Staged {
        self.staged.as_mut().expect("an upload is let go only at its end").as_mut()
    }

    /// Adds bytes at the end. After a failure the upload is as long as before; on a full disk it is given up, so that
    /// its bytes are free at once.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        let length = self.length;
        let kept = self.followed.as_ref().map_or(Ok(()), |file| file.0.write_all_at(bytes, length));
        let kept = kept.map_err(|source| StorageError::Io {
            operation: "write",
            path: self.id.to_string().into(),
            source,
        });
        if let Err(error) = kept.and_then(|()| self.staged().append(bytes, length)) {
            if error.is_full() {
                self.cancel()?;
            } else {
                self.staged().truncate(length)?;
            }
            return Err(error);
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
        self.length += bytes.len() as u64;
        if self.length >= self.saved + limits::SAVE_BYTES {
            self.save()?;
        }
        Ok(())
    }

    /// Cuts the upload back to `length` bytes.
    pub fn truncate(&mut self, length: u64) -> Result<(), StorageError> {
        assert!(length <= self.length, "an upload is only ever cut back");
        if length != self.length {
            self.hasher = None;
        }
        self.staged().truncate(length)?;
        self.length = length;
        Ok(())
    }

    fn progress(&mut self) -> Result<Progress, StorageError> {
        let place = self.staged().checkpoint()?;
        Ok(Progress { length: self.length, hash: self.hasher.as_ref().map(Hasher::save), place })
    }

    /// Writes down how far the session is: what the client is told of is what the next request finds.
    pub fn save(&mut self) -> Result<(), StorageError> {
        if !self.session || self.saved == self.length {
            return Ok(());
        }
        let progress = self.progress()?;
        let saved = self.storage.pointers.advance_session(&self.id, self.saved, &progress, now_seconds());
        if saved.as_ref().is_err_and(StorageError::is_full) {
            self.cancel()?;
        }
        saved?;
        self.saved = self.length;
        Ok(())
    }

    /// The digest of the bytes that are kept.
    fn digest(&mut self, algorithm: Algorithm) -> Result<Digest, StorageError> {
        if let Some(hasher) = self.hasher.as_ref().filter(|_| algorithm == self.algorithm) {
            return Ok(hasher.clone().finish());
        }
        let (length, reader) = (self.length, self.staged().reader()?);
        let mut hasher = Hasher::new(algorithm);
        let mut buffer = vec![0; limits::PIECE_BYTES];
        let mut offset = 0;
        while offset < length {
            let count = (length - offset).min(limits::PIECE_BYTES as u64) as usize;
            reader.read_exact_at(&mut buffer[..count], offset).map_err(|source| StorageError::Io {
                operation: "read back",
                path: self.id.to_string().into(),
                source,
            })?;
            hasher.update(&buffer[..count]);
            offset += count as u64;
        }
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
        let (storage, repository, id) = (Arc::clone(&self.storage), self.repository.clone(), self.id.clone());
        let (length, session) = (self.length, self.session.then_some(&id));
        let placed = self.place(expected, || {
            let bounds = storage.bounds(&repository);
            storage.pointers.put_blob(&repository, expected, length, session, &bounds, now_seconds())
        });
        match &placed {
            Ok(()) => self.session = false,
            // its bytes would keep the disk full; and what was placed for nothing is no session's any more
            Err(error) if error.is_full() || matches!(error, StorageError::OverQuota(_)) => self.cancel()?,
            Err(_) => {}
        }
        placed
    }

    /// Puts the bytes under their digest and writes the pointers, in this order; `pointers` may still refuse. A removal
    /// of the same content that is under way is waited for, and what it took is put back.
    pub(super) fn place(
        &mut self,
        digest: &Digest,
        pointers: impl Fn() -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        let length = self.length;
        for _ in 0..limits::PLACE_TRIES {
            self.staged().place(digest)?;
            match pointers() {
                Err(StorageError::Condemned(_)) => self.storage.await_removal(digest)?,
                Err(error) => {
                    self.storage.take_back(digest);
                    return Err(error);
                }
                Ok(()) if self.storage.content.size(digest)? == Some(length) => {
                    self.storage.seen.add(digest);
                    return Ok(());
                }
                Ok(()) => {}
            }
        }
        Err(StorageError::Condemned(digest.clone()))
    }

    /// Ends the session and drops its bytes.
    pub fn cancel(&mut self) -> Result<(), StorageError> {
        let session = std::mem::replace(&mut self.session, false);
        self.let_go()?;
        if session {
            // on a full disk a row without bytes is left to the sweep
            match self.storage.with_reserve(|| self.storage.pointers.end_session(&self.id)) {
                Err(error) if error.is_full() => {}
                other => other?,
            }
        }
        Ok(())
    }

    fn let_go(&mut self) -> Result<(), StorageError> {
        // the lease ends first, or the bytes count as being written
        let lies = self.staged.take().is_some_and(|staged| staged.is_anywhere());
        if lies {
            self.storage.content.discard(&self.id)?;
        }
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if self.session {
            // what cannot be written down is what the client sends again
            let _ = self.save();
        }
        if !self.session {
            // what a failed removal leaves is swept
            let _ = self.let_go();
        }
    }
}
