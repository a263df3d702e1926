//! Reads tar archives entry by entry: ustar, PAX, GNU long names.
//!
//! The `tar` crate decodes the header blocks; the stream is walked here because the crate splits PAX records at line
//! feeds, which a binary value such as `security.capability` may hold, and because every record must belong to the
//! next real entry and to no header between (CVE-2025-62518, "TARmageddon": a size taken for the wrong header shifts
//! the reader into attacker-made entries). Sparse files come out whole ([`super::sparse`]).

use super::sparse::{self, Map, Next, Spread};
use crate::limits;
use std::io::{self, Read};

const BLOCK: u64 = 512;

/// One entry's header with its extensions applied.
pub(crate) struct Item {
    /// The header block.
    pub(crate) header: tar::Header,
    /// Path as written.
    pub(crate) path: Vec<u8>,
    /// Link target as written.
    pub(crate) link: Vec<u8>,
    /// Size of the data in bytes.
    pub(crate) size_bytes: u64,
    /// The PAX records that belong to it, in order.
    pub(crate) pax: Vec<(Vec<u8>, Vec<u8>)>,
}

/// How much of a stream [`is_header`] wants to see.
pub const SNIFF_BYTES: u64 = BLOCK;

/// Whether a stream that begins so is an uncompressed archive: what it is called does not count. Zeros are one without
/// entries.
pub fn is_header(start: &[u8]) -> bool {
    let Some(block) = start.first_chunk::<512>() else { return false };
    if block.iter().all(|byte| *byte == 0) {
        return true;
    }
    let mut header = tar::Header::new_old();
    header.as_mut_bytes().copy_from_slice(block);
    header.cksum().ok() == Some(checksum(block))
}

/// The sum that a header's checksum field holds: all bytes, those of the field itself taken as blanks (POSIX ustar).
fn checksum(block: &[u8; 512]) -> u32 {
    let bytes = block.iter().enumerate();
    bytes.map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) }).sum()
}

/// Walks an archive.
pub(crate) struct Archive<R> {
    source: R,
    /// Data of the current entry that was not read.
    left: u64,
    /// Zeros up to the next block after that.
    padding: u64,
    /// How the data becomes a whole file, where it is a sparse one's.
    spread: Option<Spread>,
}

fn invalid(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    pax: Vec<(Vec<u8>, Vec<u8>)>,
    /// What all of them had.
    bytes: u64,
}

impl<R: Read> Archive<R> {
    pub(crate) fn new(source: R) -> Archive<R> {
        Archive { source, left: 0, padding: 0, spread: None }
    }

    /// Where it reads from.
    pub(crate) fn source_mut(&mut self) -> &mut R {
        &mut self.source
    }

    /// Whether the current entry's data are the parts of a file that are no hole.
    pub(crate) fn is_sparse(&self) -> bool {
        self.spread.is_some()
    }

    /// The next entry; whatever was not read of the one before is skipped. `None` at the end.
    pub(crate) fn next_item(&mut self) -> io::Result<Option<Item>> {
        let mut extensions = Extensions::default();
        loop {
            self.skip_rest()?;
            let Some(header) = self.read_header()? else {
                let dangling = extensions.path.is_some() || !extensions.pax.is_empty();
                return if dangling {
                    Err(invalid("an extended header with no entry after it"))
                } else {
                    Ok(None)
                };
            };
            // the size in the header itself: an extension says nothing about other extensions
            self.begin_data(size_of(&header)?);
            match header.entry_type() {
                tar::EntryType::XHeader => {
                    let body = self.read_extension(&mut extensions.bytes)?;
                    extensions.pax.extend(parse_pax(&body).ok_or_else(|| invalid("a damaged PAX header"))?);
                }
                tar::EntryType::GNULongName => {
                    extensions.path = Some(until_nul(self.read_extension(&mut extensions.bytes)?));
                }
                tar::EntryType::GNULongLink => {
                    extensions.link = Some(until_nul(self.read_extension(&mut extensions.bytes)?));
                }
                tar::EntryType::XGlobalHeader => {}
                tar::EntryType::GNUSparse => {
                    let map = sparse::old_form(&header, &mut self.source)?;
                    return self.finish_item(header, extensions, Some(map)).map(Some);
                }
                _ => return self.finish_item(header, extensions, None).map(Some),
            }
        }
    }

    fn finish_item(
        &mut self,
        header: tar::Header,
        extensions: Extensions,
        map: Option<Map>,
    ) -> io::Result<Item> {
        let mut size_bytes = size_of(&header)?;
        let record =
            |key: &[u8]| extensions.pax.iter().rev().find(|(name, _)| name == key).map(|(_, v)| v.clone());
        if let Some(size) = record(b"size") {
            let text =
                std::str::from_utf8(&size).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
            size_bytes = text
                .and_then(|text| text.parse().ok())
                .filter(|size| *size <= i64::MAX as u64)
                .ok_or_else(|| invalid("a PAX size that is no number"))?;
            self.begin_data(size_bytes);
        }
        // links and folders carry no data whatever their size field says (POSIX ustar, "size")
        let is_file = matches!(
            header.entry_type(),
            tar::EntryType::Regular | tar::EntryType::Continuous | tar::EntryType::GNUSparse
        );
        if !is_file && (size_of(&header)? == 0 || header.entry_type() == tar::EntryType::Link) {
            size_bytes = 0;
            self.begin_data(0);
        }
        let map = match map {
            None if is_file => sparse::pax_form(&extensions.pax, self)?,
            map => map,
        };
        if let Some(map) = map {
            size_bytes = map.size_bytes;
            self.spread = Some(Spread::new(map, self.left)?);
        }
        let path = record(b"GNU.sparse.name").filter(|_| self.spread.is_some());
        let path = path
            .or_else(|| record(b"path"))
            .or(extensions.path)
            .unwrap_or_else(|| header.path_bytes().into_owned());
        let own_link = || header.link_name_bytes().map(|link| link.into_owned()).unwrap_or_default();
        let link = record(b"linkpath").or(extensions.link).unwrap_or_else(own_link);
        Ok(Item { path, link, size_bytes, pax: extensions.pax, header })
    }

    fn begin_data(&mut self, size_bytes: u64) {
        self.left = size_bytes;
        self.padding = (BLOCK - size_bytes % BLOCK) % BLOCK;
    }

    /// A header block; `None` at the end mark or at the end of the stream.
    fn read_header(&mut self) -> io::Result<Option<tar::Header>> {
        let mut header = tar::Header::new_old();
        let block = header.as_mut_bytes();
        let mut filled = 0;
        while filled < block.len() {
            match self.source.read(&mut block[filled..])? {
                0 if filled == 0 => return Ok(None),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => filled += count,
            }
        }
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let sum = checksum(block);
        // the crate's own words for a field that is no number would print the file
        if header.cksum().ok() != Some(sum) {
            return Err(invalid("a header whose checksum is wrong: damaged, or no tar archive"));
        }
        Ok(Some(header))
    }

    /// Reads one of an entry's extended headers; `taken` counts the bytes of all of them, for any number may come before
    /// one entry.
    fn read_extension(&mut self, taken: &mut u64) -> io::Result<Vec<u8>> {
        if taken.saturating_add(self.left) > limits::TAR_EXTENSION_BYTES {
            return Err(invalid("extended headers that are too long"));
        }
        // one without a byte costs a header
        *taken += self.left + BLOCK;
        let mut body = Vec::with_capacity(self.left as usize);
        self.read_to_end(&mut body)?;
        if self.left > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(body)
    }

    fn skip_rest(&mut self) -> io::Result<()> {
        let wanted = self.left + self.padding;
        let skipped = io::copy(&mut self.source.by_ref().take(wanted), &mut io::sink())?;
        // an archive ends in whole blocks: one that ends within the padding was cut
        if skipped < wanted {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        (self.left, self.padding, self.spread) = (0, 0, None);
        Ok(())
    }
}

/// Reads the data of the current entry.
impl<R: Read> Read for Archive<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut most = self.left;
        if let Some(spread) = &mut self.spread {
            match spread.next() {
                None => return Ok(0),
                Some(Next::Hole(count)) => {
                    let count = buffer.len().min(usize::try_from(count).unwrap_or(usize::MAX));
                    buffer[..count].fill(0);
                    spread.advance(count as u64);
                    return Ok(count);
                }
                Some(Next::Data(count)) => most = most.min(count),
            }
        }
        let most = buffer.len().min(usize::try_from(most).unwrap_or(usize::MAX));
        if most == 0 {
            return Ok(0);
        }
        let count = self.source.read(&mut buffer[..most])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= count as u64;
        if let Some(spread) = &mut self.spread {
            spread.advance(count as u64);
        }
        Ok(count)
    }
}

fn size_of(header: &tar::Header) -> io::Result<u64> {
    header.entry_size().map_err(|_| invalid("a size that is no number"))
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    bytes.truncate(end);
    bytes
}

/// `"length key=value\n"` records, the length counting the whole record (POSIX pax, "extended header").
fn parse_pax(mut body: &[u8]) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut records = Vec::new();
    while !body.is_empty() {
        let space = body.iter().take(20).position(|byte| *byte == b' ')?;
        let length: usize = std::str::from_utf8(&body[..space]).ok()?.parse().ok()?;
        let record = body.get(space + 1..length)?.strip_suffix(b"\n")?;
        let equals = record.iter().position(|byte| *byte == b'=')?;
        records.push((record[..equals].to_vec(), record[equals + 1..].to_vec()));
        body = &body[length..];
    }
    Some(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pax_records_may_hold_line_feeds() {
        assert_eq!(parse_pax(b"8 a=b\nc\n"), Some(vec![(b"a".to_vec(), b"b\nc".to_vec())]));
        for damaged in [&b"x"[..], b"5 ab\n", b"99 a=b\n", b"-1 a=b\n", b"0 a=b\n", b"3 a=b\n"] {
            assert_eq!(parse_pax(damaged), None, "{damaged:?}");
        }
    }

    #[test]
    fn extensions_of_one_entry_have_a_cap_together() {
        let header = |kind: tar::EntryType, size: usize| {
            let mut header = tar::Header::new_ustar();
            header.set_entry_type(kind);
            header.set_path("short").expect("path");
            header.set_size(size as u64);
            header.set_cksum();
            header.as_bytes().to_vec()
        };
        let extension = |kind: tar::EntryType, body: &[u8]| {
            let mut block = [header(kind, body.len()), body.to_vec()].concat();
            block.resize(block.len().next_multiple_of(512), 0);
            block
        };
        let name = vec![b'n'; 200 << 10];
        let pax = format!("{} a={}\n", (200 << 10) + 11, "v".repeat((200 << 10) + 1)).into_bytes();
        let cases = [
            (extension(tar::EntryType::XHeader, &pax), 4, 8),
            (extension(tar::EntryType::GNULongName, &name), 4, 8),
            (extension(tar::EntryType::GNULongLink, &name), 4, 8),
            (extension(tar::EntryType::XHeader, b""), 1000, 5000),
        ];
        for (piece, fine, many) in cases {
            let read = |count: usize| {
                let bytes = [piece.repeat(count), header(tar::EntryType::Regular, 0)].concat();
                Archive::new(&bytes[..]).next_item().map(|item| item.is_some())
            };
            assert!(read(fine).expect("a few are taken"));
            assert!(read(many).expect_err("too many").to_string().contains("too long"));
        }
        // each entry has its own
        let one =
            [extension(tar::EntryType::GNULongName, &name), header(tar::EntryType::Regular, 0)].concat();
        let bytes = one.repeat(20);
        let mut archive = Archive::new(&bytes[..]);
        let mut count = 0;
        while archive.next_item().expect("read").is_some() {
            count += 1;
        }
        assert_eq!(count, 20);
    }

    #[test]
    fn a_size_belongs_to_the_next_real_entry_only() {
        // PAX size=512, then a GNU long-name header whose own size must not change, then the entry
        let mut out = Vec::new();
        let mut block = |kind: tar::EntryType, size: u64, body: &[u8]| {
            let mut header = tar::Header::new_ustar();
            header.set_entry_type(kind);
            header.set_path("short").expect("path");
            header.set_size(size);
            header.set_cksum();
            out.extend_from_slice(header.as_bytes());
            out.extend_from_slice(body);
            out.resize(out.len().next_multiple_of(512), 0);
        };
        block(tar::EntryType::XHeader, 12, b"12 size=600\n");
        block(tar::EntryType::GNULongName, 5, b"long\0");
        block(tar::EntryType::Regular, 0, &[7; 600]);
        block(tar::EntryType::Regular, 1, b"x");
        let mut archive = Archive::new(&out[..]);
        let first = archive.next_item().expect("read").expect("entry");
        assert_eq!((first.path.as_slice(), first.size_bytes), (&b"long"[..], 600));
        let second = archive.next_item().expect("read").expect("entry");
        assert_eq!((second.path.as_slice(), second.size_bytes), (&b"short"[..], 1));
        assert!(archive.next_item().expect("end").is_none());
    }
}
