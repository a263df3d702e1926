//! The local store: one folder that any number of processes use at once, with no daemon.
//!
//! ```text
//! blobs/<algorithm>/<hex>   content, as in an OCI image layout
//! layers/<hex>/             an unpacked layer in overlayfs form, named by its diff id
//! layers/<hex>-<hex>/       the same where it leaves parents out: its diff id, and what it stands on
//! layers/<name>.toc         the table of contents of either
//! store.db                  SQLite in WAL mode: names, images, layers, cache keys
//! layers.lock               held while an unpacked layer is put in its place
//! store.lock                held shared by every user, exclusively by the collector
//! tmp/                      what is being made; swept once its process is gone
//! run/                      containers
//! context/                  stat caches of build contexts
//! ```
//!
//! **Durability.** Blobs are synced before anything names them. Unpacked layers and tables can be made again from
//! blobs, so they are not synced when they are made: their row says in which boot they were, and they are trusted in
//! that boot, or for good once a later `syncfs` has covered them ([`Store::maintain`]). A power cut therefore costs an
//! unpacking, never a wrong byte.
//!
//! **Collection.** A user of the store holds `store.lock` shared; the collector takes it exclusively and only if
//! nobody else is there, so nothing that is being made can be taken away ([`Store::collect`]).

mod cache;
mod collect;
mod database;
mod images;
mod layers;

pub use cache::{CacheEntry, CachedLayer};
pub use collect::Collected;
pub use images::{ImageRecord, ManifestKind, NamedImage};
pub use layers::LayerForm;

use crate::{
    blobs::{BlobError, Blobs},
    file,
    layer::{LayerError, OverlayXattrs},
    private::{self, PrivateError},
};
use rusqlite::Connection;
use rustix::fs::FlockOperation;
use std::{
    fs::{self, File},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard},
};

/// A failure of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file system refused.
    #[error("cannot {operation} `{path}`")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The folder cannot be the caller's alone.
    #[error(transparent)]
    Private(#[from] PrivateError),
    /// The database refused.
    #[error("the store's database failed")]
    Database(#[from] rusqlite::Error),
    /// Made by a later Slipway.
    #[error(
        "the store has format {found}, this slipway knows up to {known}: use a newer slipway or another --root"
    )]
    Newer {
        /// The version found.
        found: i64,
        /// The version known.
        known: i64,
    },
    /// A blob failed.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// A layer failed.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// A manifest in the store cannot be read.
    #[error(transparent)]
    Manifest(#[from] crate::spec::ManifestError),
    /// A configuration in the store cannot be read.
    #[error(transparent)]
    Config(#[from] crate::spec::ConfigError),
    /// A name or id that nothing in the store has.
    #[error("no image `{0}` in the store")]
    NoImage(String),
    /// A short id that several images share.
    #[error("`{0}` is the beginning of several image ids: write more of it")]
    Ambiguous(String),
    /// The bytes that a layer needs are not here.
    #[error("layer `{0}` is in the store by name only; its bytes are missing")]
    LayerMissing(crate::Digest),
    /// An image with several names is removed by id.
    #[error("image `{id}` has several names ({names}): remove them one by one, or use --force")]
    SeveralNames {
        /// The short id.
        id: String,
        /// Its names.
        names: String,
    },
}

pub(crate) fn io_at(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { operation, path, source }
}

/// The store, open.
pub struct Store {
    root: PathBuf,
    blobs: Blobs,
    database: Mutex<Connection>,
    lock: File,
    xattrs: OverlayXattrs,
    /// What rows of unpacked layers say that were made in this boot.
    boot_id: String,
    /// What they say once they are on the disk for certain.
    settled: &'static str,
}

impl Store {
    /// Opens the store in `root`, making it where it is missing; it is closed to other users, and one that is another
    /// user's is refused ([`crate::private`]). `xattrs` says which overlay marks this process can
    /// write; a store made by root and one made in a user namespace are not mixed, because their owners differ.
    pub fn open(root: &Path, xattrs: OverlayXattrs) -> Result<Store, StoreError> {
        // nothing below is trusted to modes: nobody else gets through the top
        private::folder(root)?;
        for folder in ["layers", "tmp", "run", "context"] {
            let path = root.join(folder);
            match private::new_folder(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                other => other.map_err(io_at("create", &path))?,
            }
        }
        let root = root.canonicalize().map_err(io_at("open", root))?;
        let lock_path = root.join("store.lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(io_at("open", &lock_path))?;
        rustix::fs::flock(&lock, FlockOperation::LockShared)
            .map_err(|e| io_at("lock", &lock_path)(e.into()))?;
        let blobs = Blobs::open(&root.join("blobs"), &root.join("tmp"))?;
        let database = Mutex::new(database::open(&root.join("store.db"), &blobs)?);
        let boot_id =
            fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned();
        let (boot_id, settled) = match xattrs {
            // these folders have other owners on disk: nobody trusts those who have more ids, nor they these
            OverlayXattrs::UserOneId => (format!("{boot_id} one id"), "synced one id"),
            _ => (boot_id, "synced"),
        };
        let store = Store { root, blobs, database, lock, xattrs, boot_id, settled };
        store.sweep()?;
        Ok(store)
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The blobs.
    pub fn blobs(&self) -> &Blobs {
        &self.blobs
    }

    /// Which overlay marks unpacked layers carry.
    pub fn xattrs(&self) -> OverlayXattrs {
        self.xattrs
    }

    /// A new, empty folder in `tmp/`, swept once this process is gone.
    pub fn temporary_folder(&self, kind: &str) -> Result<PathBuf, StoreError> {
        let path = self.root.join("tmp").join(file::temporary_name(kind));
        private::new_folder(&path).map_err(io_at("create", &path))?;
        // a container may see it as a folder of its own: the mode is meant, whatever the umask
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).map_err(io_at("create", &path))?;
        Ok(path)
    }

    pub(crate) fn database(&self) -> MutexGuard<'_, Connection> {
        // a panic between statements leaves SQLite's own state whole
        self.database.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Removes what processes that are gone have left in `tmp/`.
    fn sweep(&self) -> Result<(), StoreError> {
        let folder = self.root.join("tmp");
        for entry in fs::read_dir(&folder).map_err(io_at("list", &folder))? {
            let entry = entry.map_err(io_at("list", &folder))?;
            let name = entry.file_name();
            let owner = name
                .to_str()
                .and_then(|name| name.rsplit('-').nth(2))
                .and_then(|pid| pid.parse::<u32>().ok());
            if owner.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
                // another process may sweep at the same time: what is gone is gone
                let _ = if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    file::remove_tree(&entry.path())
                } else {
                    fs::remove_file(entry.path())
                };
            }
        }
        Ok(())
    }

    /// Makes unpacked layers of earlier commands trusted beyond this boot. Cheap once the kernel has written them.
    pub fn maintain(&self) -> Result<(), StoreError> {
        self.sweep_logs()?;
        let settled = now() - 120;
        let pending: i64 = self.database().query_row(
            "SELECT count(*) FROM unpacked WHERE made_in = ?1 AND made_at < ?2",
            (&self.boot_id, settled),
            |row| row.get(0),
        )?;
        if pending > 0 {
            rustix::fs::syncfs(&self.lock).map_err(|error| io_at("sync", &self.root)(error.into()))?;
            self.database().execute(
                "UPDATE unpacked SET made_in = ?3 WHERE made_in = ?1 AND made_at < ?2",
                (&self.boot_id, settled, self.settled),
            )?;
        }
        Ok(())
    }
}

/// How long the output of a failed step is kept, in seconds.
const LOG_SECONDS: u64 = 7 * 86_400;

impl Store {
    /// Removes the output of steps that failed long ago.
    fn sweep_logs(&self) -> Result<(), StoreError> {
        let folder = self.root.join("run/logs");
        let Ok(entries) = fs::read_dir(&folder) else { return Ok(()) };
        for entry in entries {
            let entry = entry.map_err(io_at("list", &folder))?;
            let age = entry
                .metadata()
                .and_then(|metadata| metadata.modified())
                .ok()
                .and_then(|time| time.elapsed().ok());
            if age.is_some_and(|age| age.as_secs() > LOG_SECONDS) {
                // another process may sweep at the same time: what is gone is gone
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(())
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_secs() as i64)
}

#[cfg(test)]
mod tests;
