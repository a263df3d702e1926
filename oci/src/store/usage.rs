//! What the store holds, and what of it costs how much disk.

use super::{Store, StoreError, io_at};
use crate::{Digest, file};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fs,
    os::unix::fs::MetadataExt,
};

/// One kind of thing in the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// How many there are.
    pub count: usize,
    /// How many of them another living process relies on.
    pub active: usize,
    /// Bytes of disk that they take.
    pub bytes: u64,
    /// How much of that nothing else needs.
    pub reclaimable_bytes: u64,
}

/// What takes the store's room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Images; what they share with each other counts once, what they share with the cache is theirs.
    pub images: Share,
    /// Results of build steps, with the layers that no image has.
    pub cache: Share,
}

/// A result that the cache keeps.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    /// The layer that only the cache needs.
    pub(super) layer: String,
    /// When any key of it was last used, in seconds since 1970.
    pub(super) used: i64,
    /// Bytes of disk.
    pub(super) bytes: u64,
}

/// Bytes of disk by layer, and of each blob.
pub(super) struct Weights {
    /// Unpacked folders and tables by the hexadecimal part of the diff id.
    folders: HashMap<String, u64>,
    /// The blobs known of a layer, those that are here.
    forms: HashMap<String, Vec<String>>,
    blobs: HashMap<String, u64>,
}

impl Weights {
    /// What several layers' files share is counted with the one that stays longest: an image's, else the one whose result was
    /// used last.
    fn of(store: &Store, needed: &Needed) -> Result<Weights, StoreError> {
        let mut folders: HashMap<String, u64> = HashMap::new();
        let mut shared: HashMap<(u64, u64), (u64, Vec<String>)> = HashMap::new();
        let place = store.root.join("layers");
        for entry in fs::read_dir(&place).map_err(io_at("list", &place))? {
            let entry = entry.map_err(io_at("list", &place))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let hex = name.split(['-', '.']).next().unwrap_or_default().to_owned();
            // what another process takes away meanwhile weighs nothing
            let Ok(metadata) = entry.path().symlink_metadata() else { continue };
            if metadata.is_file() && metadata.nlink() > 1 {
                let one = shared.entry((metadata.dev(), metadata.ino())).or_default();
                one.0 = metadata.blocks() * 512;
                one.1.push(hex);
                continue;
            }
            *folders.entry(hex).or_default() += file::disk_bytes(&entry.path()).unwrap_or(0);
        }
        let mut stays = last_used(store)?;
        stays.extend(needed.layers.iter().map(|layer| (layer.clone(), i64::MAX)));
        for (bytes, owners) in shared.into_values() {
            let rank = |hex: &String| (stays.get(&format!("sha256:{hex}")).copied(), hex.clone());
            if let Some(owner) = owners.into_iter().max_by_key(rank) {
                *folders.entry(owner).or_default() += bytes;
            }
        }
        let mut blobs = HashMap::new();
        for digest in store.blobs.list()? {
            let path = store.blobs.path(&digest);
            blobs.insert(digest.to_string(), file::disk_bytes(&path).unwrap_or(0));
        }
        let mut forms: HashMap<String, Vec<String>> = HashMap::new();
        let database = store.database();
        let mut rows = database.prepare("SELECT diff_id, digest FROM forms")?;
        for row in rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))? {
            let (diff_id, digest): (String, String) = row?;
            forms.entry(diff_id).or_default().push(digest);
        }
        Ok(Weights { folders, forms, blobs })
    }

    /// What a layer's folders take.
    fn folder(&self, diff_id: &str) -> u64 {
        let digest = diff_id.parse::<Digest>().ok();
        digest.and_then(|digest| self.folders.get(&digest.hex()).copied()).unwrap_or(0)
    }

    fn blob(&self, digest: &str) -> u64 {
        self.blobs.get(digest).copied().unwrap_or(0)
    }

    /// What a layer and all of its blobs take.
    fn whole(&self, diff_id: &str) -> u64 {
        let blobs = self.forms.get(diff_id).into_iter().flatten();
        self.folder(diff_id) + blobs.map(|digest| self.blob(digest)).sum::<u64>()
    }
}

/// When a result of the cache that is this layer was last used, in seconds since 1970.
fn last_used(store: &Store) -> Result<BTreeMap<String, i64>, StoreError> {
    let database = store.database();
    let mut rows = database
        .prepare("SELECT diff_id, max(used) FROM cache WHERE diff_id IS NOT NULL GROUP BY diff_id")?;
    let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// What images need: blobs, and diff ids of layers.
#[derive(Default)]
pub(super) struct Needed {
    blobs: BTreeSet<String>,
    pub(super) layers: BTreeSet<String>,
}

impl Store {
    /// What the images need.
    pub(super) fn needed(&self) -> Result<Needed, StoreError> {
        let mut needed = Needed::default();
        let database = self.database();
        let mut manifests = database.prepare("SELECT digest FROM manifests")?;
        for digest in manifests.query_map([], |row| row.get(0))? {
            needed.blobs.insert(digest?);
        }
        let mut edges = database.prepare("SELECT child, diff_id FROM edges")?;
        for row in edges.query_map([], |row| Ok((row.get(0)?, row.get::<_, Option<String>>(1)?)))? {
            let (child, diff_id) = row?;
            needed.blobs.insert(child);
            needed.layers.extend(diff_id);
        }
        Ok(needed)
    }

    /// The layers that only the cache keeps, those that were not used for longest first.
    pub(super) fn kept_by_cache(&self, needed: &Needed) -> Result<Vec<Kept>, StoreError> {
        let weights = Weights::of(self, needed)?;
        let used = last_used(self)?.into_iter().filter(|(layer, _)| !needed.layers.contains(layer));
        let weigh = |(layer, used): (String, i64)| Kept { bytes: weights.whole(&layer), layer, used };
        let mut kept: Vec<Kept> = used.map(weigh).collect();
        kept.sort_by_key(|one| one.used);
        Ok(kept)
    }

    /// Bytes of the blobs that only the cache keeps, as rows say: no file is looked at.
    pub fn bytes_kept_for_builds(&self) -> Result<u64, StoreError> {
        let sum: i64 = self.database().query_row(KEPT_FOR_BUILDS, [], |row| row.get(0))?;
        Ok(sum as u64)
    }

    /// What takes the store's room. Reads the size of every file.
    pub fn usage(&self) -> Result<Usage, StoreError> {
        let needed = self.needed()?;
        let kept = self.kept_by_cache(&needed)?;
        let weights = Weights::of(self, &needed)?;
        let blobs: u64 = needed.blobs.iter().map(|digest| weights.blob(digest)).sum();
        let folders: u64 = needed.layers.iter().map(|layer| weights.folder(layer)).sum();
        let count = |sql: &str| -> Result<usize, StoreError> {
            Ok(self.database().query_row(sql, [], |row| row.get::<_, i64>(0))? as usize)
        };
        let images: HashSet<String> =
            self.list_images()?.into_iter().map(|image| image.digest.to_string()).collect();
        let relied = self.holder.relied()?;
        let active = images.iter().filter(|image| relied.blobs.contains(*image)).count();
        // what is in use is not freed by a removal
        let used: u64 = needed
            .blobs
            .iter()
            .filter(|digest| relied.blobs.contains(*digest))
            .map(|digest| weights.blob(digest))
            .sum();
        let used_folders: u64 = needed
            .layers
            .iter()
            .filter(|layer| relied.layers.contains(*layer))
            .map(|layer| weights.folder(layer))
            .sum();
        let cached: u64 = kept.iter().map(|one| one.bytes).sum();
        Ok(Usage {
            images: Share {
                count: images.len(),
                active,
                bytes: blobs + folders,
                reclaimable_bytes: blobs + folders - used - used_folders,
            },
            cache: Share {
                count: count("SELECT count(*) FROM cache")?,
                active: 0,
                bytes: cached,
                reclaimable_bytes: cached,
            },
        })
    }
}

const KEPT_FOR_BUILDS: &str = "
SELECT coalesce(sum(size), 0) FROM forms WHERE diff_id IN (SELECT diff_id FROM cache)
    AND diff_id NOT IN (SELECT diff_id FROM edges WHERE diff_id IS NOT NULL)";
