//! Bytes that come in: a file without a name on this machine until there are enough for a part, parts of a multipart upload then.
//!
//! Each writer has a multipart upload of its own, under a random key below the session's folder, and nobody else ever adds to
//! it. Whoever takes the session up completes it with the parts that the pointers tell of, and begins the next one. So two that
//! write to one session at once, on two replicas, never mix: the pointers let one move on, and the other's upload is completed
//! under its hands. What is less than a part lies in an object of its own, or in the pointers themselves where it is small.

use super::{
    bucket::Bucket,
    read::{ObjectReader, StagedReader, spool},
};
use crate::{
    limits,
    server::storage::{
        StorageError, UploadId,
        content::{Reader, Staged},
    },
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use slipway_oci::{Digest, Hasher};
use std::{
    collections::HashSet,
    fs::File,
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
};

/// Sessions that this process writes to.
pub(super) type Leases = Arc<Mutex<HashSet<UploadId>>>;

/// What the pointers keep of a session, as JSON.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Place {
    /// Objects that are complete, in order.
    #[serde(default)]
    objects: Vec<Object>,
    /// The upload that is under way.
    open: Option<Open>,
    /// What comes after these.
    #[serde(default)]
    tail: Tail,
    /// Names of former tails, which nobody needs any more.
    #[serde(default)]
    stale: Vec<String>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Object {
    /// Its name below the prefix.
    name: String,
    /// How many of its bytes count.
    length: u64,
    /// How many it has.
    whole: u64,
}

#[derive(Clone, Serialize, Deserialize)]
struct Open {
    name: String,
    /// The store's name for the upload.
    id: String,
    /// The store's names for its parts.
    parts: Vec<String>,
    /// How many bytes they have.
    length: u64,
}

#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Tail {
    #[default]
    Nothing,
    /// An object.
    Object(Object),
    /// The bytes themselves, in base64.
    Bytes(String),
}

pub(super) struct ObjectStaged {
    bucket: Arc<Bucket>,
    id: UploadId,
    leases: Leases,
    state: Mutex<State>,
}

struct State {
    place: Place,
    spool: Arc<File>,
    /// Where the file's first byte stands.
    start: u64,
    length: u64,
}

const PART: u64 = limits::STORE_PART_BYTES as u64;

impl ObjectStaged {
    /// Begins; the caller has put the lease down.
    pub(super) fn new(
        bucket: Arc<Bucket>,
        id: UploadId,
        leases: Leases,
        scratch: &std::path::Path,
    ) -> Result<ObjectStaged, StorageError> {
        let file = spool(scratch).inspect_err(|_| {
            held(&leases).remove(&id);
        })?;
        let state = State { place: Place::default(), spool: Arc::new(file), start: 0, length: 0 };
        Ok(ObjectStaged { bucket, id, leases, state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic happens while the state is held")
    }

    /// Goes on from what the pointers tell.
    pub(super) fn take_up(&mut self, length: u64, place: &[u8]) -> Result<(), StorageError> {
        let mut place: Place = match place {
            [] => Place::default(),
            text => serde_json::from_slice(text).map_err(|_| StorageError::UploadUnknown)?,
        };
        let (tail, stale) = (std::mem::take(&mut place.tail), std::mem::take(&mut place.stale));
        let tail = match tail {
            Tail::Nothing => Bytes::new(),
            Tail::Bytes(text) => BASE64.decode(text).map_err(|_| StorageError::UploadUnknown)?.into(),
            Tail::Object(object) => {
                let bytes = self.bucket.whole(&self.bucket.key(&object.name))?;
                // it goes when the next one has its place
                place.stale.push(object.name);
                bytes.ok_or(StorageError::UploadUnknown)?
            }
        };
        let mut state = self.state();
        state.place = place;
        state.seal(&self.bucket)?;
        state.start = state.place.objects.iter().map(|object| object.length).sum();
        state.length = state.start + tail.len() as u64;
        state.spool.write_all_at(&tail, 0).map_err(failed("write"))?;
        if state.length != length {
            return Err(StorageError::UploadUnknown);
        }
        // what cannot go now goes with the session
        let gone = stale.iter().try_for_each(|name| self.bucket.delete(&self.bucket.key(name)));
        drop(gone);
        Ok(())
    }

    /// A new name below the session's folder.
    fn fresh(&self) -> Result<String, StorageError> {
        let mut bytes = [0_u8; 8];
        getrandom::fill(&mut bytes)?;
        Ok(format!("uploads/{}/{:016x}", self.id, u64::from_ne_bytes(bytes)))
    }
}

fn failed(operation: &'static str) -> impl FnOnce(std::io::Error) -> StorageError {
    move |source| StorageError::Io { operation, path: PathBuf::from("the file of an upload"), source }
}

pub(super) fn held(leases: &Leases) -> MutexGuard<'_, HashSet<UploadId>> {
    leases.lock().expect("no panic happens while leases are held")
}

/// The name of the note that tells of a multipart upload, so that whoever finds it can abort that.
fn note(name: &str) -> String {
    format!("{name}.multipart")
}

/// Aborts what a note tells of.
pub(super) fn abort(bucket: &Bucket, key: &Path) -> Result<(), StorageError> {
    let name = bucket.name(key);
    let Some(of) = name.strip_suffix(".multipart") else { return Ok(()) };
    match bucket.whole(key)?.and_then(|text| String::from_utf8(text.to_vec()).ok()) {
        Some(id) => bucket.abort(&bucket.key(of), &id),
        None => Ok(()),
    }
}

impl State {
    /// What is in the file.
    fn spooled(&self, from: u64, to: u64) -> Result<Bytes, StorageError> {
        let mut bytes = vec![0; (to - from) as usize];
        self.spool.read_exact_at(&mut bytes, from - self.start).map_err(failed("read"))?;
        Ok(bytes.into())
    }

    /// Sends what is in the file as the next part.
    fn send(
        &mut self,
        bucket: &Bucket,
        fresh: impl Fn() -> Result<String, StorageError>,
    ) -> Result<(), StorageError> {
        if self.place.open.as_ref().is_some_and(|open| open.parts.len() >= limits::STORE_PARTS) {
            self.seal(bucket)?;
        }
        if self.place.open.is_none() {
            let name = fresh()?;
            let id = bucket.begin(&bucket.key(&name))?;
            bucket.put(&bucket.key(&note(&name)), Bytes::from(id.clone()))?;
            self.place.open = Some(Open { name, id, parts: Vec::new(), length: 0 });
        }
        let (_turn, size) = (bucket.sending(), self.length - self.start);
        let bytes = self.spooled(self.start, self.length)?;
        let open = self.place.open.as_mut().expect("it was just begun");
        let part = bucket.part(&bucket.key(&open.name), &open.id, open.parts.len(), bytes)?;
        open.parts.push(part);
        open.length += size;
        self.start = self.length;
        Ok(())
    }

    /// Completes the upload that is under way.
    fn seal(&mut self, bucket: &Bucket) -> Result<(), StorageError> {
        let Some(open) = self.place.open.take_if(|open| !open.parts.is_empty()) else { return Ok(()) };
        let (length, key) = (open.length, bucket.key(&open.name));
        let whole = match bucket.complete(&key, &open.id, &open.parts) {
            Ok(true) => length,
            // somebody did so before; what they have beyond does not count
            other => match (bucket.size(&key)?, other) {
                (Some(whole), _) if whole >= length => whole,
                (_, Err(error)) => {
                    self.place.open = Some(open);
                    return Err(error);
                }
                _ => return Err(StorageError::UploadUnknown),
            },
        };
        self.place.objects.push(Object { name: open.name, length, whole });
        Ok(())
    }

    fn reader(&self, bucket: &Arc<Bucket>) -> StagedReader {
        let object = |object: &Object| {
            let key = bucket.key(&object.name);
            (ObjectReader::new(Arc::clone(bucket), key, object.length), object.length)
        };
        StagedReader {
            objects: self.place.objects.iter().map(object).collect(),
            spool: Arc::clone(&self.spool),
            start: self.start,
            length: self.length,
        }
    }

    /// Writes everything under its digest, read back and digested once more on the way.
    fn assemble(&self, bucket: &Arc<Bucket>, key: &Path, digest: &Digest) -> Result<(), StorageError> {
        let reader = self.reader(bucket);
        // no store takes more than ten thousand parts
        let size = PART.max(self.length.div_ceil(limits::STORE_PARTS as u64));
        let id = bucket.begin(key)?;
        let sent = || -> Result<(), StorageError> {
            let (mut hasher, mut parts, mut offset) = (Hasher::new(digest.algorithm()), Vec::new(), 0);
            while offset < self.length {
                let _turn = bucket.sending();
                let mut bytes = vec![0; (self.length - offset).min(size) as usize];
                reader.read_exact_at(&mut bytes, offset).map_err(failed("read back"))?;
                hasher.update(&bytes);
                offset += bytes.len() as u64;
                parts.push(bucket.part(key, &id, parts.len(), bytes.into())?);
            }
            match hasher.finish() {
                actual if actual == *digest => bucket.complete(key, &id, &parts).map(drop),
                actual => Err(StorageError::Rot { expected: digest.clone(), actual }),
            }
        };
        sent().inspect_err(|_| drop(bucket.abort(key, &id)))
    }
}

impl Staged for ObjectStaged {
    fn append(&mut self, bytes: &[u8], offset: u64) -> Result<(), StorageError> {
        let mut state = self.state();
        assert_eq!(state.length, offset, "bytes are added at the end");
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = (PART - (state.length - state.start)).min(rest.len() as u64) as usize;
            state.spool.write_all_at(&rest[..room], state.length - state.start).map_err(failed("write"))?;
            state.length += room as u64;
            rest = &rest[room..];
            if state.length - state.start == PART {
                state.send(&self.bucket, || self.fresh())?;
            }
        }
        Ok(())
    }

    fn truncate(&mut self, length: u64) -> Result<(), StorageError> {
        let mut state = self.state();
        assert!(length <= state.length, "an upload is only ever cut back");
        if length < state.start {
            state.seal(&self.bucket)?;
            let mut begins = 0;
            state.place.objects.retain_mut(|object| {
                let ends = begins + object.length;
                object.length = object.length.min(length.saturating_sub(begins));
                begins = ends;
                object.length > 0
            });
            state.start = length;
        }
        state.length = length;
        Ok(())
    }

    fn checkpoint(&mut self) -> Result<Vec<u8>, StorageError> {
        let mut state = self.state();
        let former = std::mem::take(&mut state.place.tail);
        if let Tail::Object(object) = former {
            state.place.stale.push(object.name);
        }
        let _turn = self.bucket.sending();
        let left = state.spooled(state.start, state.length)?;
        state.place.tail = match left.len() {
            0 => Tail::Nothing,
            small if small <= limits::STORE_SMALL_BYTES => Tail::Bytes(BASE64.encode(&left)),
            size => {
                let name = self.fresh()?;
                self.bucket.put(&self.bucket.key(&name), left)?;
                Tail::Object(Object { name, length: size as u64, whole: size as u64 })
            }
        };
        Ok(serde_json::to_vec(&state.place).expect("texts and numbers are always JSON"))
    }

    fn reader(&self) -> Result<Arc<dyn Reader>, StorageError> {
        let mut state = self.state();
        // parts are not read before they are an object
        state.seal(&self.bucket)?;
        Ok(Arc::new(state.reader(&self.bucket)))
    }

    fn is_anywhere(&self) -> bool {
        let state = self.state();
        let Place { objects, open, tail, stale } = &state.place;
        // what another replica wrote and never told of is swept
        !(objects.is_empty()
            && open.is_none()
            && stale.is_empty()
            && matches!(tail, Tail::Nothing | Tail::Bytes(_)))
    }

    fn place(&mut self, digest: &Digest) -> Result<(), StorageError> {
        let mut state = self.state();
        let key = self.bucket.key(&super::blob(digest));
        if state.place.open.is_some() {
            // a last part may have any size
            if state.length > state.start {
                state.send(&self.bucket, || self.fresh())?;
            }
            state.seal(&self.bucket)?;
        }
        let placed = match state.place.objects.as_slice() {
            [] => {
                let _turn = self.bucket.sending();
                let bytes = state.spooled(0, state.length)?;
                return self.bucket.put(&key, bytes);
            }
            [object]
                if object.length == object.whole
                    && state.start == state.length
                    && object.whole <= limits::STORE_COPY_BYTES =>
            {
                self.bucket.copy(&self.bucket.key(&object.name), &key)?
            }
            _ => return state.assemble(&self.bucket, &key, digest),
        };
        if placed { Ok(()) } else { Err(StorageError::UploadUnknown) }
    }
}

impl Drop for ObjectStaged {
    fn drop(&mut self) {
        held(&self.leases).remove(&self.id);
    }
}
