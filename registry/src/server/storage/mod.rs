//! What a registry keeps: a folder of blobs and a database of pointers.
//!
//! ```text
//! blobs/<algorithm>/<hex>   content, manifests included, under its digest; shared by all repositories
//! uploads/<uuid>            content that comes in
//! registry.db               SQLite, WAL: repositories, who has which blob, manifests, tags, upload sessions
//! ```
//!
//! Invariants:
//! - A row that names content is committed only after that content was synced, renamed to its digest and its folder
//!   synced. A crash leaves files without rows, never rows without files.
//! - Whether a repository has something is decided by its row alone, at every request (CVE-2026-35172).
//! - Files appear in and vanish from `blobs/` only under the database's write lock; a file goes only when no row of
//!   any repository names it.
//!
//! Everything here blocks: the server calls it off the async threads.

mod database;
mod error;
mod manifests;
mod repository;
mod sweep;
mod upload;
mod writer;

#[cfg(test)]
mod tests;

pub use error::StorageError;
pub use manifests::{ManifestKey, ManifestRecord, NewManifest, Referrer, Required};
pub use upload::{Upload, UploadId};

use database::Readers;
use slipway_oci::{Digest, blobs::Blobs};
use std::{
    collections::HashMap,
    fs::File,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};
use upload::HashState;
use writer::Writer;

/// An open storage folder. Several processes may have one open at the same time.
pub struct Storage {
    blobs: Blobs,
    uploads: PathBuf,
    readers: Readers,
    writer: Writer,
    hash_states: Mutex<HashMap<UploadId, HashState>>,
}

impl Storage {
    /// Opens the folder, making it where it is missing.
    pub fn open(folder: &Path) -> Result<Arc<Storage>, StorageError> {
        // whatever the umask: nobody else reads private images or puts links into the folder
        slipway_oci::private::folder(folder)?;
        let path = folder.join("registry.db");
        // before anything is made: a folder of a newer version is left as it is
        let database = database::open(&path)?;
        let uploads = folder.join("uploads");
        let blobs = Blobs::open(&folder.join("blobs"), &uploads)?;
        let writer = Writer::start(database, blobs.clone());
        let hash_states = Mutex::new(HashMap::new());
        Ok(Arc::new(Storage { blobs, uploads, readers: Readers::new(path), writer, hash_states }))
    }

    /// Opens the file of a blob whose membership was checked.
    pub fn open_blob(&self, digest: &Digest) -> Result<File, StorageError> {
        Ok(self.blobs.open_blob(digest)?)
    }
}

fn now_seconds() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_secs() as i64)
}
