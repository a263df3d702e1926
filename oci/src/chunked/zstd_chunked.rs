//! zstd:chunked, as containers/storage writes it (`pkg/chunked/internal/minimal`).
//!
//! ```text
//! frames of headers and files | skippable: table, zstd | skippable: tar-split, zstd | skippable: footer, 64 bytes
//! ```

use super::{
    ChunkError, ChunkedLayer, Table,
    rows::{Entries, Next, Row, starts},
};
use crate::{
    Algorithm, Descriptor, Digest,
    blobs::Blobs,
    compression::{Compressed, Compression, Compressor},
    layer::LayerError,
    limits,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read, Write},
    os::unix::fs::FileExt,
};

/// Annotation: the digest of the table as it is in the blob, compressed.
pub const MANIFEST_CHECKSUM: &str = "io.github.containers.zstd-chunked.manifest-checksum";
/// Annotation: where the table is: offset, length, length once it is unpacked, and type, with colons.
pub const MANIFEST_POSITION: &str = "io.github.containers.zstd-chunked.manifest-position";
/// Annotation: where the tar-split is: offset, length, length once it is unpacked.
pub const TAR_SPLIT_POSITION: &str = "io.github.containers.zstd-chunked.tarsplit-position";

/// RFC 8878 §3.1.2: the first of the magic numbers of frames that are passed over.
const SKIPPABLE: [u8; 4] = [0x50, 0x2a, 0x4d, 0x18];
/// A skippable frame's magic number and length.
const FRAME_HEADER: u64 = 8;
const FOOTER_BYTES: usize = 64;
const FOOTER_MAGIC: &[u8; 8] = b"GNUlInUx";
/// The type of the table: CRFS'.
const MANIFEST_TYPE: u64 = 1;
/// Bytes of the archive's rest in one row of the tar-split.
const REST_BYTES: usize = 1 << 20;

/// The archive's bytes but for those of files: a row of JSON each (tar-split's `storage.JSONPacker`).
#[derive(Default)]
struct TarSplit {
    json: Vec<u8>,
    count: u64,
}

impl TarSplit {
    fn segment(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            let payload = STANDARD.encode(bytes);
            self.put(&format!(r#"{{"type":2,"payload":"{payload}","position":{}}}"#, self.count));
        }
    }

    /// A file, or an entry that has no bytes.
    fn file(&mut self, name: &str, size: u64, sum: Option<u64>) {
        let name = serde_json::Value::from(name);
        let size = if size > 0 { format!(r#","size":{size}"#) } else { String::new() };
        let payload =
            sum.map_or_else(|| "null".to_owned(), |sum| format!("{:?}", STANDARD.encode(sum.to_be_bytes())));
        self.put(&format!(
            r#"{{"type":1,"name":{name}{size},"payload":{payload},"position":{}}}"#,
            self.count
        ));
    }

    fn put(&mut self, row: &str) {
        self.json.extend_from_slice(row.as_bytes());
        self.json.push(b'\n');
        self.count += 1;
    }
}

/// Writes the blob.
pub(super) fn write(
    blobs: &Blobs,
    archive: impl Read,
    level: Option<i32>,
) -> Result<ChunkedLayer, ChunkError> {
    let writer = blobs.writer(Algorithm::Sha256).map_err(LayerError::from)?;
    let mut output =
        Compressor::new(writer, Compression::Zstd).at_level(level).describing(Default::default());
    let (mut entries, mut split, mut rows) = (Entries::new(archive), TarSplit::default(), Vec::<Row>::new());
    let last = loop {
        let Next { raw, row, .. } = match entries.next()? {
            Ok(next) => next,
            Err(last) => break last,
        };
        output.write_all(&raw)?;
        split.segment(&raw);
        let (name, size, mut sum) = (row.name.clone(), row.size, Crc::default());
        let made = entries.chunks(row, &mut output, &mut |bytes| sum.update(bytes))?;
        split.file(&name, size, (size > 0).then(|| sum.value()));
        rows.extend(made);
    };
    output.write_all(&last)?;
    split.segment(&last);
    copy_rest(entries.rest(), &mut output, &mut split)?;
    let Compressed { mut output, plain_digest, plain_bytes, packed_bytes, .. } = output.finish_described()?;
    place(&mut rows, &starts(&packed_bytes));
    let at: u64 = packed_bytes.iter().sum();
    let annotations = write_end(&mut output, at, &rows, &split, level)?;
    let (digest, size_bytes) = output.commit(None).map_err(LayerError::from)?;
    let descriptor = Descriptor::new(Compression::Zstd.layer_media_type(), digest, size_bytes);
    Ok(ChunkedLayer {
        diff_id: plain_digest.expect("it was asked for"),
        descriptor: Descriptor { annotations, ..descriptor },
        archive_bytes: plain_bytes,
    })
}

/// What follows the end mark belongs to the archive's digest.
fn copy_rest(rest: &mut impl Read, output: &mut impl Write, split: &mut TarSplit) -> Result<(), ChunkError> {
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        let read = rest.take(REST_BYTES as u64).read_to_end(&mut buffer);
        if read.map_err(LayerError::Archive)? == 0 {
            return Ok(());
        }
        output.write_all(&buffer)?;
        split.segment(&buffer);
    }
}

/// Says where the chunks are; a file of one chunk has no row for it.
fn place(rows: &mut [Row], starts: &[u64]) {
    for at in 0..rows.len() {
        let Some(piece) = rows[at].piece else { continue };
        rows[at].offset = starts[piece];
        if rows[at].kind != "reg" {
            continue;
        }
        let chunks = 1 + rows[at + 1..].iter().take_while(|row| row.kind == "chunk").count();
        rows[at].end_offset = starts[piece + chunks];
        if chunks == 1 {
            (rows[at].chunk_size, rows[at].chunk_digest) = (0, String::new());
        }
    }
}

/// Writes table, tar-split and footer; answers the annotations.
fn write_end(
    output: &mut impl Write,
    at: u64,
    rows: &[Row],
    split: &TarSplit,
    level: Option<i32>,
) -> Result<BTreeMap<String, String>, ChunkError> {
    let tar_split = Compression::Zstd.compress(&split.json, level)?;
    let digest = Digest::sha256(&tar_split).to_string();
    let table = Table { version: 1, entries: rows, tar_split_digest: Some(digest) };
    let json = serde_json::to_vec(&table).map_err(io::Error::from)?;
    let packed = Compression::Zstd.compress(&json, level)?;
    let offset = at + FRAME_HEADER;
    let split_offset = offset + packed.len() as u64 + FRAME_HEADER;
    let numbers = [
        offset,
        packed.len() as u64,
        json.len() as u64,
        MANIFEST_TYPE,
        split_offset,
        tar_split.len() as u64,
        split.json.len() as u64,
    ];
    let mut footer: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    footer.extend_from_slice(FOOTER_MAGIC);
    for frame in [&packed, &tar_split, &footer] {
        let length = u32::try_from(frame.len())
            .map_err(|_| ChunkError::Unchunkable("more entries than a table can tell"))?;
        output.write_all(&SKIPPABLE)?;
        output.write_all(&length.to_le_bytes())?;
        output.write_all(frame)?;
    }
    Ok(named(&numbers, &Digest::sha256(&packed)))
}

fn named(numbers: &[u64; 7], checksum: &Digest) -> BTreeMap<String, String> {
    let row = |numbers: &[u64]| numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(":");
    BTreeMap::from([
        (MANIFEST_CHECKSUM.to_owned(), checksum.to_string()),
        (MANIFEST_POSITION.to_owned(), row(&numbers[..4])),
        (TAR_SPLIT_POSITION.to_owned(), row(&numbers[4..])),
    ])
}

/// The annotations of a blob by its footer.
pub(super) fn annotations(blob: &File, size_bytes: u64) -> io::Result<Option<BTreeMap<String, String>>> {
    let Some(at) = size_bytes.checked_sub(FOOTER_BYTES as u64) else { return Ok(None) };
    let mut footer = [0; FOOTER_BYTES];
    blob.read_exact_at(&mut footer, at)?;
    if !footer.ends_with(FOOTER_MAGIC) {
        return Ok(None);
    }
    let mut numbers = [0; 7];
    for (number, bytes) in numbers.iter_mut().zip(footer.as_chunks::<8>().0) {
        *number = u64::from_le_bytes(*bytes);
    }
    let [offset, length, ..] = numbers;
    if numbers[3] != MANIFEST_TYPE || length > limits::CHUNK_TABLE_BYTES || offset.saturating_add(length) > at
    {
        return Ok(None);
    }
    let mut packed = vec![0; length as usize];
    blob.read_exact_at(&mut packed, offset)?;
    Ok(Some(named(&numbers, &Digest::sha256(&packed))))
}

/// CRC-64/ISO, which tar-split knows files by.
#[derive(Default)]
struct Crc(u64);

const CRC_TABLE: [u64; 256] = {
    let (mut table, mut at) = ([0; 256], 0);
    while at < 256 {
        let (mut value, mut bit) = (at as u64, 0);
        while bit < 8 {
            value = if value & 1 == 1 { (value >> 1) ^ 0xd800_0000_0000_0000 } else { value >> 1 };
            bit += 1;
        }
        table[at] = value;
        at += 1;
    }
    table
};

impl Crc {
    fn update(&mut self, bytes: &[u8]) {
        let step = |sum: u64, byte: &u8| CRC_TABLE[usize::from(sum as u8 ^ byte)] ^ (sum >> 8);
        self.0 = !bytes.iter().fold(!self.0, step);
    }

    fn value(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_go_s() {
        // hash/crc64's own tests (goldenISO)
        for (text, sum) in [
            ("", 0),
            ("a", 0x3420_0000_0000_0000),
            ("ab", 0x36c4_2000_0000_0000),
            ("abc", 0x3776_c420_0000_0000),
        ] {
            let mut crc = Crc::default();
            text.bytes().for_each(|byte| crc.update(&[byte]));
            assert_eq!(crc.value(), sum, "{text}");
        }
    }
}
