//! Reads images in.

use super::{ANNOTATION_IMAGE_NAME, ANNOTATION_REF_NAME, LayoutError};
use crate::{
    Algorithm, Descriptor, Digest, Platform, Reference,
    blobs::BlobSink,
    compression,
    digest::HashingReader,
    file::{self, CopyError, Tee},
    layer::ArchiveReader,
    limits,
    spec::{ImageConfig, Index, Manifest, Parsed, media_type, to_json},
    store::{Attached, Store, StoreError},
};
use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
};

/// Most files in an archive of images.
const FILES: usize = 100_000;

/// An image that was read into the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The manifest's digest; of an index, that of its image for the platform that was asked for.
    pub digest: Digest,
    /// What the names stand for: the image, or its index.
    pub target: Digest,
    /// The names that the archive gave it.
    pub names: Vec<Reference>,
}

/// Reads an archive of images, compressed or not, in either form. Names replace those of the store.
pub fn load_archive(store: &Store, source: impl Read + Send) -> Result<Vec<Loaded>, LayoutError> {
    let files = Files::spool(store, source)?;
    files.load(store, &Platform::host(), None)
}

/// Reads an OCI layout or unpacked docker archive from a folder. `reference` selects one image of several by tag or
/// digest.
pub fn load_folder(
    store: &Store,
    folder: &Path,
    reference: Option<&str>,
    platform: &Platform,
) -> Result<Vec<Loaded>, LayoutError> {
    let root = crate::Root::open(folder).map_err(|error| LayoutError::Io("open", error))?;
    Files { spooled: HashMap::new(), scratch: None, root: Some(root) }.load(store, platform, reference)
}

/// Copies the blobs of all that an archive's index names into the store, as they came and without names, and answers its
/// entries. An index's manifests that are not there are left out. Of docker's older form a manifest is made.
pub fn take_archive(store: &Store, source: impl Read + Send) -> Result<Vec<Descriptor>, LayoutError> {
    Files::spool(store, source)?.take(store)
}

/// The same of an OCI layout in a folder.
pub fn take_folder(store: &Store, folder: &Path) -> Result<Vec<Descriptor>, LayoutError> {
    let root = crate::Root::open(folder).map_err(|error| LayoutError::Io("open", error))?;
    Files { spooled: HashMap::new(), scratch: None, root: Some(root) }.take(store)
}

/// The files of an archive, by name; or a folder.
struct Files {
    spooled: HashMap<String, PathBuf>,
    scratch: Option<PathBuf>,
    root: Option<crate::Root>,
}

impl Drop for Files {
    fn drop(&mut self) {
        if let Some(scratch) = &self.scratch {
            // swept later where it cannot be removed now
            let _ = crate::file::remove_tree(scratch);
        }
    }
}

impl Files {
    /// Puts every file of the archive into a scratch folder under a number; names are only keys, so none can lead
    /// anywhere. Links (docker's older archives share layers so) become a second key.
    fn spool(store: &Store, source: impl Read + Send) -> Result<Files, LayoutError> {
        let failed = |error| LayoutError::Io("read", error);
        let decoder = compression::decoder(BufReader::with_capacity(1 << 18, source)).map_err(failed)?;
        let scratch = store.temporary_folder("load")?;
        let mut files = Files { spooled: HashMap::new(), scratch: Some(scratch.clone()), root: None };
        let mut links = Vec::new();
        let mut archive = ArchiveReader::new(decoder);
        while let Some(item) = archive.next_item().map_err(failed)? {
            if files.spooled.len() + links.len() >= FILES {
                return Err(LayoutError::Limit("files"));
            }
            let name = normal(&String::from_utf8_lossy(&item.path));
            match item.header.entry_type() {
                tar::EntryType::Regular | tar::EntryType::Continuous => {
                    let path = scratch.join(files.spooled.len().to_string());
                    let unwritten =
                        |source| StoreError::Io { operation: "write", path: path.clone(), source };
                    let mut file = File::create(&path).map_err(unwritten)?;
                    file::copy(&mut archive, &mut file).map_err(|error| match error {
                        CopyError::Read(error) => failed(error),
                        CopyError::Write(error) => unwritten(error).into(),
                    })?;
                    files.spooled.insert(name, path);
                }
                tar::EntryType::Symlink | tar::EntryType::Link => {
                    let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
                    let link = String::from_utf8_lossy(&item.link).into_owned();
                    let relative = item.header.entry_type() == tar::EntryType::Symlink;
                    let target = if relative { normal(&format!("{folder}/{link}")) } else { normal(&link) };
                    links.push((name, target));
                }
                _ => {}
            }
        }
        for (name, target) in links {
            if let Some(path) = files.spooled.get(&target).cloned() {
                files.spooled.insert(name, path);
            }
        }
        Ok(files)
    }

    fn open(&self, name: &str) -> Result<Option<File>, LayoutError> {
        let failed = |error| LayoutError::Io("read", error);
        match (&self.root, self.spooled.get(name)) {
            (Some(root), _) => match root.open_file(Path::new(name)) {
                Ok(file) => Ok(Some(file)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(failed(error)),
            },
            (None, Some(path)) => File::open(path).map(Some).map_err(failed),
            (None, None) => Ok(None),
        }
    }

    fn read(&self, name: &str, most_bytes: u64) -> Result<Option<Vec<u8>>, LayoutError> {
        let Some(file) = self.open(name)? else { return Ok(None) };
        let bytes = crate::file::read_capped_from(file, most_bytes);
        bytes.map(Some).map_err(|error| LayoutError::Io("read", error))
    }

    fn load(
        &self,
        store: &Store,
        platform: &Platform,
        wanted: Option<&str>,
    ) -> Result<Vec<Loaded>, LayoutError> {
        if let Some(bytes) = self.read("index.json", limits::MANIFEST_BYTES)? {
            let index: Index =
                serde_json::from_slice(&bytes).map_err(|e| LayoutError::Json("index.json", e))?;
            return self.load_index(store, &index, platform, wanted);
        }
        let Some(bytes) = self.read("manifest.json", limits::MANIFEST_BYTES)? else {
            return Err(LayoutError::Unknown);
        };
        let entries: Vec<DockerEntry> =
            serde_json::from_slice(&bytes).map_err(|e| LayoutError::Json("manifest.json", e))?;
        entries.iter().map(|entry| self.load_docker(store, entry)).collect()
    }

    fn take(&self, store: &Store) -> Result<Vec<Descriptor>, LayoutError> {
        let Some(bytes) = self.read("index.json", limits::MANIFEST_BYTES)? else {
            return Ok(self
                .load(store, &Platform::host(), None)?
                .into_iter()
                .map(described(store))
                .collect());
        };
        let index: Index = serde_json::from_slice(&bytes).map_err(|e| LayoutError::Json("index.json", e))?;
        if index.manifests.len() > limits::INDEX_ENTRIES {
            return Err(LayoutError::Limit("images"));
        }
        let mut seen = HashSet::new();
        for entry in &index.manifests {
            self.take_manifest(store, entry, 0, &mut seen)?;
        }
        Ok(index.manifests)
    }

    /// Copies a manifest and all that it names.
    fn take_manifest(
        &self,
        store: &Store,
        entry: &Descriptor,
        depth: usize,
        seen: &mut HashSet<Digest>,
    ) -> Result<(), LayoutError> {
        if !seen.insert(entry.digest.clone()) {
            return Ok(());
        }
        if depth > limits::INDEX_DEPTH || seen.len() > limits::INDEX_ENTRIES {
            return Err(LayoutError::Limit("indexes within indexes"));
        }
        self.copy_blob(store, entry)?;
        let bytes = store.blobs().read_manifest(&entry.digest)?;
        match Parsed::from_bytes(&bytes, Some(&entry.media_type))? {
            Parsed::Manifest(manifest) => {
                for blob in manifest.layers.iter().chain([&manifest.config]) {
                    match self.copy_blob(store, blob) {
                        // what lives elsewhere is not in layouts
                        Err(LayoutError::Missing(_)) if !blob.urls.is_empty() => {}
                        other => other?,
                    }
                }
                Ok(())
            }
            Parsed::Index(index) => {
                for inner in &index.manifests {
                    if !self.has(store, &inner.digest)? {
                        continue;
                    }
                    match media_type::is_content(&inner.media_type) {
                        true => self.copy_blob(store, inner)?,
                        false => self.take_manifest(store, inner, depth + 1, seen)?,
                    }
                }
                Ok(())
            }
        }
    }

    fn load_index(
        &self,
        store: &Store,
        index: &Index,
        platform: &Platform,
        wanted: Option<&str>,
    ) -> Result<Vec<Loaded>, LayoutError> {
        if index.manifests.len() > limits::INDEX_ENTRIES {
            return Err(LayoutError::Limit("images"));
        }
        let mut loaded: Vec<Loaded> = Vec::new();
        let mut attached = Vec::new();
        for entry in &index.manifests {
            if self.is_attached(store, entry)? {
                attached.push(entry);
                continue;
            }
            let tag = entry.annotations.get(ANNOTATION_REF_NAME);
            let matches = wanted.is_none_or(|wanted| {
                tag.is_some_and(|tag| tag == wanted) || entry.digest.to_string() == wanted
            });
            if !matches {
                continue;
            }
            let Some(digest) = self.load_manifest(store, entry, platform, 0)? else { continue };
            let target = entry.digest.clone();
            let written =
                entry.annotations.get(ANNOTATION_IMAGE_NAME).or(tag.filter(|tag| tag.contains([':', '/'])));
            let names: Vec<Reference> = written.and_then(|name| name.parse().ok()).into_iter().collect();
            match loaded.iter_mut().find(|loaded| loaded.target == target) {
                Some(same) => same.names.extend(names),
                None => loaded.push(Loaded { digest, target, names }),
            }
        }
        if loaded.is_empty() {
            let what =
                wanted.map_or_else(|| format!("for {platform}"), |wanted| format!("called `{wanted}`"));
            return Err(LayoutError::NoImage(what));
        }
        for image in &loaded {
            store.name_manifest(&image.target, &image.names)?;
        }
        for entry in attached {
            match store.put_referrer(&entry.digest, &[]) {
                // to an image that was not asked for
                Err(StoreError::NoImage(_)) => {}
                other => other?,
            }
        }
        Ok(loaded)
    }

    /// Whether an entry is attached to another; its blobs are copied then. An image that names a subject is an image.
    fn is_attached(&self, store: &Store, entry: &Descriptor) -> Result<bool, LayoutError> {
        if media_type::is_index(&entry.media_type) || !self.has(store, &entry.digest)? {
            return Ok(false);
        }
        self.copy_blob(store, entry)?;
        let bytes = store.blobs().read_manifest(&entry.digest)?;
        let Ok(Some((_, attached))) = Attached::read(&bytes) else { return Ok(false) };
        let config = attached.manifest.config.media_type.as_str();
        if matches!(config, media_type::OCI_CONFIG | media_type::DOCKER_CONFIG)
            && entry.artifact_type.is_none()
        {
            return Ok(false);
        }
        self.take_manifest(store, entry, 0, &mut HashSet::new())?;
        Ok(true)
    }

    /// Copies the image behind a descriptor; of an index, all its manifests that are in the archive, and answers the image
    /// for `platform`. All of it is registered, but for names.
    fn load_manifest(
        &self,
        store: &Store,
        entry: &Descriptor,
        platform: &Platform,
        depth: usize,
    ) -> Result<Option<Digest>, LayoutError> {
        self.copy_blob(store, entry)?;
        let bytes = store.blobs().read_manifest(&entry.digest)?;
        match Parsed::from_bytes(&bytes, Some(&entry.media_type))? {
            Parsed::Manifest(manifest) => {
                self.copy_blob(store, &manifest.config)?;
                // layers become runnable while those after them are taken in
                let rows = store.rows_for_this_machine(std::slice::from_ref(&entry.digest));
                let (copied, made) = store.take_in(&rows, |intake| {
                    manifest.layers.iter().try_for_each(|layer| {
                        self.copy_blob(store, layer)?;
                        Ok::<_, LayoutError>(intake.size(&layer.digest).map(drop)?)
                    })
                });
                copied?;
                made?;
                store.put_member(&entry.digest)?;
                Ok(Some(entry.digest.clone()))
            }
            Parsed::Index(_) if depth > limits::INDEX_DEPTH => {
                Err(LayoutError::Limit("indexes within indexes"))
            }
            Parsed::Index(index) => {
                let Some(chosen) = index.select(platform).map(|chosen| &chosen.digest) else {
                    return Ok(None);
                };
                let mut found = None;
                let mut seen = HashSet::new();
                for inner in index.manifests.iter().filter(|inner| seen.insert(&inner.digest)) {
                    let is_chosen = &inner.digest == chosen;
                    // docker and others write an index beside the only image of it that they have
                    if !is_chosen && !self.has(store, &inner.digest)? {
                        continue;
                    }
                    match self.load_manifest(store, inner, platform, depth + 1) {
                        Err(LayoutError::Missing(_)) if !is_chosen => {}
                        image => found = found.or(image?.filter(|_| is_chosen)),
                    }
                }
                store.put_index(&entry.digest, &[])?;
                Ok(found)
            }
        }
    }

    /// Whether a blob is in the archive, or here already.
    fn has(&self, store: &Store, digest: &Digest) -> Result<bool, LayoutError> {
        let name = format!("blobs/{}/{}", digest.algorithm().name(), digest.hex());
        Ok(self.open(&name)?.is_some() || store.blobs().contains(digest)?)
    }

    fn copy_blob(&self, store: &Store, descriptor: &Descriptor) -> Result<(), LayoutError> {
        if store.blobs().contains(&descriptor.digest)? {
            return Ok(());
        }
        let name = format!("blobs/{}/{}", descriptor.digest.algorithm().name(), descriptor.digest.hex());
        if let Some(path) = self.spooled.get(&name) {
            return Ok(store.blobs().keep(path, descriptor)?);
        }
        let file = self.open(&name)?.ok_or(LayoutError::Missing(name))?;
        Ok(store.blobs().copy_from(file, descriptor)?)
    }

    fn load_docker(&self, store: &Store, entry: &DockerEntry) -> Result<Loaded, LayoutError> {
        let config_name = normal(&entry.config);
        let config =
            self.read(&config_name, limits::CONFIG_BYTES)?.ok_or(LayoutError::Missing(config_name))?;
        let parsed = ImageConfig::from_bytes(&config)?;
        if entry.layers.len() > limits::LAYERS || entry.layers.len() != parsed.rootfs.diff_ids.len() {
            return Err(LayoutError::Limit("layers"));
        }
        let mut layers = Vec::new();
        for (at, (name, diff_id)) in entry.layers.iter().zip(&parsed.rootfs.diff_ids).enumerate() {
            let name = normal(name);
            let file = self.open(&name)?.ok_or(LayoutError::Missing(name))?;
            layers.push(copy_layer(store, file, diff_id, at + 1)?);
        }
        store.blobs().put(&config)?;
        let manifest = to_json(&Manifest {
            schema_version: 2,
            media_type: Some(media_type::OCI_MANIFEST.to_owned()),
            artifact_type: None,
            config: Descriptor::of(media_type::OCI_CONFIG, &config),
            layers,
            subject: None,
            annotations: Default::default(),
        });
        let digest = store.blobs().put(&manifest)?;
        let names: Vec<Reference> =
            entry.repo_tags.iter().flatten().filter_map(|name| name.parse().ok()).collect();
        for row in store.rows_for_this_machine(std::slice::from_ref(&digest)) {
            store.make_runnable(&row)?;
        }
        store.put_image(&digest, &names)?;
        Ok(Loaded { target: digest.clone(), digest, names })
    }
}

/// Stores a layer as it is in the archive once its uncompressed bytes have the digest that the configuration names.
fn copy_layer(store: &Store, file: File, diff_id: &Digest, number: usize) -> Result<Descriptor, LayoutError> {
    let failed = |error| LayoutError::Io("read", error);
    let mut writer = store.blobs().writer(Algorithm::Sha256)?;
    let mut tee = Tee::new(file, &mut writer);
    let digested = digested(&mut tee, diff_id);
    // a copy that cannot be written shows to the decoder as a source that cannot be read
    if let Some(error) = tee.unwritten.take() {
        return Err(LayoutError::Io("keep a layer of", error));
    }
    let actual = digested.map_err(failed)?;
    if actual != *diff_id {
        return Err(LayoutError::DiffId { number });
    }
    let (digest, size_bytes) = writer.commit(None)?;
    let start = store.blobs().open_blob(&digest)?;
    let mut head = [0u8; 6];
    let mut filled = 0;
    let mut start = start.take(6);
    while let Ok(count @ 1..) = start.read(&mut head[filled..]) {
        filled += count;
    }
    let media = match compression::sniff(&head[..filled]) {
        compression::Format::Gzip => media_type::OCI_LAYER_GZIP,
        compression::Format::Zstd => media_type::OCI_LAYER_ZSTD,
        _ => media_type::OCI_LAYER,
    };
    Ok(Descriptor::new(media, digest, size_bytes))
}

/// The digest of the uncompressed bytes.
fn digested(source: impl Read + Send, diff_id: &Digest) -> io::Result<Digest> {
    let decoder = compression::decoder(BufReader::with_capacity(1 << 18, source))?;
    let mut reader = HashingReader::new(decoder, diff_id.algorithm());
    io::copy(&mut reader, &mut io::sink())?;
    Ok(reader.finish().1)
}

/// A loaded image as an entry of an index.
fn described(store: &Store) -> impl Fn(Loaded) -> Descriptor {
    |loaded| {
        let size = store.blobs().size(&loaded.target).ok().flatten().unwrap_or(0);
        let mut entry = Descriptor::new(media_type::OCI_MANIFEST, loaded.target, size);
        if let Some(name) = loaded.names.first() {
            entry.annotations.insert(ANNOTATION_IMAGE_NAME.to_owned(), name.to_string());
            let tag = name.tag().map_or_else(|| name.to_string(), str::to_owned);
            entry.annotations.insert(ANNOTATION_REF_NAME.to_owned(), tag);
        }
        entry
    }
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerEntry {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// A name without `.`, `..` and empty components: a key, not a path.
fn normal(name: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}
