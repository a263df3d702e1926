//! Images in one file or folder: OCI layouts (image-spec `image-layout.md`) and docker's archives.
//!
//! Three forms are written: an OCI layout folder, the same as a tar (with docker's `manifest.json` beside it, as
//! `docker save` writes since version 25, so that both kinds of reader take it), and docker's older archive with
//! uncompressed layers. All are read, compressed or not. Everything that is read is hostile: names are looked up and
//! never joined to paths, bytes are verified against digests before anything refers to them.

mod load;
mod save;

pub use load::{Loaded, load_archive, load_folder, take_archive, take_folder};
pub use save::{add_to_folder, write_archive, write_docker_archive, write_oci_archive, write_oci_folder};

use crate::{
    Digest, Reference,
    blobs::BlobError,
    layer::LayerError,
    spec::{ConfigError, ManifestError},
    store::StoreError,
};
use std::{collections::BTreeMap, io};

/// An image, or an index with all of it that is here, that is written.
#[derive(Clone, Debug)]
pub struct LayoutImage {
    /// Its digest.
    pub target: Digest,
    /// What it is called there.
    pub names: Vec<Reference>,
    /// What the layout's index says of it beside its name.
    pub annotations: BTreeMap<String, String>,
    /// Manifests that are attached to it or to its images, whose blobs are in the store.
    pub attached: Vec<Digest>,
}

impl LayoutImage {
    /// An image under these names.
    pub fn new(target: Digest, names: Vec<Reference>) -> LayoutImage {
        LayoutImage { target, names, annotations: BTreeMap::new(), attached: Vec::new() }
    }
}

/// A failure while images are written to or read from a layout or archive.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// The file system, or the stream, refused.
    #[error("cannot {0} the archive")]
    Io(&'static str, #[source] io::Error),
    /// Neither an OCI layout nor a docker archive.
    #[error(
        "this is neither an OCI layout nor a docker archive: it has no `index.json` and no `manifest.json`"
    )]
    Unknown,
    /// A file that another one names is not there.
    #[error("the archive is not whole: `{0}` is missing")]
    Missing(String),
    /// More or larger than what is taken.
    #[error("the archive has more {0} than are taken")]
    Limit(&'static str),
    /// A layer whose bytes are not what the configuration says.
    #[error("layer {number} of the archive does not have the digest that its configuration names")]
    DiffId {
        /// Which layer, from 1.
        number: usize,
    },
    /// A document that cannot be read.
    #[error("`{0}` of the archive is not valid")]
    Json(&'static str, #[source] serde_json::Error),
    /// No image for this machine, or none of that name.
    #[error("the archive has no image {0}")]
    NoImage(String),
    /// A manifest that cannot be taken.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A configuration that cannot be taken.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A blob failed.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// A layer failed.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Annotation that carries a whole reference (containerd).
pub const ANNOTATION_IMAGE_NAME: &str = "io.containerd.image.name";
/// Annotation that carries a tag or reference (image-spec `annotations.md`).
pub const ANNOTATION_REF_NAME: &str = "org.opencontainers.image.ref.name";

#[cfg(test)]
mod tests;
