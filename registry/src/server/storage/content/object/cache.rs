//! What this replica has of the store at hand: sizes of objects and small objects in memory, others in files of its own where the
//! settings give them room.
//!
//! Nothing here says that a repository has something: that is asked before. Bytes come in only as their digest says, so what is
//! answered from here is right whatever became of the store; what was condemned or set aside by any replica is told to go.
//! The files are nobody's but this process's: they are gone when the next one begins.

use super::read::ObjectReader;
use crate::{
    limits,
    server::storage::{StorageError, content::Reader, error::io_error, recent::Recent},
};
use bytes::Bytes;
use slipway_oci::{Digest, Hasher};
use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    time::Instant,
};

/// What is at hand.
pub(super) struct Cache {
    sizes: Mutex<Recent<Digest, (u64, Instant)>>,
    small: Mutex<Recent<Digest, Bytes>>,
    files: Option<Files>,
}

/// The folder of files, and how much is in it.
struct Files {
    folder: PathBuf,
    /// How many bytes they may have.
    most: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Size, and when it was used last.
    files: HashMap<Digest, (u64, u64)>,
    by_use: BTreeMap<u64, Digest>,
    /// Of the files, and of those that come in.
    bytes: u64,
    clock: u64,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no panic happens while the cache is held")
}

impl State {
    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn remove(&mut self, digest: &Digest) -> bool {
        let Some((size, used)) = self.files.remove(digest) else { return false };
        self.by_use.remove(&used);
        self.bytes -= size;
        true
    }
}

impl Cache {
    /// A cache whose files, in an empty folder made for them, have at most `most` bytes.
    pub(super) fn open(folder: &Path, most: u64) -> Result<Cache, StorageError> {
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_error("empty", folder)(error));
            }
            _ => {}
        }
        let files = match most {
            0 => None,
            most => {
                slipway_oci::private::folder(folder)?;
                Some(Files { folder: folder.to_owned(), most, state: Mutex::default() })
            }
        };
        let sizes = Mutex::new(Recent::new(limits::CACHE_RECORDS));
        Ok(Cache { sizes, small: Mutex::new(Recent::new(limits::CACHE_SMALL_BYTES)), files })
    }

    /// The size of an object that is at hand, or was in the store a moment ago.
    pub(super) fn size(&self, digest: &Digest) -> Option<u64> {
        if let Some((size, when)) = held(&self.sizes).get(digest)
            && when.elapsed() < limits::CACHE_SIZE_TIME
        {
            return Some(size);
        }
        if let Some(bytes) = held(&self.small).get(digest) {
            return Some(bytes.len() as u64);
        }
        let files = self.files.as_ref()?;
        held(&files.state).files.get(digest).map(|(size, _)| *size)
    }

    pub(super) fn keep_size(&self, digest: &Digest, size: u64) {
        held(&self.sizes).insert(digest.clone(), (size, Instant::now()), 1);
    }

    /// A small object.
    pub(super) fn small(&self, digest: &Digest, size: u64) -> Option<Bytes> {
        held(&self.small).get(digest).filter(|bytes| bytes.len() as u64 == size)
    }

    /// Keeps a small object, if its bytes are right.
    pub(super) fn keep_small(&self, digest: &Digest, bytes: &Bytes) {
        let mut hasher = Hasher::new(digest.algorithm());
        hasher.update(bytes);
        if hasher.finish() == *digest {
            let weight = bytes.len() + limits::CACHE_ENTRY_BYTES;
            held(&self.small).insert(digest.clone(), bytes.clone(), weight);
        }
    }

    /// The store has it no longer, or not as it should be.
    pub(super) fn forget(&self, digest: &Digest) {
        held(&self.sizes).remove(digest);
        held(&self.small).remove(digest);
        if let Some(files) = &self.files
            && held(&files.state).remove(digest)
        {
            // whoever reads it has it open
            let _ = fs::remove_file(files.path(digest));
        }
    }

    /// The file of an object.
    pub(super) fn file(&self, digest: &Digest) -> Option<PathBuf> {
        let files = self.files.as_ref()?;
        let mut state = held(&files.state);
        let clock = state.tick();
        let (_, used) = state.files.get_mut(digest)?;
        let former = std::mem::replace(used, clock);
        state.by_use.remove(&former);
        state.by_use.insert(clock, digest.clone());
        Some(files.path(digest))
    }

    /// Reads an object, and keeps what comes by if all of it does, in order.
    pub(super) fn keeping(
        self: &Arc<Cache>,
        object: ObjectReader,
        digest: &Digest,
        size: u64,
    ) -> Arc<dyn Reader> {
        let coming = self.files.as_ref().and_then(|files| files.begin(digest, size));
        match coming {
            Some(coming) => {
                Arc::new(Keeping { object, cache: Arc::clone(self), coming: Mutex::new(Some(coming)) })
            }
            None => Arc::new(object),
        }
    }
}

impl Files {
    fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join(format!("{}-{}", digest.algorithm().name(), digest.hex()))
    }

    /// Makes room for an object that comes in, unless it is large for the whole, or too much comes in already.
    fn begin(&self, digest: &Digest, size: u64) -> Option<Coming> {
        let (room, gone) = self.make_room(digest, size);
        for old in gone {
            let _ = fs::remove_file(self.path(&old));
        }
        if !room {
            return None;
        }
        let made = self.fresh();
        if made.is_none() {
            held(&self.state).bytes -= size;
        }
        let (path, file) = made?;
        let hasher = Hasher::new(digest.algorithm());
        Some(Coming { file, path, hasher, digest: digest.clone(), size, done: 0 })
    }

    /// Whether there is room, which is taken then, and what went for it.
    fn make_room(&self, digest: &Digest, size: u64) -> (bool, Vec<Digest>) {
        let (mut state, mut gone) = (held(&self.state), Vec::new());
        if size > self.most / limits::CACHE_LARGEST_PART || state.files.contains_key(digest) {
            return (false, gone);
        }
        while state.bytes + size > self.most {
            let oldest = state.by_use.first_key_value().map(|(_, oldest)| oldest.clone());
            // everything else is coming in
            let Some(oldest) = oldest else { return (false, gone) };
            state.remove(&oldest);
            gone.push(oldest);
        }
        state.bytes += size;
        (true, gone)
    }

    /// A file for what comes in.
    fn fresh(&self) -> Option<(PathBuf, File)> {
        let mut name = [0_u8; 8];
        getrandom::fill(&mut name).ok()?;
        let path = self.folder.join(format!("{:016x}", u64::from_ne_bytes(name)));
        let file = File::options().read(true).write(true).create_new(true).open(&path).ok()?;
        Some((path, file))
    }

    /// Gives a whole file its name, or lets it go.
    fn end(&self, coming: Coming) {
        let Coming { path, hasher, digest, size, done, .. } = coming;
        let whole = done == size && hasher.finish() == digest;
        let mut state = held(&self.state);
        if !whole || state.files.contains_key(&digest) || fs::rename(&path, self.path(&digest)).is_err() {
            state.bytes -= size;
            drop(state);
            let _ = fs::remove_file(&path);
            return;
        }
        let clock = state.tick();
        state.files.insert(digest.clone(), (size, clock));
        state.by_use.insert(clock, digest);
    }
}

/// An object on its way into a file.
struct Coming {
    file: File,
    path: PathBuf,
    hasher: Hasher,
    digest: Digest,
    size: u64,
    done: u64,
}

/// Reads an object and writes what comes by into a file.
struct Keeping {
    object: ObjectReader,
    cache: Arc<Cache>,
    coming: Mutex<Option<Coming>>,
}

impl Keeping {
    fn let_go(&self, coming: Option<Coming>) {
        if let (Some(files), Some(coming)) = (&self.cache.files, coming) {
            files.end(coming);
        }
    }
}

impl Reader for Keeping {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let read = self.object.read_exact_at(buffer, offset);
        let mut held = held(&self.coming);
        let Some(mut coming) = held.take() else { return read };
        let follows = read.is_ok() && coming.done == offset;
        if !follows || coming.file.write_all_at(buffer, offset).is_err() {
            // read again, in pieces or not at all: it comes in another time
            self.let_go(Some(coming));
            return read;
        }
        coming.hasher.update(buffer);
        coming.done += buffer.len() as u64;
        if coming.done == coming.size {
            self.let_go(Some(coming));
        } else {
            *held = Some(coming);
        }
        read
    }

    fn forget(&self) {
        self.object.forget();
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        let coming = held(&self.coming).take();
        self.let_go(coming);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(most: u64) -> (Cache, tempfile::TempDir) {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("left over"), "by a crash").expect("a file");
        (Cache::open(folder.path(), most).expect("a cache"), folder)
    }

    /// Lets bytes come in under a digest.
    fn come(cache: &Cache, digest: &Digest, bytes: &[u8], size: u64) -> bool {
        let files = cache.files.as_ref().expect("files");
        let Some(mut coming) = files.begin(digest, size) else { return false };
        coming.file.write_all_at(bytes, 0).expect("written");
        coming.hasher.update(bytes);
        coming.done = bytes.len() as u64;
        files.end(coming);
        true
    }

    fn names(folder: &Path) -> usize {
        std::fs::read_dir(folder).expect("a folder").count()
    }

    #[test]
    fn files_are_bounded_right_and_the_oldest_goes() {
        let (cache, folder) = cache(1000);
        assert_eq!(names(folder.path()), 0, "it begins empty");
        let all: Vec<(Digest, Vec<u8>)> =
            (0..8_u8).map(|number| vec![number; 200]).map(|bytes| (Digest::sha256(&bytes), bytes)).collect();
        for (digest, bytes) in &all[..5] {
            assert!(come(&cache, digest, bytes, 200));
        }
        assert!(cache.file(&all[0].0).is_some(), "used again");
        assert!(come(&cache, &all[5].0, &all[5].1, 200));
        assert!(cache.file(&all[0].0).is_some() && cache.file(&all[1].0).is_none());
        assert_eq!(names(folder.path()), 5);
        // other bytes, fewer of them, and what is too large for the whole
        assert!(come(&cache, &all[6].0, &[9; 200], 200));
        assert!(come(&cache, &all[7].0, &all[7].1[..100], 200));
        assert!(cache.file(&all[6].0).is_none() && cache.file(&all[7].0).is_none());
        assert!(!come(&cache, &all[7].0, &[0; 300], 300));
        let path = cache.file(&all[0].0).expect("a file");
        assert_eq!(std::fs::read(path).expect("its bytes"), all[0].1);
        cache.forget(&all[0].0);
        assert!(cache.file(&all[0].0).is_none());
        let left = held(&cache.files.as_ref().expect("files").state).bytes;
        assert_eq!(left, 200 * names(folder.path()) as u64);
        // what comes in counts as well
        let files = cache.files.as_ref().expect("files");
        let coming: Vec<_> =
            (20..30_u8).filter_map(|number| files.begin(&Digest::sha256(&[number]), 200)).collect();
        assert_eq!(coming.len(), 5);
        coming.into_iter().for_each(|one| files.end(one));
        assert_eq!((held(&files.state).bytes, names(folder.path())), (0, 0));
    }

    #[test]
    fn only_right_bytes_are_kept_in_memory() {
        let (cache, _folder) = cache(0);
        let digest = Digest::sha256(b"right");
        cache.keep_small(&digest, &Bytes::from_static(b"wrong"));
        assert_eq!(cache.small(&digest, 5), None);
        cache.keep_small(&digest, &Bytes::from_static(b"right"));
        assert_eq!(cache.small(&digest, 5).as_deref(), Some(&b"right"[..]));
        assert_eq!(cache.small(&digest, 6), None, "of another size");
        cache.keep_size(&digest, 5);
        assert_eq!(cache.size(&digest), Some(5));
        cache.forget(&digest);
        assert_eq!((cache.size(&digest), cache.small(&digest, 5)), (None, None));
    }
}
