//! What caches in registries are asked.

use super::Images;
use crate::{
    error::Failure,
    indexes::{chosen, too_deep},
    progress::{Show, Waits},
};
use slipway_builder::{LayerFormat, LayerShape};
use slipway_oci::{
    Descriptor, Digest, Platform, Reference,
    blobs::BlobError,
    compression::Compression,
    spec::{Manifest, Parsed},
    store::LayerForm,
};
use slipway_registry::client::ClientError;

impl Images<'_> {
    /// Who is shown what moves.
    pub(crate) fn show(&self) -> &dyn Show {
        self.show
    }

    /// The manifest of a cache, or of an image that may have one attached, under the name that it was found at; nothing where
    /// there is none.
    pub(crate) fn cache_manifest(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<Option<(Reference, Descriptor, Manifest)>, Failure> {
        let mut failed = None;
        for name in self.registries()?.meant(reference) {
            let (descriptor, bytes) = match self.client()?.manifest_shown(&name, &Waits::new(self.show)) {
                Ok(found) => found,
                Err(ClientError::NotFound { .. }) => continue,
                Err(error) => {
                    failed = failed.or(Some(Failure::of(&error)));
                    continue;
                }
            };
            let parsed = Parsed::from_bytes(&bytes, Some(&descriptor.media_type));
            match parsed.map_err(|error| Failure::of(&error))? {
                Parsed::Manifest(manifest) => return Ok(Some((name, descriptor, *manifest))),
                Parsed::Index(index) => {
                    let entry = chosen(&index, &name, platform)?.clone();
                    let here = name.with_digest(entry.digest.clone());
                    let (descriptor, parsed) = self.fetch_manifest(&here, reference)?;
                    let Parsed::Manifest(manifest) = parsed else { return Err(too_deep(reference)) };
                    return Ok(Some((name, descriptor, *manifest)));
                }
            }
        }
        failed.map_or(Ok(None), Err)
    }

    /// The configuration of a cache, verified.
    pub(crate) fn cache_config(
        &self,
        name: &Reference,
        config: &Descriptor,
        most_bytes: u64,
    ) -> Result<Vec<u8>, Failure> {
        if config.size_bytes > most_bytes {
            let words = format!(
                "its table has {} bytes, more than the {most_bytes} that are taken",
                config.size_bytes
            );
            return Err(Failure::new(words));
        }
        let blobs = self.store.blobs();
        match blobs.read(&config.digest, config.size_bytes) {
            Ok(bytes) => return Ok(bytes),
            // only what is damaged goes: whoever wrote the cache says what its table is, and may name anything that is here
            Err(BlobError::DigestMismatch { .. }) => blobs.remove(&config.digest)?,
            Err(BlobError::Missing(_)) => {}
            Err(error) => return Err(error.into()),
        }
        self.client()?
            .fetch_blobs(name, std::slice::from_ref(config), blobs, &Waits::new(self.show))
            .map_err(|error| Failure::of(&error))?;
        Ok(blobs.read(&config.digest, config.size_bytes)?)
    }

    /// Fetches blobs of a cache that are not here.
    pub(crate) fn cache_blobs(&self, name: &Reference, blobs: &[Descriptor]) -> Result<(), Failure> {
        let lacks = |blob: &&Descriptor| !self.store.blobs().contains(&blob.digest).unwrap_or(false);
        let missing: Vec<Descriptor> = blobs.iter().filter(lacks).cloned().collect();
        if missing.is_empty() {
            return Ok(());
        }
        let fetched = self.client()?.fetch_blobs(name, &missing, self.store.blobs(), &Waits::new(self.show));
        fetched.map_err(|error| Failure::of(&error))
    }

    /// What is attached to the manifest that `subject` names by digest.
    pub(crate) fn referrers(&self, subject: &Reference, kind: &str) -> Result<Vec<Descriptor>, Failure> {
        self.client()?.referrers(subject, Some(kind)).map_err(|error| Failure::of(&error))
    }

    /// Those of `blobs` that a repository lacks.
    pub(crate) fn lacking(
        &self,
        repository: &Reference,
        blobs: &[Descriptor],
    ) -> Result<Vec<Descriptor>, Failure> {
        self.client()?.lacking(repository, blobs).map_err(|error| Failure::of(&error))
    }

    /// Whether a name stands for this manifest already; a registry that cannot be asked says no.
    pub(crate) fn names(&self, reference: &Reference, digest: &Digest) -> bool {
        let Ok(client) = self.client() else { return false };
        client.resolve(reference).is_ok_and(|found| found.digest == *digest)
    }

    /// The blob of a layer in a compression, fetched and compressed again where it is in another one.
    pub(crate) fn in_form(&self, layer: &LayerForm, wanted: Compression) -> Result<Descriptor, Failure> {
        let shape = LayerShape { format: LayerFormat::Plain(wanted), ..LayerShape::default() };
        let made = slipway_builder::in_shape(self.store, self, layer, &shape);
        Ok(made.map_err(|error| Failure::of(&error))?.descriptor)
    }
}
