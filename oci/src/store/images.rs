//! Images and their names.

use super::{
    Kind, LayerForm, Store, StoreError,
    indexes::is_member,
    manifests::{Edge, ManifestRow, write_edges, write_form, write_names},
    now,
};
use crate::{
    Descriptor, Digest, Platform, Reference,
    spec::{ImageConfig, Manifest, ManifestError, Parsed},
};
use rusqlite::{OptionalExtension, Transaction};
use std::collections::HashMap;

/// An image of the store, read.
#[derive(Clone, Debug)]
pub struct ImageRecord {
    /// The manifest's descriptor.
    pub descriptor: Descriptor,
    /// The manifest.
    pub manifest: Manifest,
    /// The configuration.
    pub config: ImageConfig,
}

impl ImageRecord {
    /// The layers with their blobs, as far as both are named.
    pub fn forms(&self) -> impl Iterator<Item = LayerForm> {
        let layers = self.config.rootfs.diff_ids.iter().zip(&self.manifest.layers);
        layers.map(|(id, blob)| LayerForm { diff_id: id.clone(), descriptor: blob.clone() })
    }
}

/// A name and the image behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedImage {
    /// The name; `None` for an image that has none.
    pub name: Option<Reference>,
    /// The image manifest's digest. Where the name is an index's: of its image for this machine.
    pub digest: Digest,
    /// What the name stands for: the image, or its index.
    pub target: Digest,
    /// The configuration's digest: docker's image id.
    pub id: Digest,
    /// When it was put together here, in seconds since 1970; `None` where it came from elsewhere.
    pub built: Option<i64>,
}

impl Store {
    /// The layers of those of the images that this machine runs; those of others are here to be sent on, saved, or copied from,
    /// and are made runnable by who runs them all the same.
    pub fn rows_for_this_machine(&self, images: &[Digest]) -> Vec<Vec<LayerForm>> {
        // what cannot be read is no image, or said when it is registered
        let records = images.iter().filter_map(|image| self.read_image(image).ok());
        let own = records.filter(|record| record.config.platform.satisfies(&Platform::host()));
        own.map(|record| record.forms().collect()).collect()
    }

    /// Registers the image whose manifest and configuration blobs are here, and gives it `names`, in one transaction.
    ///
    /// The layers' diff ids and blobs are noted too, so that a later build or run finds them.
    pub fn put_image(&self, manifest: &Digest, names: &[Reference]) -> Result<ImageRecord, StoreError> {
        self.put_image_built(manifest, names, None)
    }

    /// The same for an image that was put together here, just now.
    pub fn put_built_image(&self, manifest: &Digest, names: &[Reference]) -> Result<ImageRecord, StoreError> {
        self.put_image_built(manifest, names, Some(now()))
    }

    fn put_image_built(
        &self,
        digest: &Digest,
        names: &[Reference],
        built: Option<i64>,
    ) -> Result<ImageRecord, StoreError> {
        // relies on the layers too, before the transaction begins
        let record = self.read_image(digest)?;
        let mut database = self.database();
        let transaction = database.transaction()?;
        for form in record.forms() {
            write_form(&transaction, &form, 0)?;
        }
        let row = ManifestRow {
            digest,
            kind: "image",
            media_type: &record.descriptor.media_type,
            size_bytes: record.descriptor.size_bytes,
            config: Some(record.manifest.config.digest.to_string()),
            platform: Some(record.config.platform.to_string()),
            built,
        };
        row.write(&transaction)?;
        let edges = Edge::of_manifest(&record.manifest, Some(&record.config));
        write_edges(&transaction, digest, &edges)?;
        write_names(&transaction, digest, names)?;
        transaction.commit()?;
        Ok(record)
    }

    /// Whether the image was put together here.
    pub fn is_built_here(&self, digest: &Digest) -> Result<bool, StoreError> {
        let built: bool = self
            .database()
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM manifests WHERE digest = ?1 AND kind = 'image' AND built IS NOT NULL)",
            )?
            .query_row([digest.to_string()], |row| row.get(0))?;
        Ok(built)
    }

    /// What kind of manifest a digest names; `None` where no row says.
    pub fn manifest_kind(&self, digest: &Digest) -> Result<Option<ManifestKind>, StoreError> {
        let kind: Option<String> = self
            .database()
            .prepare_cached("SELECT kind FROM manifests WHERE digest = ?1")?
            .query_row([digest.to_string()], |row| row.get(0))
            .optional()?;
        Ok(kind.map(|kind| if kind == "index" { ManifestKind::Index } else { ManifestKind::Image }))
    }

    /// Reads manifest and configuration of an image, and relies on all that it names: it is not collected while this
    /// process lives, also if somebody removes the image meanwhile.
    pub fn read_image(&self, digest: &Digest) -> Result<ImageRecord, StoreError> {
        // in one moment, or the layers could go while the manifest is read
        self.holder.moment(|moment| {
            let record = self.read_record(digest).map_err(|source| {
                let source = Box::new(source);
                StoreError::Unreadable { image: digest.clone(), source }
            })?;
            let blobs = record.manifest.layers.iter().chain([&record.manifest.config, &record.descriptor]);
            let blobs = blobs.map(|blob| (Kind::Blob, &blob.digest));
            moment.rely(blobs.chain(record.config.rootfs.diff_ids.iter().map(|id| (Kind::Layer, id))))?;
            Ok(record)
        })?
    }

    fn read_record(&self, digest: &Digest) -> Result<ImageRecord, StoreError> {
        let bytes = self.blobs().read_file(digest, crate::limits::MANIFEST_BYTES)?;
        let parsed = Parsed::from_bytes(&bytes, None)?;
        let media = parsed.media_type().to_owned();
        let Parsed::Manifest(manifest) = parsed else {
            return Err(ManifestError::MediaType(media).into());
        };
        if manifest.layers.len() > crate::limits::LAYERS {
            return Err(ManifestError::Entries(manifest.layers.len(), crate::limits::LAYERS).into());
        }
        let config = self.blobs().read_file(&manifest.config.digest, crate::limits::CONFIG_BYTES)?;
        let config = ImageConfig::from_bytes(&config)?;
        let descriptor = Descriptor::new(media, digest.clone(), bytes.len() as u64);
        Ok(ImageRecord { descriptor, manifest: *manifest, config })
    }

    /// Bytes of an image's layers as its manifest says them, also where the manifest cannot be read.
    pub fn layer_bytes(&self, digest: &Digest) -> Result<u64, StoreError> {
        let sql = "SELECT coalesce(sum(size), 0) FROM edges WHERE parent = ?1 AND kind = 'layer'";
        let bytes: i64 =
            self.database().prepare_cached(sql)?.query_row([digest.to_string()], |row| row.get(0))?;
        Ok(bytes as u64)
    }

    /// The manifest digest behind a name, with a repository digest, or with an id or the beginning of one.
    pub fn find_image(&self, text: &str) -> Result<Option<Digest>, StoreError> {
        if let Ok(reference) = text.parse::<Reference>()
            && let Some(digest) = self.find_reference(&reference.or_latest())?
        {
            return Ok(Some(digest));
        }
        self.find_id(text)
    }

    /// The manifest digest behind a full name or a digest.
    pub fn find_reference(&self, reference: &Reference) -> Result<Option<Digest>, StoreError> {
        let (sql, value) = match reference.digest() {
            Some(digest) => ("SELECT digest FROM manifests WHERE digest = ?1", digest.to_string()),
            None => ("SELECT digest FROM names WHERE reference = ?1", reference.to_string()),
        };
        let found: Option<String> =
            self.database().prepare_cached(sql)?.query_row([value], |row| row.get(0)).optional()?;
        Ok(found.and_then(|text| text.parse().ok()))
    }

    fn find_id(&self, text: &str) -> Result<Option<Digest>, StoreError> {
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        let valid = (4..=64).contains(&hex.len())
            && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if !valid {
            return Ok(None);
        }
        let from = format!("sha256:{hex}");
        let past = format!("{from}g");
        let database = self.database();
        let mut statement = database.prepare_cached(
            "SELECT digest FROM manifests WHERE (config >= ?1 AND config < ?2) OR (digest >= ?1 AND digest < ?2)
             ORDER BY added DESC",
        )?;
        let found: Vec<String> =
            statement.query_map([&from, &past], |row| row.get(0))?.collect::<Result<_, _>>()?;
        match found.as_slice() {
            [] => Ok(None),
            [one] => Ok(one.parse().ok()),
            // one id may belong to several manifests (other compressions): the newest serves
            [first, ..] if hex.len() == 64 => Ok(first.parse().ok()),
            _ => Err(StoreError::Ambiguous(text.to_owned())),
        }
    }

    /// Whether the image suits the platform, and its record.
    pub fn image_for(&self, digest: &Digest, platform: &Platform) -> Result<Option<ImageRecord>, StoreError> {
        let record = self.read_image(digest)?;
        Ok(record.config.platform.satisfies(platform).then_some(record))
    }

    /// Every name, and every image without one that is in no index, newest first.
    pub fn list_images(&self) -> Result<Vec<NamedImage>, StoreError> {
        let database = self.database();
        let mut statement = database.prepare_cached(LIST)?;
        let rows = statement.query_map([], |row| {
            let name = row.get::<_, Option<String>>(0)?;
            let platform = row.get::<_, Option<String>>(4)?;
            let digests = (row.get::<_, String>(1)?, row.get::<_, String>(5)?);
            Ok((name, digests, row.get::<_, String>(2)?, row.get(3)?, platform))
        })?;
        let host = Platform::host();
        let mut images: Vec<NamedImage> = Vec::new();
        let mut by_name: HashMap<String, usize> = HashMap::new();
        for row in rows {
            let (name, (digest, target), id, built, platform) = row?;
            let (Ok(digest), Ok(target), Ok(id)) = (digest.parse(), target.parse(), id.parse()) else {
                continue;
            };
            let reference = name.as_deref().and_then(|name| name.parse().ok());
            let image = NamedImage { name: reference, digest, target, id, built };
            // an index with several images of the store is listed once: by the one for this machine
            match name.as_ref().and_then(|name| by_name.get(name)) {
                Some(at) => {
                    let platform = platform.and_then(|text| text.parse::<Platform>().ok());
                    if platform.is_some_and(|platform| platform.satisfies(&host)) {
                        images[*at] = image;
                    }
                }
                None => {
                    by_name.extend(name.map(|name| (name, images.len())));
                    images.push(image);
                }
            }
        }
        Ok(images)
    }

    /// The names of an image.
    pub fn names_of(&self, digest: &Digest) -> Result<Vec<Reference>, StoreError> {
        let database = self.database();
        let mut statement =
            database.prepare_cached("SELECT reference FROM names WHERE digest = ?1 ORDER BY reference")?;
        let rows = statement.query_map([digest.to_string()], |row| row.get::<_, String>(0))?;
        let mut names = Vec::new();
        for row in rows {
            names.extend(row?.parse());
        }
        Ok(names)
    }

    /// Removes names and images: a name alone where the image has others, else the image with it. An id with several
    /// names needs `force`, and so does one that a container is made from: that loses its names alone. Answers the names taken
    /// off and the images that are gone.
    pub fn remove_image(&self, text: &str, force: bool) -> Result<(Vec<Reference>, Vec<Digest>), StoreError> {
        self.reserve.within(StoreError::is_full, || self.remove_image_at_once(text, force))
    }

    fn remove_image_at_once(
        &self,
        text: &str,
        force: bool,
    ) -> Result<(Vec<Reference>, Vec<Digest>), StoreError> {
        let digest = self.find_image(text)?.ok_or_else(|| StoreError::NoImage(text.to_owned()))?;
        let own = self.names_of(&digest)?;
        let by_name =
            text.parse::<Reference>().ok().map(Reference::or_latest).filter(|name| own.contains(name));
        // an image of an index is there by the index' names: whoever removes it by its id means them
        let mut targets = vec![digest.clone()];
        let mut names = own;
        if by_name.is_none() {
            for index in self.indexes_with(&digest)? {
                names.extend(self.names_of(&index)?);
                // the index goes first, or it would keep what it names
                targets.insert(0, index);
            }
        }
        let removed = match by_name {
            Some(name) => vec![name],
            None if names.len() > 1 && !force => {
                let list: Vec<String> = names.iter().map(Reference::familiar).collect();
                let id = digest.short();
                return Err(StoreError::SeveralNames { id, names: list.join(", ") });
            }
            None => names.clone(),
        };
        let mut database = self.database();
        let transaction = database.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        for name in &removed {
            transaction.execute("DELETE FROM names WHERE reference = ?1", [name.to_string()])?;
        }
        let mut gone = Vec::new();
        for target in targets {
            // a name may have gone to an image that an index still needs, or have come since the look above
            if !is_named(&transaction, &target)? && !is_member(&transaction, &target)? {
                if let Some(container) = container_of(&transaction, &target)? {
                    if force {
                        continue;
                    }
                    return Err(StoreError::OfContainer { image: text.to_owned(), container });
                }
                delete_manifest(&transaction, &target)?;
                gone.push(target);
            }
        }
        transaction.commit()?;
        Ok((removed, gone))
    }

    /// Notes that an image was used, for itself and the names that lead to it; to the
    /// [hour](crate::limits::USED_GRAIN), as [`Store::touch_cached`].
    pub fn touch_image(&self, digest: &Digest) -> Result<(), StoreError> {
        let (digest, now) = (digest.to_string(), now());
        let mut database = self.database();
        let is_stale: bool = database
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM manifests WHERE digest = ?1 AND used < ?2)
                     OR EXISTS (SELECT 1 FROM names WHERE digest = ?1 AND used < ?2)",
            )?
            .query_row((&digest, now - crate::limits::USED_GRAIN), |row| row.get(0))?;
        if !is_stale {
            return Ok(());
        }
        let transaction = database.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        for table in ["manifests", "names"] {
            transaction
                .prepare_cached(&format!("UPDATE {table} SET used = ?2 WHERE digest = ?1"))?
                .execute((&digest, now))?;
        }
        Ok(transaction.commit()?)
    }
}

/// The name of a container that is made from the manifest.
fn container_of(
    transaction: &rusqlite::Transaction<'_>,
    digest: &Digest,
) -> Result<Option<String>, StoreError> {
    let mut statement =
        transaction.prepare_cached("SELECT name FROM containers WHERE manifest = ?1 LIMIT 1")?;
    Ok(statement.query_map([digest.to_string()], |row| row.get(0))?.next().transpose()?)
}

/// Whether a name stands for the manifest.
fn is_named(transaction: &rusqlite::Transaction<'_>, digest: &Digest) -> Result<bool, StoreError> {
    Ok(transaction
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM names WHERE digest = ?1)")?
        .query_row([digest.to_string()], |row| row.get(0))?)
}

/// Names with their image, or with the images of their index; then images that nothing names.
const LIST: &str = "
SELECT reference, digest, config, built, platform, target FROM (
    SELECT names.reference, manifests.digest, manifests.config, manifests.built, manifests.platform, manifests.added,
        names.digest AS target
    FROM names JOIN manifests ON manifests.digest = names.digest WHERE manifests.kind = 'image'
    UNION ALL
    SELECT names.reference, manifests.digest, manifests.config, manifests.built, manifests.platform, manifests.added,
        names.digest
    FROM names JOIN edges ON edges.parent = names.digest AND edges.kind = 'manifest'
    JOIN manifests ON manifests.digest = edges.child AND manifests.kind = 'image'
    UNION ALL
    SELECT NULL, digest, config, built, platform, added, digest FROM manifests
    WHERE kind = 'image' AND digest NOT IN (SELECT digest FROM names)
        AND digest NOT IN (SELECT child FROM edges WHERE kind = 'manifest' AND parent IN (SELECT digest FROM manifests))
) WHERE config IS NOT NULL AND coalesce(platform, '') NOT LIKE 'unknown/%' ORDER BY added DESC, digest, reference";

/// What a manifest describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ManifestKind {
    /// One image.
    Image,
    /// Images for several platforms.
    Index,
}

/// Deletes a manifest, the images of an index that nothing else names, what is attached to it, and the cache rows whose layers only they had:
/// who removes an image wants its bytes back, and a row without its layer is worth nothing.
pub(super) fn delete_manifest(transaction: &Transaction<'_>, digest: &Digest) -> Result<(), StoreError> {
    let digest = digest.to_string();
    let children: Vec<String> = transaction
        .prepare_cached(
            "SELECT child FROM edges JOIN manifests ON manifests.digest = edges.child
             WHERE edges.parent = ?1 AND edges.kind IN ('manifest', 'referrer') AND edges.child != ?1
                 AND edges.child NOT IN (SELECT digest FROM names)
                 AND edges.child NOT IN (SELECT manifest FROM containers)
                 AND NOT EXISTS (SELECT 1 FROM edges AS others JOIN manifests ON manifests.digest = others.parent
                     WHERE others.child = edges.child AND others.parent != ?1)",
        )?
        .query_map([&digest], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    transaction
        .prepare_cached(
            "DELETE FROM cache WHERE diff_id IN (SELECT diff_id FROM edges WHERE parent = ?1)
                 AND diff_id NOT IN (SELECT diff_id FROM edges
                     WHERE diff_id IS NOT NULL AND parent != ?1 AND parent IN (SELECT digest FROM manifests))",
        )?
        .execute([&digest])?;
    transaction.prepare_cached("DELETE FROM edges WHERE parent = ?1")?.execute([&digest])?;
    transaction.prepare_cached("DELETE FROM manifests WHERE digest = ?1")?.execute([&digest])?;
    for child in children {
        if let Ok(child) = child.parse() {
            delete_manifest(transaction, &child)?;
        }
    }
    Ok(())
}
