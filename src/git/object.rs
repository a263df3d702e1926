//! Commits of a repository: loose ones and those in packs.
//!
//! Formats: gitformat-pack(5), gitrepository-layout(5) "objects". A loose object is `objects/ab/cdef…`, compressed,
//! with a header of its own. A pack holds objects one after the other, some of them as a delta against another of the
//! same pack; its index (version 2) is sorted by name. All numbers come from files that anybody may have written: each
//! is checked against the file's or buffer's length, and every buffer, chain and list has a cap.

use super::commit::damaged;
use flate2::bufread::ZlibDecoder;
use slipway_oci::Root;
use std::{
    fs::File,
    io::{self, BufReader, Read},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

/// Largest commit, and largest delta to one, in bytes. Its message is in it.
const COMMIT_BYTES: u64 = 4 << 20;
/// Longest chain of deltas (git's own limit of `--depth`).
const DELTA_DEPTH: usize = 4095;
/// Most packs that are looked into.
const PACKS: usize = 10_000;
/// Deepest row of repositories that borrow objects (git's limit), and the most of them.
const ALTERNATES_DEPTH: usize = 5;
const ALTERNATES: usize = 64;
/// Largest list of repositories to borrow from, in bytes.
const ALTERNATES_BYTES: u64 = 64 << 10;

/// Kinds of pack entries.
const COMMIT: u8 = 1;
const OFFSET_DELTA: u8 = 6;
const NAME_DELTA: u8 = 7;

/// The folders that a repository's objects are in: its own and those that it borrows from.
pub(super) struct Objects<'a> {
    root: &'a Root,
    folders: Vec<PathBuf>,
}

impl<'a> Objects<'a> {
    pub(super) fn open(root: &'a Root, folder: &Path) -> io::Result<Objects<'a>> {
        let mut folders = vec![folder.to_owned()];
        let mut newest = folders.clone();
        for _ in 0..ALTERNATES_DEPTH {
            let mut borrowed = Vec::new();
            for folder in &newest {
                let Ok(list) = root.read(&folder.join("info/alternates"), ALTERNATES_BYTES) else { continue };
                let lines = String::from_utf8_lossy(&list).into_owned();
                borrowed.extend(
                    lines.lines().filter(|line| !line.starts_with('#')).map(|line| folder.join(line)),
                );
            }
            borrowed.truncate(ALTERNATES.saturating_sub(folders.len()));
            folders.extend(borrowed.iter().cloned());
            newest = borrowed;
        }
        Ok(Objects { root, folders })
    }

    /// The text of the commit with the name `id`.
    pub(super) fn commit(&self, id: &str) -> io::Result<Vec<u8>> {
        let name: Vec<u8> = (0..id.len() / 2)
            .map(|at| u8::from_str_radix(&id[at * 2..at * 2 + 2], 16))
            .collect::<Result<_, _>>()
            .map_err(|_| damaged("a name of a commit that is no number"))?;
        for folder in &self.folders {
            match self.root.open_regular(&folder.join(&id[..2]).join(&id[2..])) {
                Ok(file) => return loose(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        for folder in &self.folders {
            if let Some(commit) = self.packed(&folder.join("pack"), &name)? {
                return Ok(commit);
            }
        }
        Err(io::Error::other(format!("the commit `{id}` is not there")))
    }

    fn packed(&self, folder: &Path, name: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let Ok(opened) = self.root.open_at(folder, rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty())
        else {
            return Ok(None);
        };
        let mut seen = 0;
        for entry in rustix::fs::Dir::read_from(&opened)? {
            let entry = entry?;
            let Some(stem) = entry.file_name().to_bytes().strip_suffix(b".idx") else { continue };
            seen += 1;
            if seen > PACKS {
                return Err(damaged("more packs than are looked into"));
            }
            let stem = String::from_utf8_lossy(stem).into_owned();
            let index = self.root.open_regular(&folder.join(format!("{stem}.idx")))?;
            if let Some(offset) = offset_in(&index, name)? {
                let file = self.root.open_regular(&folder.join(format!("{stem}.pack")))?;
                return Pack { file, index, name_bytes: name.len() }.commit(offset).map(Some);
            }
        }
        Ok(None)
    }
}

/// A loose object: `commit <size>\0<text>`, compressed.
fn loose(file: File) -> io::Result<Vec<u8>> {
    let whole = inflate(BufReader::new(file), COMMIT_BYTES)?;
    let end = whole.iter().position(|byte| *byte == 0).filter(|_| whole.starts_with(b"commit "));
    end.map(|end| whole[end + 1..].to_vec()).ok_or_else(|| damaged("an object that is no commit"))
}

fn inflate(source: impl io::BufRead, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    ZlibDecoder::new(source).take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(damaged("a commit that is too large"));
    }
    Ok(bytes)
}

/// Where the object is in the pack that `index` is of. Layout: magic, 256 running counts by first byte, names, checksums
/// of 4 bytes, offsets of 4 bytes, and 8-byte offsets for those that do not fit.
fn offset_in(index: &File, name: &[u8]) -> io::Result<Option<u64>> {
    let mut magic = [0; 8];
    index.read_exact_at(&mut magic, 0)?;
    if magic != *b"\xfftOc\0\0\0\x02" {
        return Err(damaged("a pack index of a version other than 2"));
    }
    let count_up_to = |byte: u8| number(index, 8 + u64::from(byte) * 4);
    let all = count_up_to(255)?;
    let (mut low, mut high) =
        (if name[0] == 0 { 0 } else { count_up_to(name[0] - 1)? }, count_up_to(name[0])?);
    let (names, width) = (8 + 256 * 4, name.len() as u64);
    let mut here = vec![0; name.len()];
    while low < high {
        let middle = low + (high - low) / 2;
        index.read_exact_at(&mut here, names + middle * width)?;
        match here.as_slice().cmp(name) {
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Greater => high = middle,
            std::cmp::Ordering::Equal => {
                let offsets = names + all * (width + 4);
                let offset = number(index, offsets + middle * 4)?;
                if offset & 0x8000_0000 == 0 {
                    return Ok(Some(offset));
                }
                let mut large = [0; 8];
                index.read_exact_at(&mut large, offsets + all * 4 + (offset & 0x7fff_ffff) * 8)?;
                return Ok(Some(u64::from_be_bytes(large)));
            }
        }
    }
    Ok(None)
}

fn number(file: &File, at: u64) -> io::Result<u64> {
    let mut bytes = [0; 4];
    file.read_exact_at(&mut bytes, at)?;
    Ok(u64::from(u32::from_be_bytes(bytes)))
}

struct Pack {
    file: File,
    index: File,
    name_bytes: usize,
}

/// What stands before an entry's compressed data.
struct EntryHead {
    kind: u8,
    /// Where the data begins.
    data: u64,
    /// Where the entry begins that a delta is against.
    base: u64,
}

impl Pack {
    /// The commit at `offset`, its deltas applied.
    fn commit(&self, offset: u64) -> io::Result<Vec<u8>> {
        let (mut at, mut deltas): (u64, Vec<Vec<u8>>) = (offset, Vec::new());
        loop {
            let head = self.head(at)?;
            let data = BufReader::new(FileFrom { file: &self.file, at: head.data });
            match head.kind {
                COMMIT => {
                    let text = inflate(data, COMMIT_BYTES)?;
                    return deltas.iter().rev().try_fold(text, |text, delta| {
                        patch(&text, delta).ok_or_else(|| damaged("a damaged delta"))
                    });
                }
                OFFSET_DELTA | NAME_DELTA if deltas.len() < DELTA_DEPTH => {
                    deltas.push(inflate(data, COMMIT_BYTES)?);
                    if deltas.iter().map(|delta| delta.len() as u64).sum::<u64>() > 4 * COMMIT_BYTES {
                        return Err(damaged("deltas that are too large"));
                    }
                    at = head.base;
                }
                _ => return Err(damaged("an object that is no commit")),
            }
        }
    }

    fn head(&self, offset: u64) -> io::Result<EntryHead> {
        let mut bytes = [0; 64];
        let count = self.file.read_at(&mut bytes, offset)?;
        let mut rest = &bytes[..count];
        let mut next = || -> io::Result<u8> {
            let (first, after) = rest.split_first().ok_or(io::ErrorKind::UnexpectedEof)?;
            rest = after;
            Ok(*first)
        };
        let mut byte = next()?;
        let kind = (byte >> 4) & 7;
        // the size goes on while the top bit is set; the data's own end is what counts
        while byte & 0x80 != 0 {
            byte = next()?;
        }
        let base = match kind {
            OFFSET_DELTA => {
                byte = next()?;
                let mut back = u64::from(byte & 0x7f);
                while byte & 0x80 != 0 {
                    byte = next()?;
                    back = (back.checked_add(1).filter(|back| back >> 56 == 0))
                        .map(|back| back << 7 | u64::from(byte & 0x7f))
                        .ok_or_else(|| damaged("a delta against nothing"))?;
                }
                offset
                    .checked_sub(back)
                    .filter(|_| back > 0)
                    .ok_or_else(|| damaged("a delta against nothing"))?
            }
            NAME_DELTA => {
                let name: Vec<u8> = (0..self.name_bytes).map(|_| next()).collect::<io::Result<_>>()?;
                offset_in(&self.index, &name)?.ok_or_else(|| damaged("a delta against nothing"))?
            }
            _ => 0,
        };
        Ok(EntryHead { kind, data: offset + (count - rest.len()) as u64, base })
    }
}

/// Reads a file from a place on.
struct FileFrom<'a> {
    file: &'a File,
    at: u64,
}

impl Read for FileFrom<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

/// Applies a delta: two sizes, then pieces that are copied from `base` or stand in the delta itself.
fn patch(base: &[u8], delta: &[u8]) -> Option<Vec<u8>> {
    let mut rest = delta;
    let mut next = || {
        let (first, after) = rest.split_first()?;
        rest = after;
        Some(*first)
    };
    let mut size = || {
        let (mut value, mut shift) = (0u64, 0);
        loop {
            let byte = next()?;
            value |= u64::from(byte & 0x7f).checked_shl(shift)?;
            shift += 7;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
    };
    let (before, after) = (size()?, size()?);
    if before != base.len() as u64 || after > COMMIT_BYTES {
        return None;
    }
    let mut text = Vec::with_capacity(after as usize);
    while let Some((operation, tail)) = rest.split_first() {
        rest = tail;
        if operation & 0x80 == 0 {
            // 0 is reserved
            let count = usize::from(*operation);
            let (piece, tail) = rest.split_at_checked(count).filter(|_| count > 0)?;
            text.extend_from_slice(piece);
            rest = tail;
        } else {
            let mut field = |bits: std::ops::Range<u8>| {
                let mut value = 0usize;
                for (place, bit) in bits.enumerate() {
                    if operation & (1 << bit) != 0 {
                        let (byte, tail) = rest.split_first()?;
                        value |= usize::from(*byte) << (8 * place);
                        rest = tail;
                    }
                }
                Some(value)
            };
            let (start, count) = (field(0..4)?, field(4..7)?);
            let count = if count == 0 { 0x10000 } else { count };
            text.extend_from_slice(base.get(start..start.checked_add(count)?)?);
        }
        if text.len() as u64 > after {
            return None;
        }
    }
    (text.len() as u64 == after).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deltas() {
        // copy 4 from 1, insert "XY", copy 2 from 0
        let delta = [6, 8, 0x91, 1, 4, 2, b'X', b'Y', 0x90, 2];
        assert_eq!(patch(b"abcdef", &delta), Some(b"bcdeXYab".to_vec()));
        for cut in 0..delta.len() {
            assert_eq!(patch(b"abcdef", &delta[..cut]), None, "cut at {cut}");
        }
        assert_eq!(patch(b"abc", &delta), None, "another base");
        assert_eq!(patch(b"abcdef", &[6, 1, 0x91, 6, 1]), None, "beyond the base");
        assert_eq!(patch(b"abcdef", &[6, 1, 0]), None, "the reserved operation");
        assert_eq!(patch(b"abcdef", &[6, 0xff, 0xff, 0xff, 0xff, 0x7f]), None, "too large");
        assert_eq!(patch(b"", &[0xff; 40]), None, "a size without end");
    }

    /// Whatever bytes stand in index and pack, reading ends and answers.
    #[test]
    fn damage_is_an_error() {
        let folder = tempfile::tempdir().expect("folder");
        let mut index = b"\xfftOc\0\0\0\x02".to_vec();
        index.extend([[0, 0, 0, 1]; 256].concat());
        index.extend([0; 20]);
        index.extend([0; 4]);
        index.extend([0, 0, 0, 12]);
        let name = [0; 20];
        let write = |bytes: &[u8]| {
            std::fs::write(folder.path().join("file"), bytes).expect("write");
            File::open(folder.path().join("file")).expect("open")
        };
        assert_eq!(offset_in(&write(&index), &name).expect("found"), Some(12));
        assert_eq!(offset_in(&write(&index), &[1; 20]).expect("absent"), None);
        for cut in 0..index.len() {
            assert!(offset_in(&write(&index[..cut]), &name).is_err(), "cut at {cut}");
        }
        // a delta against itself, by offset and by name, and one of each kind that is no commit
        for first in [0xe0u8, 0xf0, 0x60, 0x70, 0x20, 0x30, 0x40, 0x00] {
            let mut bytes = vec![0; 12];
            bytes.push(first);
            bytes.extend([0; 60]);
            let file = write(&bytes);
            let index = {
                std::fs::write(folder.path().join("index"), &index).expect("write");
                File::open(folder.path().join("index")).expect("open")
            };
            assert!(Pack { file, index, name_bytes: 20 }.commit(12).is_err(), "{first:#x}");
        }
    }
}
