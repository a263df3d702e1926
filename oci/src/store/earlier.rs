//! Layers that are nearly the same: what a new layer can take from one that is here.
//!
//! Of each layer a few contents are noted by their digests: all large ones, and of the others those whose digests begin
//! low, the same ones of any layer. So two layers that share most of their files share most of what is noted, and a new
//! layer finds its predecessor by some hundred look-ups, wherever that came from: an earlier COPY, an older image.
//!
//! Of a layer whose contents are known before it is written they are all looked up at once; one that comes from elsewhere
//! is looked for with each content that came ([`Likeness`]).
//!
//! Two things are taken: contents, which the new layer's file refers to in the earlier one ([`crate::erofs::Earlier`]), and
//! compressed pieces of the blob ([`crate::pieces`]).

use super::{Kind, Shape, Store, StoreError, io_at, mounted::open_image, shape::new_file};
use crate::{
    Digest,
    compression::Compression,
    erofs::{Device, Earlier, Search},
    layer::{Entry, NewImage, Toc},
    pieces::{self, Known},
};
use rusqlite::{OptionalExtension, Transaction};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fs,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

/// Contents from this size on are all noted, in bytes.
const LARGE_BYTES: u64 = 1 << 20;
/// Contents below this size are never, in bytes: many layers have the same ones.
const SMALL_BYTES: u64 = 256;
/// Of the others, those are noted whose first byte of the digest is less than this.
const LOW: u8 = 8;
/// Most contents noted of one layer.
const MOST_SAMPLES: usize = 256;
/// How many similar layers are looked at.
const MOST_LAYERS: usize = 2;
/// How many layers are looked at for one that comes: an archive may have something of each layer that is here.
const MOST_LOOKED_AT: usize = 6;
/// Of the layers with a content so many are looked at, the newest: some contents are in every layer that ever was.
const MOST_ROWS: usize = 64;
/// A layer that comes is like one that has so many of its noted contents, or a large one,
const LEAST_FOUND: usize = 2;
/// and one in so many of those that came.
const FOUND_OF: usize = 8;
/// An earlier file is worth a descriptor for so many bytes.
const LEAST_BYTES: u64 = 64 << 10;
/// And for this share of what it keeps on the disk.
const LEAST_SHARE: u64 = 4;

/// Notes some of a layer's contents.
pub(super) fn write_samples(
    transaction: &Transaction<'_>,
    diff_id: &Digest,
    toc: &Toc,
) -> rusqlite::Result<()> {
    let file = |entry: &Entry| entry.content.clone().filter(|digest| is_sample(digest, entry.size_bytes));
    let found: BTreeSet<Digest> = toc.entries().iter().filter_map(file).collect();
    let diff_id = diff_id.to_string();
    for digest in found.into_iter().take(MOST_SAMPLES) {
        transaction
            .prepare_cached("INSERT OR IGNORE INTO contents (digest, diff_id) VALUES (?1, ?2)")?
            .execute((digest.to_string(), &diff_id))?;
    }
    Ok(())
}

fn is_sample(digest: &Digest, size_bytes: u64) -> bool {
    size_bytes >= LARGE_BYTES || (size_bytes >= SMALL_BYTES && digest.as_bytes()[0] < LOW)
}

/// What a new layer is made with.
#[derive(Debug, Default)]
pub struct NewLayer {
    /// Compressed pieces that are here.
    pub pieces: Arc<Known>,
    /// Contents that are here.
    pub contents: Arc<Earlier>,
    /// Names of the earlier files.
    pub(super) names: Arc<Names>,
}

/// Names of earlier files that belong to nothing yet; they are removed with this.
#[derive(Debug, Default)]
pub(super) struct Names(Mutex<Vec<PathBuf>>);

impl Names {
    /// Adds one.
    fn add(&self, path: PathBuf) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(path);
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        for path in self.0.get_mut().unwrap_or_else(PoisonError::into_inner) {
            // what was kept has another name by now; anything else is swept later
            let _ = fs::remove_file(path);
        }
    }
}

/// A layer's file being written; it is removed unless it is kept.
#[derive(Debug)]
pub struct NewFile {
    pub(super) path: PathBuf,
    /// Those of the files that it may refer to, where they were looked for while it was written.
    _names: Arc<Names>,
}

impl Drop for NewFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

impl Store {
    /// What there is for a new layer that has the contents `known` (digests and sizes in bytes) among others; pieces of a
    /// blob only where one is made, and compressed so. What cannot be read is not taken from.
    pub fn new_layer<'a>(
        &self,
        known: impl IntoIterator<Item = (&'a Digest, u64)>,
        compression: Option<Compression>,
    ) -> NewLayer {
        let known: HashMap<&Digest, u64> = known.into_iter().collect();
        let (mut pieces, mut contents, names) = (Known::default(), Earlier::default(), Arc::default());
        let wanted = |digest: &Digest| known.contains_key(digest);
        for diff_id in self.similar(&known).unwrap_or_default() {
            if let Some(compression) = compression {
                let _ = self.add_pieces(&diff_id, compression, &mut pieces);
            }
            let _ = self.add_contents(&diff_id, &wanted, &least_bytes, &mut contents, &names);
        }
        NewLayer { pieces: Arc::new(pieces), contents: Arc::new(contents), names }
    }

    /// What there is for the file of a layer whose table is known.
    pub(super) fn earlier_contents(&self, toc: &Toc) -> NewLayer {
        let content = |entry: &Entry| Some((entry.content.clone()?, entry.size_bytes));
        let known: Vec<(Digest, u64)> = toc.entries().iter().filter_map(content).collect();
        self.new_layer(known.iter().map(|(digest, size)| (digest, *size)), None)
    }

    /// Begins the file of a new layer.
    pub fn new_image(&self, new: &NewLayer) -> Result<(NewFile, NewImage<'static>), StoreError> {
        let path = self.temporary_path("layer")?;
        let file = new_file(&path)?;
        let image = NewImage::new(file, path.clone(), new.contents.clone());
        Ok((NewFile { path, _names: Arc::default() }, image))
    }

    /// Begins the file of a layer that is imported, where layers are files here. Layers that it is like are looked for while
    /// it is written.
    pub fn new_import(&self) -> Result<Option<(NewFile, NewImage<'_>)>, StoreError> {
        match self.layer_shape() {
            Ok(chosen) if chosen.shape != Shape::Unpacked => {
                let (likeness, path) = (Likeness::new(self), self.temporary_path("layer")?);
                let file = NewFile { path, _names: likeness.names.clone() };
                let image = NewImage::new(new_file(&file.path)?, file.path.clone(), Arc::default());
                Ok(Some((file, image.seeking(Box::new(likeness)))))
            }
            // what cannot be run here can be kept
            _ => Ok(None),
        }
    }

    /// Layers that have some of these contents, the one with most first.
    fn similar(&self, known: &HashMap<&Digest, u64>) -> Result<Vec<Digest>, StoreError> {
        let is_noted = |(digest, size): (&&'_ Digest, &u64)| is_sample(digest, *size);
        let samples: BTreeSet<&Digest> = known
            .iter()
            .filter(|(digest, size)| is_noted((digest, size)))
            .map(|(digest, _)| *digest)
            .collect();
        let mut bytes: HashMap<String, u64> = HashMap::new();
        {
            let database = self.database();
            let mut rows = database.prepare_cached("SELECT diff_id FROM contents WHERE digest = ?1")?;
            for digest in samples.into_iter().take(MOST_SAMPLES) {
                for row in rows.query_map([digest.to_string()], |row| row.get(0))? {
                    *bytes.entry(row?).or_default() += known[digest];
                }
            }
        }
        let mut found: Vec<(String, u64)> = bytes.into_iter().collect();
        found.sort_by(|(one, a), (other, b)| b.cmp(a).then_with(|| one.cmp(other)));
        let found: Vec<Digest> =
            found.into_iter().filter_map(|(diff_id, _)| diff_id.parse().ok()).take(MOST_LAYERS).collect();
        for diff_id in &found {
            self.holder.rely(Kind::Layer, diff_id)?;
        }
        Ok(found)
    }

    fn add_pieces(
        &self,
        diff_id: &Digest,
        compression: Compression,
        known: &mut Known,
    ) -> Result<(), StoreError> {
        for form in self.layer_forms(diff_id)? {
            let descriptor = form.descriptor;
            if descriptor.media_type != compression.layer_media_type() {
                continue;
            }
            let rows: Option<Vec<u8>> = self
                .database()
                .prepare_cached("SELECT pieces FROM pieces WHERE digest = ?1")?
                .query_row([descriptor.digest.to_string()], |row| row.get(0))
                .optional()?;
            if let Some(rows) = rows.as_deref().and_then(pieces::decode) {
                known.add(self.blobs().open_blob(&descriptor.digest)?, &rows);
            }
        }
        Ok(())
    }

    /// Adds those of a layer's contents that are wanted, where its file is here and they are so many bytes at least.
    fn add_contents(
        &self,
        diff_id: &Digest,
        wanted: &dyn Fn(&Digest) -> bool,
        least: &dyn Fn(u64) -> u64,
        contents: &mut Earlier,
        names: &Names,
    ) -> Result<(), StoreError> {
        let Some(found) = self.any_written(diff_id)? else { return Ok(()) };
        let Ok(toc) = Toc::load(&self.toc_of(diff_id, &found.beneath)) else { return Ok(()) };
        let image = open_image(&found.paths[0], &found.paths[1..]).map_err(io_at("open", &found.paths[0]))?;
        let mut devices = Vec::new();
        for (number, path) in found.paths.iter().enumerate() {
            let name = self.temporary_path("device")?;
            fs::hard_link(path, &name).map_err(io_at("link", path))?;
            names.add(name.clone());
            let tag = match number.checked_sub(1) {
                None => found.tables.hex(),
                // what is a device there is the same device here
                Some(device) => image.device_tag(device).unwrap_or_default().to_owned(),
            };
            devices.push(Device::open(name, &tag).map_err(io_at("open", path))?);
        }
        contents.add(&image, &toc, devices, wanted, least).map_err(io_at("read", &found.paths[0]))
    }
}

/// How many bytes of an earlier file of this length have to be of use.
fn least_bytes(device_bytes: u64) -> u64 {
    LEAST_BYTES.max(device_bytes / LEAST_SHARE)
}

/// How much of what was asked for a layer has; the one with most is the best, of equals the newest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    bytes: u64,
    count: usize,
    /// When its file was written, in seconds since 1970.
    made_at: i64,
}

/// Looks for layers that a new one is like, while its contents stream by.
pub(super) struct Likeness<'s> {
    store: &'s Store,
    /// The contents that were asked for.
    asked: HashSet<Digest>,
    /// What each layer has of them.
    found: HashMap<String, Found>,
    /// Layers that were looked at, and how many of them are used.
    seen: HashSet<String>,
    used: usize,
    /// Names of the files of those.
    pub(super) names: Arc<Names>,
}

impl Likeness<'_> {
    /// Looks in `store`.
    pub(super) fn new(store: &Store) -> Likeness<'_> {
        Likeness {
            store,
            asked: HashSet::new(),
            found: HashMap::new(),
            seen: HashSet::new(),
            used: 0,
            names: Arc::default(),
        }
    }

    /// The layer that the new one is most like, if it is by now.
    fn best(&self) -> Option<String> {
        let is_like = |found: &Found| {
            (found.count >= LEAST_FOUND || found.bytes >= LARGE_BYTES)
                && found.count * FOUND_OF >= self.asked.len()
        };
        let new =
            self.found.iter().filter(|(diff_id, found)| !self.seen.contains(*diff_id) && is_like(found));
        let best = new.max_by(|(one, a), (other, b)| a.cmp(b).then_with(|| other.cmp(one)));
        best.map(|(diff_id, _)| diff_id.clone())
    }

    /// Layers that are here as files and of which this content is noted, with the times of their files.
    fn files_with(&self, digest: &Digest) -> Result<Vec<(String, i64)>, StoreError> {
        let rows = self
            .store
            .database()
            .prepare_cached(
                "SELECT diff_id, max(mounted.made_at) AS made_at FROM contents JOIN mounted USING (diff_id)
                 WHERE contents.digest = ?1 GROUP BY diff_id ORDER BY made_at DESC LIMIT ?2",
            )?
            .query_map((digest.to_string(), MOST_ROWS), |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_, _>>()?;
        Ok(rows)
    }

    fn look_at(&mut self, diff_id: &str, earlier: &mut Earlier) -> Result<(), StoreError> {
        let Ok(diff_id) = diff_id.parse() else { return Ok(()) };
        self.store.holder.rely(Kind::Layer, &diff_id)?;
        let before = earlier.count();
        // what there is too little of is settled at the end
        self.store.add_contents(&diff_id, &|_| true, &|_| 0, earlier, &self.names)?;
        self.used += usize::from(earlier.count() > before);
        Ok(())
    }
}

impl Search for Likeness<'_> {
    fn see(&mut self, digest: &Digest, size_bytes: u64, earlier: &mut Earlier) {
        let is_over =
            self.used == MOST_LAYERS || self.seen.len() == MOST_LOOKED_AT || self.asked.len() == MOST_SAMPLES;
        if is_over || !is_sample(digest, size_bytes) || !self.asked.insert(digest.clone()) {
            return;
        }
        // a store that does not answer has nothing to take from
        for (diff_id, made_at) in self.files_with(digest).unwrap_or_default() {
            let found = self.found.entry(diff_id).or_default();
            *found = Found { bytes: found.bytes + size_bytes, count: found.count + 1, made_at };
        }
        if let Some(diff_id) = self.best() {
            self.seen.insert(diff_id.clone());
            let _ = self.look_at(&diff_id, earlier);
        }
    }

    fn least_bytes(&self, device_bytes: u64) -> u64 {
        least_bytes(device_bytes)
    }
}

#[cfg(test)]
mod pulled;
#[cfg(test)]
mod tests;
