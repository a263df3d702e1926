//! Images: layers in shape, configuration, manifest, and names last.

use super::{BuiltImage, Exporter, Finished, LayerFormat, LayerShape, Squash, in_shape, squash};
use crate::{Environment, StepError};
use slipway_oci::{
    Descriptor, Reference,
    compression::Compression,
    layer::LayerError,
    spec::{Manifest, media_type, to_json},
    store::{ANNOTATION_VARIANT, LayerForm},
};
use std::collections::BTreeMap;

/// What an image is to be like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageShape {
    /// What its layers are.
    pub layers: LayerShape,
    /// Which of its layers become one.
    pub squash: Squash,
    /// The manifest's annotations.
    pub annotations: BTreeMap<String, String>,
    /// With docker's media types; its layers are gzip then, or not compressed.
    pub docker_types: bool,
}

/// Puts an image into the store, and its names last.
#[derive(Clone, Debug)]
pub struct ImageExporter {
    /// Names for the image.
    pub names: Vec<Reference>,
    /// What it is like.
    pub shape: ImageShape,
    /// Whether the store is to list it. An image that only goes elsewhere has its blobs there, and no more.
    pub registers: bool,
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
        let (store, shape) = (environment.store, &self.shape);
        let squashed = squash::squash(environment, finished, shape.squash)?;
        let finished = squashed.as_ref().map_or_else(|| finished.clone(), squash::Squashed::finished);
        let mut config = finished.config;
        let mut descriptors = Vec::with_capacity(finished.layers.len());
        for (at, form) in finished.layers.iter().enumerate() {
            let foreign = at < finished.base_layers && store.is_foreign(&form.descriptor.digest)?;
            let form = match foreign && !shape.layers.force {
                true => self.as_it_came(environment, form)?,
                false => in_shape(environment.store, environment.images, form, &shape.layers)?,
            };
            // a layer in chunks may have an archive of its own
            config.rootfs.diff_ids[at] = form.diff_id;
            descriptors.push(in_types(&form.descriptor, shape.docker_types));
        }
        let config_bytes = to_json(&config);
        let digest = store.blobs().put(&config_bytes).map_err(LayerError::from)?;
        let (manifest_type, config_type) = match shape.docker_types {
            true => (media_type::DOCKER_MANIFEST, media_type::DOCKER_CONFIG),
            false => (media_type::OCI_MANIFEST, media_type::OCI_CONFIG),
        };
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(manifest_type.to_owned()),
            artifact_type: None,
            config: Descriptor::of(config_type, &config_bytes),
            layers: descriptors,
            subject: None,
            annotations: shape.annotations.clone(),
        };
        let bytes = to_json(&manifest);
        let manifest = store.blobs().put(&bytes).map_err(LayerError::from)?;
        if self.registers {
            store.put_built_image(&manifest, &self.names)?;
        }
        Ok(BuiltImage { manifest: Descriptor::of(manifest_type, &bytes), config: digest })
    }
}

impl ImageExporter {
    /// A layer of an image from elsewhere, whose blob is shared with it, and need never come here. Docker's types have no zstd.
    fn as_it_came(&self, environment: &Environment<'_>, form: &LayerForm) -> Result<LayerForm, StepError> {
        let is_zstd = [media_type::OCI_LAYER_ZSTD, media_type::DOCKER_LAYER_ZSTD]
            .contains(&form.descriptor.media_type.as_str());
        if self.shape.docker_types && is_zstd {
            let gzip = LayerShape { format: LayerFormat::Plain(Compression::Gzip), ..LayerShape::default() };
            return in_shape(environment.store, environment.images, form, &gzip);
        }
        Ok(form.clone())
    }
}

/// A layer's descriptor in the words of OCI's manifests or docker's; the bytes are the same.
fn in_types(descriptor: &Descriptor, docker: bool) -> Descriptor {
    use media_type::{
        DOCKER_LAYER, DOCKER_LAYER_GZIP, DOCKER_LAYER_ZSTD, OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD,
    };
    const TYPES: [(&str, &str); 3] =
        [(DOCKER_LAYER, OCI_LAYER), (DOCKER_LAYER_GZIP, OCI_LAYER_GZIP), (DOCKER_LAYER_ZSTD, OCI_LAYER_ZSTD)];
    let own = descriptor.media_type.as_str();
    let pair = TYPES.iter().find(|(docker, oci)| [*docker, *oci].contains(&own));
    let media = pair.map_or(own, |(docker_type, oci)| if docker { docker_type } else { oci });
    let mut annotations = descriptor.annotations.clone();
    annotations.remove(ANNOTATION_VARIANT);
    Descriptor { annotations, ..Descriptor::new(media, descriptor.digest.clone(), descriptor.size_bytes) }
}
