//! What a manifest asks of its repository, read from its bytes. Pure.

use super::{
    StorageError,
    content::Content,
    pointers::{Condition, ManifestRecord, NewManifest, Required},
};
use slipway_oci::{
    Descriptor, Digest, limits,
    spec::{Index, Manifest, Parsed, to_json},
};

impl NewManifest {
    /// What `parsed` says of itself.
    pub fn described(record: ManifestRecord, parsed: &Parsed, tags: Vec<String>) -> NewManifest {
        match parsed {
            Parsed::Manifest(manifest) => of_manifest(record, manifest, tags),
            Parsed::Index(index) => of_index(record, index, tags),
        }
    }
}

/// The manifest that lies under a digest, of its own type where none is given; `None` where there is none, or not these bytes.
pub(super) fn described_from(
    content: &dyn Content,
    digest: &Digest,
    size_bytes: u64,
    media_type: Option<&str>,
) -> Result<Option<NewManifest>, StorageError> {
    if size_bytes > limits::MANIFEST_BYTES {
        return Ok(None);
    }
    let Some(reader) = content.open(digest, size_bytes)? else { return Ok(None) };
    let mut bytes = vec![0; size_bytes as usize];
    if reader.read_exact_at(&mut bytes, 0).is_err() || Digest::of(digest.algorithm(), &bytes) != *digest {
        return Ok(None);
    }
    let Ok(parsed) = Parsed::from_bytes(&bytes, media_type) else { return Ok(None) };
    let media_type = media_type.unwrap_or(parsed.media_type()).to_owned();
    let record = ManifestRecord { digest: digest.clone(), media_type, size_bytes };
    Ok(Some(NewManifest::described(record, &parsed, Vec::new())))
}

fn of_manifest(record: ManifestRecord, manifest: &Manifest, tags: Vec<String>) -> NewManifest {
    let mut required = vec![requirement(&manifest.config, false)];
    required.extend(manifest.layers.iter().map(|layer| requirement(layer, false)));
    let subject = manifest.subject.as_ref().map(|subject| subject.digest.clone());
    // distribution specification, "Listing Referrers": the configuration's type where there is no artifact type
    let artifact_type = manifest.artifact_type.clone().filter(|text| !text.is_empty());
    let artifact_type = Some(artifact_type.unwrap_or_else(|| manifest.config.media_type.clone()));
    let annotations = annotations(subject.is_some(), &manifest.annotations);
    let condition = Condition::default();
    NewManifest { record, subject, artifact_type, annotations, required, tags, kept: Vec::new(), condition }
}

fn of_index(record: ManifestRecord, index: &Index, tags: Vec<String>) -> NewManifest {
    let required = index.manifests.iter().map(|entry| requirement(entry, true)).collect();
    let subject = index.subject.as_ref().map(|subject| subject.digest.clone());
    let annotations = annotations(subject.is_some(), &index.annotations);
    let artifact_type = index.artifact_type.clone().filter(|text| !text.is_empty());
    let condition = Condition::default();
    NewManifest { record, subject, artifact_type, annotations, required, tags, kept: Vec::new(), condition }
}

fn annotations(shown: bool, annotations: &std::collections::BTreeMap<String, String>) -> Option<String> {
    let shown = shown && !annotations.is_empty();
    shown.then(|| String::from_utf8(to_json(annotations)).expect("JSON is UTF-8"))
}

fn requirement(descriptor: &Descriptor, manifest: bool) -> Required {
    Required {
        digest: descriptor.digest.clone(),
        size_bytes: descriptor.size_bytes,
        manifest,
        // non-distributable layers live elsewhere
        optional: !manifest && !descriptor.urls.is_empty(),
    }
}
