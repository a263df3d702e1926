//! From a finished target to what the caller asked for: images in the store ([`ImageExporter`]), in the compression that was
//! wanted ([`LayerShape`]), squashed ([`Squash`]) or not; or its files one by one ([`files`]).

mod files;
mod image;
mod shape;
mod squash;

pub use files::{files, write_folder};
pub use image::{ImageExporter, ImageShape};
pub use shape::{LayerFormat, LayerShape, in_shape};
pub use squash::Squash;

use crate::{Environment, StepError, stage::StageResult};
use slipway_oci::{
    Descriptor, Digest,
    spec::{ImageConfig, rfc3339},
    store::LayerForm,
};
use std::collections::BTreeMap;

/// The image that a build made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuiltImage {
    /// The manifest.
    pub manifest: Descriptor,
    /// Digest of the configuration: docker's image id.
    pub config: Digest,
}

/// A finished target, to be made something of.
#[derive(Clone, Debug)]
pub struct Finished<'a> {
    /// Its configuration; the layers' diff ids and the image's time are in it.
    pub config: ImageConfig,
    /// Its layers, the base's first. Not all of their bytes need be here.
    pub layers: &'a [LayerForm],
    /// How many of them are the base image's.
    pub base_layers: usize,
}

/// What becomes of a finished target.
pub trait Exporter: Sync {
    /// Makes it.
    fn export(&self, environment: &Environment<'_>, finished: &Finished<'_>)
    -> Result<BuiltImage, StepError>;

    /// What it is to be called, for the history.
    fn names(&self) -> Vec<String> {
        Vec::new()
    }
}

/// A stage's result as a finished target.
pub(crate) fn finished<'a>(target: &'a StageResult, labels: &BTreeMap<String, String>) -> Finished<'a> {
    let mut config = target.config.clone();
    config.created = Some(rfc3339::format(target.epoch.created));
    if !labels.is_empty() {
        config.config.labels.get_or_insert_default().extend(labels.clone());
    }
    config.rootfs.diff_ids = target.layers.iter().map(|form| form.diff_id.clone()).collect();
    Finished { config, layers: &target.layers, base_layers: target.base_layers }
}
