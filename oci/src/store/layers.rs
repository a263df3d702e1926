//! Layers at rest: which blobs they are, and the folders and files that they are run from.

use super::{
    ImageRecord, Kind, NewFile, Store, StoreError, Turn,
    earlier::{self, Likeness, Names},
    io_at,
    manifests::write_form,
    now,
    shape::new_file,
    tables::Tables,
    variants::{ANNOTATION_VARIANT, is_variant},
};
use crate::{
    Descriptor, Digest,
    compression::{self, BackgroundReader},
    erofs::Written,
    file,
    layer::{self, Footing, Layer, LayerError, Toc, Tree, Unpacked},
    lock::Lock,
    pieces,
};
use rusqlite::OptionalExtension;
use std::{
    fs::{self, File},
    io::{BufReader, Read},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// A layer and one blob that holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerForm {
    /// Digest of the uncompressed archive.
    pub diff_id: Digest,
    /// The blob; it need not be here yet.
    pub descriptor: Descriptor,
}

/// One form of a layer on disk: the layer, and what it stands on where that matters ([`Footing`]).
pub(super) struct Form<'a> {
    pub(super) diff_id: &'a Digest,
    pub(super) footing: Option<Footing>,
}

/// What there is of a new layer beside its blob ([`Store::adopt_layer`]).
#[derive(Debug)]
pub enum Adopted<'a> {
    /// Nothing: what it is run from is made of the blob when somebody asks.
    Nothing,
    /// The upper folder that it was read from.
    Folder(&'a Path),
    /// A file that was written with it ([`Store::new_image`]).
    File(&'a NewFile),
}

/// What a layer is made into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Product {
    Folder,
    File,
}

/// What was made of a layer, not yet in its place.
pub(super) enum Made {
    Folder(PathBuf),
    /// With the names of earlier files that it refers to, until it has its own.
    File(PathBuf, Written, Arc<Names>),
}

impl Made {
    /// Takes it away again.
    fn discard(self) -> Result<(), StoreError> {
        let (Made::Folder(path) | Made::File(path, ..)) = self;
        super::sweep::remove(&path).map_err(io_at("remove", &path))
    }
}

/// How often another holder of a layer's turn is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(5);

impl<'a> Form<'a> {
    /// The form of a layer that names all its parents, or stands on nothing. Whoever has a form relies on the layer: from
    /// now on neither its rows nor its blobs and folders are collected.
    pub(super) fn plain(store: &Store, diff_id: &'a Digest) -> Result<Form<'a>, StoreError> {
        store.holder.rely(Kind::Layer, diff_id)?;
        Ok(Form { diff_id, footing: None })
    }

    /// What it stands on, as its row says it.
    pub(super) fn beneath(&self) -> String {
        self.footing.as_ref().map_or_else(String::new, |footing| footing.digest().hex())
    }

    /// Its name in `layers/`.
    pub(super) fn name(&self) -> String {
        form_name(self.diff_id, &self.beneath())
    }
}

/// The name in `layers/` of the form of a layer on what its row calls `beneath`.
pub(super) fn form_name(diff_id: &Digest, beneath: &str) -> String {
    let hex = diff_id.hex();
    if beneath.is_empty() { hex } else { format!("{hex}-{beneath}") }
}

impl Store {
    /// Whether the layer is on disk in the form that it has on the layers `below`. One whose table is not there counts as
    /// not: nobody can say which form it has without reading all of it.
    pub fn has_unpacked(&self, diff_id: &Digest, below: &Tree) -> Result<bool, StoreError> {
        match self.known_form(diff_id, below)? {
            Some(form) => self.is_unpacked(&form),
            None => Ok(false),
        }
    }

    /// The form that the layer has on the layers `below`, if its table is here.
    pub(super) fn known_form<'a>(
        &self,
        diff_id: &'a Digest,
        below: &Tree,
    ) -> Result<Option<Form<'a>>, StoreError> {
        let mut form = Form::plain(self, diff_id)?;
        let Some(toc) = self.known_toc(&form) else { return Ok(None) };
        form.footing = Footing::of(&toc, below)?;
        Ok(Some(form))
    }

    /// Whether the layer's table of contents is here.
    pub fn has_toc(&self, diff_id: &Digest) -> Result<bool, StoreError> {
        Ok(self.known_toc(&Form::plain(self, diff_id)?).is_some())
    }

    fn form<'a>(&self, diff_id: &'a Digest, below: &Tree) -> Result<Form<'a>, StoreError> {
        let mut form = Form::plain(self, diff_id)?;
        form.footing = Footing::of(&*self.read_toc(&form)?, below)?;
        Ok(form)
    }

    pub(super) fn folder(&self, form: &Form<'_>) -> PathBuf {
        self.root.join("layers").join(form.name())
    }

    fn toc_path(&self, form: &Form<'_>) -> PathBuf {
        self.toc_of(form.diff_id, &form.beneath())
    }

    pub(super) fn toc_of(&self, diff_id: &Digest, beneath: &str) -> PathBuf {
        self.root.join("layers").join(format!("{}.toc", form_name(diff_id, beneath)))
    }

    /// Notes that `form` is a blob of its layer, whose archive has `archive_bytes` bytes; 0 where that is not known.
    pub fn put_form(&self, form: &LayerForm, archive_bytes: u64) -> Result<(), StoreError> {
        self.holder.rely(Kind::Layer, &form.diff_id)?;
        let mut database = self.database();
        let transaction = database.transaction()?;
        write_form(&transaction, form, archive_bytes)?;
        Ok(transaction.commit()?)
    }

    /// The same for all layers of an image, whose archives' sizes are not known.
    pub fn put_forms(&self, record: &ImageRecord) -> Result<(), StoreError> {
        self.holder.moment(|moment| {
            moment.rely(record.config.rootfs.diff_ids.iter().map(|id| (Kind::Layer, id)))
        })??;
        let mut database = self.database();
        let transaction = database.transaction()?;
        for form in record.forms() {
            write_form(&transaction, &form, 0)?;
        }
        Ok(transaction.commit()?)
    }

    /// The blobs known of a layer, those that are here first.
    pub fn layer_forms(&self, diff_id: &Digest) -> Result<Vec<LayerForm>, StoreError> {
        // layer and blobs are noted at once: this is asked for each step of a build
        let forms = self.holder.moment(|moment| {
            let forms = self.form_rows(diff_id)?;
            let blobs = forms.iter().map(|form| (Kind::Blob, &form.descriptor.digest));
            moment.rely(blobs.chain([(Kind::Layer, diff_id)]))?;
            Ok::<_, StoreError>(forms)
        })??;
        let (mut here, mut elsewhere) = (Vec::new(), Vec::new());
        for form in forms {
            match self.blobs().contains(&form.descriptor.digest)? {
                true => here.push(form),
                false => elsewhere.push(form),
            }
        }
        // what was made beside the usual forms serves where none of those is there
        here.sort_by_key(is_variant);
        here.append(&mut elsewhere);
        Ok(here)
    }

    fn form_rows(&self, diff_id: &Digest) -> Result<Vec<LayerForm>, StoreError> {
        let rows: Vec<(String, String, i64)> = self
            .database()
            .prepare_cached("SELECT digest, media_type, size FROM forms WHERE diff_id = ?1 ORDER BY digest")?
            .query_map([diff_id.to_string()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
            .collect::<Result<_, _>>()?;
        let form = |(digest, media_type, size): (String, String, i64)| {
            let (media_type, variant) = media_type.split_once(';').unwrap_or((&media_type, ""));
            let mut descriptor = Descriptor::new(media_type, digest.parse().ok()?, size as u64);
            if !variant.is_empty() {
                descriptor.annotations.insert(ANNOTATION_VARIANT.to_owned(), variant.to_owned());
            }
            Some(LayerForm { diff_id: diff_id.clone(), descriptor })
        };
        Ok(rows.into_iter().filter_map(form).collect())
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

    /// Keeps a layer that was just made: its blob, its table and what it is run from, where that is there.
    pub fn adopt_layer(&self, layer: &Layer, run_from: Adopted<'_>) -> Result<LayerForm, StoreError> {
        let form = LayerForm { diff_id: layer.diff_id.clone(), descriptor: layer.descriptor.clone() };
        let plain = Form::plain(self, &layer.diff_id)?;
        let toc = self.save_toc(&plain, layer.toc.clone())?;
        self.put_made(&form, layer)?;
        // what was just made has every parent, or stands on nothing
        match (run_from, &layer.image) {
            (Adopted::Folder(upper), _) => self.place_folder(&plain, upper)?,
            (Adopted::File(new), Some(written)) => self.place_file(&plain, &new.path, written, &toc)?,
            (Adopted::File(_), None) | (Adopted::Nothing, _) => {}
        }
        Ok(form)
    }

    /// Notes what is known of a layer that was just made.
    fn put_made(&self, form: &LayerForm, layer: &Layer) -> Result<(), StoreError> {
        let mut database = self.database();
        let transaction = database.transaction()?;
        write_form(&transaction, form, layer.archive_bytes)?;
        earlier::write_samples(&transaction, &layer.diff_id, &layer.toc)?;
        if layer.pieces.len() > 1 {
            transaction
                .prepare_cached("INSERT OR REPLACE INTO pieces (digest, pieces) VALUES (?1, ?2)")?
                .execute((layer.descriptor.digest.to_string(), pieces::encode(&layer.pieces)))?;
        }
        Ok(transaction.commit()?)
    }

    /// Moves a finished folder to its place. Where another process was first, its folder serves.
    fn place_folder(&self, form: &Form<'_>, folder: &Path) -> Result<(), StoreError> {
        let target = self.folder(form);
        // between the look and the row nobody else may place or take away: a folder that is in use stays
        let _guard = self.lock_layers()?;
        if target.exists() && !self.is_unpacked(form)? {
            // of an earlier boot: it may have lost bytes
            let trash = self.temporary_path("stale")?;
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
                "INSERT INTO unpacked (diff_id, beneath, made_in, made_at, used) VALUES (?1, ?2, ?3, ?4, ?4)
                 ON CONFLICT (diff_id, beneath) DO UPDATE SET made_in = ?3, made_at = ?4, used = ?4
                     WHERE made_in IS NOT ?5",
            )?
            .execute((form.diff_id.to_string(), form.beneath(), &self.boot_id, now(), self.settled))?;
        Ok(())
    }

    pub(super) fn lock_layers(&self) -> Result<Lock, StoreError> {
        let path = self.root.join("layers.lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(io_at("open", &path))?;
        Lock::alone(lock).map_err(io_at("lock", &path))
    }

    pub(super) fn is_unpacked(&self, form: &Form<'_>) -> Result<bool, StoreError> {
        let boot: Option<Option<String>> = self
            .database()
            .prepare_cached("SELECT made_in FROM unpacked WHERE diff_id = ?1 AND beneath = ?2")?
            .query_row((form.diff_id.to_string(), form.beneath()), |row| row.get(0))
            .optional()?;
        let trusted = boot.flatten().is_some_and(|boot| boot == self.settled || boot == self.boot_id);
        Ok(trusted && self.folder(form).is_dir())
    }

    /// The unpacked folder of a layer, unpacked now if it is not there. `below` are the layers beneath it: where its
    /// archive leaves parents out, it has a folder of its own for each thing that they can mean ([`Footing`]).
    pub fn unpacked(&self, diff_id: &Digest, below: &Tree) -> Result<PathBuf, StoreError> {
        Ok(self.folder(&self.provide(diff_id, below, Product::Folder)?))
    }

    /// Sees to it that the layer is here as `product`; answers in which form.
    pub(super) fn provide<'a>(
        &self,
        diff_id: &'a Digest,
        below: &Tree,
        product: Product,
    ) -> Result<Form<'a>, StoreError> {
        if let Some(form) = self.known_form(diff_id, below)?
            && self.is_made(&form, product)?
        {
            return Ok(form);
        }
        // who waited finds it made
        let _turn = self.wait_for_turn(diff_id, product)?;
        let mut form = Form::plain(self, diff_id)?;
        let table = match self.known_toc(&form) {
            Some(toc) => toc,
            // nothing is known of it yet: nearly always the plain form is the one, and one reading makes it
            None => {
                let (made, unpacked) = self.make(&form, product)?;
                let toc = self.save_toc(&form, unpacked.toc)?;
                if Footing::of(&toc, below)?.is_none() {
                    self.place(&form, made, &toc)?;
                } else {
                    made.discard()?;
                }
                toc
            }
        };
        form.footing = Footing::of(&table, below)?;
        if !self.is_made(&form, product)? {
            self.make_in_place(&form, product)?;
        }
        Ok(form)
    }

    /// Makes the layer in its place, for whoever has its turn.
    pub(super) fn make_in_place(&self, form: &Form<'_>, product: Product) -> Result<(), StoreError> {
        let (made, unpacked) = self.make(form, product)?;
        let toc = self.save_toc(form, unpacked.toc)?;
        self.place(form, made, &toc)
    }

    /// Whether the layer is here as `product`.
    fn is_made(&self, form: &Form<'_>, product: Product) -> Result<bool, StoreError> {
        match product {
            Product::Folder => self.is_unpacked(form),
            Product::File => self.is_written(form),
        }
    }

    fn place(&self, form: &Form<'_>, made: Made, toc: &Toc) -> Result<(), StoreError> {
        match made {
            Made::Folder(folder) => self.place_folder(form, &folder),
            Made::File(file, written, _names) => self.place_file(form, &file, &written, toc),
        }
    }

    /// Waits until nobody else makes the same of the layer.
    fn wait_for_turn(&self, diff_id: &Digest, product: Product) -> Result<Turn, StoreError> {
        let work = Store::work_of(diff_id, product);
        loop {
            match self.try_turn(&work)? {
                Some(turn) => return Ok(turn),
                None => std::thread::sleep(ASK_AGAIN),
            }
        }
    }

    /// The name of the turn to make `product` of a layer.
    pub(super) fn work_of(diff_id: &Digest, product: Product) -> Digest {
        Digest::sha256(format!("layer {product:?} {diff_id}").as_bytes())
    }

    fn make(&self, form: &Form<'_>, product: Product) -> Result<(Made, Unpacked), StoreError> {
        match product {
            Product::Folder => {
                let folder = self.temporary_folder("layer")?;
                let unpacked = self.unpack_into(&folder, form);
                if unpacked.is_err() {
                    // half a layer is of no use to anybody; the error that matters is the first one
                    let _ = file::remove_tree(&folder);
                }
                Ok((Made::Folder(folder), unpacked?))
            }
            Product::File => {
                let path = self.temporary_path("layer")?;
                let written = self.write_into(&path, form);
                if written.is_err() {
                    let _ = fs::remove_file(&path);
                }
                let (unpacked, written, names) = written?;
                Ok((Made::File(path, written, names), unpacked))
            }
        }
    }

    fn unpack_into(&self, folder: &Path, form: &Form<'_>) -> Result<Unpacked, StoreError> {
        let source = BackgroundReader::digesting(self.within_room(self.decoded(form.diff_id)?));
        let unpacked = layer::unpack_ahead(source, folder, self.xattrs(), form.footing.as_ref())
            .map_err(no_room(form.diff_id, folder))?;
        self.check_diff_id(form.diff_id, &unpacked.diff_id)?;
        Ok(unpacked)
    }

    fn write_into(
        &self,
        path: &PathBuf,
        form: &Form<'_>,
    ) -> Result<(Unpacked, Written, Arc<Names>), StoreError> {
        let (file, footing) = (new_file(path)?, form.footing.as_ref());
        let source = BackgroundReader::digesting(self.within_room(self.decoded(form.diff_id)?));
        let (written, names) = match self.known_toc(form) {
            // of a layer that was made here before it was wanted so, the contents are known
            Some(toc) => {
                let earlier = self.earlier_contents(&toc);
                let written = layer::write_image_ahead(source, file, earlier.contents.clone(), footing);
                (written, earlier.names)
            }
            None => {
                let mut likeness = Likeness::new(self);
                let written = layer::write_image_seeking(source, file, &mut likeness, footing);
                (written, likeness.names)
            }
        };
        let (unpacked, written) = written.map_err(no_room(form.diff_id, path))?;
        self.check_diff_id(form.diff_id, &unpacked.diff_id)?;
        Ok((unpacked, written, names))
    }

    pub(super) fn check_diff_id(&self, expected: &Digest, actual: &Digest) -> Result<(), StoreError> {
        if expected == actual {
            return Ok(());
        }
        let (expected, actual) = (expected.clone(), actual.clone());
        Err(LayerError::Blob(crate::blobs::BlobError::DigestMismatch { expected, actual }).into())
    }

    /// The uncompressed archive of a layer whose blob is here.
    pub fn read_layer(&self, diff_id: &Digest) -> Result<BackgroundReader, StoreError> {
        Ok(BackgroundReader::new(self.decoded(diff_id)?))
    }

    fn decoded(&self, diff_id: &Digest) -> Result<Box<dyn Read + Send>, StoreError> {
        for form in self.layer_forms(diff_id)? {
            if self.blobs().contains(&form.descriptor.digest)? {
                let file = self.blobs().open_blob(&form.descriptor.digest)?;
                let reader = BufReader::with_capacity(1 << 18, file);
                let path = self.blobs().path(&form.descriptor.digest);
                return compression::decoder(reader).map_err(io_at("read", &path));
            }
        }
        Err(StoreError::LayerMissing(diff_id.clone()))
    }

    pub(super) fn save_toc(&self, form: &Form<'_>, toc: Toc) -> Result<Arc<Toc>, StoreError> {
        let path = self.toc_path(form);
        toc.save(&path, &self.temporary_path("toc")?).map_err(io_at("write", &path))?;
        let toc = Arc::new(toc);
        Tables::shared().put(path, toc.clone());
        Ok(toc)
    }

    /// The table of contents of a layer on the layers `below`, made from its blob where it is missing or damaged. It says
    /// what [`Store::unpacked`] makes, whether or not that was done.
    pub fn toc(&self, diff_id: &Digest, below: &Tree) -> Result<Arc<Toc>, StoreError> {
        self.read_toc(&self.form(diff_id, below)?)
    }

    /// The table, where it was made already.
    pub(super) fn known_toc(&self, form: &Form<'_>) -> Option<Arc<Toc>> {
        let path = self.toc_path(form);
        if let Some(toc) = Tables::shared().get(&path) {
            return Some(toc);
        }
        let toc = Arc::new(Toc::load(&path).ok()?);
        Tables::shared().put(path, toc.clone());
        Some(toc)
    }

    fn read_toc(&self, form: &Form<'_>) -> Result<Arc<Toc>, StoreError> {
        if let Some(toc) = self.known_toc(form) {
            return Ok(toc);
        }
        let source = BackgroundReader::digesting(self.decoded(form.diff_id)?);
        let indexed = layer::index_ahead(source, form.footing.as_ref())?;
        self.check_diff_id(form.diff_id, &indexed.diff_id)?;
        self.save_toc(form, indexed.toc)
    }

    /// The tables of a row of layers, the base first, as one file system.
    pub fn tree<'a>(&self, diff_ids: impl IntoIterator<Item = &'a Digest>) -> Result<Tree, StoreError> {
        diff_ids.into_iter().try_fold(Tree::default(), |below, diff_id| {
            let toc = self.toc(diff_id, &below)?;
            Ok(below.with(toc))
        })
    }
}

/// A full disk says where it is; a layer's own errors know paths within it.
pub(super) fn no_room(layer: &Digest, path: &Path) -> impl FnOnce(LayerError) -> StoreError {
    let (layer, path) = (layer.clone(), path.to_owned());
    move |error| match file::is_full(&error) {
        true => StoreError::NoRoom { layer, path, source: Box::new(error) },
        false => error.into(),
    }
}
