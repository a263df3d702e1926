//! Content in a folder: `blobs/<algorithm>/<hex>` as in an OCI image layout, `uploads/<uuid>` for what comes in,
//! `quarantine/<algorithm>-<hex>` for what was found to be damaged, and small files of their own names.
//!
//! Whoever writes an upload holds the lock of its file (`flock`, which ends with its holder, in whatever pid namespace
//! that lived). A blob appears by a rename, after its bytes were synced; the folder is synced before anybody is told.

use super::{Content, ProgressOf, Reader, Resumed, Staged, Stale, Turn};
use crate::{
    limits,
    server::storage::{
        StorageError, UploadId,
        error::io_error,
        keep::{
            backup,
            lock::{self, Removing},
        },
    },
};
use rustix::{
    fs::{Advice, fadvise},
    io::{ReadWriteFlags, preadv2},
};
use slipway_oci::{Digest, blobs::Blobs, file, lock::Lock, reserve::Reserve};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, IoSliceMut},
    num::NonZeroU64,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex},
    time::SystemTime,
};

/// A folder of content.
pub struct FolderContent {
    folder: PathBuf,
    blobs: Blobs,
    uploads: PathBuf,
    reserve: Reserve,
    names: Arc<Names>,
    /// Which boot of which machine this is: bytes that were not synced are certain within it.
    boot: Vec<u8>,
}

impl FolderContent {
    /// Opens the folder, which is its owner's alone.
    pub fn open(folder: &Path) -> Result<FolderContent, StorageError> {
        let uploads = folder.join("uploads");
        let blobs = Blobs::open(&folder.join("blobs"), &uploads)?;
        let boot = fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let content = FolderContent {
            folder: folder.to_owned(),
            blobs,
            uploads,
            reserve: Reserve::new(folder, limits::RESERVE_BYTES),
            names: Arc::default(),
            boot,
        };
        lock::prepare(folder)?;
        content.refill_reserve();
        Ok(content)
    }

    fn upload_path(&self, id: &UploadId) -> PathBuf {
        self.uploads.join(id.as_str())
    }

    /// Where damaged content is kept for its operator.
    fn aside(&self, digest: &Digest) -> PathBuf {
        self.folder.join("quarantine").join(format!("{}-{}", digest.algorithm().name(), digest.hex()))
    }

    fn staged(&self, id: &UploadId, file: Lock) -> FolderStaged {
        FolderStaged {
            path: self.upload_path(id),
            file: Arc::new(file),
            blobs: self.blobs.clone(),
            names: Arc::clone(&self.names),
            boot: self.boot.clone(),
            length: 0,
        }
    }

    /// Opens and locks an upload's file; `None` where it is gone.
    fn lease(&self, id: &UploadId) -> Result<Option<Lock>, StorageError> {
        let path = self.upload_path(id);
        let file = match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error("open", &path)(error)),
        };
        let file = Lock::try_alone(file).map_err(io_error("lock", &path))?.ok_or(StorageError::UploadBusy)?;
        // between open and lock the upload may have ended: then this file is a finished blob and must not be touched
        let inode = file.metadata().map_err(io_error("read", &path))?.ino();
        let named = fs::metadata(&path).is_ok_and(|named| named.ino() == inode);
        Ok(named.then_some(file))
    }
}

/// Reads a file, whoever wrote it.
pub fn read_file(file: File) -> Arc<dyn Reader> {
    Arc::new(FileReader(Arc::new(file)))
}

struct FileReader(Arc<File>);

impl Reader for FileReader {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }

    fn read_once(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let wanted = buffer.len();
        // RWF_NOWAIT answers from the page cache alone (preadv2(2)); a file system that lacks it says so
        let cached = preadv2(&*self.0, &mut [IoSliceMut::new(buffer)], offset, ReadWriteFlags::NOWAIT);
        if cached == Ok(wanted) {
            return Ok(());
        }
        // advice may be refused, and nothing depends on it: reading ahead would fill the cache with what is not let go
        let _ = fadvise(&*self.0, 0, None, Advice::Random);
        self.0.read_exact_at(buffer, offset)?;
        let _ = fadvise(&*self.0, offset, NonZeroU64::new(wanted as u64), Advice::DontNeed);
        Ok(())
    }

    fn forget(&self) {
        let _ = fadvise(&*self.0, 0, None, Advice::DontNeed);
    }

    fn as_file(&self) -> Option<&File> {
        Some(&self.0)
    }

    fn is_at_hand(&self, offset: u64, length: usize) -> bool {
        let end = offset + length as u64;
        // what the kernel reads ahead comes and goes in pieces larger than this
        let steps = (offset..end).step_by(limits::CACHE_STEP).chain(end.checked_sub(1));
        steps.into_iter().all(|at| {
            let mut byte = [0];
            let cached = preadv2(&*self.0, &mut [IoSliceMut::new(&mut byte)], at, ReadWriteFlags::NOWAIT);
            cached == Ok(1)
        })
    }
}

/// Opens a file that has `size_bytes` bytes.
pub(super) fn open_sized(path: &Path, size_bytes: u64) -> Result<Option<Arc<dyn Reader>>, StorageError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("open", path)(error)),
    };
    let metadata = file.metadata().map_err(io_error("read", path))?;
    let found = metadata.is_file() && metadata.len() == size_bytes;
    Ok(found.then(|| Arc::new(FileReader(Arc::new(file))) as Arc<dyn Reader>))
}

struct FolderStaged {
    path: PathBuf,
    file: Arc<Lock>,
    blobs: Blobs,
    names: Arc<Names>,
    boot: Vec<u8>,
    length: u64,
}

impl Staged for FolderStaged {
    fn append(&mut self, bytes: &[u8], offset: u64) -> Result<(), StorageError> {
        self.file.write_all_at(bytes, offset).map_err(io_error("write", &self.path))?;
        self.length = offset + bytes.len() as u64;
        Ok(())
    }

    fn truncate(&mut self, length: u64) -> Result<(), StorageError> {
        self.file.set_len(length).map_err(io_error("truncate", &self.path))?;
        self.length = length;
        Ok(())
    }

    fn checkpoint(&mut self) -> Result<Vec<u8>, StorageError> {
        // written to the kernel, not to the disk: a session that a power cut damages is one that is sent again, and its
        // bytes are never taken for certain in another boot
        Ok(self.boot.clone())
    }

    fn reader(&self) -> Result<Arc<dyn Reader>, StorageError> {
        // a description of its own: who still reads does not hold the lease
        let file = File::open(&self.path).map_err(io_error("open", &self.path))?;
        Ok(Arc::new(FileReader(Arc::new(file))))
    }

    fn place(&mut self, digest: &Digest) -> Result<(), StorageError> {
        self.file.sync_data().map_err(io_error("sync", &self.path))?;
        let target = self.blobs.path(digest);
        match fs::rename(&self.path, &target) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.place_again(&target)?,
            other => other.map_err(io_error("rename", &target))?,
        }
        let folder = target.parent().expect("a blob lies in its algorithm's folder");
        self.names.sync(folder)
    }
}

impl FolderStaged {
    /// The name went with the first placing, and what it became was removed since: the bytes are still ours.
    fn place_again(&self, target: &Path) -> Result<(), StorageError> {
        let failed = |error| io_error("write", &self.path)(error);
        let copy = File::create_new(&self.path).map_err(failed)?;
        let mut buffer = vec![0; limits::PIECE_BYTES];
        let mut offset = 0;
        while offset < self.length {
            let count = (self.length - offset).min(buffer.len() as u64) as usize;
            self.file.read_exact_at(&mut buffer[..count], offset).map_err(failed)?;
            copy.write_all_at(&buffer[..count], offset).map_err(failed)?;
            offset += count as u64;
        }
        copy.sync_data().map_err(failed)?;
        fs::rename(&self.path, target).map_err(io_error("rename", target))
    }
}

impl Content for FolderContent {
    fn size(&self, digest: &Digest) -> Result<Option<u64>, StorageError> {
        Ok(self.blobs.size(digest)?)
    }

    fn open(&self, digest: &Digest, size_bytes: u64) -> Result<Option<Arc<dyn Reader>>, StorageError> {
        open_sized(&self.blobs.path(digest), size_bytes)
    }

    fn remove(&self, digest: &Digest) -> Result<(), StorageError> {
        loop {
            if let Removing::Free(_held) = lock::removing(&self.folder)? {
                return Ok(self.blobs.remove(digest)?);
            }
            // a backup that is under way may need it yet
            let name = format!("{}-{}", digest.algorithm().name(), digest.hex());
            let (from, held) = (self.blobs.path(digest), self.folder.join("held"));
            fs::create_dir_all(&held).map_err(io_error("create", &held))?;
            match fs::rename(&from, held.join(name)) {
                // the backup may have ended and taken the folder away
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    if self.blobs.size(digest)?.is_none() {
                        return Ok(());
                    }
                }
                other => return other.map_err(io_error("rename", &from)),
            }
        }
    }

    fn stage(&self, id: &UploadId) -> Result<Box<dyn Staged>, StorageError> {
        let path = self.upload_path(id);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(io_error("create", &path))?;
        let file = Lock::alone(file).map_err(io_error("lock", &path))?;
        Ok(Box::new(self.staged(id, file)))
    }

    fn resume(&self, id: &UploadId, progress: &ProgressOf<'_>) -> Result<Resumed, StorageError> {
        let file = self.lease(id)?.ok_or(StorageError::UploadUnknown)?;
        let (length, place) = progress()?;
        let mut staged = self.staged(id, file);
        let found = staged.file.metadata().map_err(io_error("read", &staged.path))?.len();
        // what is beyond was never acknowledged; what is missing was lost in a power cut
        let length = length.min(found);
        let is_certain = place == self.boot && !place.is_empty();
        staged.truncate(length)?;
        Ok(Resumed { staged: Box::new(staged), length, is_certain })
    }

    fn staged_length(&self, id: &UploadId) -> Result<Option<u64>, StorageError> {
        let path = self.upload_path(id);
        match fs::metadata(&path) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error("read", &path)(error)),
        }
    }

    fn discard(&self, id: &UploadId) -> Result<bool, StorageError> {
        let path = self.upload_path(id);
        match self.lease(id) {
            Ok(None) => Ok(true),
            Ok(Some(_held)) => fs::remove_file(&path).map(|()| true).map_err(io_error("remove", &path)),
            Err(StorageError::UploadBusy) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn stale_uploads(&self, before: SystemTime, _: Option<&UploadId>) -> Result<Stale, StorageError> {
        let mut stale = Vec::new();
        for entry in fs::read_dir(&self.uploads).map_err(io_error("list", &self.uploads))? {
            let entry = entry.map_err(io_error("list", &self.uploads))?;
            let modified = entry.metadata().and_then(|metadata| metadata.modified());
            // gone meanwhile: somebody else finished it
            let Ok(modified) = modified else { continue };
            if modified < before
                && let Ok(id) = entry.file_name().to_string_lossy().parse()
            {
                stale.push(id);
            }
        }
        Ok((stale, None))
    }

    fn placed(
        &self,
        last: Option<&Digest>,
        before: SystemTime,
        count: usize,
    ) -> Result<Vec<Digest>, StorageError> {
        let mut digests = self.blobs.list()?;
        digests.retain(|digest| last.is_none_or(|last| digest > last));
        digests.sort_unstable();
        let old = |digest: &Digest| {
            let modified = fs::metadata(self.blobs.path(digest)).and_then(|metadata| metadata.modified());
            modified.is_ok_and(|modified| modified < before)
        };
        Ok(digests.into_iter().filter(old).take(count).collect())
    }

    fn set_aside(&self, digest: &Digest) -> Result<bool, StorageError> {
        let (from, to) = (self.blobs.path(digest), self.aside(digest));
        let folder = to.parent().expect("it lies in a folder");
        fs::create_dir_all(folder).map_err(io_error("create", folder))?;
        match fs::rename(&from, &to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            other => other.map_err(io_error("rename", &from))?,
        }
        self.names.sync(from.parent().expect("a blob lies in its algorithm's folder"))?;
        Ok(true)
    }

    fn open_aside(&self, digest: &Digest, size_bytes: u64) -> Result<Option<Arc<dyn Reader>>, StorageError> {
        open_sized(&self.aside(digest), size_bytes)
    }

    fn put_back(&self, digest: &Digest) -> Result<(), StorageError> {
        let (from, to) = (self.aside(digest), self.blobs.path(digest));
        fs::rename(&from, &to).map_err(io_error("rename", &from))?;
        self.names.sync(to.parent().expect("a blob lies in its algorithm's folder"))
    }

    fn let_go(&self) -> Result<(), StorageError> {
        backup::let_go(&self.folder)
    }

    fn note(&self, name: &str) -> Result<Option<String>, StorageError> {
        let path = self.folder.join(name);
        match file::read_capped(&path, limits::NOTE_BYTES) {
            Ok(bytes) => Ok(String::from_utf8(bytes).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error("read", &path)(error)),
        }
    }

    fn set_note(&self, name: &str, text: &str) -> Result<(), StorageError> {
        let (path, new) = (self.folder.join(name), self.folder.join(format!("{name}.new")));
        fs::write(&new, text).map_err(io_error("write", &new))?;
        fs::rename(&new, &path).map_err(io_error("rename", &path))
    }

    fn remove_note(&self, name: &str) -> Result<(), StorageError> {
        let path = self.folder.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", &path)(error)),
            _ => Ok(()),
        }
    }

    fn turn(&self, name: &str) -> Result<Option<Turn>, StorageError> {
        let path = self.folder.join(format!("{name}.lock"));
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(io_error("open", &path))?;
        let lock = Lock::try_alone(file).map_err(io_error("lock", &path))?;
        Ok(lock.map(|lock| Box::new(lock) as Turn))
    }

    fn open_reserve(&self) -> Result<bool, StorageError> {
        self.reserve.release().map_err(io_error("remove the reserve in", &self.uploads))
    }

    fn refill_reserve(&self) {
        self.reserve.refill();
    }
}

/// Makes new names durable, one sync for all who wait: whoever renamed before a sync began is covered by it.
#[derive(Default)]
struct Names {
    state: Mutex<SyncState>,
    done: Condvar,
}

#[derive(Default)]
struct SyncState {
    /// Syncs that began and that ended.
    begun: u64,
    ended: u64,
    running: bool,
}

impl Names {
    fn sync(&self, folder: &Path) -> Result<(), StorageError> {
        let guarded = "no panic happens while the state is held";
        let mut state = self.state.lock().expect(guarded);
        // the running one may have begun before our rename; the next one begins after it
        let needed = state.begun + 1;
        while state.ended < needed {
            if state.running {
                state = self.done.wait(state).expect(guarded);
                continue;
            }
            state.running = true;
            state.begun += 1;
            let round = state.begun;
            drop(state);
            let result = file::sync_folder(folder).map_err(io_error("sync", folder));
            state = self.state.lock().expect(guarded);
            state.running = false;
            if result.is_ok() {
                state.ended = round;
            }
            self.done.notify_all();
            result?;
        }
        Ok(())
    }
}
