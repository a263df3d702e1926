//! Takes away what nothing names and nobody relies on any more.
//!
//! Everything is decided and moved out of its place in one moment in which nobody can begin to rely on anything
//! ([`super::hold`]); the bytes are deleted after it. What is moved lies in `tmp/` under this process' lease, so a crash
//! half-way leaves it to the next sweep, and never half a layer under its name.
//!
//! Only rows are asked, no blob is read: one that is missing or damaged stops nothing.

use super::{Store, StoreError, hold::Relied, io_at};
use crate::{Digest, blobs::Blobs, file};
use std::{
    collections::{HashMap, HashSet},
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
};

/// What a collection took away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Blobs removed.
    pub blobs: u64,
    /// Bytes of disk that were freed, of blobs and layers.
    pub bytes: u64,
    /// Unpacked layers, and layers' files, removed.
    pub layers: u64,
}

/// Digests of blobs, and diff ids of layers, that stay.
#[derive(Default)]
struct Live {
    blobs: HashSet<String>,
    layers: HashSet<String>,
}

/// Where what goes is moved.
pub(super) struct Trash {
    folder: PathBuf,
    count: u64,
    /// Bytes of disk of what was removed in its place.
    bytes: u64,
    /// The first thing that could not be taken; it does not keep the others.
    failed: Option<StoreError>,
}

impl Trash {
    pub(super) fn new(store: &Store) -> Result<Trash, StoreError> {
        let folder = match store.temporary_path("trash") {
            // not even the lease could be made: a name that no lease has, and that is not made below
            Err(error) if file::is_full(&error) => store.root.join("tmp/full/trash"),
            other => other?,
        };
        // on a full disk it may not be made: then nothing is moved, and all is removed in its place
        let _ = crate::private::new_folder(&folder);
        Ok(Trash { folder, count: 0, bytes: 0, failed: None })
    }

    /// Takes a path out of its place. On a disk too full for a name in the trash it is removed at once.
    /// Answers whether it is gone.
    pub(super) fn take(&mut self, path: &Path) -> bool {
        self.count += 1;
        if fs::rename(path, self.folder.join(self.count.to_string())).is_ok() {
            return true;
        }
        let bytes = freed_with(path).unwrap_or(0);
        match super::sweep::remove(path) {
            Ok(()) => {
                self.bytes += bytes;
                true
            }
            Err(error) => {
                self.failed.get_or_insert_with(|| io_at("remove", path)(error));
                false
            }
        }
    }

    /// Removes what was taken, and answers how many bytes of disk that freed.
    pub(super) fn end(self) -> Result<u64, StoreError> {
        // the folder is ours and new: it frees nothing that was taken
        let own = fs::symlink_metadata(&self.folder).map_or(0, |metadata| metadata.blocks() * 512);
        let bytes = self.bytes + freed_with(&self.folder).unwrap_or(0).saturating_sub(own);
        // what stays is swept later
        self.empty().map_err(io_at("remove", &self.folder))?;
        self.failed.map_or(Ok(bytes), Err)
    }

    /// Removes what was taken, on all cores: the kernel takes as long to let go of the pages of a large file as of a thousand
    /// small ones.
    fn empty(&self) -> io::Result<()> {
        let found: Vec<PathBuf> = match fs::read_dir(&self.folder) {
            Ok(entries) => entries.filter_map(|entry| Some(entry.ok()?.path())).collect(),
            // it could not be made
            Err(_) => Vec::new(),
        };
        let next = AtomicUsize::new(0);
        let work = || {
            while let Some(path) = found.get(next.fetch_add(1, Ordering::Relaxed)) {
                // what stays is met again below, and said
                let _ = super::sweep::remove(path);
            }
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            (1..cores.min(found.len())).for_each(|_| drop(scope.spawn(work)));
            work();
        });
        file::remove_tree(&self.folder)
    }
}

/// Bytes of disk that are free once all of `path` is gone. What has a name elsewhere stays.
fn freed_with(path: &Path) -> io::Result<u64> {
    let mut linked: HashMap<(u64, u64), u64> = HashMap::new();
    let (mut open, mut bytes) = (vec![path.to_owned()], 0);
    while let Some(path) = open.pop() {
        let metadata = match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other?,
        };
        let own = metadata.blocks() * 512;
        if metadata.is_dir() {
            // one that cannot be read is removed by who may
            for entry in fs::read_dir(&path).into_iter().flatten() {
                open.push(entry?.path());
            }
        } else if metadata.nlink() > 1 {
            let names = linked.entry((metadata.dev(), metadata.ino())).or_default();
            *names += 1;
            if *names < metadata.nlink() {
                continue;
            }
        }
        bytes += own;
    }
    Ok(bytes)
}

impl Store {
    /// Removes blobs and unpacked layers that no image and no cache entry names and no other process relies on. `None`
    /// where one could not say what it relies on, because the disk is full: then nothing was done.
    pub fn collect(&self) -> Result<Option<Collected>, StoreError> {
        self.reserve.within(StoreError::is_full, || self.collect_at_once())
    }

    fn collect_at_once(&self) -> Result<Option<Collected>, StoreError> {
        self.sweep()?;
        let mut trash = Trash::new(self)?;
        let result = self.holder.alone(|relied| self.take_away(relied, &mut trash));
        let bytes = trash.end();
        let Some(collected) = result? else { return Ok(None) };
        Ok(Some(Collected { bytes: bytes?, ..collected? }))
    }

    fn take_away(&self, relied: &Relied, trash: &mut Trash) -> Result<Collected, StoreError> {
        let live = self.live(relied)?;
        let mut collected = Collected::default();
        self.take_blobs(&live, trash, &mut collected)?;
        self.take_layers(&live, trash, &mut collected)?;
        self.forget_layers(&live)?;
        Ok(collected)
    }

    /// What stays. The leases were read before: who named a thing and ended between the two is found by the name.
    fn live(&self, relied: &Relied) -> Result<Live, StoreError> {
        let mut live = Live { blobs: relied.blobs.clone(), layers: relied.layers.clone() };
        let database = self.database();
        let mut manifests = database.prepare("SELECT digest FROM manifests")?;
        for digest in manifests.query_map([], |row| row.get(0))? {
            live.blobs.insert(digest?);
        }
        let mut edges = database.prepare("SELECT child, diff_id FROM edges")?;
        for row in edges.query_map([], |row| Ok((row.get(0)?, row.get::<_, Option<String>>(1)?)))? {
            let (child, diff_id) = row?;
            live.blobs.insert(child);
            live.layers.extend(diff_id);
        }
        // of a step's result every form is kept, of an image's layer the one that the image names
        let mut whole = relied.layers.clone();
        let mut cached = database.prepare("SELECT DISTINCT diff_id FROM cache WHERE diff_id IS NOT NULL")?;
        for diff_id in cached.query_map([], |row| row.get(0))? {
            whole.insert(diff_id?);
        }
        let mut forms = database.prepare("SELECT diff_id, digest FROM forms")?;
        for row in forms.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)))? {
            let (diff_id, digest) = row?;
            if whole.contains(&diff_id) {
                live.blobs.insert(digest);
            }
        }
        live.layers.extend(whole);
        Ok(live)
    }

    fn take_blobs(
        &self,
        live: &Live,
        trash: &mut Trash,
        collected: &mut Collected,
    ) -> Result<(), StoreError> {
        let blobs: &Blobs = self.blobs();
        for digest in blobs.list()?.iter().filter(|digest| !live.blobs.contains(&digest.to_string())) {
            collected.blobs += u64::from(trash.take(&blobs.path(digest)));
        }
        Ok(())
    }

    fn take_layers(
        &self,
        live: &Live,
        trash: &mut Trash,
        collected: &mut Collected,
    ) -> Result<(), StoreError> {
        let digests = live.layers.iter().filter_map(|text| text.parse::<Digest>().ok());
        let kept: HashSet<String> = digests.map(|digest| digest.hex()).collect();
        let folder = self.root.join("layers");
        for entry in fs::read_dir(&folder).map_err(io_at("list", &folder))? {
            let entry = entry.map_err(io_at("list", &folder))?;
            let name = entry.file_name();
            // every form of a layer begins with its diff id
            let hex = name.to_str().and_then(|name| name.split(['-', '.']).next());
            if hex.is_some_and(|hex| kept.contains(hex)) {
                continue;
            }
            let path = entry.path();
            let is_layer = path.is_dir() || path.extension().is_some_and(|extension| extension == "erofs");
            collected.layers += u64::from(trash.take(&path) && is_layer);
        }
        Ok(())
    }

    fn forget_layers(&self, live: &Live) -> Result<(), StoreError> {
        let mut database = self.database();
        let transaction = database.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let rows: Vec<String> = transaction
            .prepare("SELECT diff_id FROM layers")?
            .query_map([], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        for diff_id in rows.iter().filter(|diff_id| !live.layers.contains(*diff_id)) {
            for table in ["layers", "forms", "unpacked", "mounted", "contents"] {
                transaction
                    .prepare_cached(&format!("DELETE FROM {table} WHERE diff_id = ?1"))?
                    .execute([diff_id])?;
            }
        }
        transaction.execute("DELETE FROM pieces WHERE digest NOT IN (SELECT digest FROM forms)", [])?;
        Ok(transaction.commit()?)
    }
}
