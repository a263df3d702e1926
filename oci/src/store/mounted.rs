//! Layers as files that are mounted, and which of its shapes a layer is used in.

use super::{
    Shape, Store, StoreError, io_at,
    layers::{Form, Product},
    now,
};
use crate::{
    Digest, Root,
    erofs::{Image, Written},
    layer::{OverlayXattrs, Tree},
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
        /// Whether through a loop device.
        looped: bool,
    },
}

impl Runnable {
    /// The layer to read files from.
    pub fn files(&self) -> io::Result<LayerFiles> {
        match self {
            Runnable::Folder(folder) => Root::open(folder).map(LayerFiles::Folder),
            Runnable::Image { path, .. } => Image::open(File::open(path)?).map(LayerFiles::Image),
        }
    }
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
                Ok(Runnable::Image { path: self.file(&form), looped: shape == Shape::Looped })
            }
        }
    }

    /// Whether the layer is here in a shape that something can run on.
    pub fn is_runnable(&self, diff_id: &Digest, below: &Tree) -> Result<bool, StoreError> {
        Ok(self.found_runnable(diff_id, below)?.is_some())
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
        match self.layer_shape()?.shape {
            Shape::Unpacked => folder(),
            shape if self.is_written(&form)? => {
                Ok(Some(Runnable::Image { path: self.file(&form), looped: shape == Shape::Looped }))
            }
            _ => folder(),
        }
    }

    /// The layer to read files from: in whatever shape it is here, else made as for [`Store::runnable`].
    pub fn layer_files(&self, diff_id: &Digest, below: &Tree) -> Result<LayerFiles, StoreError> {
        let found = match self.known_form(diff_id, below)? {
            Some(form) if self.is_unpacked(&form)? => Runnable::Folder(self.folder(&form)),
            Some(form) if self.is_written(&form)? => {
                Runnable::Image { path: self.file(&form), looped: false }
            }
            _ => self.runnable(diff_id, below)?,
        };
        let (Runnable::Folder(path) | Runnable::Image { path, .. }) = &found;
        found.files().map_err(io_at("open", path))
    }

    fn file(&self, form: &Form<'_>) -> PathBuf {
        self.root.join("layers").join(format!("{}.erofs", form.name()))
    }

    /// Moves a finished file to its place. A file that is there is the same by definition of the name, unless it is of an
    /// earlier boot and may have lost bytes; who has it mounted keeps it.
    pub(super) fn place_file(
        &self,
        form: &Form<'_>,
        file: &Path,
        written: &Written,
    ) -> Result<(), StoreError> {
        let target = self.file(form);
        // between the look and the row nobody else may place or take away
        let _guard = self.lock_layers()?;
        if self.is_written(form)? {
            return fs::remove_file(file).map_err(io_at("remove", file));
        }
        fs::rename(file, &target).map_err(io_at("rename", &target))?;
        self.database()
            .prepare_cached(
                "INSERT OR REPLACE INTO mounted
                     (diff_id, beneath, made_in, made_at, used, length, tables, digest, checked_in)
                 VALUES (?1, ?2, ?3, ?4, ?4, ?5, ?6, ?7, ?3)",
            )?
            .execute((
                form.diff_id.to_string(),
                form.beneath(),
                &self.boot_id,
                now(),
                written.length_bytes as i64,
                written.tables as i64,
                written.digest.to_string(),
            ))?;
        Ok(())
    }

    /// Whether the layer's file is here, and whole: what the kernel is to parse is looked at once in each boot.
    pub(super) fn is_written(&self, form: &Form<'_>) -> Result<bool, StoreError> {
        // marks and owners are those that the first user namespace has
        if self.xattrs() != OverlayXattrs::Trusted {
            return Ok(false);
        }
        let row: Option<Row> = self
            .database()
            .prepare_cached(
                "SELECT made_in, checked_in, length, tables, digest FROM mounted WHERE diff_id = ?1 AND beneath = ?2",
            )?
            .query_row((form.diff_id.to_string(), form.beneath()), Row::read)
            .optional()?;
        let Some(row) = row else { return Ok(false) };
        let path = self.file(form);
        let is_trusted = row.made_in.is_some_and(|boot| boot == self.settled || boot == self.boot_id);
        if !is_trusted || !path.is_file() {
            return Ok(false);
        }
        if row.checked_in.is_some_and(|boot| boot == self.boot_id) {
            return Ok(true);
        }
        let Some(written) = row.written else { return Ok(false) };
        let file = File::open(&path).map_err(io_at("open", &path))?;
        if !written.is_whole(&file).map_err(io_at("read", &path))? {
            return Ok(false);
        }
        self.database()
            .prepare_cached("UPDATE mounted SET checked_in = ?3 WHERE diff_id = ?1 AND beneath = ?2")?
            .execute((form.diff_id.to_string(), form.beneath(), &self.boot_id))?;
        Ok(true)
    }
}

/// What the database knows of a layer's file.
struct Row {
    made_in: Option<String>,
    checked_in: Option<String>,
    written: Option<Written>,
}

impl Row {
    fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
        let digest: String = row.get(4)?;
        let (length, tables): (i64, i64) = (row.get(2)?, row.get(3)?);
        let written = digest.parse().ok().map(|digest| Written {
            length_bytes: length as u64,
            tables: tables as u64,
            digest,
        });
        Ok(Row { made_in: row.get(0)?, checked_in: row.get(1)?, written })
    }
}

#[cfg(test)]
mod tests;
