//! What a build took from elsewhere, noted while it takes it.

use crate::{Fetched, ImageSource, SourceError};
use slipway_oci::{Descriptor, Digest, Platform, Reference, store::LayerForm};
use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Mutex, PoisonError},
};

/// Something from elsewhere that a build used.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Material {
    /// An image.
    Image {
        /// Its package URL.
        uri: String,
        /// Digest of its manifest for the platform.
        digest: Digest,
    },
    /// A file.
    Url {
        /// Where, as the recipe has it.
        url: String,
        /// Digest of its content.
        digest: Digest,
    },
    /// A repository.
    Git {
        /// Where, as the recipe has it.
        url: String,
        /// The commit.
        commit: String,
    },
}

/// A source of images that notes what was taken.
pub(crate) struct Noted<'a> {
    inner: &'a dyn ImageSource,
    materials: Mutex<BTreeSet<Material>>,
}

impl<'a> Noted<'a> {
    pub(crate) fn new(inner: &'a dyn ImageSource) -> Noted<'a> {
        Noted { inner, materials: Mutex::default() }
    }

    pub(crate) fn note(&self, material: Material) {
        self.materials.lock().unwrap_or_else(PoisonError::into_inner).insert(material);
    }

    /// What was noted, in order, each once.
    pub(crate) fn materials(&self) -> Vec<Material> {
        self.materials.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

impl ImageSource for Noted<'_> {
    fn resolve(
        &self,
        reference: &Reference,
        platform: &Platform,
        refresh: bool,
    ) -> Result<Digest, SourceError> {
        // noted by who asks: what the store has is asked of nobody
        self.inner.resolve(reference, platform, refresh)
    }

    fn allow(&self, reference: &Reference, target: &Digest, image: &Digest) -> Result<(), SourceError> {
        self.inner.allow(reference, target, image)
    }

    fn fetch(&self, blob: &Descriptor, repositories: &[String]) -> Result<(), SourceError> {
        self.inner.fetch(blob, repositories)
    }

    fn fetch_layers(&self, row: &[LayerForm], missing: &[LayerForm]) -> Result<(), SourceError> {
        self.inner.fetch_layers(row, missing)
    }

    fn fetch_url(&self, url: &str, checksum: Option<&Digest>) -> Result<Fetched, SourceError> {
        let fetched = self.inner.fetch_url(url, checksum)?;
        self.note(Material::Url { url: url.to_owned(), digest: fetched.digest.clone() });
        Ok(fetched)
    }

    fn checkout(&self, url: &str, keep_git_dir: bool, into: &Path) -> Result<String, SourceError> {
        let commit = self.inner.checkout(url, keep_git_dir, into)?;
        self.note(Material::Git { url: url.to_owned(), commit: commit.clone() });
        Ok(commit)
    }

    fn layout(
        &self,
        folder: &Path,
        reference: Option<&str>,
        platform: &Platform,
    ) -> Result<Digest, SourceError> {
        let digest = self.inner.layout(folder, reference, platform)?;
        let platform = platform.to_string().replace('/', "%2F");
        let uri = format!("pkg:oci/layout@{}?platform={platform}", digest.to_string().replace(':', "%3A"));
        self.note(Material::Image { uri, digest: digest.clone() });
        Ok(digest)
    }
}
