//! Layers as files that are mounted, and which of its shapes a layer is used in.

use super::{
    LayerForm, Shape, Store, StoreError, earlier, io_at,
    layers::{Form, Product, form_name},
    now,
};
use crate::{
    Digest, Root,
    erofs::{Image, Written},
    layer::{OverlayXattrs, Toc, Tree},
};
use rusqlite::OptionalExtension;
use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

/// A layer that something can run on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Runnable {
    /// A folder.
    Folder(PathBuf),
    /// A file to be mounted.
    Image {
        /// Where it is.
        path: PathBuf,
        /// The files that it has contents in besides, in its order.
        devices: Vec<PathBuf>,
        /// Whether through a loop device.
        looped: bool,
    },
}

impl Runnable {
    /// The layer to read files from.
    pub fn files(&self) -> io::Result<LayerFiles> {
        match self {
            Runnable::Folder(folder) => Root::open(folder).map(LayerFiles::Folder),
            Runnable::Image { path, devices, .. } => open_image(path, devices).map(LayerFiles::Image),
        }
    }
}

pub(super) fn open_image(path: &Path, devices: &[PathBuf]) -> io::Result<Image> {
    Image::open(File::open(path)?, devices.iter().map(File::open).collect::<io::Result<_>>()?)
}

/// A layer that files are read from, without a mount.
#[derive(Debug)]
pub enum LayerFiles {
    /// A folder.
    Folder(Root),
    /// A file.
    Image(Image),
}

impl LayerFiles {
    /// Opens the regular file at `path`, which leads through no links.
    pub fn open(&self, path: &Path) -> io::Result<Box<dyn Read + Send>> {
        match self {
            LayerFiles::Folder(root) => Ok(Box::new(root.open_file(path)?)),
            LayerFiles::Image(image) => {
                use std::os::unix::ffi::OsStrExt;
                let found = image.find(path.as_os_str().as_bytes())?;
                Ok(Box::new(image.read(&found.ok_or(io::ErrorKind::NotFound)?)?))
            }
        }
    }

    /// The bytes of the regular file at `path`, which may have `most_bytes`.
    pub fn read(&self, path: &Path, most_bytes: u64) -> io::Result<Vec<u8>> {
        match self {
            LayerFiles::Folder(root) => root.read(path, most_bytes),
            LayerFiles::Image(_) => {
                let mut bytes = Vec::new();
                self.open(path)?.take(most_bytes + 1).read_to_end(&mut bytes)?;
                match bytes.len() as u64 > most_bytes {
                    true => Err(io::ErrorKind::FileTooLarge.into()),
                    false => Ok(bytes),
                }
            }
        }
    }
}

impl Store {
    /// The layer in a shape that something can run on: in the one that is chosen here, in another that is here already, or
    /// made now. `below` are the layers beneath it, as for [`Store::unpacked`].
    pub fn runnable(&self, diff_id: &Digest, below: &Tree) -> Result<Runnable, StoreError> {
        if let Some(found) = self.found_runnable(diff_id, below)? {
            return Ok(found);
        }
        match self.layer_shape()?.shape {
            Shape::Unpacked => Ok(Runnable::Folder(self.unpacked(diff_id, below)?)),
            shape => {
                let form = self.provide(diff_id, below, Product::File)?;
                let devices = self
                    .written(form.diff_id, &form.beneath())?
                    .ok_or_else(|| StoreError::LayerMissing(diff_id.clone()))?;
                Ok(Runnable::Image { path: self.file(&form), devices, looped: shape == Shape::Looped })
            }
        }
    }

    /// Whether the layer is here in a shape that something can run on.
    pub fn is_runnable(&self, diff_id: &Digest, below: &Tree) -> Result<bool, StoreError> {
        Ok(self.found_runnable(diff_id, below)?.is_some())
    }

    /// How many of a row of layers, the base first, are here in a shape that something can run on, up to the first that is
    /// not.
    pub fn runnable_below(&self, row: &[LayerForm]) -> Result<usize, StoreError> {
        let mut below = Tree::default();
        for (at, LayerForm { diff_id, .. }) in row.iter().enumerate() {
            if !self.is_runnable(diff_id, &below)? {
                return Ok(at);
            }
            below = below.with(self.toc(diff_id, &below)?);
        }
        Ok(row.len())
    }

    /// Whether the layer is here in a shape that files are read from.
    pub fn has_files(&self, diff_id: &Digest, below: &Tree) -> Result<bool, StoreError> {
        let Some(form) = self.known_form(diff_id, below)? else { return Ok(false) };
        Ok(self.is_unpacked(&form)? || self.is_written(&form)?)
    }

    fn found_runnable(&self, diff_id: &Digest, below: &Tree) -> Result<Option<Runnable>, StoreError> {
        let Some(form) = self.known_form(diff_id, below)? else { return Ok(None) };
        let folder =
            || Ok::<_, StoreError>(self.is_unpacked(&form)?.then(|| Runnable::Folder(self.folder(&form))));
        let looped = match self.layer_shape()?.shape {
            Shape::Unpacked => return folder(),
            shape => shape == Shape::Looped,
        };
        match self.written(form.diff_id, &form.beneath())? {
            Some(devices) => Ok(Some(Runnable::Image { path: self.file(&form), devices, looped })),
            None => folder(),
        }
    }

    /// The layer to read files from: in whatever shape it is here, else made as for [`Store::runnable`].
    pub fn layer_files(&self, diff_id: &Digest, below: &Tree) -> Result<LayerFiles, StoreError> {
        let found = match self.known_form(diff_id, below)? {
            Some(form) if self.is_unpacked(&form)? => Runnable::Folder(self.folder(&form)),
            Some(form) => match self.written(form.diff_id, &form.beneath())? {
                Some(devices) => Runnable::Image { path: self.file(&form), devices, looped: false },
                None => self.runnable(diff_id, below)?,
            },
            None => self.runnable(diff_id, below)?,
        };
        let (Runnable::Folder(path) | Runnable::Image { path, .. }) = &found;
        found.files().map_err(io_at("open", path))
    }

    pub(super) fn file(&self, form: &Form<'_>) -> PathBuf {
        self.file_of(&form.name())
    }

    fn file_of(&self, name: &str) -> PathBuf {
        self.root.join("layers").join(format!("{name}.erofs"))
    }

    /// Names of the files that the file of this name has contents in besides.
    fn devices_of(&self, name: &str, count: usize) -> Vec<PathBuf> {
        let path = |number| self.root.join("layers").join(format!("{name}.erofs.{number}"));
        (1..=count).map(path).collect()
    }

    /// Moves a finished file to its place, with its names of the earlier files that it refers to: they are what it needs of
    /// them, however long those layers stay. A file that is there is the same by definition of the name, unless it is of an
    /// earlier boot and may have lost bytes; who has it mounted keeps it.
    pub(super) fn place_file(
        &self,
        form: &Form<'_>,
        file: &Path,
        written: &Written,
        toc: &Toc,
    ) -> Result<(), StoreError> {
        // between the look and the row nobody else may place or take away
        let _guard = self.lock_layers()?;
        if self.is_written(form)? {
            return fs::remove_file(file).map_err(io_at("remove", file));
        }
        let (name, count) = (form.name(), written.devices.len());
        for (device, target) in written.devices.iter().zip(self.devices_of(&name, count)) {
            fs::rename(device, &target).map_err(io_at("rename", &target))?;
        }
        let target = self.file_of(&name);
        fs::rename(file, &target).map_err(io_at("rename", &target))?;
        let (diff_id, beneath) = (form.diff_id.to_string(), form.beneath());
        let mut database = self.database();
        let transaction = database.transaction()?;
        transaction
            .prepare_cached(
                "INSERT OR REPLACE INTO mounted
                     (diff_id, beneath, made_in, made_at, used, length, tables, digest, checked_in, devices)
                 VALUES (?1, ?2, ?3, ?4, ?4, ?5, ?6, ?7, ?3, ?8)",
            )?
            .execute((
                &diff_id,
                &beneath,
                &self.boot_id,
                now(),
                written.length_bytes as i64,
                written.tables as i64,
                written.digest.to_string(),
                count as i64,
            ))?;
        earlier::write_samples(&transaction, form.diff_id, toc)?;
        Ok(transaction.commit()?)
    }

    /// Whether the layer's file is here, and whole.
    pub(super) fn is_written(&self, form: &Form<'_>) -> Result<bool, StoreError> {
        Ok(self.written(form.diff_id, &form.beneath())?.is_some())
    }

    /// The files that a layer's file has contents in besides, where it is here, and whole: what the kernel is to parse is
    /// looked at once in each boot.
    pub(super) fn written(
        &self,
        diff_id: &Digest,
        beneath: &str,
    ) -> Result<Option<Vec<PathBuf>>, StoreError> {
        // marks and owners are those that the first user namespace has
        if self.xattrs() != OverlayXattrs::Trusted {
            return Ok(None);
        }
        let Some(row) = self.row(diff_id, beneath)? else { return Ok(None) };
        let name = form_name(diff_id, beneath);
        let (path, devices) = (self.file_of(&name), self.devices_of(&name, row.devices));
        let is_trusted = row.made_in.is_some_and(|boot| boot == self.settled || boot == self.boot_id);
        if !is_trusted || !path.is_file() || !devices.iter().all(|device| device.is_file()) {
            return Ok(None);
        }
        if row.checked_in.is_some_and(|boot| boot == self.boot_id) {
            return Ok(Some(devices));
        }
        let Some(written) = row.written else { return Ok(None) };
        let file = File::open(&path).map_err(io_at("open", &path))?;
        let is_whole = written.is_whole(&file).map_err(io_at("read", &path))?
            // the earlier files are as long as it says
            && open_image(&path, &devices).is_ok();
        if !is_whole {
            return Ok(None);
        }
        self.database()
            .prepare_cached("UPDATE mounted SET checked_in = ?3 WHERE diff_id = ?1 AND beneath = ?2")?
            .execute((diff_id.to_string(), beneath, &self.boot_id))?;
        Ok(Some(devices))
    }

    /// A layer's file, opened to read all of it again, or what is wrong with what the kernel parses of it; `None` where nothing
    /// would mount it anyway.
    pub(super) fn open_anew(
        &self,
        diff_id: &Digest,
        beneath: &str,
    ) -> Result<Option<Result<Image, String>>, StoreError> {
        let Some(row) = self.row(diff_id, beneath)? else { return Ok(None) };
        let name = form_name(diff_id, beneath);
        let (path, devices) = (self.file_of(&name), self.devices_of(&name, row.devices));
        if !row.made_in.is_some_and(|boot| boot == self.settled || boot == self.boot_id) {
            return Ok(None);
        }
        let look = || -> io::Result<Result<Image, String>> {
            match row.written {
                Some(written) if written.is_whole(&File::open(&path)?)? => {
                    open_image(&path, &devices).map(Ok)
                }
                _ => Ok(Err("what a kernel parses of it has other bytes than were written".to_owned())),
            }
        };
        Ok(Some(look().unwrap_or_else(|error| Err(format!("it cannot be read: {error}")))))
    }

    fn row(&self, diff_id: &Digest, beneath: &str) -> Result<Option<Row>, StoreError> {
        let database = self.database();
        let mut row = database.prepare_cached(
            "SELECT made_in, checked_in, length, tables, digest, devices FROM mounted
             WHERE diff_id = ?1 AND beneath = ?2",
        )?;
        Ok(row.query_row((diff_id.to_string(), beneath), Row::read).optional()?)
    }

    /// A layer's file in whatever form it is here, and whole.
    pub(super) fn any_written(&self, diff_id: &Digest) -> Result<Option<FoundFile>, StoreError> {
        let rows: Vec<(String, String)> = self
            .database()
            .prepare_cached("SELECT beneath, digest FROM mounted WHERE diff_id = ?1 ORDER BY beneath")?
            .query_map([diff_id.to_string()], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_, _>>()?;
        for (beneath, digest) in rows {
            if let (Some(devices), Ok(tables)) = (self.written(diff_id, &beneath)?, digest.parse()) {
                let mut paths = vec![self.file_of(&form_name(diff_id, &beneath))];
                paths.extend(devices);
                return Ok(Some(FoundFile { beneath, paths, tables }));
            }
        }
        Ok(None)
    }
}

/// A layer's file that is here.
pub(super) struct FoundFile {
    /// What its row says the layer stands on.
    pub(super) beneath: String,
    /// The file, and those that it has contents in besides.
    pub(super) paths: Vec<PathBuf>,
    /// Digest of what the kernel parses of it.
    pub(super) tables: Digest,
}

/// What the database knows of a layer's file.
struct Row {
    made_in: Option<String>,
    checked_in: Option<String>,
    written: Option<Written>,
    devices: usize,
}

impl Row {
    fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
        let digest: String = row.get(4)?;
        let (length, tables): (i64, i64) = (row.get(2)?, row.get(3)?);
        let written = digest.parse().ok().map(|digest| Written {
            length_bytes: length as u64,
            tables: tables as u64,
            digest,
            devices: Vec::new(),
        });
        let devices = row.get::<_, i64>(5)?.clamp(0, i64::from(u8::MAX)) as usize;
        Ok(Row { made_in: row.get(0)?, checked_in: row.get(1)?, written, devices })
    }
}

#[cfg(test)]
mod tests;
