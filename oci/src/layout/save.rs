//! Writes images out.

use super::{ANNOTATION_IMAGE_NAME, ANNOTATION_REF_NAME, LayoutError};
use crate::{
    Descriptor, Digest, Reference,
    file::{self, CopyError},
    spec::{Index, media_type, to_json},
    store::{ImageRecord, Store},
};
use std::{
    collections::BTreeSet,
    fs,
    io::{self, Read, Write},
    path::Path,
};

const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

fn failed(operation: &'static str) -> impl FnOnce(io::Error) -> LayoutError {
    move |error| LayoutError::Io(operation, error)
}

/// The index of a layout: an entry a name, or one without a name.
fn index(records: &[(ImageRecord, Vec<Reference>)]) -> Index {
    let mut manifests = Vec::new();
    for (record, names) in records {
        let mut descriptor = record.descriptor.clone();
        descriptor.platform = Some(record.config.platform.clone());
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
    }
    Index {
        schema_version: 2,
        media_type: Some(media_type::OCI_INDEX.to_owned()),
        artifact_type: None,
        manifests,
        subject: None,
        annotations: Default::default(),
    }
}

fn read_records(
    store: &Store,
    images: &[(Digest, Vec<Reference>)],
) -> Result<Vec<(ImageRecord, Vec<Reference>)>, LayoutError> {
    images.iter().map(|(digest, names)| Ok((store.read_image(digest)?, names.clone()))).collect()
}

/// Every blob of the images, once, sorted by digest.
fn blobs(records: &[(ImageRecord, Vec<Reference>)]) -> Vec<Digest> {
    let mut all = BTreeSet::new();
    for (record, _) in records {
        all.insert(record.descriptor.digest.clone());
        all.insert(record.manifest.config.digest.clone());
        all.extend(record.manifest.layers.iter().map(|layer| layer.digest.clone()));
    }
    all.into_iter().collect()
}

/// Writes an OCI layout into `folder`, which is made; one that is there already gets the images added.
pub fn write_oci_folder(
    store: &Store,
    images: &[(Digest, Vec<Reference>)],
    folder: &Path,
) -> Result<(), LayoutError> {
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
    let mut index = index(&records);
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

/// Writes an OCI layout as a tar, with docker's `manifest.json` beside it.
pub fn write_oci_archive(
    store: &Store,
    images: &[(Digest, Vec<Reference>)],
    output: &mut dyn Write,
) -> Result<(), LayoutError> {
    let records = read_records(store, images)?;
    let path = |digest: &Digest| format!("blobs/{}/{}", digest.algorithm().name(), digest.hex());
    let mut tar = Tar(output);
    tar.bytes("oci-layout", LAYOUT)?;
    tar.bytes("index.json", &to_json(&index(&records)))?;
    let docker: Vec<_> = records
        .iter()
        .map(|(record, names)| {
            docker_entry(
                names,
                path(&record.manifest.config.digest),
                |at| path(&record.manifest.layers[at].digest),
                record,
            )
        })
        .collect();
    tar.bytes("manifest.json", &to_json(&docker))?;
    for digest in blobs(&records) {
        let size_bytes =
            store.blobs().size(&digest)?.ok_or_else(|| LayoutError::Missing(digest.to_string()))?;
        tar.entry(&path(&digest), size_bytes, &mut store.blobs().open_blob(&digest)?)?;
    }
    tar.finish()
}

/// Writes docker's older archive: uncompressed layers, `manifest.json`, `repositories`.
pub fn write_docker_archive(
    store: &Store,
    images: &[(Digest, Vec<Reference>)],
    output: &mut dyn Write,
) -> Result<(), LayoutError> {
    let records = read_records(store, images)?;
    let mut tar = Tar(output);
    let mut written: BTreeSet<String> = BTreeSet::new();
    let mut docker = Vec::new();
    for (record, names) in &records {
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

/// A tar of plain files, the same bytes for the same content.
struct Tar<'a>(&'a mut dyn Write);

impl Tar<'_> {
    fn bytes(&mut self, path: &str, bytes: &[u8]) -> Result<(), LayoutError> {
        self.entry(path, bytes.len() as u64, &mut &bytes[..])
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
