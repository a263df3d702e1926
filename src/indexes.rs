//! Images for several platforms: what of an index is fetched, and which of its images is meant.

use crate::{error::Failure, images::Images};
use slipway_oci::{
    Descriptor, Digest, Platform, Reference, limits,
    spec::{Index, Parsed, media_type},
    store::Store,
};
use std::collections::BTreeSet;

/// All that a name stands for.
pub(crate) struct Whole {
    /// What it names.
    pub(crate) target: Digest,
    /// The manifests that are no indexes.
    pub(crate) members: Vec<Digest>,
    /// Their layers.
    pub(crate) layers: Vec<Descriptor>,
}

impl Images<'_> {
    /// Registers an index, those within it first; an image is left alone.
    pub(crate) fn put_inner_indexes(&self, digest: &Digest, depth: usize) -> Result<(), Failure> {
        let Some(index) = self.store.read_index(digest)? else { return Ok(()) };
        for entry in index.manifests.iter().filter(|entry| is_index(entry)) {
            if depth > 0 && self.store.blobs().contains(&entry.digest)? {
                self.put_inner_indexes(&entry.digest, depth - 1)?;
            }
        }
        self.store.put_index(digest, &[])?;
        Ok(())
    }

    /// Puts manifests and configurations of all that a reference names into the store.
    pub(crate) fn fetch_all_metadata(&self, reference: &Reference) -> Result<Whole, Failure> {
        let (top, parsed) = self.fetch_manifest(reference, reference)?;
        let (mut members, mut layers) = (Vec::new(), Vec::new());
        let mut pending = vec![(top.digest.clone(), parsed, limits::INDEX_DEPTH)];
        let mut seen = BTreeSet::from([top.digest.clone()]);
        while let Some((digest, parsed, depth)) = pending.pop() {
            match parsed {
                Parsed::Manifest(manifest) => {
                    self.fetch_config(&reference.with_digest(digest.clone()), &manifest)?;
                    layers.extend(manifest.layers);
                    members.push(digest);
                }
                Parsed::Index(_) if depth == 0 => return Err(too_deep(reference)),
                Parsed::Index(index) => {
                    for entry in index.manifests {
                        if seen.insert(entry.digest.clone()) {
                            let here = reference.with_digest(entry.digest.clone());
                            let (_, inner) = self.fetch_manifest(&here, reference)?;
                            pending.push((entry.digest, inner, depth - 1));
                        }
                    }
                }
            }
        }
        Ok(Whole { target: top.digest, members, layers })
    }

    /// The image that a name of the store stands for on `platform`.
    pub(crate) fn pick(
        store: &Store,
        name: &str,
        target: &Digest,
        platform: &Platform,
    ) -> Result<Digest, Failure> {
        if let Some(image) = store.image_of(target, platform)? {
            return Ok(image);
        }
        let mut here = Vec::new();
        if let Some(index) = store.read_index(target)? {
            for member in store.members(&index)? {
                here.extend(store.read_image(&member).ok().map(|record| record.config.platform.to_string()));
            }
        }
        let words = format!("`{name}` is not here for {platform}, only for {}", here.join(", "));
        Err(Failure::new(words).with_hint(format!("`slipway pull --platform {platform} {name}` fetches it")))
    }
}

/// The entry of an index for a platform.
pub(crate) fn chosen<'a>(
    index: &'a Index,
    reference: &Reference,
    platform: &Platform,
) -> Result<&'a Descriptor, Failure> {
    index.select(platform).ok_or_else(|| {
        let all: Vec<String> =
            index.manifests.iter().filter_map(|entry| Some(entry.platform.as_ref()?.to_string())).collect();
        Failure::new(format!("`{}` has no image for {platform}", reference.familiar()))
            .with_hint(format!("it has: {}", all.join(", ")))
    })
}

/// Indexes in indexes beyond [`limits::INDEX_DEPTH`].
pub(crate) fn too_deep(reference: &Reference) -> Failure {
    Failure::new(format!("`{}` is an index of indexes of indexes", reference.familiar()))
}

/// Whether an entry of an index says that it is one itself.
fn is_index(entry: &Descriptor) -> bool {
    [media_type::OCI_INDEX, media_type::DOCKER_LIST].contains(&entry.media_type.as_str())
}
