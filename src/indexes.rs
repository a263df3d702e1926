//! Images for several platforms: what of an index is fetched, and which of its images is meant.

use crate::{error::Failure, images::Images};
use slipway_oci::{
    Descriptor, Digest, Platform, Reference, limits,
    spec::{Index, Manifest, Parsed, media_type},
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

    /// Puts manifests and configurations of all that a reference names into the store. Of what is read only indexes are
    /// held, however many manifests they name.
    pub(crate) fn fetch_all_metadata(&self, reference: &Reference) -> Result<Whole, Failure> {
        let (top, parsed) = self.fetch_manifest(reference, reference)?;
        let mut whole = Whole { target: top.digest.clone(), members: Vec::new(), layers: Vec::new() };
        let mut seen = BTreeSet::from([top.digest.clone()]);
        let mut pending = Vec::new();
        match parsed {
            Parsed::Index(index) => pending.push((index, limits::INDEX_DEPTH - 1)),
            Parsed::Manifest(manifest) => self.take_member(reference, top.digest, *manifest, &mut whole)?,
        }
        while let Some((index, depth)) = pending.pop() {
            for entry in index.manifests {
                if !seen.insert(entry.digest.clone()) {
                    continue;
                }
                match self.fetch_manifest(&reference.with_digest(entry.digest.clone()), reference)?.1 {
                    Parsed::Index(_) if depth == 0 => return Err(too_deep(reference)),
                    Parsed::Index(inner) => pending.push((inner, depth - 1)),
                    Parsed::Manifest(manifest) => {
                        self.take_member(reference, entry.digest, *manifest, &mut whole)?;
                    }
                }
            }
        }
        Ok(whole)
    }

    fn take_member(
        &self,
        reference: &Reference,
        digest: Digest,
        manifest: Manifest,
        whole: &mut Whole,
    ) -> Result<(), Failure> {
        self.fetch_config(&reference.with_digest(digest.clone()), &manifest)?;
        whole.layers.extend(manifest.layers);
        whole.members.push(digest);
        Ok(())
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
        let (name, machine) = (reference.familiar(), Platform::host());
        let words = match *platform == machine {
            true => format!("`{name}` has no image for {platform}, which this machine is"),
            false => format!(
                "`{name}` has no image for {platform}, which was asked for; this machine is {machine}"
            ),
        };
        Failure::new(words).with_hint(format!("it has: {}", all.join(", ")))
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
