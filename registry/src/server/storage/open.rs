//! How a storage is opened: a folder's, what replicas share, or one that ends with its process.

use super::{
    Seals, Storage, StorageError,
    content::{BucketConfig, Content, FolderContent, MemoryContent, ObjectContent},
    error::io_error,
    keep,
    pointers::{
        DatabaseAddress, MemoryPointers, Pointers, PostgresPointers, SessionCaps, SqlitePointers, rows,
    },
    seen,
};
use crate::limits;
use std::{
    path::Path,
    sync::{Arc, OnceLock, RwLock, atomic::AtomicI64},
};
use tempfile::TempDir;

impl Storage {
    /// Opens a folder, making it where it is missing.
    pub fn open(folder: &Path) -> Result<Arc<Storage>, StorageError> {
        // whatever the umask: nobody else reads private images or puts links into the folder
        slipway_oci::private::folder(folder)?;
        let used = keep::lock::share(folder)?;
        let storage = Storage::open_used(folder)?;
        // nobody makes it anew while this lives
        storage.used.set(used).expect("it was just made");
        storage.refuse_half()?;
        Ok(storage)
    }

    /// Opens a folder that is a registry's.
    pub fn open_existing(folder: &Path) -> Result<Arc<Storage>, StorageError> {
        if !folder.join("registry.db").is_file() {
            return Err(StorageError::NoRegistry(folder.to_owned()));
        }
        Storage::open(folder)
    }

    /// The same for who has the folder already.
    pub(super) fn open_used(folder: &Path) -> Result<Arc<Storage>, StorageError> {
        // before anything is made: a folder of a newer version is left as it is
        let pointers = SqlitePointers::open(&folder.join("registry.db"))?;
        Ok(Storage::new(FolderContent::open(folder)?, pointers))
    }

    /// Opens what replicas share. `folder` is this one's own: for bytes on their way, and made where it is missing.
    pub fn open_shared(
        database: &DatabaseAddress,
        bucket: &BucketConfig,
        seals: &Seals,
        folder: &Path,
    ) -> Result<Arc<Storage>, StorageError> {
        slipway_oci::private::folder(folder)?;
        if folder.join("registry.db").exists() {
            return Err(StorageError::OwnRegistry(folder.to_owned()));
        }
        let pointers = PostgresPointers::open(database)?;
        let content = ObjectContent::open(bucket, &folder.join("scratch"))?;
        pointers.listen(content.forgetting())?;
        let storage = Storage::sealed(content, pointers, seals.clone());
        storage.refuse_half()?;
        // before anything is served: keys that cannot be opened are the configuration's mistake
        storage.signing_keys()?;
        Ok(storage)
    }

    /// The same for a command beside the replicas: what is not a registry's yet is left as it is, and nothing is remembered that they
    /// could change. What passes through lies in a folder of its own within `within`, which goes with the storage.
    pub fn open_beside(
        database: &DatabaseAddress,
        bucket: &BucketConfig,
        seals: &Seals,
        within: &Path,
    ) -> Result<Arc<Storage>, StorageError> {
        let storage = Storage::beside(PostgresPointers::open_existing(database)?, bucket, seals, within)?;
        storage.refuse_half()?;
        Ok(storage)
    }

    /// The same for a place that may be no registry yet, and becomes one.
    pub fn open_new(
        database: &DatabaseAddress,
        bucket: &BucketConfig,
        seals: &Seals,
        within: &Path,
    ) -> Result<Arc<Storage>, StorageError> {
        let storage = Storage::open_target(database, bucket, seals, within)?;
        storage.refuse_half()?;
        Ok(storage)
    }

    /// The same for a registry that is carried there; what is none yet becomes one.
    pub(super) fn open_target(
        database: &DatabaseAddress,
        bucket: &BucketConfig,
        seals: &Seals,
        within: &Path,
    ) -> Result<Arc<Storage>, StorageError> {
        Storage::beside(PostgresPointers::open(database)?, bucket, seals, within)
    }

    /// What a registry is being moved into is none yet.
    fn refuse_half(&self) -> Result<(), StorageError> {
        match self.pointers.rows().map(rows::Rows::mark).transpose()?.flatten() {
            Some(mark) if !mark.is_source => Err(StorageError::BeingFilled(mark.other)),
            _ => Ok(()),
        }
    }

    fn beside(
        pointers: PostgresPointers,
        bucket: &BucketConfig,
        seals: &Seals,
        within: &Path,
    ) -> Result<Arc<Storage>, StorageError> {
        // one that reads each thing once has no use for a cache
        let bucket = BucketConfig { cache_bytes: 0, ..bucket.clone() };
        let scratch =
            TempDir::with_prefix_in("slipway-", within).map_err(io_error("make a folder in", within))?;
        let content = ObjectContent::open(&bucket, scratch.path())?;
        let storage = Storage::sealed(content, pointers, seals.clone());
        storage.scratch.set(scratch).expect("it was just made");
        Ok(storage)
    }

    /// A storage that ends with its last user.
    pub fn in_memory() -> Arc<Storage> {
        Storage::new(MemoryContent::default(), MemoryPointers::default())
    }

    /// A storage over any pair of the two.
    pub fn new(content: impl Content + 'static, pointers: impl Pointers + 'static) -> Arc<Storage> {
        Storage::sealed(content, pointers, Seals::default())
    }

    pub(super) fn sealed(
        content: impl Content + 'static,
        pointers: impl Pointers + 'static,
        seals: Seals,
    ) -> Arc<Storage> {
        let caps =
            SessionCaps { repository: limits::SESSIONS_PER_REPOSITORY, registry: limits::SESSIONS_IN_ALL };
        Arc::new(Storage {
            content: Box::new(content),
            leases: pointers.leases(),
            pointers: Box::new(pointers),
            caps,
            trash: AtomicI64::new(0),
            quotas: RwLock::new(Arc::new(|_| Vec::new())),
            watcher: OnceLock::new(),
            seen: seen::Seen::default(),
            seals,
            used: OnceLock::new(),
            scratch: OnceLock::new(),
        })
    }
}
