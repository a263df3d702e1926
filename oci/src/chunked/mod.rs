//! Layers in chunks: each file's bytes are frames of their own, and a table says where, so that a puller can fetch the files
//! that it lacks, by range.
//!
//! Two formats are written, both valid layers for whoever does not know them:
//!
//! - *zstd:chunked* (containers/storage, `pkg/chunked`): zstd frames; the table and the archive's other bytes ("tar-split", of
//!   which the archive is put together again, bit by bit) are in skippable frames at the end. The archive, and so the diff id,
//!   stays what it was.
//! - *eStargz* (containerd's stargz-snapshotter, `docs/estargz.md`): gzip members; the table is a file of the archive, so the
//!   diff id is another one.
//!
//! What is in both is described by [`Row`]s. The archive is read as it is ([`crate::layer`]'s reader) and hostile; one that a
//! table cannot tell (names that are no text, one name twice, sparse files) stays as it is: [`ChunkError::Unchunkable`].

mod estargz;
mod rows;
#[cfg(test)]
mod tests;
mod zstd_chunked;

pub use estargz::{TOC_DIGEST, UNCOMPRESSED_SIZE};
pub use zstd_chunked::{MANIFEST_CHECKSUM, MANIFEST_POSITION, TAR_SPLIT_POSITION};

use crate::{
    Descriptor, Digest,
    blobs::Blobs,
    compression::{Compression, PIECE_BYTES},
    layer::LayerError,
};
use rows::Row;
use std::{
    fs::File,
    io::{self, Read},
};

/// Most bytes of one chunk: what both formats' own tools take.
const CHUNK_BYTES: usize = PIECE_BYTES;

/// A format of layers in chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunking {
    /// gzip, for containerd's stargz-snapshotter.
    Estargz,
    /// zstd, for podman, buildah and CRI-O.
    ZstdChunked,
}

impl Chunking {
    /// What compresses the chunks.
    pub const fn compression(self) -> Compression {
        match self {
            Chunking::Estargz => Compression::Gzip,
            Chunking::ZstdChunked => Compression::Zstd,
        }
    }

    /// The name in flags.
    pub const fn name(self) -> &'static str {
        match self {
            Chunking::Estargz => "estargz",
            Chunking::ZstdChunked => "zstd:chunked",
        }
    }
}

/// Why a layer is not in chunks.
#[derive(Debug, thiserror::Error)]
pub enum ChunkError {
    /// The formats have no words for what is in it.
    #[error("the layer has {0}")]
    Unchunkable(&'static str),
    /// It cannot be read or written.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The blob cannot be written.
    #[error("cannot write the layer's chunks")]
    Io(#[from] io::Error),
}

/// A layer in chunks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkedLayer {
    /// Digest of its archive; eStargz' is another than that of the layer it was made of.
    pub diff_id: Digest,
    /// The blob, with the annotations that its readers look for in a manifest.
    pub descriptor: Descriptor,
    /// Length of its archive in bytes.
    pub archive_bytes: u64,
}

/// Writes the layer whose uncompressed archive is `archive` as a blob in chunks.
///
/// # Errors
/// When it cannot be read, written, or told in chunks.
pub fn write(
    blobs: &Blobs,
    archive: impl Read,
    chunking: Chunking,
    level: Option<i32>,
) -> Result<ChunkedLayer, ChunkError> {
    match chunking {
        Chunking::Estargz => estargz::write(blobs, archive, level),
        Chunking::ZstdChunked => zstd_chunked::write(blobs, archive, level),
    }
}

/// The descriptor of a blob that is in chunks with its annotations, which its own end says; `None` where it is not of that
/// format. `archive_bytes` is the length of its archive.
///
/// # Errors
/// When it cannot be read.
pub fn annotate(
    descriptor: &Descriptor,
    blob: &File,
    chunking: Chunking,
    archive_bytes: u64,
) -> io::Result<Option<Descriptor>> {
    let annotations = match chunking {
        Chunking::Estargz => estargz::annotations(blob, descriptor.size_bytes, archive_bytes)?,
        Chunking::ZstdChunked => zstd_chunked::annotations(blob, descriptor.size_bytes)?,
    };
    Ok(annotations.map(|annotations| Descriptor { annotations, ..descriptor.clone() }))
}

/// A table of contents as JSON.
#[derive(serde::Serialize)]
struct Table<'a> {
    version: u32,
    entries: &'a [Row],
    #[serde(rename = "tarSplitDigest", skip_serializing_if = "Option::is_none")]
    tar_split_digest: Option<String>,
}
