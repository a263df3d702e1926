//! eStargz, as containerd's stargz-snapshotter writes it (`estargz/`).
//!
//! ```text
//! gzip members of headers and files | gzip member: the file stargz.index.json, end of archive | gzip footer, 51 bytes
//! ```

use super::{
    ChunkError, ChunkedLayer, Table,
    rows::{Entries, Next, Row, starts},
};
use crate::{
    Algorithm, Descriptor, Digest, Hasher,
    blobs::Blobs,
    compression::{Compressed, Compression, Compressor},
    layer::LayerError,
    limits,
};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read, Write},
    os::unix::fs::FileExt,
};

/// Annotation: the digest of the table.
pub const TOC_DIGEST: &str = "containerd.io/snapshot/stargz/toc.digest";
/// Annotation: the length of the archive in bytes.
pub const UNCOMPRESSED_SIZE: &str = "io.containers.estargz.uncompressed-size";

const TABLE_NAME: &str = "stargz.index.json";
/// A file whose being there says that nothing is to be fetched before it is wanted.
const NO_PREFETCH: &str = ".no.prefetch.landmark";
const PREFETCH: &str = ".prefetch.landmark";
const LANDMARK: &[u8] = &[0xf];
const FOOTER_BYTES: usize = 51;
const BLOCK: usize = 512;

/// Writes the blob.
pub(super) fn write(
    blobs: &Blobs,
    archive: impl Read,
    level: Option<i32>,
) -> Result<ChunkedLayer, ChunkError> {
    let writer = blobs.writer(Algorithm::Sha256).map_err(LayerError::from)?;
    let mut output = Compressor::new(writer, Compression::Gzip).at_level(level);
    // the table at the end counts as well, and tells where the pieces before it are
    let mut diff_id = Hasher::new(Algorithm::Sha256);
    let mut rows: Vec<Row> = Vec::new();
    let landmark = file(NO_PREFETCH, LANDMARK)?;
    let mut landmark = Entries::new(&landmark[..]);
    take_all(&mut landmark, &mut output, &mut diff_id, &mut rows)?;
    take_all(&mut Entries::new(archive), &mut output, &mut diff_id, &mut rows)?;
    let Compressed { mut output, plain_bytes, packed_bytes, .. } = output.finish_described()?;
    let starts = starts(&packed_bytes);
    for at in 0..rows.len() {
        let Some(piece) = rows[at].piece else { continue };
        rows[at].offset = starts[piece];
        // the last chunk of a file goes to its end
        let is_last = rows.get(at + 1).is_none_or(|next| next.kind != "chunk");
        if is_last && rows[at].chunk_size < super::CHUNK_BYTES as u64 {
            rows[at].chunk_size = 0;
        }
    }
    let table = Table { version: 1, entries: &rows, tar_split_digest: None };
    let json = serde_json::to_vec_pretty(&table).map_err(io::Error::from)?;
    let mut end = file(TABLE_NAME, &json)?;
    end.resize(end.len() + 2 * BLOCK, 0);
    diff_id.update(&end);
    let at: u64 = packed_bytes.iter().sum();
    output.write_all(&Compression::Gzip.compress(&end, level)?)?;
    output.write_all(&footer(at))?;
    let (digest, size_bytes) = output.commit(None).map_err(LayerError::from)?;
    let archive_bytes = plain_bytes + end.len() as u64;
    let descriptor = Descriptor::new(Compression::Gzip.layer_media_type(), digest, size_bytes);
    let annotations = named(&Digest::sha256(&json), archive_bytes);
    Ok(ChunkedLayer {
        diff_id: diff_id.finish(),
        descriptor: Descriptor { annotations, ..descriptor },
        archive_bytes,
    })
}

/// Takes an archive's entries but for what another writer of the format added, and not its end.
fn take_all<R: Read, W: Write + Send + 'static>(
    entries: &mut Entries<R>,
    output: &mut Compressor<W>,
    diff_id: &mut Hasher,
    rows: &mut Vec<Row>,
) -> Result<(), ChunkError> {
    // the archive's own file is there already, or its marks are another's
    let is_own = rows.is_empty();
    loop {
        let Next { raw, padding, row, path } = match entries.next()? {
            Ok(next) => next,
            Err(last) => {
                // without the marks of the end
                let padding = &last[..last.len() % BLOCK];
                output.write_all(padding)?;
                diff_id.update(padding);
                return Ok(());
            }
        };
        let marks = [TABLE_NAME, NO_PREFETCH, PREFETCH];
        let is_mark = !is_own && marks.iter().any(|mark| path == mark.as_bytes());
        let kept = if is_mark { &raw[..padding] } else { &raw[..] };
        output.write_all(kept)?;
        diff_id.update(kept);
        if is_mark {
            entries.skip()?;
            continue;
        }
        rows.extend(entries.chunks(row, output, &mut |bytes| diff_id.update(bytes))?);
    }
}

/// A file as an archive's entry.
fn file(name: &str, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut header = tar::Header::new_ustar();
    header.set_path(name)?;
    header.set_size(bytes.len() as u64);
    header.set_mode(0o444);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    let mut entry = [header.as_bytes(), bytes].concat();
    entry.resize(entry.len().next_multiple_of(BLOCK), 0);
    Ok(entry)
}

/// An empty gzip member that says in its header where the table's begins.
fn footer(at: u64) -> Vec<u8> {
    let mut footer = vec![0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff, 26, 0, b'S', b'G', 22, 0];
    footer.extend_from_slice(format!("{at:016x}STARGZ").as_bytes());
    // a last block that is stored and empty, its sum and its length
    footer.extend_from_slice(&[1, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(footer.len(), FOOTER_BYTES);
    footer
}

fn named(table: &Digest, archive_bytes: u64) -> BTreeMap<String, String> {
    BTreeMap::from([
        (TOC_DIGEST.to_owned(), table.to_string()),
        (UNCOMPRESSED_SIZE.to_owned(), archive_bytes.to_string()),
    ])
}

/// The annotations of a blob by its footer and table.
pub(super) fn annotations(
    blob: &File,
    size_bytes: u64,
    archive_bytes: u64,
) -> io::Result<Option<BTreeMap<String, String>>> {
    let Some(end) = size_bytes.checked_sub(FOOTER_BYTES as u64) else { return Ok(None) };
    let mut bytes = [0; FOOTER_BYTES];
    blob.read_exact_at(&mut bytes, end)?;
    let at = std::str::from_utf8(&bytes[16..32]).ok().and_then(|text| u64::from_str_radix(text, 16).ok());
    let Some(at) = at.filter(|at| bytes[..] == footer(*at) && *at < end) else { return Ok(None) };
    if end - at > limits::CHUNK_TABLE_BYTES {
        return Ok(None);
    }
    let mut member = vec![0; (end - at) as usize];
    blob.read_exact_at(&mut member, at)?;
    let mut json = Vec::new();
    let unpacked = flate2::read::GzDecoder::new(&member[..]).take(limits::CHUNK_TABLE_BYTES);
    let mut archive = crate::layer::ArchiveReader::new(unpacked);
    match archive.next_item()? {
        Some(item) if item.path == TABLE_NAME.as_bytes() => archive.read_to_end(&mut json)?,
        _ => return Ok(None),
    };
    Ok(Some(named(&Digest::sha256(&json), archive_bytes)))
}
