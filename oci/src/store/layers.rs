//! Layers at rest: which blobs they are, and their unpacked folders.

use super::{Store, StoreError, io_at, now};
use crate::{
    Descriptor, Digest,
    compression::{self, BackgroundReader},
    file,
    layer::{self, Layer, LayerError, Toc, Tree, Unpacked},
};
use rusqlite::OptionalExtension;
use std::{
    collections::HashMap,
    fs::{self, File},
    io::BufReader,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock},
};

/// A layer and one blob that holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerForm {
    /// Digest of the uncompressed archive.
    pub diff_id: Digest,
    /// The blob; it need not be here yet.
    pub descriptor: Descriptor,
}

/// Tables of contents that were read in this process, by path: a build asks for the same ones many times.
fn loaded() -> &'static Mutex<HashMap<PathBuf, Arc<Toc>>> {
    static LOADED: OnceLock<Mutex<HashMap<PathBuf, Arc<Toc>>>> = OnceLock::new();
    LOADED.get_or_init(Mutex::default)
}

impl Store {
    /// Where a layer's unpacked folder lies, whether or not it is there.
    pub fn layer_folder(&self, diff_id: &Digest) -> PathBuf {
        self.root.join("layers").join(diff_id.hex())
    }

    fn toc_path(&self, diff_id: &Digest) -> PathBuf {
        self.root.join("layers").join(format!("{}.toc", diff_id.hex()))
    }

    /// Notes that `form` is a blob of its layer.
    pub fn put_form(&self, form: &LayerForm, archive_bytes: u64) -> Result<(), StoreError> {
        let mut database = self.database();
        let transaction = database.transaction()?;
        let diff_id = form.diff_id.to_string();
        transaction
            .prepare_cached(
                "INSERT INTO layers (diff_id, archive, used) VALUES (?1, ?2, ?3)
                 ON CONFLICT (diff_id) DO UPDATE SET archive = max(archive, ?2)",
            )?
            .execute((&diff_id, archive_bytes as i64, now()))?;
        transaction
            .prepare_cached(
                "INSERT OR REPLACE INTO forms (diff_id, digest, media_type, size) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute((
                &diff_id,
                form.descriptor.digest.to_string(),
                &form.descriptor.media_type,
                form.descriptor.size_bytes as i64,
            ))?;
        Ok(transaction.commit()?)
    }

    /// The blobs known of a layer, those that are here first.
    pub fn layer_forms(&self, diff_id: &Digest) -> Result<Vec<LayerForm>, StoreError> {
        let rows: Vec<(String, String, i64)> = self
            .database()
            .prepare_cached("SELECT digest, media_type, size FROM forms WHERE diff_id = ?1 ORDER BY digest")?
            .query_map([diff_id.to_string()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
            .collect::<Result<_, _>>()?;
        let mut forms = Vec::new();
        for (digest, media_type, size) in rows {
            let Ok(digest) = digest.parse::<Digest>() else { continue };
            let here = self.blobs().contains(&digest)?;
            let descriptor = Descriptor::new(media_type, digest, size as u64);
            forms.push((!here, LayerForm { diff_id: diff_id.clone(), descriptor }));
        }
        forms.sort_by_key(|(missing, _)| *missing);
        Ok(forms.into_iter().map(|(_, form)| form).collect())
    }

    /// A blob of the layer that is here or can be fetched.
    pub fn layer_form(&self, diff_id: &Digest) -> Result<Option<LayerForm>, StoreError> {
        for form in self.layer_forms(diff_id)? {
            let digest = &form.descriptor.digest;
            if self.blobs().contains(digest)? || !self.sources(digest)?.is_empty() {
                return Ok(Some(form));
            }
        }
        Ok(None)
    }

    /// Keeps a layer that was just made: its blob, its table and, where `upper` is given, that folder as the unpacked
    /// layer.
    pub fn adopt_layer(&self, layer: &Layer, upper: Option<&Path>) -> Result<LayerForm, StoreError> {
        let form = LayerForm { diff_id: layer.diff_id.clone(), descriptor: layer.descriptor.clone() };
        let toc_path = self.toc_path(&layer.diff_id);
        layer.toc.save(&toc_path).map_err(io_at("write", &toc_path))?;
        loaded().lock().map(|mut loaded| loaded.insert(toc_path, Arc::new(layer.toc.clone()))).ok();
        self.put_form(&form, layer.archive_bytes)?;
        if let Some(upper) = upper {
            self.place_folder(&layer.diff_id, upper)?;
        }
        Ok(form)
    }

    /// Moves a finished folder to its place. Where another process was first, its folder serves.
    fn place_folder(&self, diff_id: &Digest, folder: &Path) -> Result<(), StoreError> {
        let target = self.layer_folder(diff_id);
        // between the look and the row nobody else may place or take away: a folder that is in use stays
        let _guard = self.lock_layers()?;
        if target.exists() && !self.is_unpacked(diff_id)? {
            // of an earlier boot: it may have lost bytes
            let trash = self.root.join("tmp").join(file::temporary_name("stale"));
            if fs::rename(&target, &trash).is_ok() {
                file::remove_tree(&trash).map_err(io_at("remove", &trash))?;
            }
        }
        match fs::rename(folder, &target) {
            Ok(()) => {}
            // ENOTEMPTY or EEXIST: the same content, by definition of the name
            Err(_) if target.is_dir() => file::remove_tree(folder).map_err(io_at("remove", folder))?,
            Err(error) => return Err(io_at("rename", &target)(error)),
        }
        self.database()
            .prepare_cached(
                "INSERT INTO unpacked (diff_id, beneath, made_in, made_at, used) VALUES (?1, '', ?2, ?3, ?3)
                 ON CONFLICT (diff_id, beneath) DO UPDATE SET made_in = ?2, made_at = ?3, used = ?3
                     WHERE made_in IS NOT 'synced'",
            )?
            .execute((diff_id.to_string(), &self.boot_id, now()))?;
        Ok(())
    }

    fn lock_layers(&self) -> Result<File, StoreError> {
        let path = self.root.join("layers.lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(io_at("open", &path))?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive)
            .map_err(|e| io_at("lock", &path)(e.into()))?;
        Ok(lock)
    }

    fn is_unpacked(&self, diff_id: &Digest) -> Result<bool, StoreError> {
        let boot: Option<Option<String>> = self
            .database()
            .prepare_cached("SELECT made_in FROM unpacked WHERE diff_id = ?1 AND beneath = ''")?
            .query_row([diff_id.to_string()], |row| row.get(0))
            .optional()?;
        let trusted = boot.flatten().is_some_and(|boot| boot == "synced" || boot == self.boot_id);
        Ok(trusted && self.layer_folder(diff_id).is_dir())
    }

    /// The unpacked folder of a layer, unpacked now if it is not there. `below` are the layers beneath it.
    pub fn unpacked(&self, diff_id: &Digest, below: &Tree) -> Result<PathBuf, StoreError> {
        let target = self.layer_folder(diff_id);
        if self.is_unpacked(diff_id)? {
            return Ok(target);
        }
        let (folder, mut unpacked) = self.unpack(diff_id, None)?;
        let mut placed = folder;
        if unpacked.toc.has_implicit() && !below.layers().is_empty() {
            // the archive leaves out parents: links and attributes of the layers beneath decide where its files go
            file::remove_tree(&placed).map_err(io_at("remove", &placed))?;
            (placed, unpacked) = self.unpack(diff_id, Some(below))?;
        }
        self.save_toc(diff_id, unpacked.toc)?;
        self.place_folder(diff_id, &placed)?;
        Ok(target)
    }

    fn unpack(&self, diff_id: &Digest, below: Option<&Tree>) -> Result<(PathBuf, Unpacked), StoreError> {
        let folder = self.temporary_folder("layer")?;
        let unpacked = self.unpack_into(&folder, diff_id, below);
        if unpacked.is_err() {
            // half a layer is of no use to anybody; the error that matters is the first one
            let _ = file::remove_tree(&folder);
        }
        Ok((folder, unpacked?))
    }

    fn unpack_into(
        &self,
        folder: &Path,
        diff_id: &Digest,
        below: Option<&Tree>,
    ) -> Result<Unpacked, StoreError> {
        let unpacked = layer::unpack(self.read_layer(diff_id)?, folder, self.xattrs(), below)?;
        self.check_diff_id(diff_id, &unpacked.diff_id)?;
        Ok(unpacked)
    }

    fn check_diff_id(&self, expected: &Digest, actual: &Digest) -> Result<(), StoreError> {
        if expected == actual {
            return Ok(());
        }
        let (expected, actual) = (expected.clone(), actual.clone());
        Err(LayerError::Blob(crate::blobs::BlobError::DigestMismatch { expected, actual }).into())
    }

    /// The uncompressed archive of a layer whose blob is here.
    pub fn read_layer(&self, diff_id: &Digest) -> Result<BackgroundReader, StoreError> {
        for form in self.layer_forms(diff_id)? {
            if self.blobs().contains(&form.descriptor.digest)? {
                let file = self.blobs().open_blob(&form.descriptor.digest)?;
                let reader = BufReader::with_capacity(1 << 18, file);
                let path = self.blobs().path(&form.descriptor.digest);
                return Ok(BackgroundReader::new(
                    compression::decoder(reader).map_err(io_at("read", &path))?,
                ));
            }
        }
        Err(StoreError::LayerMissing(diff_id.clone()))
    }

    fn save_toc(&self, diff_id: &Digest, toc: Toc) -> Result<Arc<Toc>, StoreError> {
        let path = self.toc_path(diff_id);
        toc.save(&path).map_err(io_at("write", &path))?;
        let toc = Arc::new(toc);
        loaded().lock().map(|mut loaded| loaded.insert(path, toc.clone())).ok();
        Ok(toc)
    }

    /// The table of contents of a layer, made from its blob where it is missing or damaged.
    pub fn toc(&self, diff_id: &Digest) -> Result<Arc<Toc>, StoreError> {
        let path = self.toc_path(diff_id);
        if let Some(toc) = loaded().lock().ok().and_then(|loaded| loaded.get(&path).cloned()) {
            return Ok(toc);
        }
        if let Ok(toc) = Toc::load(&path) {
            let toc = Arc::new(toc);
            loaded().lock().map(|mut loaded| loaded.insert(path, toc.clone())).ok();
            return Ok(toc);
        }
        let indexed = layer::index(self.read_layer(diff_id)?)?;
        self.check_diff_id(diff_id, &indexed.diff_id)?;
        self.save_toc(diff_id, indexed.toc)
    }

    /// Notes that `repository` (registry and path) was seen to have the blob.
    pub fn put_source(&self, digest: &Digest, repository: &str) -> Result<(), StoreError> {
        self.database()
            .prepare_cached("INSERT OR IGNORE INTO sources (digest, repository) VALUES (?1, ?2)")?
            .execute((digest.to_string(), repository))?;
        Ok(())
    }

    /// The repositories that were seen to have the blob.
    pub fn sources(&self, digest: &Digest) -> Result<Vec<String>, StoreError> {
        let database = self.database();
        let mut statement = database.prepare_cached("SELECT repository FROM sources WHERE digest = ?1")?;
        let rows = statement.query_map([digest.to_string()], |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}
