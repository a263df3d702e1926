//! Where base images and remote content come from; supplied by the command line.

use slipway_oci::{Descriptor, Digest, Platform, Reference, store::LayerForm};
use std::path::Path;

/// A failure of a source: whatever its supplier calls an error, which tells it by its own type again.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SourceError(#[source] Box<dyn std::error::Error + Send + Sync>);

impl SourceError {
    /// A supplier's error.
    pub fn new(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> SourceError {
        SourceError(error.into())
    }
}

/// A file that was fetched from a URL.
#[derive(Debug)]
pub struct Fetched {
    /// Its blob in the store.
    pub digest: Digest,
    /// Size in bytes.
    pub size_bytes: u64,
    /// The server's word for the last change, in seconds since 1970.
    pub modified: Option<i64>,
}

/// Finds what the local store lacks.
pub trait ImageSource: Sync {
    /// Puts manifest and configuration of the image that `reference` means on `platform` into the store and answers the
    /// manifest's digest. Layers are not fetched. `refresh` asks the registry even where the store has the name.
    fn resolve(
        &self,
        reference: &Reference,
        platform: &Platform,
        refresh: bool,
    ) -> Result<Digest, SourceError>;

    /// Whether an image that the store has may be used under this name, which stands for `target`: the image, or its index. One that
    /// is resolved was asked for.
    fn allow(&self, reference: &Reference, target: &Digest, image: &Digest) -> Result<(), SourceError>;

    /// Puts a blob that is missing into the store; `repositories` were seen to have it.
    fn fetch(&self, blob: &Descriptor, repositories: &[String]) -> Result<(), SourceError>;

    /// Puts the blobs of `missing` into the store, several at a time. They are some of `row`, the base first, whose layers are
    /// made runnable meanwhile where they are run from files.
    fn fetch_layers(&self, row: &[LayerForm], missing: &[LayerForm]) -> Result<(), SourceError>;

    /// Puts the content behind a URL into the store.
    fn fetch_url(&self, url: &str, checksum: Option<&Digest>) -> Result<Fetched, SourceError>;

    /// Checks a git repository out into an empty folder; answers the commit.
    fn checkout(&self, url: &str, keep_git_dir: bool, into: &Path) -> Result<String, SourceError>;

    /// Reads an image of an OCI layout folder into the store and answers the manifest's digest.
    fn layout(
        &self,
        folder: &Path,
        reference: Option<&str>,
        platform: &Platform,
    ) -> Result<Digest, SourceError>;
}
