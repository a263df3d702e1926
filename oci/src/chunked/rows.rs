//! The entries of an archive one by one: their raw bytes, their rows of the table, their chunks.

use super::{CHUNK_BYTES, ChunkError};
use crate::{
    Algorithm, Hasher,
    compression::Compressor,
    layer::{ArchiveReader, Kind, LayerError, describe_item},
    limits,
    spec::rfc3339,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Serialize;
use std::{
    collections::{BTreeMap, HashSet},
    io::{self, Read, Write},
};

/// One row of a table of contents: what CRFS began and both formats have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Row {
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) link_name: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) mode: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) size: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) uid: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) gid: u64,
    #[serde(rename = "modtime", skip_serializing_if = "Option::is_none")]
    pub(super) modified: Option<String>,
    #[serde(rename = "accesstime", skip_serializing_if = "Option::is_none")]
    pub(super) accessed: Option<String>,
    #[serde(rename = "changetime", skip_serializing_if = "Option::is_none")]
    pub(super) changed: Option<String>,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) dev_major: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) dev_minor: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) xattrs: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) digest: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) offset: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) end_offset: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) chunk_size: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) chunk_offset: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) chunk_digest: String,
    /// The piece of the stream that it begins with, until the pieces' places are known.
    #[serde(skip)]
    pub(super) piece: Option<usize>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Passes bytes on, and keeps those that are no file's.
struct Recording<R> {
    source: R,
    kept: Vec<u8>,
    keeps: bool,
}

impl<R: Read> Read for Recording<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        if self.keeps {
            self.kept.extend_from_slice(&buffer[..count]);
        }
        Ok(count)
    }
}

/// An archive's entries, raw and as rows.
pub(super) struct Entries<R> {
    archive: ArchiveReader<Recording<R>>,
    seen: HashSet<String>,
    /// Whether the next bytes are the padding of a file that is passed over.
    drops_padding: bool,
}

/// The next of them.
pub(super) struct Next {
    /// The padding of the file before, and all header blocks.
    pub(super) raw: Vec<u8>,
    /// How much of it is the padding.
    pub(super) padding: usize,
    /// What the table says of it, but for where it is.
    pub(super) row: Row,
    /// Its path without `.` and slashes at the ends.
    pub(super) path: Vec<u8>,
}

impl<R: Read> Entries<R> {
    pub(super) fn new(source: R) -> Entries<R> {
        let recording = Recording { source, kept: Vec::new(), keeps: true };
        Entries { archive: ArchiveReader::new(recording), seen: HashSet::new(), drops_padding: false }
    }

    /// The next entry; at the end the bytes that are left over, padding and marks.
    pub(super) fn next(&mut self) -> Result<Result<Next, Vec<u8>>, ChunkError> {
        let item = self.archive.next_item().map_err(LayerError::Archive)?;
        let mut raw = std::mem::take(&mut self.archive.source_mut().kept);
        if std::mem::take(&mut self.drops_padding) {
            raw.drain(..raw.len() % 512);
        }
        let Some(item) = item else { return Ok(Err(raw)) };
        if self.archive.is_sparse() {
            return Err(ChunkError::Unchunkable("sparse files"));
        }
        let entry = describe_item(&item)?;
        let text = |bytes: &[u8]| {
            let text = String::from_utf8(bytes.to_vec());
            text.map_err(|_| ChunkError::Unchunkable("names that are not UTF-8"))
        };
        // header blocks are whole: what is over is the padding before them
        let padding = raw.len() % 512;
        let is_global = |block: &[u8]| block.get(156) == Some(&b'g');
        if raw[padding..].chunks(512).next().is_some_and(is_global) {
            return Err(ChunkError::Unchunkable("a header for all its entries"));
        }
        let time = |key: &[u8]| {
            let mut found = item.pax.iter().rev().filter(|(name, _)| name == key);
            found.next().map(|(_, value)| timestamp(value)).transpose()
        };
        let mut row = Row {
            kind: kind(entry.kind),
            name: text(&item.path)?,
            link_name: text(&entry.link)?,
            mode: u64::from(item.header.mode().unwrap_or(entry.mode)),
            size: entry.size_bytes,
            uid: entry.uid.into(),
            gid: entry.gid.into(),
            modified: time(b"mtime")?.or_else(|| Some(rfc3339::format(entry.mtime))),
            accessed: time(b"atime")?,
            changed: time(b"ctime")?,
            dev_major: entry.device.0.into(),
            dev_minor: entry.device.1.into(),
            ..Row::default()
        };
        for (key, value) in &item.pax {
            if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                row.xattrs.insert(text(name)?, STANDARD.encode(value));
            }
        }
        if !self.seen.insert(row.name.clone()) {
            return Err(ChunkError::Unchunkable("one name twice"));
        }
        if self.seen.len() as u64 > limits::LAYER_ENTRIES {
            return Err(LayerError::Limit { what: "entries", most: limits::LAYER_ENTRIES }.into());
        }
        Ok(Ok(Next { raw, padding, row, path: entry.path }))
    }

    /// Reads the bytes of the entry into chunks, and passes them to `also` too. The rows are `first` and one for each further chunk.
    pub(super) fn chunks<W: Write + Send + 'static>(
        &mut self,
        first: Row,
        output: &mut Compressor<W>,
        also: &mut dyn FnMut(&[u8]),
    ) -> Result<Vec<Row>, ChunkError> {
        let mut rows = vec![first];
        if rows[0].kind != "reg" || rows[0].size == 0 {
            return Ok(rows);
        }
        let (size, name) = (rows[0].size, rows[0].name.clone());
        self.archive.source_mut().keeps = false;
        let (mut whole, mut at) = (Hasher::new(Algorithm::Sha256), 0);
        let mut buffer = vec![0; CHUNK_BYTES.min(usize::try_from(size).unwrap_or(usize::MAX))];
        while at < size {
            let count = buffer.len().min(usize::try_from(size - at).unwrap_or(usize::MAX));
            let chunk = &mut buffer[..count];
            self.archive.read_exact(chunk).map_err(LayerError::Archive)?;
            let piece = output.begin_piece()?;
            output.write_all(chunk)?;
            whole.update(chunk);
            also(chunk);
            let mut digest = Hasher::new(Algorithm::Sha256);
            digest.update(chunk);
            if at > 0 {
                rows.push(Row { kind: "chunk", name: name.clone(), chunk_offset: at, ..Row::default() });
            }
            let row = rows.last_mut().expect("there is the first");
            (row.piece, row.chunk_size) = (Some(piece), count as u64);
            row.chunk_digest = digest.finish().to_string();
            at += count as u64;
        }
        self.archive.source_mut().keeps = true;
        output.begin_piece()?;
        rows[0].digest = whole.finish().to_string();
        Ok(rows)
    }

    /// Passes over the bytes of the entry, and those that fill up its last block.
    pub(super) fn skip(&mut self) -> Result<(), ChunkError> {
        self.drops_padding = true;
        self.archive.source_mut().keeps = false;
        let skipped = io::copy(&mut self.archive, &mut io::sink());
        self.archive.source_mut().keeps = true;
        skipped.map_err(LayerError::Archive)?;
        Ok(())
    }

    /// What follows the end mark.
    pub(super) fn rest(&mut self) -> &mut impl Read {
        &mut self.archive.source_mut().source
    }
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::File | Kind::Whiteout => "reg",
        Kind::Directory => "dir",
        Kind::Symlink => "symlink",
        Kind::Hardlink => "hardlink",
        Kind::CharDevice => "char",
        Kind::BlockDevice => "block",
        Kind::Fifo => "fifo",
    }
}

/// A PAX time (`seconds.fraction`) as Go writes it.
fn timestamp(value: &[u8]) -> Result<String, ChunkError> {
    let odd = ChunkError::Unchunkable("a time that is no number");
    let Ok(text) = std::str::from_utf8(value) else { return Err(odd) };
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let Ok(seconds) = seconds.parse::<i64>() else { return Err(odd) };
    let fraction: String = fraction.chars().take(9).collect();
    let fraction = fraction.trim_end_matches('0');
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) || (seconds < 0 && !fraction.is_empty()) {
        return Err(odd);
    }
    let whole = rfc3339::format(seconds);
    Ok(match fraction.is_empty() {
        true => whole,
        false => format!("{}.{fraction}Z", whole.trim_end_matches('Z')),
    })
}

/// Where pieces begin in a stream, and where the last one ends.
pub(super) fn starts(packed_bytes: &[u64]) -> Vec<u64> {
    let mut at = 0;
    let mut starts = vec![0];
    starts.extend(packed_bytes.iter().map(|bytes| {
        at += bytes;
        at
    }));
    starts
}
