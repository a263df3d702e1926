//! Whole file systems as layers: the base images of `slipway import`.

use super::{Layer, LayerError, LayerWriter, NewImage, OverlayXattrs, diff, io_at, unpack};
use crate::{
    Algorithm, Descriptor,
    blobs::Blobs,
    compression::{self, Compression, Compressor},
    digest::HashingReader,
    file::Tee,
};
use std::{
    io::{self, BufRead},
    path::Path,
};

/// A root file system's archive, compressed or not, as a layer: the bytes stay, only the compression is ours. `image` is
/// written from the same reading, for a layer that stands on nothing.
pub fn import_archive(
    blobs: &Blobs,
    source: impl BufRead + Send,
    compression: Compression,
    image: Option<NewImage<'_>>,
) -> Result<Layer, LayerError> {
    let decoder = compression::decoder(source).map_err(LayerError::Archive)?;
    let output = Compressor::new(blobs.writer(Algorithm::Sha256)?, compression);
    let mut tee = Tee::new(HashingReader::new(decoder, Algorithm::Sha256), output);
    let read = match image {
        None => unpack::index(&mut tee, None).map(|unpacked| (unpacked, None)),
        Some(image) => image.of_archive(&mut tee).map(|(unpacked, written)| (unpacked, Some(written))),
    };
    let (unpacked, image) = read.map_err(|error| match tee.unwritten.take() {
        Some(unwritten) => io_at("write", Path::new(""))(unwritten),
        None => error,
    })?;
    if unpacked.toc.entries().is_empty() {
        let error = io::Error::new(io::ErrorKind::InvalidData, "it holds no files, or is no tar archive");
        return Err(LayerError::Archive(error));
    }
    let writer = tee.copy.finish().map_err(io_at("write", Path::new("")))?;
    let (digest, size_bytes) = writer.commit(None)?;
    assert_eq!(tee.source.finish().1, unpacked.diff_id);
    Ok(Layer {
        diff_id: unpacked.diff_id,
        descriptor: Descriptor::new(compression.layer_media_type(), digest, size_bytes),
        archive_bytes: unpacked.archive_bytes,
        pieces: Vec::new(),
        toc: unpacked.toc,
        image,
    })
}

/// A folder of the host as a layer, owners and times as they are; `image` as for [`import_archive`].
pub fn import_folder(
    blobs: &Blobs,
    folder: &Path,
    compression: Compression,
    image: Option<NewImage<'_>>,
) -> Result<Layer, LayerError> {
    let mut writer = LayerWriter::new(blobs, compression)?;
    if let Some(image) = image {
        writer = writer.with_image(image);
    }
    let terms = diff::Terms {
        xattrs: OverlayXattrs::User,
        clamp: diff::Clamp::Keep,
        root: (0o755, 0, 0),
        creator: (0, 0),
    };
    diff::append_upper(&mut writer, folder, &terms)?;
    writer.finish()
}
