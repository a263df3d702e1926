//! The local store: one folder that any number of processes use at once, with no daemon.
//!
//! ```text
//! blobs/<algorithm>/<hex>   content, as in an OCI image layout
//! layers/<hex>/             an unpacked layer in overlayfs form, named by its diff id
//! layers/<hex>-<hex>/       the same where it leaves parents out: its diff id, and what it stands on
//! layers/<name>.erofs       the same layer as a file that the kernel mounts ([`crate::erofs`])
//! layers/<name>.toc         the table of contents of any of them
//! store.db                  SQLite in WAL mode: names, images, layers, cache keys
//! layers.lock               held while an unpacked layer is put in its place
//! leases/<id>               what a process relies on; it holds the file's lock while it lives
//! store.lock                held for moments: shared by who notes something in its lease, exclusively by the collector
//! tmp/<kind>-<id>-<count>   what is being made, by the owner of the lease `<id>`; swept once that is gone
//! reserve                   room for deletes on a full disk ([`crate::reserve`])
//! run/room/<id>             what who writes was granted of a bound on the whole store ([`Room`])
//! run/turns/<hex>           held by the process that carries a step out, named by the step's key
//! run/logs/                 output of steps that failed, of earlier versions; swept
//! caches/<hex>              contents of caches that RUN mounts ([`CacheMount`])
//! builds/                   what builds were, for their history (the builder's `history`)
//! context/                  stat caches of build contexts
//! containers/<id>/          what a container is made from, and what it has written
//! ```
//!
//! **Durability.** Blobs are synced before anything names them. Unpacked layers and tables can be made again from
//! blobs, so they are not synced when they are made: their row says in which boot they were, and they are trusted in
//! that boot, or for good once a later `syncfs` has covered them ([`Store::maintain`]). A power cut therefore costs an
//! unpacking, never a wrong byte. Of a layer's file the row has length and digest too: what a kernel is to parse is looked
//! at once in each later boot.
//!
//! **Ownership** is a held lock ([`crate::lease`]), never a process id: a store may be shared by processes that do not
//! see each other. What a process looks at in the store it notes in its lease, and what the living have noted is not
//! collected ([`Store::collect`]); so a collection runs beside builds and containers, and takes nothing that they need.
//!
//! **What cannot be read.** An image whose manifest or configuration is missing or damaged is an error where it is asked
//! for. Lists, removals and collections go by rows, so it stops none of them.

mod cache;
mod caches;
mod collect;
mod containers;
mod database;
mod earlier;
mod hold;
mod images;
mod indexes;
mod intake;
mod layers;
mod manifests;
mod mounted;
mod prune;
mod quota;
mod referrers;
mod reset;
mod scrub;
mod shape;
mod sources;
mod sweep;
mod tables;
mod turn;
mod usage;
mod variants;

pub use cache::{CacheEntry, CachedLayer};
pub use caches::{CacheAbout, CacheLock, CacheMount, is_cache_name};
pub use collect::Collected;
pub use containers::KeptContainer;
pub use earlier::{NewFile, NewLayer};
pub(crate) use hold::{Holder, Kind};
pub use images::{ImageRecord, ManifestKind, NamedImage};
pub use intake::Intake;
pub use layers::{Adopted, LayerForm};
pub use mounted::{LayerFiles, Runnable};
pub use prune::{Prune, Pruned};
pub use quota::{OverQuota, Room, Watch};
pub use referrers::Attached;
pub use reset::{Reset, is_store, reset};
pub use scrub::{Damage, Outcome, Part, Scrub, Scrubbed};
pub use shape::{Chosen, Shape, Wanted};
pub use turn::Turn;
pub use usage::{Account, Record, RecordKind, Share};
pub use variants::ANNOTATION_VARIANT;

use crate::{
    blobs::{BlobError, Blobs},
    layer::{LayerError, OverlayXattrs},
    lease::LeaseError,
    private::{self, PrivateError},
    reserve::Reserve,
};
use rusqlite::Connection;
use std::{
    fs::{self, File},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, OnceLock},
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
    /// A lease failed.
    #[error(transparent)]
    Lease(#[from] LeaseError),
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
    /// An image whose manifest or configuration is missing or damaged.
    #[error(
        "image `{}` cannot be read: pull or build it again, or take it away with `slipway rmi`", image.short()
    )]
    Unreadable {
        /// Its manifest's digest.
        image: crate::Digest,
        /// What is wrong.
        source: Box<StoreError>,
    },
    /// A folder that is no store was to be taken away as one.
    #[error("there is no store in `{}`", .0.display())]
    NoStore(PathBuf),
    /// A store that others use was to be taken away.
    #[error("the store `{}` is in use by another command", .0.display())]
    InUse(PathBuf),
    /// A name or id that nothing in the store has.
    #[error("no image `{0}` in the store")]
    NoImage(String),
    /// What is to be attached says of nobody that it is about them.
    #[error("`{0}` is attached to nothing: its manifest has no subject")]
    NoSubject(crate::Digest),
    /// A manifest has as much attached as is taken.
    #[error("`{0}` has as much attached as is taken")]
    ManyReferrers(crate::Digest),
    /// A short id that several images share.
    #[error("`{0}` is the beginning of several image ids: write more of it")]
    Ambiguous(String),
    /// A name or id that no container has.
    #[error("no container `{0}`")]
    NoContainer(String),
    /// A beginning that several ids of containers share.
    #[error("`{0}` is the beginning of several containers' ids: write more of it")]
    AmbiguousContainer(String),
    /// A name that another container has.
    #[error("the name `{name}` is container {}'s", id.get(..12).unwrap_or(id))]
    NameTaken {
        /// Which.
        name: String,
        /// Whose it is.
        id: String,
    },
    /// An image that a container is made from.
    #[error(
        "image `{image}` is container `{container}`'s: remove that first, or use --force to take the name away alone"
    )]
    OfContainer {
        /// The name or short id.
        image: String,
        /// The container's name.
        container: String,
    },
    /// A shape of layers was asked for that the machine does not allow.
    #[error("layers cannot be {shape} here, as `--layers-as={shape}` asks: {reason}")]
    Shape {
        /// Its word.
        shape: &'static str,
        /// Why not.
        reason: String,
    },
    /// Layers can have no shape at all.
    #[error("no layer can be run on here: {reason}")]
    NoShape {
        /// Why not, for each shape.
        reason: String,
    },
    /// There was no room for a layer.
    #[error("cannot write layer `{layer}` to `{}`", path.display())]
    NoRoom {
        /// Which.
        layer: crate::Digest,
        /// Where it was written.
        path: PathBuf,
        /// What said so.
        source: Box<LayerError>,
    },
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

impl StoreError {
    /// Whether the disk is full, wherever that was noticed.
    pub fn is_full(&self) -> bool {
        crate::file::is_full(self)
    }
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
    reserve: Reserve,
    holder: Arc<Holder>,
    xattrs: OverlayXattrs,
    /// What rows of unpacked layers say that were made in this boot.
    boot_id: String,
    /// What they say once they are on the disk for certain.
    settled: &'static str,
    /// How layers get their shape.
    wanted: Option<Wanted>,
    chosen: OnceLock<Chosen>,
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
        let holder = Arc::new(Holder::new(&root)?);
        let blobs = Blobs::open(&root.join("blobs"), &root.join("tmp"))?.held(holder.clone());
        let reserve = Reserve::new(&root, crate::limits::RESERVE_BYTES);
        // also on a full disk, or nothing could be deleted
        let open = || database::open(&root.join("store.db"), &blobs);
        let database = Mutex::new(reserve.within(StoreError::is_full, open)?);
        let boot_id =
            fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned();
        let (boot_id, settled) = match xattrs {
            // these folders have other owners on disk: nobody trusts those who have more ids, nor they these
            OverlayXattrs::UserOneId => (format!("{boot_id} one id"), "synced one id"),
            // root that may set no attributes of root's, beside root that may: neither reads the other's marks
            OverlayXattrs::User => (format!("{boot_id} user marks"), "synced user marks"),
            OverlayXattrs::Trusted => (boot_id, "synced"),
        };
        let (wanted, chosen) = (None, OnceLock::new());
        let store =
            Store { root, blobs, database, reserve, holder, xattrs, boot_id, settled, wanted, chosen };
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

    /// A path in `tmp/` that nobody else uses; what is made there is swept once this process is gone.
    pub fn temporary_path(&self, kind: &str) -> Result<PathBuf, StoreError> {
        Ok(self.root.join("tmp").join(self.holder.lease()?.temporary_name(kind)))
    }

    /// A new, empty folder in `tmp/`, swept once this process is gone.
    pub fn temporary_folder(&self, kind: &str) -> Result<PathBuf, StoreError> {
        let path = self.temporary_path(kind)?;
        private::new_folder(&path).map_err(io_at("create", &path))?;
        // a container may see it as a folder of its own: the mode is meant, whatever the umask
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).map_err(io_at("create", &path))?;
        Ok(path)
    }

    pub(crate) fn database(&self) -> MutexGuard<'_, Connection> {
        // a panic between statements leaves SQLite's own state whole
        self.database.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Makes unpacked layers of earlier commands trusted beyond this boot. Cheap once the kernel has written them.
    pub fn maintain(&self) -> Result<(), StoreError> {
        self.sweep_old()?;
        let settled = now() - 120;
        let pending: i64 = self.database().query_row(
            "SELECT (SELECT count(*) FROM unpacked WHERE made_in = ?1 AND made_at < ?2)
                  + (SELECT count(*) FROM mounted WHERE made_in = ?1 AND made_at < ?2)",
            (&self.boot_id, settled),
            |row| row.get(0),
        )?;
        if pending > 0 {
            let folder = File::open(&self.root).map_err(io_at("open", &self.root))?;
            rustix::fs::syncfs(&folder).map_err(|error| io_at("sync", &self.root)(error.into()))?;
            for table in ["unpacked", "mounted"] {
                self.database().execute(
                    &format!("UPDATE {table} SET made_in = ?3 WHERE made_in = ?1 AND made_at < ?2"),
                    (&self.boot_id, settled, self.settled),
                )?;
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
