//! Writes images out.

use super::{ANNOTATION_IMAGE_NAME, ANNOTATION_REF_NAME, LayoutError, LayoutImage};
use crate::{
    Descriptor, Digest, Platform, Reference,
    file::{self, CopyError},
    spec::{Index, Parsed, media_type, to_json},
    store::{Attached, ImageRecord, Store, StoreError},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Read, Write},
    path::Path,
};

const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

fn failed(operation: &'static str) -> impl FnOnce(io::Error) -> LayoutError {
    move |error| LayoutError::Io(operation, error)
}

/// What is written: an image, or an index of which all is here.
struct Record {
    /// Of the image with its platform, or of the index.
    descriptor: Descriptor,
    /// The image; of an index the one for this machine, or the first one.
    image: ImageRecord,
    /// All that belongs to it.
    blobs: BTreeSet<Digest>,
    names: Vec<Reference>,
    annotations: BTreeMap<String, String>,
    /// What is attached.
    attached: Vec<Descriptor>,
}

/// The index of a layout: an entry a name, or one without a name.
fn index(records: &[Record]) -> Index {
    let mut manifests = Vec::new();
    for Record { descriptor, names, annotations, attached, .. } in records {
        let mut descriptor = descriptor.clone();
        descriptor.annotations.extend(annotations.clone());
        if names.is_empty() {
            manifests.push(descriptor.clone());
        }
        for name in names {
            let mut named = descriptor.clone();
            named.annotations.insert(ANNOTATION_IMAGE_NAME.to_owned(), name.to_string());
            let tag = name.tag().map_or_else(|| name.to_string(), str::to_owned);
            named.annotations.insert(ANNOTATION_REF_NAME.to_owned(), tag);
            manifests.push(named);
        }
        manifests.extend(attached.iter().cloned());
    }
    index_of(manifests)
}

fn index_of(manifests: Vec<Descriptor>) -> Index {
    Index {
        schema_version: 2,
        media_type: Some(media_type::OCI_INDEX.to_owned()),
        artifact_type: None,
        manifests,
        subject: None,
        annotations: Default::default(),
    }
}

fn read_records(store: &Store, images: &[LayoutImage]) -> Result<Vec<Record>, LayoutError> {
    images.iter().map(|image| read_record(store, image)).collect()
}

fn read_record(store: &Store, written: &LayoutImage) -> Result<Record, LayoutError> {
    let mut blobs = BTreeSet::new();
    let LayoutImage { target: digest, names, annotations, attached } = written.clone();
    let digest = &digest;
    let attached =
        attached.iter().map(|one| read_attached(store, one, &mut blobs)).collect::<Result<_, _>>()?;
    let Some(index) = store.read_index(digest)? else {
        let image = store.read_image(digest)?;
        add_blobs(store, digest, &mut blobs)?;
        let mut descriptor = image.descriptor.clone();
        descriptor.platform = Some(image.config.platform.clone());
        return Ok(Record { descriptor, image, blobs, names, annotations, attached });
    };
    let bytes = store.blobs().read_manifest(digest)?;
    let media = index.media_type.clone().unwrap_or_else(|| media_type::OCI_INDEX.to_owned());
    let descriptor = Descriptor::new(media, digest.clone(), bytes.len() as u64);
    let mut members = Vec::new();
    add_members(store, digest, &index, crate::limits::INDEX_DEPTH, &mut members, &mut blobs)?;
    let own = store.image_of(digest, &Platform::host())?;
    let mut images = own.iter().chain(&members).filter_map(|member| store.read_image(member).ok());
    let image = images.next().ok_or_else(|| LayoutError::NoImage(format!("in the index `{digest}`")))?;
    Ok(Record { descriptor, image, blobs, names, annotations, attached })
}

/// The entry of what is attached, and its blobs.
fn read_attached(
    store: &Store,
    digest: &Digest,
    blobs: &mut BTreeSet<Digest>,
) -> Result<Descriptor, LayoutError> {
    add_blobs(store, digest, blobs)?;
    let attached = Attached::read(&store.blobs().read_manifest(digest)?)?;
    let (_, attached) = attached.ok_or_else(|| StoreError::NoSubject(digest.clone()))?;
    Ok(attached.descriptor)
}

/// Adds an index and those of its manifests that are here, with what they name.
fn add_members(
    store: &Store,
    digest: &Digest,
    index: &Index,
    depth: usize,
    members: &mut Vec<Digest>,
    blobs: &mut BTreeSet<Digest>,
) -> Result<(), LayoutError> {
    blobs.insert(digest.clone());
    for entry in &index.manifests {
        if !store.blobs().contains(&entry.digest)? {
            continue;
        }
        match media_type::is_index(&entry.media_type) {
            true if depth == 0 => {}
            true => {
                if let Some(inner) = store.read_index(&entry.digest)? {
                    add_members(store, &entry.digest, &inner, depth - 1, members, blobs)?;
                }
            }
            false => {
                add_blobs(store, &entry.digest, blobs)?;
                members.push(entry.digest.clone());
            }
        }
    }
    Ok(())
}

/// Adds a manifest and what it names, once each.
fn add_blobs(store: &Store, manifest: &Digest, into: &mut BTreeSet<Digest>) -> Result<(), LayoutError> {
    into.insert(manifest.clone());
    if let Parsed::Manifest(parsed) = Parsed::from_bytes(&store.blobs().read_manifest(manifest)?, None)? {
        into.extend(parsed.layers.iter().chain([&parsed.config]).map(|blob| blob.digest.clone()));
    }
    Ok(())
}

/// Every blob of the images, once, sorted by digest.
fn blobs(records: &[Record]) -> BTreeSet<Digest> {
    records.iter().flat_map(|record| record.blobs.iter().cloned()).collect()
}

/// Writes an OCI layout into `folder`, which is made; one that is there already gets the images added.
pub fn write_oci_folder(store: &Store, images: &[LayoutImage], folder: &Path) -> Result<(), LayoutError> {
    let records = read_records(store, images)?;
    fs::create_dir_all(folder).map_err(failed("write"))?;
    let target = crate::blobs::Blobs::open(&folder.join("blobs"), &folder.join(".slipway-tmp"))?;
    for digest in blobs(&records) {
        if !target.contains(&digest)? {
            let size_bytes =
                store.blobs().size(&digest)?.ok_or_else(|| LayoutError::Missing(digest.to_string()))?;
            target.copy_from(store.blobs().open_blob(&digest)?, &Descriptor::new("", digest, size_bytes))?;
        }
    }
    let _ = fs::remove_dir(folder.join(".slipway-tmp"));
    point(folder, index(&records))
}

/// Adds entries to the index of a layout in a folder whose blobs are there already; an entry with a name takes the place of the one
/// that had it.
pub fn add_to_folder(folder: &Path, entries: &[Descriptor]) -> Result<(), LayoutError> {
    let _ = fs::remove_dir(folder.join(".slipway-tmp"));
    point(folder, index_of(entries.to_vec()))
}

fn point(folder: &Path, mut index: Index) -> Result<(), LayoutError> {
    let path = folder.join("index.json");
    if let Ok(bytes) = crate::file::read_capped(&path, crate::limits::MANIFEST_BYTES) {
        let old: Index =
            serde_json::from_slice(&bytes).map_err(|error| LayoutError::Json("index.json", error))?;
        let name = |descriptor: &Descriptor| descriptor.annotations.get(ANNOTATION_REF_NAME).cloned();
        let replaced = |old: &Descriptor| {
            index.manifests.iter().any(|new| match name(new) {
                Some(new_name) => Some(new_name) == name(old),
                None => name(old).is_none() && new.digest == old.digest,
            })
        };
        let kept: Vec<Descriptor> = old.manifests.into_iter().filter(|old| !replaced(old)).collect();
        index.manifests = kept.into_iter().chain(index.manifests).collect();
    }
    crate::file::write_atomic(&folder.join("oci-layout"), LAYOUT).map_err(failed("write"))?;
    // the pointer last: an index never names a blob that is not there
    crate::file::write_atomic(&path, &to_json(&index)).map_err(failed("write"))
}

/// Writes an OCI layout as a tar: entries of its index, and the blobs that it has.
pub fn write_archive(
    blobs: &crate::blobs::Blobs,
    entries: &[Descriptor],
    digests: &BTreeSet<Digest>,
    output: &mut dyn Write,
) -> Result<(), LayoutError> {
    let mut tar = Tar(output);
    tar.bytes("oci-layout", LAYOUT)?;
    tar.bytes("index.json", &to_json(&index_of(entries.to_vec())))?;
    tar.blobs(blobs, digests)?;
    tar.finish()
}

/// Writes an OCI layout as a tar, with docker's `manifest.json` beside it.
pub fn write_oci_archive(
    store: &Store,
    images: &[LayoutImage],
    output: &mut dyn Write,
) -> Result<(), LayoutError> {
    let records = read_records(store, images)?;
    let path = path_of;
    let mut tar = Tar(output);
    tar.bytes("oci-layout", LAYOUT)?;
    tar.bytes("index.json", &to_json(&index(&records)))?;
    let docker: Vec<_> = records
        .iter()
        .map(|Record { image: record, names, .. }| {
            docker_entry(
                names,
                path(&record.manifest.config.digest),
                |at| path(&record.manifest.layers[at].digest),
                record,
            )
        })
        .collect();
    tar.bytes("manifest.json", &to_json(&docker))?;
    tar.blobs(store.blobs(), &blobs(&records))?;
    tar.finish()
}

/// Writes docker's older archive: uncompressed layers, `manifest.json`, `repositories`.
pub fn write_docker_archive(
    store: &Store,
    images: &[LayoutImage],
    output: &mut dyn Write,
) -> Result<(), LayoutError> {
    let records = read_records(store, images)?;
    let mut tar = Tar(output);
    let mut written: BTreeSet<String> = BTreeSet::new();
    let mut docker = Vec::new();
    for Record { image: record, names, .. } in &records {
        let config = format!("{}.json", record.manifest.config.digest.hex());
        if written.insert(config.clone()) {
            tar.bytes(
                &config,
                &store.blobs().read(&record.manifest.config.digest, crate::limits::CONFIG_BYTES)?,
            )?;
        }
        for diff_id in &record.config.rootfs.diff_ids {
            let name = format!("{}/layer.tar", diff_id.hex());
            if written.insert(name.clone()) {
                // the size comes first in a tar, so the layer is decompressed twice rather than kept whole
                let size_bytes =
                    io::copy(&mut store.read_layer(diff_id)?, &mut io::sink()).map_err(failed("read"))?;
                tar.entry(&name, size_bytes, &mut store.read_layer(diff_id)?)?;
            }
        }
        let layer = |at: usize| format!("{}/layer.tar", record.config.rootfs.diff_ids[at].hex());
        docker.push(docker_entry(names, config, layer, record));
    }
    tar.bytes("manifest.json", &to_json(&docker))?;
    tar.finish()
}

fn docker_entry(
    names: &[Reference],
    config: String,
    layer: impl Fn(usize) -> String,
    record: &ImageRecord,
) -> serde_json::Value {
    let tags: Vec<String> = names.iter().map(Reference::familiar).collect();
    let layers: Vec<String> = (0..record.manifest.layers.len()).map(layer).collect();
    serde_json::json!({ "Config": config, "RepoTags": tags, "Layers": layers })
}

/// Where a layout has a blob.
fn path_of(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

/// A tar of plain files, the same bytes for the same content.
struct Tar<'a>(&'a mut dyn Write);

impl Tar<'_> {
    fn bytes(&mut self, path: &str, bytes: &[u8]) -> Result<(), LayoutError> {
        self.entry(path, bytes.len() as u64, &mut &bytes[..])
    }

    fn blobs(&mut self, blobs: &crate::blobs::Blobs, digests: &BTreeSet<Digest>) -> Result<(), LayoutError> {
        for digest in digests {
            let size_bytes = blobs.size(digest)?.ok_or_else(|| LayoutError::Missing(digest.to_string()))?;
            self.entry(&path_of(digest), size_bytes, &mut blobs.open_blob(digest)?)?;
        }
        Ok(())
    }

    fn entry(&mut self, path: &str, size_bytes: u64, content: &mut dyn Read) -> Result<(), LayoutError> {
        let mut header = tar::Header::new_gnu();
        header.set_path(path).map_err(failed("write"))?;
        header.set_size(size_bytes);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_cksum();
        self.0.write_all(header.as_bytes()).map_err(failed("write"))?;
        let copied = file::copy(&mut content.take(size_bytes), self.0).map_err(|error| match error {
            CopyError::Read(error) => failed("read what goes into")(error),
            CopyError::Write(error) => failed("write")(error),
        })?;
        if copied != size_bytes {
            return Err(LayoutError::Missing(path.to_owned()));
        }
        let padding = (512 - size_bytes % 512) % 512;
        self.0.write_all(&[0; 512][..padding as usize]).map_err(failed("write"))
    }

    fn finish(self) -> Result<(), LayoutError> {
        self.0.write_all(&[0; 1024]).and_then(|()| self.0.flush()).map_err(failed("write"))
    }
}
