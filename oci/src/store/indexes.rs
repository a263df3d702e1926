//! Images for several platforms: indexes as they came, and which of their images is meant. What an index names need not be
//! here.

use super::{
    ManifestKind, Store, StoreError,
    manifests::{Edge, ManifestRow, write_edges, write_names},
};
use crate::{
    Digest, Platform, Reference, limits,
    spec::{Index, ManifestError, Parsed},
};
use rusqlite::Transaction;
use std::collections::HashSet;

impl Store {
    /// Registers the index whose blob is here, and gives it `names`, in one transaction. Its images need not be here.
    pub fn put_index(&self, digest: &Digest, names: &[Reference]) -> Result<Index, StoreError> {
        let bytes = self.blobs().read_manifest(digest)?;
        let parsed = Parsed::from_bytes(&bytes, None)?;
        let media = parsed.media_type().to_owned();
        let Parsed::Index(index) = parsed else { return Err(ManifestError::MediaType(media).into()) };
        let mut database = self.database();
        let transaction = database.transaction()?;
        let (kind, size_bytes) = ("index", bytes.len() as u64);
        let row = ManifestRow {
            digest,
            kind,
            media_type: &media,
            size_bytes,
            config: None,
            platform: None,
            built: None,
        };
        row.write(&transaction)?;
        write_edges(&transaction, digest, &Edge::of_index(&index))?;
        write_names(&transaction, digest, names)?;
        transaction.commit()?;
        Ok(*index)
    }

    /// Registers a manifest of an index whose blobs are here: an image, or what is none, such as an attestation.
    pub fn put_member(&self, digest: &Digest) -> Result<(), StoreError> {
        match self.put_image(digest, &[]) {
            Err(StoreError::Unreadable { source, .. }) if matches!(*source, StoreError::Config(_)) => {
                self.put_artifact(digest)
            }
            other => other.map(drop),
        }
    }

    /// Registers a manifest whose configuration is none of an image: its blobs stay, and no list shows it.
    fn put_artifact(&self, digest: &Digest) -> Result<(), StoreError> {
        let bytes = self.blobs().read_manifest(digest)?;
        let parsed = Parsed::from_bytes(&bytes, None)?;
        let media_type = parsed.media_type().to_owned();
        let Parsed::Manifest(manifest) = parsed else {
            return Err(ManifestError::MediaType(media_type).into());
        };
        let mut database = self.database();
        let transaction = database.transaction()?;
        let row = ManifestRow {
            digest,
            kind: "image",
            media_type: &media_type,
            size_bytes: bytes.len() as u64,
            config: None,
            platform: None,
            built: None,
        };
        row.write(&transaction)?;
        write_edges(&transaction, digest, &Edge::of_manifest(&manifest, None))?;
        Ok(transaction.commit()?)
    }

    /// Gives what is in the store, an image or an index, more names.
    pub fn name_manifest(&self, digest: &Digest, names: &[Reference]) -> Result<(), StoreError> {
        match self.manifest_kind(digest)? {
            Some(ManifestKind::Index) => self.put_index(digest, names).map(drop),
            _ => self.put_image(digest, names).map(drop),
        }
    }

    /// The image that a manifest stands for on `platform`: itself, or the one that an index has for it. `None` where that
    /// one is not here. An image by itself is answered whatever it runs on ([`Store::image_for`] asks).
    pub fn image_of(&self, digest: &Digest, platform: &Platform) -> Result<Option<Digest>, StoreError> {
        let mut here = digest.clone();
        for _ in 0..=limits::INDEX_DEPTH {
            if here != *digest && !self.blobs().contains(&here)? {
                return Ok(None);
            }
            match self.read_parsed(&here)? {
                Parsed::Manifest(manifest) => {
                    let whole = here == *digest || self.blobs().contains(&manifest.config.digest)?;
                    return Ok(whole.then_some(here));
                }
                Parsed::Index(index) => match index.select(platform) {
                    Some(chosen) => here = chosen.digest.clone(),
                    None => return Ok(None),
                },
            }
        }
        Ok(None)
    }

    /// The index that a digest names, read; `None` where it names an image.
    pub fn read_index(&self, digest: &Digest) -> Result<Option<Index>, StoreError> {
        match self.read_parsed(digest)? {
            Parsed::Index(index) => Ok(Some(*index)),
            Parsed::Manifest(_) => Ok(None),
        }
    }

    /// What of an index is registered here: its manifests, those of indexes within it included, each after what it names.
    pub fn members(&self, index: &Index) -> Result<Vec<Digest>, StoreError> {
        let mut members = Vec::new();
        self.gather_members(index, limits::INDEX_DEPTH, &mut members)?;
        Ok(members)
    }

    fn gather_members(&self, index: &Index, depth: usize, into: &mut Vec<Digest>) -> Result<(), StoreError> {
        for entry in &index.manifests {
            if into.contains(&entry.digest) {
                continue;
            }
            match self.manifest_kind(&entry.digest)? {
                Some(ManifestKind::Index) if depth > 0 => {
                    if let Some(inner) = self.read_index(&entry.digest)? {
                        self.gather_members(&inner, depth - 1, into)?;
                    }
                }
                Some(ManifestKind::Image) => {}
                _ => continue,
            }
            into.push(entry.digest.clone());
        }
        Ok(())
    }

    /// Whether all that an index names, indexes within it included, is registered here.
    pub fn is_whole(&self, index: &Index) -> Result<bool, StoreError> {
        let mut pending: Vec<Digest> = index.manifests.iter().map(|entry| entry.digest.clone()).collect();
        let mut seen = HashSet::new();
        while let Some(digest) = pending.pop() {
            if !seen.insert(digest.clone()) {
                continue;
            }
            match self.manifest_kind(&digest)? {
                None => return Ok(false),
                Some(ManifestKind::Image) => {}
                Some(ManifestKind::Index) => {
                    let inner = self.read_index(&digest)?.into_iter().flat_map(|index| index.manifests);
                    pending.extend(inner.map(|entry| entry.digest));
                }
            }
        }
        Ok(true)
    }

    /// The indexes that name an image.
    pub(super) fn indexes_with(&self, digest: &Digest) -> Result<Vec<Digest>, StoreError> {
        let database = self.database();
        let mut statement = database.prepare_cached(
            "SELECT DISTINCT parent FROM edges JOIN manifests ON manifests.digest = edges.parent
             WHERE edges.child = ?1 AND edges.kind = 'manifest'",
        )?;
        let rows = statement.query_map([digest.to_string()], |row| row.get::<_, String>(0))?;
        let texts: Vec<String> = rows.collect::<Result<_, _>>()?;
        Ok(texts.iter().filter_map(|text| text.parse().ok()).collect())
    }

    /// A manifest or index of the store.
    fn read_parsed(&self, digest: &Digest) -> Result<Parsed, StoreError> {
        let read = || Ok(Parsed::from_bytes(&self.blobs().read_manifest(digest)?, None)?);
        read().map_err(|source| StoreError::Unreadable { image: digest.clone(), source: Box::new(source) })
    }
}

/// Whether an index that is registered names the manifest, or it is attached to one that is.
pub(super) fn is_member(transaction: &Transaction<'_>, digest: &Digest) -> Result<bool, StoreError> {
    Ok(transaction
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM edges JOIN manifests ON manifests.digest = edges.parent
                 WHERE edges.child = ?1 AND edges.kind IN ('manifest', 'referrer'))",
        )?
        .query_row([digest.to_string()], |row| row.get(0))?)
}
