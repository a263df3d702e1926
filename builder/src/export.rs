//! From a finished stage to what the caller asked for: an image in the store, by configuration, manifest and names.

use crate::{Environment, ImageSource, StepError, base, stage::StageResult};
use slipway_oci::{
    Descriptor, Digest, Reference,
    compression::Compression,
    layer::LayerError,
    spec::{ImageConfig, Manifest, media_type, rfc3339, to_json},
    store::{LayerForm, Store},
};
use std::{collections::BTreeMap, io::Write};

/// The image that a build made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuiltImage {
    /// The manifest.
    pub manifest: Descriptor,
    /// Digest of the configuration: docker's image id.
    pub config: Digest,
}

/// A finished target, to be made something of.
#[derive(Debug)]
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

/// Puts an image into the store, and its names last.
#[derive(Clone, Debug)]
pub struct ImageExporter {
    /// Names for the image.
    pub names: Vec<Reference>,
    /// The compression of its own layers.
    pub compression: Compression,
}

impl Exporter for ImageExporter {
    fn names(&self) -> Vec<String> {
        self.names.iter().map(Reference::familiar).collect()
    }

    fn export(
        &self,
        environment: &Environment<'_>,
        finished: &Finished<'_>,
    ) -> Result<BuiltImage, StepError> {
        let store = environment.store;
        let mut descriptors = Vec::with_capacity(finished.layers.len());
        for (at, form) in finished.layers.iter().enumerate() {
            let foreign = at < finished.base_layers && store.is_foreign(&form.descriptor.digest)?;
            let descriptor = match foreign {
                true => form.descriptor.clone(),
                false => in_form(store, environment.images, form, self.compression)?,
            };
            descriptors.push(as_oci(&descriptor));
        }
        let config_bytes = to_json(&finished.config);
        let config = store.blobs().put(&config_bytes).map_err(LayerError::from)?;
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(media_type::OCI_MANIFEST.to_owned()),
            artifact_type: None,
            config: Descriptor::of(media_type::OCI_CONFIG, &config_bytes),
            layers: descriptors,
            subject: None,
            annotations: BTreeMap::new(),
        };
        let bytes = to_json(&manifest);
        let digest = store.blobs().put(&bytes).map_err(LayerError::from)?;
        store.put_built_image(&digest, &self.names)?;
        Ok(BuiltImage { manifest: Descriptor::of(media_type::OCI_MANIFEST, &bytes), config })
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

/// The blob of the layer in the compression that was asked for. The layers of a base image from elsewhere stay as they came, so that
/// their blobs are shared with it, and never come here.
pub fn in_form(
    store: &Store,
    images: &dyn ImageSource,
    form: &LayerForm,
    wanted: Compression,
) -> Result<Descriptor, StepError> {
    let is_wanted = |form: &LayerForm| form.descriptor.media_type == wanted.layer_media_type();
    if is_wanted(form) || !form.descriptor.media_type.starts_with(media_type::OCI_LAYER) {
        return Ok(form.descriptor.clone());
    }
    // another form that is known by name alone is somebody's word: whoever has the bytes makes it of them
    let is_here = |form: &LayerForm| store.blobs().contains(&form.descriptor.digest).unwrap_or(false);
    let forms = store.layer_forms(&form.diff_id)?;
    let has_bytes = forms.iter().any(is_here);
    if let Some(other) = forms.into_iter().find(|other| is_wanted(other) && (is_here(other) || !has_bytes)) {
        return Ok(other.descriptor);
    }
    base::fetch_layer(store, images, form)?;
    let mut reader = store.read_layer(&form.diff_id)?;
    let writer = store.blobs().writer(slipway_oci::Algorithm::Sha256).map_err(LayerError::from)?;
    let mut compressor = slipway_oci::compression::Compressor::new(writer, wanted);
    let written =
        std::io::copy(&mut reader, &mut compressor).and_then(|count| compressor.flush().map(|()| count));
    let archive_bytes = written.map_err(StepError::io("recompress", form.diff_id.to_string()))?;
    let writer = compressor.finish().map_err(StepError::io("recompress", form.diff_id.to_string()))?;
    let (digest, size_bytes) = writer.commit(None).map_err(LayerError::from)?;
    let descriptor = Descriptor::new(wanted.layer_media_type(), digest, size_bytes);
    let made = LayerForm { diff_id: form.diff_id.clone(), descriptor: descriptor.clone() };
    store.put_form(&made, archive_bytes)?;
    Ok(descriptor)
}

/// Docker's media types in an OCI manifest's words; the bytes are the same.
fn as_oci(descriptor: &Descriptor) -> Descriptor {
    let media = match descriptor.media_type.as_str() {
        media_type::DOCKER_LAYER_GZIP => media_type::OCI_LAYER_GZIP,
        media_type::DOCKER_LAYER => media_type::OCI_LAYER,
        media_type::DOCKER_LAYER_ZSTD => media_type::OCI_LAYER_ZSTD,
        other => other,
    };
    Descriptor::new(media, descriptor.digest.clone(), descriptor.size_bytes)
}
