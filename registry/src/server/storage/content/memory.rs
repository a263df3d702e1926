//! Content in memory: for tests, and for a registry that may forget everything.

use super::{Content, ProgressOf, Reader, Resumed, Staged, Stale, Turn};
use crate::server::storage::{StorageError, UploadId};
use slipway_oci::Digest;
use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::{Arc, Mutex, MutexGuard},
    time::SystemTime,
};

/// Bytes in memory; clones share them.
#[derive(Clone, Default)]
pub struct MemoryContent(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    placed: BTreeMap<Digest, (Arc<Vec<u8>>, SystemTime)>,
    staged: HashMap<UploadId, Upload>,
    aside: BTreeMap<Digest, Arc<Vec<u8>>>,
    notes: HashMap<String, String>,
}

struct Upload {
    bytes: Vec<u8>,
    leased: bool,
    written: SystemTime,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().expect("no panic happens while the state is held")
}

struct MemoryReader(Arc<Vec<u8>>);

impl Reader for MemoryReader {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).ok();
        let end = start.and_then(|start| start.checked_add(buffer.len()));
        let part = start.zip(end).and_then(|(start, end)| self.0.get(start..end));
        buffer.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

struct MemoryStaged {
    state: Arc<Mutex<State>>,
    id: UploadId,
}

impl MemoryStaged {
    fn with<T>(&self, work: impl FnOnce(&mut Upload) -> T) -> Result<T, StorageError> {
        let mut state = lock(&self.state);
        let upload = state.staged.get_mut(&self.id).ok_or(StorageError::UploadUnknown)?;
        upload.written = SystemTime::now();
        Ok(work(upload))
    }
}

impl Staged for MemoryStaged {
    fn append(&mut self, bytes: &[u8], offset: u64) -> Result<(), StorageError> {
        self.with(|upload| {
            assert_eq!(upload.bytes.len() as u64, offset, "bytes are added at the end");
            upload.bytes.extend_from_slice(bytes);
        })
    }

    fn truncate(&mut self, length: u64) -> Result<(), StorageError> {
        self.with(|upload| upload.bytes.truncate(length as usize))
    }

    fn checkpoint(&mut self) -> Result<Vec<u8>, StorageError> {
        Ok(Vec::new())
    }

    fn reader(&self) -> Result<Arc<dyn Reader>, StorageError> {
        self.with(|upload| Arc::new(MemoryReader(Arc::new(upload.bytes.clone()))) as Arc<dyn Reader>)
    }

    fn place(&mut self, digest: &Digest) -> Result<(), StorageError> {
        let bytes = self.with(|upload| upload.bytes.clone())?;
        lock(&self.state).placed.insert(digest.clone(), (Arc::new(bytes), SystemTime::now()));
        Ok(())
    }
}

impl Drop for MemoryStaged {
    fn drop(&mut self) {
        if let Some(upload) = lock(&self.state).staged.get_mut(&self.id) {
            upload.leased = false;
        }
    }
}

impl Content for MemoryContent {
    fn size(&self, digest: &Digest) -> Result<Option<u64>, StorageError> {
        Ok(lock(&self.0).placed.get(digest).map(|(bytes, _)| bytes.len() as u64))
    }

    fn open(&self, digest: &Digest, size_bytes: u64) -> Result<Option<Arc<dyn Reader>>, StorageError> {
        let state = lock(&self.0);
        let found = state.placed.get(digest).filter(|(bytes, _)| bytes.len() as u64 == size_bytes);
        Ok(found.map(|(bytes, _)| Arc::new(MemoryReader(Arc::clone(bytes))) as Arc<dyn Reader>))
    }

    fn remove(&self, digest: &Digest) -> Result<(), StorageError> {
        lock(&self.0).placed.remove(digest);
        Ok(())
    }

    fn stage(&self, id: &UploadId) -> Result<Box<dyn Staged>, StorageError> {
        let upload = Upload { bytes: Vec::new(), leased: true, written: SystemTime::now() };
        lock(&self.0).staged.insert(id.clone(), upload);
        Ok(Box::new(MemoryStaged { state: Arc::clone(&self.0), id: id.clone() }))
    }

    fn resume(&self, id: &UploadId, progress: &ProgressOf<'_>) -> Result<Resumed, StorageError> {
        let mut state = lock(&self.0);
        let upload = state.staged.get_mut(id).ok_or(StorageError::UploadUnknown)?;
        if std::mem::replace(&mut upload.leased, true) {
            return Err(StorageError::UploadBusy);
        }
        drop(state);
        let staged = Box::new(MemoryStaged { state: Arc::clone(&self.0), id: id.clone() });
        let (length, _) = progress()?;
        let found = staged.with(|upload| {
            upload.bytes.truncate(length as usize);
            upload.bytes.len() as u64
        })?;
        Ok(Resumed { staged, length: found, is_certain: found == length })
    }

    fn staged_length(&self, id: &UploadId) -> Result<Option<u64>, StorageError> {
        Ok(lock(&self.0).staged.get(id).map(|upload| upload.bytes.len() as u64))
    }

    fn discard(&self, id: &UploadId) -> Result<bool, StorageError> {
        let mut state = lock(&self.0);
        if state.staged.get(id).is_some_and(|upload| upload.leased) {
            return Ok(false);
        }
        state.staged.remove(id);
        Ok(true)
    }

    fn stale_uploads(&self, before: SystemTime, _: Option<&UploadId>) -> Result<Stale, StorageError> {
        let state = lock(&self.0);
        let stale = state.staged.iter().filter(|(_, upload)| !upload.leased && upload.written < before);
        Ok((stale.map(|(id, _)| id.clone()).collect(), None))
    }

    fn placed(
        &self,
        last: Option<&Digest>,
        before: SystemTime,
        count: usize,
    ) -> Result<Vec<Digest>, StorageError> {
        let state = lock(&self.0);
        let after = state.placed.iter().filter(|(digest, _)| last.is_none_or(|last| *digest > last));
        let old = after.filter(|(_, (_, placed))| *placed < before);
        Ok(old.map(|(digest, _)| digest.clone()).take(count).collect())
    }

    fn set_aside(&self, digest: &Digest) -> Result<bool, StorageError> {
        let mut state = lock(&self.0);
        let Some((bytes, _)) = state.placed.remove(digest) else { return Ok(false) };
        state.aside.insert(digest.clone(), bytes);
        Ok(true)
    }

    fn open_aside(&self, digest: &Digest, size_bytes: u64) -> Result<Option<Arc<dyn Reader>>, StorageError> {
        let state = lock(&self.0);
        let found = state.aside.get(digest).filter(|bytes| bytes.len() as u64 == size_bytes);
        Ok(found.map(|bytes| Arc::new(MemoryReader(Arc::clone(bytes))) as Arc<dyn Reader>))
    }

    fn put_back(&self, digest: &Digest) -> Result<(), StorageError> {
        let mut state = lock(&self.0);
        let bytes = state.aside.remove(digest).ok_or_else(|| StorageError::BlobUnknown(digest.clone()))?;
        state.placed.insert(digest.clone(), (bytes, SystemTime::now()));
        Ok(())
    }

    fn note(&self, name: &str) -> Result<Option<String>, StorageError> {
        Ok(lock(&self.0).notes.get(name).cloned())
    }

    fn set_note(&self, name: &str, text: &str) -> Result<(), StorageError> {
        lock(&self.0).notes.insert(name.to_owned(), text.to_owned());
        Ok(())
    }

    fn remove_note(&self, name: &str) -> Result<(), StorageError> {
        lock(&self.0).notes.remove(name);
        Ok(())
    }

    fn turn(&self, _: &str) -> Result<Option<Turn>, StorageError> {
        // nobody else has this memory
        Ok(Some(Box::new(())))
    }

    fn open_reserve(&self) -> Result<bool, StorageError> {
        Ok(false)
    }

    fn refill_reserve(&self) {}
}
