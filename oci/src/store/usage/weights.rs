//! What everything in a store weighs: bytes of disk of each blob and of each layer's forms.

use super::super::{Store, StoreError, io_at};
use super::Needed;
use crate::{Digest, file};
use std::{
    collections::{BTreeMap, HashMap},
    fs,
    os::unix::fs::MetadataExt,
};

/// Bytes of disk by layer, and of each blob.
pub(super) struct Weights {
    /// Folders, files and tables by the hexadecimal part of the diff id.
    pub(super) folders: HashMap<String, u64>,
    /// The blobs known of a layer.
    forms: HashMap<String, Vec<String>>,
    pub(super) blobs: HashMap<String, u64>,
}

impl Weights {
    /// What several layers' files share is counted with the one that stays longest: an image's, else the one whose result was
    /// used last.
    pub(super) fn of(store: &Store, needed: &Needed) -> Result<Weights, StoreError> {
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

    /// What a layer's folders and files take.
    pub(super) fn folder(&self, diff_id: &str) -> u64 {
        let digest = diff_id.parse::<Digest>().ok();
        digest.and_then(|digest| self.folders.get(&digest.hex()).copied()).unwrap_or(0)
    }

    pub(super) fn blob(&self, digest: &str) -> u64 {
        self.blobs.get(digest).copied().unwrap_or(0)
    }

    /// The blobs known of a layer.
    pub(super) fn forms(&self, diff_id: &str) -> impl Iterator<Item = &String> {
        self.forms.get(diff_id).into_iter().flatten()
    }
}

/// When a result of the cache that is this layer was last used, in seconds since 1970.
pub(super) fn last_used(store: &Store) -> Result<BTreeMap<String, i64>, StoreError> {
    let database = store.database();
    let mut rows = database
        .prepare("SELECT diff_id, max(used) FROM cache WHERE diff_id IS NOT NULL GROUP BY diff_id")?;
    let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
