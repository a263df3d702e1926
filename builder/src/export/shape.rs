//! Layers in the compression that is wanted.

use crate::{ImageSource, StepError, base};
use slipway_oci::{
    Algorithm, Descriptor, Digest,
    chunked::{self, ChunkError, Chunking},
    compression::{Compression, Compressor},
    layer::LayerError,
    spec::media_type,
    store::{ANNOTATION_VARIANT, CacheEntry, LayerForm, Store},
};
use std::io::Write;

/// What a layer's blob is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerFormat {
    /// An archive, compressed or not.
    Plain(Compression),
    /// In chunks that can be fetched one by one.
    Chunked(Chunking),
}

impl Default for LayerFormat {
    fn default() -> LayerFormat {
        LayerFormat::Plain(Compression::default())
    }
}

impl LayerFormat {
    /// What compresses it.
    pub const fn compression(self) -> Compression {
        match self {
            LayerFormat::Plain(compression) => compression,
            LayerFormat::Chunked(chunking) => chunking.compression(),
        }
    }
}

/// What the layers of an image are to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LayerShape {
    /// The form.
    pub format: LayerFormat,
    /// The compression's level, where it is not its usual one.
    pub level: Option<i32>,
    /// Whether layers of a base image from elsewhere get it too.
    pub force: bool,
}

impl LayerShape {
    fn level(&self) -> Option<i32> {
        let usual = self.format.compression().levels().map(|(_, usual)| usual);
        self.level.filter(|level| Some(*level) != usual)
    }

    /// What tells the blob from the usual one of its media type ([`ANNOTATION_VARIANT`]).
    fn variant(&self) -> String {
        let level = self.level().map(|level| format!("level={level}"));
        let form = match self.format {
            LayerFormat::Plain(_) => None,
            LayerFormat::Chunked(chunking) => Some(chunking.name().to_owned()),
        };
        form.into_iter().chain(level).collect::<Vec<_>>().join(",")
    }
}

/// The layer as `shape` wants it, fetched and compressed again where it is in another form. Its diff id is another one where the
/// form has an archive of its own (eStargz).
///
/// # Errors
/// When it cannot be had, read or written.
pub fn in_shape(
    store: &Store,
    images: &dyn ImageSource,
    form: &LayerForm,
    shape: &LayerShape,
) -> Result<LayerForm, StepError> {
    match (shape.format, shape.variant().as_str()) {
        (LayerFormat::Plain(wanted), "") => {
            let descriptor = plain(store, images, form, wanted)?;
            Ok(LayerForm { diff_id: form.diff_id.clone(), descriptor })
        }
        (LayerFormat::Plain(wanted), variant) => {
            if let Some((descriptor, _)) = store.variant_form(&form.diff_id, variant)?
                && descriptor.media_type == wanted.layer_media_type()
            {
                return Ok(LayerForm { diff_id: form.diff_id.clone(), descriptor });
            }
            let (descriptor, archive_bytes) = compress(store, images, form, wanted, shape.level())?;
            let made = LayerForm { diff_id: form.diff_id.clone(), descriptor };
            store.put_variant(&made, variant, archive_bytes)?;
            Ok(made)
        }
        (LayerFormat::Chunked(chunking), variant) => {
            match in_chunks(store, images, form, chunking, shape, variant) {
                Err(ChunksError::Chunk(ChunkError::Unchunkable(_))) => {
                    let format = LayerFormat::Plain(chunking.compression());
                    in_shape(store, images, form, &LayerShape { format, ..*shape })
                }
                Err(ChunksError::Chunk(ChunkError::Layer(error))) => Err(error.into()),
                Err(ChunksError::Chunk(ChunkError::Io(source))) => {
                    Err(StepError::io("write the chunks of", form.diff_id.to_string())(source))
                }
                Err(ChunksError::Step(error)) => Err(error),
                Ok(made) => Ok(made),
            }
        }
    }
}

enum ChunksError {
    Chunk(ChunkError),
    Step(StepError),
}

impl<E: Into<StepError>> From<E> for ChunksError {
    fn from(error: E) -> ChunksError {
        ChunksError::Step(error.into())
    }
}

/// The layer in chunks. Which layer it is then is kept as a result is, so that it is not written again.
fn in_chunks(
    store: &Store,
    images: &dyn ImageSource,
    form: &LayerForm,
    chunking: Chunking,
    shape: &LayerShape,
    variant: &str,
) -> Result<LayerForm, ChunksError> {
    let key = Digest::sha256(format!("layer {} as {variant}", form.diff_id).as_bytes());
    let known = match chunking {
        Chunking::ZstdChunked => Some(form.diff_id.clone()),
        Chunking::Estargz => match store.cached(&key)? {
            Some(slipway_oci::store::CachedLayer::Layer(made)) => Some(made.diff_id),
            _ => None,
        },
    };
    if let Some(diff_id) = known
        && let Some((descriptor, archive_bytes)) = store.variant_form(&diff_id, variant)?
    {
        let blob = store.blobs().open_blob(&descriptor.digest).map_err(LayerError::from)?;
        let described = chunked::annotate(&descriptor, &blob, chunking, archive_bytes);
        if let Ok(Some(descriptor)) = described {
            return Ok(LayerForm { diff_id, descriptor });
        }
    }
    base::fetch_layer(store, images, form)?;
    let archive = store.read_layer(&form.diff_id)?;
    let made = chunked::write(store.blobs(), archive, chunking, shape.level()).map_err(ChunksError::Chunk)?;
    if chunking == Chunking::ZstdChunked && made.diff_id != form.diff_id {
        let (expected, actual) = (form.diff_id.clone(), made.diff_id);
        return Err(
            LayerError::from(slipway_oci::blobs::BlobError::DigestMismatch { expected, actual }).into()
        );
    }
    let bare = Descriptor { annotations: Default::default(), ..made.descriptor.clone() };
    let bare = LayerForm { diff_id: made.diff_id.clone(), descriptor: bare };
    store.put_variant(&bare, variant, made.archive_bytes)?;
    if chunking == Chunking::Estargz {
        let step = &format!("layer {} as {variant}", form.diff_id.short());
        store.put_cached(&CacheEntry { key: &key, diff_id: Some(&made.diff_id), step, description: None })?;
    }
    Ok(LayerForm { diff_id: made.diff_id, descriptor: made.descriptor })
}

/// The usual blob of the layer in a compression.
fn plain(
    store: &Store,
    images: &dyn ImageSource,
    form: &LayerForm,
    wanted: Compression,
) -> Result<Descriptor, StepError> {
    let docker = [
        (media_type::DOCKER_LAYER, Compression::None),
        (media_type::DOCKER_LAYER_GZIP, Compression::Gzip),
        (media_type::DOCKER_LAYER_ZSTD, Compression::Zstd),
    ];
    let is_wanted = |form: &LayerForm| {
        let own = &form.descriptor.media_type;
        let is_usual = !form.descriptor.annotations.contains_key(ANNOTATION_VARIANT);
        is_usual && (own == wanted.layer_media_type() || docker.contains(&(own.as_str(), wanted)))
    };
    if is_wanted(form) {
        return Ok(form.descriptor.clone());
    }
    // another form that is known by name alone is somebody's word: whoever has the bytes makes it of them
    let is_here = |form: &LayerForm| store.blobs().contains(&form.descriptor.digest).unwrap_or(false);
    let forms = store.layer_forms(&form.diff_id)?;
    let has_bytes = forms.iter().any(is_here);
    if let Some(other) = forms.into_iter().find(|other| is_wanted(other) && (is_here(other) || !has_bytes)) {
        return Ok(other.descriptor);
    }
    let (descriptor, archive_bytes) = compress(store, images, form, wanted, None)?;
    let made = LayerForm { diff_id: form.diff_id.clone(), descriptor: descriptor.clone() };
    store.put_form(&made, archive_bytes)?;
    Ok(descriptor)
}

/// Compresses the layer's archive; answers the blob and the archive's length in bytes.
fn compress(
    store: &Store,
    images: &dyn ImageSource,
    form: &LayerForm,
    wanted: Compression,
    level: Option<i32>,
) -> Result<(Descriptor, u64), StepError> {
    base::fetch_layer(store, images, form)?;
    let mut reader = store.read_layer(&form.diff_id)?;
    let writer = store.blobs().writer(Algorithm::Sha256).map_err(LayerError::from)?;
    let mut compressor = Compressor::new(writer, wanted).at_level(level);
    let written =
        std::io::copy(&mut reader, &mut compressor).and_then(|count| compressor.flush().map(|()| count));
    let archive_bytes = written.map_err(StepError::io("recompress", form.diff_id.to_string()))?;
    let writer = compressor.finish().map_err(StepError::io("recompress", form.diff_id.to_string()))?;
    let (digest, size_bytes) = writer.commit(None).map_err(LayerError::from)?;
    Ok((Descriptor::new(wanted.layer_media_type(), digest, size_bytes), archive_bytes))
}
