//! Content in an S3-compatible object store, which replicas share.
//!
//! ```text
//! PREFIX/blobs/<algorithm>/<hex>          content; written whole, when its digest is known to be right
//! PREFIX/uploads/<uuid>/<random>          what comes in
//! PREFIX/uploads/<uuid>/<random>.multipart  the store's name of an upload that may be under way, to abort it by
//! PREFIX/quarantine/<algorithm>-<hex>     what was found to be damaged
//! PREFIX/notes/<name>                     small texts
//! ```
//!
//! What is at hand of all that is in [`cache`].
//!
//! Nothing here hangs on conditional writes, locks or anything else that stores offer differently: who writes under a digest
//! writes what everybody else would; what comes in lies under random keys; who of two goes on is decided by the pointers.
//! What a store has to do: be read after it was written, take parts of [`limits::STORE_PART_BYTES`], copy objects, list in order.
//!
//! A lease on an upload is this process's own, and so is a turn: another replica that writes to the same session is not
//! noticed here but by the pointers, and what turns are for happens once in each replica.

mod bucket;
mod cache;
mod foreign;
mod read;
mod staged;
mod unfinished;

#[cfg(test)]
mod tests;

pub use bucket::BucketConfig;
pub use foreign::{ForeignBucket, Found, Opened};

use super::{Content, ProgressOf, Reader, Resumed, Staged, Stale, Turn, folder::open_sized};
use crate::{
    limits,
    server::storage::{Asked, StorageError, UploadId, pointers::Removed},
};
use bucket::Bucket;
use bytes::Bytes;
use cache::Cache;
use read::{ObjectReader, Small};
use slipway_oci::Digest;
use staged::{Leases, ObjectStaged, held};
use std::{
    collections::{BTreeMap, HashSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::SystemTime,
};

/// Content in a bucket.
pub struct ObjectContent {
    bucket: Arc<Bucket>,
    /// Where bytes lie that are too few for a part yet.
    scratch: PathBuf,
    leases: Leases,
    cache: Arc<Cache>,
    turns: Arc<Mutex<HashSet<String>>>,
}

/// The name of a blob.
fn blob(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

fn aside(digest: &Digest) -> String {
    format!("quarantine/{}-{}", digest.algorithm().name(), digest.hex())
}

impl ObjectContent {
    /// Opens a bucket that is there, after writing, reading and removing an object in it. `scratch` is a folder of this machine
    /// for bytes on their way.
    pub fn open(config: &BucketConfig, scratch: &Path) -> Result<ObjectContent, StorageError> {
        slipway_oci::private::folder(scratch)?;
        let bucket = Bucket::open(config)?;
        let mut name = [0_u8; 8];
        getrandom::fill(&mut name)?;
        let key = bucket.key(&format!("notes/probe-{:016x}", u64::from_ne_bytes(name)));
        bucket.put(&key, Bytes::from_static(b"probe"))?;
        let found = bucket.whole(&key)?;
        bucket.delete(&key)?;
        if found.as_deref() != Some(b"probe") {
            return Err(StorageError::StoreForgets(format!("{config:?}")));
        }
        let cache = Arc::new(Cache::open(&scratch.join("cache"), config.cache_bytes)?);
        let (bucket, scratch) = (Arc::new(bucket), scratch.to_owned());
        Ok(ObjectContent { bucket, scratch, leases: Leases::default(), cache, turns: Arc::default() })
    }

    /// What has to be told of content whose bytes may be gone.
    pub fn forgetting(&self) -> Removed {
        let cache = Arc::clone(&self.cache);
        Arc::new(move |digest| cache.forget(digest))
    }

    fn staged(&self, id: &UploadId) -> Result<ObjectStaged, StorageError> {
        if !held(&self.leases).insert(id.clone()) {
            return Err(StorageError::UploadBusy);
        }
        ObjectStaged::new(Arc::clone(&self.bucket), id.clone(), Arc::clone(&self.leases), &self.scratch)
    }

    fn reader(&self, name: &str, size_bytes: u64) -> Result<Option<Arc<dyn Reader>>, StorageError> {
        let key = self.bucket.key(name);
        let found = self.bucket.size(&key)? == Some(size_bytes);
        let reader = || ObjectReader::new(Arc::clone(&self.bucket), key, size_bytes);
        Ok(found.then(|| Arc::new(reader()) as Arc<dyn Reader>))
    }

    /// A small object, which is read at once.
    fn small(&self, digest: &Digest, size_bytes: u64) -> Result<Option<Arc<dyn Reader>>, StorageError> {
        let bytes = match self.cache.small(digest, size_bytes) {
            Some(bytes) => bytes,
            None => {
                let key = self.bucket.key(&blob(digest));
                // one byte more would be another object
                let found = match self.bucket.range(&key, 0..size_bytes + 1) {
                    // an empty one has no range at all
                    Err(_) if self.bucket.size(&key)? != Some(size_bytes) => None,
                    found => found?,
                };
                let Some(bytes) = found.filter(|bytes| bytes.len() as u64 == size_bytes) else {
                    return Ok(None);
                };
                self.cache.keep_small(digest, &bytes);
                bytes
            }
        };
        Ok(Some(Arc::new(Small(bytes))))
    }

    fn rename(&self, from: &str, to: &str) -> Result<bool, StorageError> {
        let (from, to) = (self.bucket.key(from), self.bucket.key(to));
        let moved = self.bucket.copy(&from, &to)?;
        self.bucket.delete(&from)?;
        Ok(moved)
    }
}

/// A turn within this process.
struct Own(Arc<Mutex<HashSet<String>>>, String);

impl Drop for Own {
    fn drop(&mut self) {
        self.0.lock().expect("no panic happens while turns are held").remove(&self.1);
    }
}

impl Content for ObjectContent {
    fn size(&self, digest: &Digest) -> Result<Option<u64>, StorageError> {
        let found = self.bucket.size(&self.bucket.key(&blob(digest)))?;
        match found {
            Some(size) => self.cache.keep_size(digest, size),
            None => self.cache.forget(digest),
        }
        Ok(found)
    }

    fn size_lately(&self, digest: &Digest) -> Result<Option<u64>, StorageError> {
        match self.cache.size(digest) {
            Some(size) => Ok(Some(size)),
            None => self.size(digest),
        }
    }

    fn open(&self, digest: &Digest, size_bytes: u64) -> Result<Option<Arc<dyn Reader>>, StorageError> {
        if (1..=limits::CACHE_SMALL).contains(&size_bytes) {
            return self.small(digest, size_bytes);
        }
        if let Some(path) = self.cache.file(digest)
            && let Some(reader) = open_sized(&path, size_bytes)?
        {
            return Ok(Some(reader));
        }
        if self.size_lately(digest)? != Some(size_bytes) {
            return Ok(None);
        }
        let object = ObjectReader::new(Arc::clone(&self.bucket), self.bucket.key(&blob(digest)), size_bytes);
        Ok(Some(self.cache.keeping(object, digest, size_bytes)))
    }

    fn open_stored(&self, digest: &Digest, size_bytes: u64) -> Result<Option<Arc<dyn Reader>>, StorageError> {
        self.reader(&blob(digest), size_bytes)
    }

    fn link(&self, digest: &Digest) -> Result<Option<String>, StorageError> {
        self.bucket.link(&self.bucket.key(&blob(digest))).map(Some)
    }

    fn remove(&self, digest: &Digest) -> Result<(), StorageError> {
        self.cache.forget(digest);
        self.bucket.delete(&self.bucket.key(&blob(digest)))
    }

    fn stage(&self, id: &UploadId) -> Result<Box<dyn Staged>, StorageError> {
        Ok(Box::new(self.staged(id)?))
    }

    fn resume(&self, id: &UploadId, progress: &ProgressOf<'_>) -> Result<Resumed, StorageError> {
        let mut staged = self.staged(id)?;
        let (length, place) = progress()?;
        staged.take_up(length, &place)?;
        // whatever was told of is in the store
        Ok(Resumed { staged: Box::new(staged), length, is_certain: true })
    }

    fn staged_length(&self, _: &UploadId) -> Result<Option<u64>, StorageError> {
        // the pointers alone know
        Ok(Some(u64::MAX))
    }

    fn spool(&self) -> Result<Option<std::fs::File>, StorageError> {
        read::spool(&self.scratch).map(Some)
    }

    fn discard(&self, id: &UploadId) -> Result<bool, StorageError> {
        if held(&self.leases).contains(id) {
            return Ok(false);
        }
        loop {
            let found = self.bucket.list(&format!("uploads/{id}"), None, limits::STORE_LIST, |_| true)?;
            for object in &found {
                staged::abort(&self.bucket, &object.location)?;
                self.bucket.delete(&object.location)?;
            }
            if found.len() < limits::STORE_LIST {
                return Ok(true);
            }
        }
    }

    fn stale_uploads(&self, before: SystemTime, last: Option<&UploadId>) -> Result<Stale, StorageError> {
        // after all that an upload has: its objects' names are hexadecimal
        let after = last.map(|id| self.bucket.key(&format!("uploads/{id}/g")));
        let found = self.bucket.list("uploads", after, limits::STORE_LIST, |_| true)?;
        let mut written: BTreeMap<UploadId, SystemTime> = BTreeMap::new();
        for object in &found {
            let id = self.bucket.name(&object.location).split('/').nth(1).unwrap_or_default().parse();
            let Ok(id) = id else { continue };
            let at = SystemTime::from(object.last_modified);
            written.entry(id).and_modify(|last| *last = at.max(*last)).or_insert(at);
        }
        let more = found.len() >= limits::STORE_LIST;
        if more && written.len() > 1 {
            // the list may have been cut within it
            written.pop_last();
        }
        let next = written.last_key_value().filter(|_| more).map(|(id, _)| id.clone());
        let leases = held(&self.leases);
        let stale = written.into_iter().filter(|(id, last)| *last < before && !leases.contains(id));
        Ok((stale.map(|(id, _)| id).collect(), next))
    }

    fn end_dangling(
        &self,
        before: SystemTime,
        known: &dyn Fn(&UploadId) -> Result<bool, StorageError>,
    ) -> Result<usize, StorageError> {
        let mut ended = 0;
        let mut from = None;
        loop {
            let page = self.bucket.unfinished(from.as_ref())?;
            for one in page.uploads {
                if one.begun >= before {
                    continue;
                }
                // what is written under a digest is no session's
                let id = one.key.strip_prefix("uploads/").and_then(|rest| rest.split('/').next());
                let id: Option<UploadId> = id.and_then(|id| id.parse().ok());
                if let Some(id) = id
                    && (held(&self.leases).contains(&id) || known(&id)?)
                {
                    continue;
                }
                self.bucket.abort(&self.bucket.key(&one.key), &one.id)?;
                ended += 1;
            }
            match page.next {
                Some(next) => from = Some(next),
                None => return Ok(ended),
            }
        }
    }

    fn placed(
        &self,
        last: Option<&Digest>,
        before: SystemTime,
        count: usize,
    ) -> Result<Vec<Digest>, StorageError> {
        let after = last.map(|digest| self.bucket.key(&blob(digest)));
        let old = move |object: &object_store::ObjectMeta| SystemTime::from(object.last_modified) < before;
        let found = self.bucket.list("blobs", after, count, old)?;
        let digest = |object: &object_store::ObjectMeta| {
            let (rest, hex) = self.bucket.name(&object.location).rsplit_once('/')?;
            format!("{}:{hex}", rest.rsplit('/').next()?).parse().ok()
        };
        Ok(found.iter().filter_map(digest).collect())
    }

    fn set_aside(&self, digest: &Digest) -> Result<bool, StorageError> {
        self.cache.forget(digest);
        self.rename(&blob(digest), &aside(digest))
    }

    fn open_aside(&self, digest: &Digest, size_bytes: u64) -> Result<Option<Arc<dyn Reader>>, StorageError> {
        self.reader(&aside(digest), size_bytes)
    }

    fn put_back(&self, digest: &Digest) -> Result<(), StorageError> {
        match self.rename(&aside(digest), &blob(digest))? {
            true => Ok(()),
            false => Err(StorageError::BlobUnknown(digest.clone())),
        }
    }

    fn asked(&self) -> Option<Asked> {
        Some(self.bucket.traffic.asked())
    }

    fn note(&self, name: &str) -> Result<Option<String>, StorageError> {
        let key = self.bucket.key(&format!("notes/{name}"));
        if self.bucket.size(&key)?.is_none_or(|size| size > limits::NOTE_BYTES) {
            return Ok(None);
        }
        Ok(self.bucket.whole(&key)?.and_then(|bytes| String::from_utf8(bytes.to_vec()).ok()))
    }

    fn set_note(&self, name: &str, text: &str) -> Result<(), StorageError> {
        self.bucket.put(&self.bucket.key(&format!("notes/{name}")), Bytes::from(text.to_owned()))
    }

    fn remove_note(&self, name: &str) -> Result<(), StorageError> {
        self.bucket.delete(&self.bucket.key(&format!("notes/{name}")))
    }

    fn turn(&self, name: &str) -> Result<Option<Turn>, StorageError> {
        let taken = self.turns.lock().expect("no panic happens while turns are held").insert(name.to_owned());
        let own = || Own(Arc::clone(&self.turns), name.to_owned());
        Ok(taken.then(|| Box::new(own()) as Turn))
    }

    fn open_reserve(&self) -> Result<bool, StorageError> {
        Ok(false)
    }

    fn refill_reserve(&self) {}
}
