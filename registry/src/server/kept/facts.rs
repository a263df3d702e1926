//! What a list says of an image: what it is, how large, for which platforms. Of single manifests it is remembered, which never
//! change; whether a repository has them is asked every time.

use super::read;
use crate::{
    limits,
    server::storage::{ManifestKey, Storage, StorageError},
};
use slipway_oci::{
    Digest,
    spec::{ImageConfig, Manifest, Parsed, media_type},
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

/// What is said of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::server) struct Facts {
    /// What it is, where it is no image.
    pub(in crate::server) kind: Option<String>,
    /// Bytes of configurations and layers; `None` where something is missing.
    pub(in crate::server) size_bytes: Option<u64>,
    pub(in crate::server) platforms: Vec<String>,
    /// How many more there are.
    pub(in crate::server) more: usize,
    pub(in crate::server) created: Option<i64>,
}

/// Facts by manifest.
#[derive(Default)]
pub(in crate::server) struct Known(Mutex<HashMap<Digest, Arc<Facts>>>);

impl Known {
    /// What is known of what a repository has under `key`, looked up where it has to be. Blocks.
    pub(in crate::server) fn of(
        &self,
        storage: &Storage,
        repository: &str,
        digest: &Digest,
    ) -> Result<Arc<Facts>, StorageError> {
        let found = self.0.lock().expect("no panic happens while the facts are held").get(digest).cloned();
        if let Some(found) = found {
            return Ok(found);
        }
        let (_, parsed) = read::manifest(storage, repository, &ManifestKey::Digest(digest.clone()))?;
        let facts = match parsed {
            None => return Ok(Arc::default()),
            Some(Parsed::Manifest(manifest)) => one(storage, repository, &manifest)?,
            Some(Parsed::Index(index)) => {
                // what it leads to may not all be here, and come later
                let mut facts = Facts { size_bytes: Some(0), ..Facts::default() };
                facts.kind.clone_from(&index.artifact_type);
                let images = index.manifests.iter().filter(|one| !is_attestation(one));
                for (at, child) in images.enumerate() {
                    if at >= limits::WEB_PLATFORMS {
                        facts.more += 1;
                        continue;
                    }
                    let platform = child.platform.as_ref().map(ToString::to_string);
                    let known = match self.nested(storage, repository, child) {
                        Ok(known) => known,
                        Err(StorageError::ManifestUnknown(_)) => Arc::default(),
                        Err(error) => return Err(error),
                    };
                    let platforms = platform.into_iter().chain(known.platforms.iter().cloned());
                    facts.platforms.extend(platforms.take(1));
                    facts.size_bytes =
                        facts.size_bytes.zip(known.size_bytes).map(|(a, b)| a.saturating_add(b));
                    facts.created = facts.created.max(known.created);
                }
                return Ok(Arc::new(facts));
            }
        };
        let facts = Arc::new(facts);
        let mut known = self.0.lock().expect("no panic happens while the facts are held");
        if known.len() >= limits::WEB_FACTS {
            known.clear();
        }
        known.insert(digest.clone(), Arc::clone(&facts));
        Ok(facts)
    }

    /// Of a child that is no index: those within indexes are told by their own pages.
    fn nested(
        &self,
        storage: &Storage,
        repository: &str,
        child: &slipway_oci::Descriptor,
    ) -> Result<Arc<Facts>, StorageError> {
        // remembered or not, it has to be here
        storage.manifest(repository, &ManifestKey::Digest(child.digest.clone()))?;
        if media_type::is_index(&child.media_type) {
            return Ok(Arc::default());
        }
        self.of(storage, repository, &child.digest)
    }
}

/// Whether an entry of an index is BuildKit's attestation of another one.
pub(in crate::server) fn is_attestation(one: &slipway_oci::Descriptor) -> bool {
    one.annotations.get("vnd.docker.reference.type").is_some_and(|kind| kind == "attestation-manifest")
}

/// Whether a manifest is of an image that runs. cosign's signatures and BuildKit's attestations call their configuration an image's,
/// and have no archives for layers.
pub(in crate::server) fn is_image(manifest: &Manifest) -> bool {
    let archives =
        manifest.layers.is_empty() || manifest.layers.iter().any(|layer| layer.media_type.contains("tar"));
    let typed = manifest.artifact_type.as_deref().is_some_and(|kind| kind != media_type::OCI_CONFIG);
    has_image_config(manifest) && archives && !typed
}

fn has_image_config(manifest: &Manifest) -> bool {
    matches!(manifest.config.media_type.as_str(), media_type::OCI_CONFIG | media_type::DOCKER_CONFIG)
}

/// What an artifact calls itself; the first of its files where its configuration says nothing.
pub(in crate::server) fn kind(manifest: &Manifest) -> &str {
    let first = || {
        manifest.layers.first().filter(|_| has_image_config(manifest)).map(|layer| layer.media_type.as_str())
    };
    manifest.artifact_type.as_deref().or_else(first).unwrap_or(&manifest.config.media_type)
}

fn one(storage: &Storage, repository: &str, manifest: &Manifest) -> Result<Facts, StorageError> {
    let bytes = manifest.layers.iter().map(|layer| layer.size_bytes);
    let mut facts = Facts {
        size_bytes: Some(bytes.fold(manifest.config.size_bytes, u64::saturating_add)),
        ..Facts::default()
    };
    if !is_image(manifest) {
        facts.kind = Some(kind(manifest).to_owned());
        return Ok(facts);
    }
    let bytes = read::blob(storage, repository, &manifest.config.digest, slipway_oci::limits::CONFIG_BYTES)?;
    if let Some(config) = bytes.and_then(|bytes| ImageConfig::from_bytes(&bytes).ok()) {
        facts.platforms.push(config.platform.to_string());
        // builds that can be repeated have no time of their own
        facts.created = config.created_seconds().filter(|at| *at > 0);
    }
    Ok(facts)
}
