//! Images and their names.

use super::{LayerForm, Store, StoreError, now};
use crate::{
    Descriptor, Digest, Platform, Reference,
    spec::{ImageConfig, Manifest, ManifestError, Parsed, media_type},
};
use rusqlite::OptionalExtension;

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

/// A name and the image behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedImage {
    /// The name; `None` for an image that has none.
    pub name: Option<Reference>,
    /// The manifest's digest.
    pub digest: Digest,
    /// The configuration's digest: docker's image id.
    pub id: Digest,
}

impl Store {
    /// Registers the image whose manifest and configuration blobs are here, and gives it `names`, in one transaction.
    ///
    /// The layers' diff ids and blobs are noted too, so that a later build or run finds them.
    pub fn put_image(&self, manifest: &Digest, names: &[Reference]) -> Result<ImageRecord, StoreError> {
        let record = self.read_image(manifest)?;
        for (diff_id, descriptor) in record.config.rootfs.diff_ids.iter().zip(&record.manifest.layers) {
            let form = LayerForm { diff_id: diff_id.clone(), descriptor: descriptor.clone() };
            self.put_form(&form, 0)?;
        }
        let mut database = self.database();
        let transaction = database.transaction()?;
        transaction.execute(
            "INSERT OR REPLACE INTO images (digest, media_type, size, config, added) VALUES (?1, ?2, ?3, ?4, ?5)",
            (
                manifest.to_string(),
                &record.descriptor.media_type,
                record.descriptor.size_bytes as i64,
                record.manifest.config.digest.to_string(),
                now(),
            ),
        )?;
        for name in names {
            let name = name.clone().or_latest();
            transaction.execute(
                "INSERT OR REPLACE INTO names (reference, digest) VALUES (?1, ?2)",
                (name.to_string(), manifest.to_string()),
            )?;
        }
        transaction.commit()?;
        Ok(record)
    }

    /// Reads manifest and configuration of an image.
    pub fn read_image(&self, digest: &Digest) -> Result<ImageRecord, StoreError> {
        let bytes = self.blobs().read_manifest(digest)?;
        let parsed = Parsed::from_bytes(&bytes, None)?;
        let media = parsed.media_type().to_owned();
        let Parsed::Manifest(manifest) = parsed else {
            return Err(ManifestError::MediaType(media).into());
        };
        if manifest.layers.len() > crate::limits::LAYERS {
            return Err(ManifestError::Entries(manifest.layers.len(), crate::limits::LAYERS).into());
        }
        let config = self.blobs().read(&manifest.config.digest, crate::limits::CONFIG_BYTES)?;
        let config = ImageConfig::from_bytes(&config)?;
        let descriptor = Descriptor::new(media, digest.clone(), bytes.len() as u64);
        Ok(ImageRecord { descriptor, manifest: *manifest, config })
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
            Some(digest) => ("SELECT digest FROM images WHERE digest = ?1", digest.to_string()),
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
            "SELECT digest FROM images WHERE (config >= ?1 AND config < ?2) OR (digest >= ?1 AND digest < ?2)
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

    /// Every name, and every image without one, newest first.
    pub fn list_images(&self) -> Result<Vec<NamedImage>, StoreError> {
        let database = self.database();
        let mut statement = database.prepare_cached(
            "SELECT names.reference, images.digest, images.config FROM images
             LEFT JOIN names ON names.digest = images.digest ORDER BY images.added DESC, names.reference",
        )?;
        let rows = statement.query_map([], |row| {
            Ok((row.get::<_, Option<String>>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?))
        })?;
        let mut images = Vec::new();
        for row in rows {
            let (name, digest, id) = row?;
            if let (Ok(digest), Ok(id)) = (digest.parse(), id.parse()) {
                images.push(NamedImage { name: name.and_then(|name| name.parse().ok()), digest, id });
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
    /// names needs `force`. Answers the names taken off and the images that are gone.
    pub fn remove_image(&self, text: &str, force: bool) -> Result<(Vec<Reference>, Vec<Digest>), StoreError> {
        let digest = self.find_image(text)?.ok_or_else(|| StoreError::NoImage(text.to_owned()))?;
        let names = self.names_of(&digest)?;
        let by_name =
            text.parse::<Reference>().ok().map(Reference::or_latest).filter(|name| names.contains(name));
        let removed = match by_name {
            Some(name) => vec![name],
            None if names.len() > 1 && !force => {
                let list: Vec<String> = names.iter().map(Reference::familiar).collect();
                let id = digest.short().to_owned();
                return Err(StoreError::SeveralNames { id, names: list.join(", ") });
            }
            None => names.clone(),
        };
        let mut database = self.database();
        let transaction = database.transaction()?;
        for name in &removed {
            transaction.execute("DELETE FROM names WHERE reference = ?1", [name.to_string()])?;
        }
        let gone = removed.len() == names.len();
        if gone {
            transaction.execute("DELETE FROM images WHERE digest = ?1", [digest.to_string()])?;
        }
        transaction.commit()?;
        Ok((removed, if gone { vec![digest] } else { Vec::new() }))
    }

    /// The types that images are registered as.
    pub fn image_media_types() -> [&'static str; 2] {
        [media_type::OCI_MANIFEST, media_type::DOCKER_MANIFEST]
    }
}
