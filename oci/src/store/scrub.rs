//! Reads everything again that the store has, and says what is not what it was: disks forget.
//!
//! Blobs are what their names say, layers' files and folders what their tables say, by the digests of the files in them; of a layer's
//! file that which the kernel parses besides. What is damaged and can be made of something else goes on request, and is made again
//! when somebody wants it; a blob that goes is fetched or built again. Nothing goes that another living process relies on.

use super::{Store, StoreError, io_at, layers::form_name, sweep, tables::Tables};
use crate::{
    Algorithm, Digest, Hasher, Root,
    blobs::BlobError,
    digest::CONTENT,
    layer::{Entry, Kind, Toc, TocError},
};
use std::{
    collections::HashSet,
    ffi::OsStr,
    fs::{self, File},
    io::{self, Read},
    os::unix::ffi::OsStrExt,
    path::Path,
};

/// What can be damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A blob: of a layer, a configuration or a manifest.
    Blob,
    /// A layer as a file that is mounted.
    File,
    /// A layer as a folder.
    Folder,
    /// A layer's table of contents.
    Table,
    /// The database.
    Database,
}

impl Part {
    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            Part::Blob => "blob",
            Part::File => "layer file",
            Part::Folder => "layer folder",
            Part::Table => "layer table",
            Part::Database => "database",
        }
    }
}

/// What became of something damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is as it was found.
    Left,
    /// Another living process relies on it, so it is as it was found.
    InUse,
    /// There is nothing to make it of, so it is as it was found.
    Alone,
    /// It is gone, and made again when somebody wants it.
    Gone,
    /// It is gone; who needs it has to pull or build it again.
    Missing,
}

/// Something that is not what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// What.
    pub part: Part,
    /// Its digest: a layer's is that of its archive. None of the database.
    pub digest: Option<Digest>,
    /// What is wrong with it.
    pub fault: String,
    /// Images that need it, by name, else by digest.
    pub images: Vec<String>,
    /// What became of it.
    pub outcome: Outcome,
}

/// What was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// Blobs.
    pub blobs: u64,
    /// Layers' files and folders.
    pub layers: u64,
    /// Bytes of both.
    pub bytes: u64,
}

/// Where damage is told, and how it is dealt with.
pub struct Scrub<'a> {
    /// Whether what is damaged goes.
    pub repair: bool,
    /// Told of each thing that is damaged.
    pub found: &'a mut dyn FnMut(Damage),
    /// Told how many bytes were read, of how many in all.
    pub progress: &'a dyn Fn(u64, u64),
}

/// A layer in one of its forms.
struct Copy {
    part: Part,
    diff_id: Digest,
    beneath: String,
}

impl Store {
    /// Reads everything once. What others put in or take away meanwhile is read or passed over.
    pub fn scrub(&self, scrub: &mut Scrub<'_>) -> Result<Scrubbed, StoreError> {
        let mut scrubbed = Scrubbed::default();
        self.look_at_database(scrub)?;
        let blobs = self.blobs().list()?;
        let copies = self.copies()?;
        let size = |digest: &Digest| fs::metadata(self.blobs().path(digest)).map_or(0, |file| file.len());
        let held = |copy: &Copy| self.table(copy).and_then(Result::ok).map_or(0, |table| table.size_bytes());
        let whole = blobs.iter().map(size).chain(copies.iter().map(held)).sum();
        self.look_for_missing(&blobs, &copies, scrub)?;
        for digest in &blobs {
            let before = size(digest);
            if let Some(fault) = blob_fault(&self.blobs().path(digest), digest) {
                self.damaged(scrub, Part::Blob, digest, fault, || self.drop_blob(digest))?;
            }
            scrubbed.blobs += 1;
            scrubbed.bytes += before;
            (scrub.progress)(scrubbed.bytes, whole);
        }
        for of_one in copies.chunk_by(|a, b| (&a.diff_id, &a.beneath) == (&b.diff_id, &b.beneath)) {
            let bytes = self.look_at_copies(of_one, scrub)?;
            scrubbed.layers += of_one.len() as u64;
            scrubbed.bytes += bytes;
            (scrub.progress)(scrubbed.bytes, whole);
        }
        Ok(scrubbed)
    }

    fn look_at_database(&self, scrub: &mut Scrub<'_>) -> Result<(), StoreError> {
        let words: Vec<String> = self
            .database()
            .prepare("PRAGMA integrity_check(20)")?
            .query_map([], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        if words != ["ok"] {
            let fault = words.join("; ");
            let (part, outcome) = (Part::Database, Outcome::Left);
            (scrub.found)(Damage { part, digest: None, fault, images: Vec::new(), outcome });
        }
        Ok(())
    }

    /// What images need and nothing here is, or can be made of, or is known to be in a registry.
    fn look_for_missing(
        &self,
        blobs: &[Digest],
        copies: &[Copy],
        scrub: &mut Scrub<'_>,
    ) -> Result<(), StoreError> {
        let mut here: HashSet<String> = blobs.iter().map(Digest::to_string).collect();
        here.extend(copies.iter().map(|copy| copy.diff_id.to_string()));
        let needed: Vec<(String, Option<String>)> = self
            .database()
            .prepare(
                "SELECT digest, NULL FROM manifests
                 UNION SELECT child, diff_id FROM edges WHERE kind IN ('config', 'layer')
                     AND parent IN (SELECT digest FROM manifests) AND child NOT IN (
                         SELECT digest FROM sources WHERE repository <> '')",
            )?
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_, _>>()?;
        for (child, diff_id) in needed {
            let layer = diff_id.and_then(|text| text.parse::<Digest>().ok());
            let mut forms = match &layer {
                Some(layer) => self.forms_of(layer)?,
                None => Vec::new(),
            };
            forms.extend(child.parse::<Digest>());
            let is_here = layer.is_some_and(|layer| here.contains(&layer.to_string()))
                || forms
                    .iter()
                    .any(|digest| here.contains(&digest.to_string()) || self.blobs().path(digest).exists());
            if let (false, Ok(digest)) = (is_here, child.parse::<Digest>()) {
                let (part, images) = (Part::Blob, self.images_with(&digest)?);
                if !images.is_empty() {
                    let (fault, outcome) = ("it is not here".to_owned(), Outcome::Missing);
                    (scrub.found)(Damage { part, digest: Some(digest), fault, images, outcome });
                }
            }
        }
        Ok(())
    }

    /// Every layer in every form that rows tell of.
    fn copies(&self) -> Result<Vec<Copy>, StoreError> {
        let mut copies = Vec::new();
        let database = self.database();
        for (part, table) in [(Part::File, "mounted"), (Part::Folder, "unpacked")] {
            let mut rows = database
                .prepare(&format!("SELECT diff_id, beneath FROM {table} WHERE made_in IS NOT NULL"))?;
            for row in rows.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)))? {
                let (diff_id, beneath) = row?;
                if let Ok(diff_id) = diff_id.parse() {
                    copies.push(Copy { part, diff_id, beneath });
                }
            }
        }
        copies.sort_by(|a, b| (&a.diff_id, &a.beneath).cmp(&(&b.diff_id, &b.beneath)));
        Ok(copies)
    }

    /// Its table, read anew; none where the file is not there.
    fn table(&self, copy: &Copy) -> Option<Result<Toc, String>> {
        match Toc::load(&self.toc_of(&copy.diff_id, &copy.beneath)) {
            Ok(toc) => Some(Ok(toc)),
            Err(TocError::Io(_, error)) if error.kind() == io::ErrorKind::NotFound => None,
            // of another version of this program: it is made again, too
            Err(TocError::Other(_)) => None,
            Err(error) => Some(Err(error.to_string())),
        }
    }

    /// Looks at copies of one layer that have their table in common. Answers how many bytes were read.
    fn look_at_copies(&self, copies: &[Copy], scrub: &mut Scrub<'_>) -> Result<u64, StoreError> {
        let Some(first) = copies.first() else { return Ok(0) };
        let table = match self.table(first) {
            Some(Err(fault)) => {
                let remove = || self.drop_copy(first, Part::Table);
                self.damaged(scrub, Part::Table, &first.diff_id, fault, remove)?;
                return Ok(0);
            }
            Some(Ok(table)) => table,
            // nothing uses a layer without its table before that is made again
            None => return Ok(0),
        };
        let mut faults = Vec::new();
        for copy in copies {
            let path = self.root.join("layers").join(self.file_name(copy));
            let fault = match copy.part {
                Part::Folder => folder_fault(&path, &table),
                _ => self.file_fault(copy, &table)?,
            };
            // what another process took away meanwhile is not damaged
            faults.extend(fault.filter(|_| path.exists()).map(|fault| (copy, fault)));
        }
        for (copy, fault) in faults {
            let remove = || self.drop_copy(copy, copy.part);
            self.damaged(scrub, copy.part, &copy.diff_id, fault, remove)?;
        }
        Ok(table.size_bytes() * copies.len() as u64)
    }

    fn file_fault(&self, copy: &Copy, table: &Toc) -> Result<Option<String>, StoreError> {
        let image = match self.open_anew(&copy.diff_id, &copy.beneath)? {
            // of another boot, or on its way out: nothing mounts it
            None => return Ok(None),
            Some(Err(fault)) => return Ok(Some(fault)),
            Some(Ok(image)) => image,
        };
        Ok(contents_fault(table, &mut |entry| {
            let inode = image.find(&entry.path)?.ok_or(io::ErrorKind::NotFound)?;
            Ok(Box::new(image.read(&inode)?))
        }))
    }

    /// Tells of something damaged, after it went where that is asked for.
    fn damaged(
        &self,
        scrub: &mut Scrub<'_>,
        part: Part,
        digest: &Digest,
        fault: String,
        remove: impl FnOnce() -> Result<Outcome, StoreError>,
    ) -> Result<(), StoreError> {
        let images = self.images_with(digest)?;
        let outcome = if scrub.repair { remove()? } else { Outcome::Left };
        (scrub.found)(Damage { part, digest: Some(digest.clone()), fault, images, outcome });
        Ok(())
    }

    /// Images that need a blob or a layer.
    fn images_with(&self, digest: &Digest) -> Result<Vec<String>, StoreError> {
        let database = self.database();
        let mut rows = database.prepare_cached(
            "WITH RECURSIVE above (digest) AS (
                SELECT digest FROM manifests WHERE digest = ?1
                UNION SELECT parent FROM edges WHERE child = ?1 OR diff_id = ?1
                UNION SELECT e.parent FROM edges e JOIN above a ON e.child = a.digest AND e.kind IN ('manifest', 'referrer'))
             SELECT DISTINCT coalesce(n.reference, a.digest) FROM above a JOIN manifests m ON m.digest = a.digest
             LEFT JOIN names n ON n.digest = a.digest
             WHERE n.reference IS NOT NULL OR NOT EXISTS (
                SELECT 1 FROM edges e JOIN manifests p ON p.digest = e.parent WHERE e.child = a.digest)
             ORDER BY 1",
        )?;
        let images = rows.query_map([digest.to_string()], |row| row.get(0))?.collect::<Result<_, _>>()?;
        Ok(images)
    }

    fn drop_blob(&self, digest: &Digest) -> Result<Outcome, StoreError> {
        let layer: Option<String> = {
            let database = self.database();
            let mut row = database.prepare_cached("SELECT max(diff_id) FROM forms WHERE digest = ?1")?;
            row.query_row([digest.to_string()], |row| row.get(0))?
        };
        let taken = self.holder.alone(|relied| {
            let is_relied_on = relied.blobs.contains(&digest.to_string())
                || layer.as_ref().is_some_and(|layer| relied.layers.contains(layer));
            if is_relied_on {
                Ok::<_, StoreError>(false)
            } else {
                Ok(self.blobs().remove(digest).map(|()| true)?)
            }
        })?;
        match taken.transpose()? {
            Some(true) => Ok(Outcome::Missing),
            Some(false) | None => Ok(Outcome::InUse),
        }
    }

    /// Takes away what is damaged, and the table that said so with it: which of the two is wrong nobody knows.
    fn drop_copy(&self, copy: &Copy, part: Part) -> Result<Outcome, StoreError> {
        let is_whole = |digest: &Digest| {
            let path = self.blobs().path(digest);
            path.exists() && blob_fault(&path, digest).is_none()
        };
        if !self.forms_of(&copy.diff_id)?.iter().any(is_whole) {
            return Ok(Outcome::Alone);
        }
        let trash = self.temporary_folder("trash")?;
        let taken = self.holder.alone(|relied| {
            if relied.layers.contains(&copy.diff_id.to_string()) {
                return Ok(false);
            }
            let rows = if part == Part::File { "mounted" } else { "unpacked" };
            if part != Part::Table {
                self.database()
                    .prepare_cached(&format!("DELETE FROM {rows} WHERE diff_id = ?1 AND beneath = ?2"))?
                    .execute((copy.diff_id.to_string(), &copy.beneath))?;
                // what cannot be moved is no row's any more, and replaced by what is placed anew
                let _ = fs::rename(self.root.join("layers").join(self.file_name(copy)), trash.join("1"));
            }
            let table = self.toc_of(&copy.diff_id, &copy.beneath);
            Tables::shared().forget(&table);
            let _ = fs::rename(table, trash.join("2"));
            Ok::<_, StoreError>(true)
        });
        sweep::remove(&trash).map_err(io_at("remove", &trash))?;
        match taken?.transpose()? {
            Some(true) => Ok(Outcome::Gone),
            Some(false) | None => Ok(Outcome::InUse),
        }
    }

    /// Its name in `layers/`.
    fn file_name(&self, copy: &Copy) -> String {
        let name = form_name(&copy.diff_id, &copy.beneath);
        if copy.part == Part::Folder { name } else { format!("{name}.erofs") }
    }

    fn forms_of(&self, diff_id: &Digest) -> Result<Vec<Digest>, StoreError> {
        let rows: Vec<String> = self
            .database()
            .prepare_cached("SELECT digest FROM forms WHERE diff_id = ?1")?
            .query_map([diff_id.to_string()], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        Ok(rows.iter().filter_map(|text| text.parse().ok()).collect())
    }
}

/// What is wrong with a blob that is there.
fn blob_fault(path: &Path, digest: &Digest) -> Option<String> {
    match File::open(path).and_then(|mut file| digested(&mut file, digest.algorithm())) {
        Ok(actual) if actual == *digest => None,
        Ok(actual) => Some(BlobError::DigestMismatch { expected: digest.clone(), actual }.to_string()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => Some(format!("it cannot be read: {error}")),
    }
}

fn folder_fault(folder: &Path, table: &Toc) -> Option<String> {
    match Root::open(folder) {
        Ok(root) => contents_fault(table, &mut |entry| {
            Ok(Box::new(root.open_regular(OsStr::from_bytes(&entry.path).as_ref())?))
        }),
        Err(error) => Some(format!("it cannot be opened: {error}")),
    }
}

type Open<'a> = dyn FnMut(&Entry) -> io::Result<Box<dyn Read>> + 'a;

/// The first file of a layer that is not what its table says.
fn contents_fault(table: &Toc, open: &mut Open<'_>) -> Option<String> {
    let files = table.entries().iter().filter(|entry| entry.kind == Kind::File);
    files.filter_map(|entry| Some((entry, entry.content.as_ref()?))).find_map(|(entry, content)| {
        let path = String::from_utf8_lossy(&entry.path);
        match open(entry).and_then(|mut file| digested(&mut *file, CONTENT)) {
            Ok(actual) if actual == *content => None,
            Ok(_) => Some(format!("`/{path}` has other bytes than its table says")),
            Err(error) => Some(format!("`/{path}` cannot be read: {error}")),
        }
    })
}

fn digested(file: &mut dyn Read, algorithm: Algorithm) -> io::Result<Digest> {
    let mut hasher = Hasher::new(algorithm);
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            count => hasher.update(&buffer[..count]),
        }
    }
}

#[cfg(test)]
mod tests;
