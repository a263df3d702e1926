//! A layer's table of contents, and its file format.
//!
//! Format, version 3: the magic `SLIPTOC3`, a little-endian count (u32), then the entries sorted by path. An entry is
//! kind (u8), flags (u8: 1 opaque, 2 implicit, 4 content follows), mode, uid, gid (u32 each), mtime (i64), size
//! (u64), device major and minor (u32 each), path and link (u32 length and bytes each), the count of extended
//! attributes (u16) with name and value (u32 length and bytes each), and 32 bytes of BLAKE3 where content follows.
//! The file is derived from the archive; a damaged one, or one of another version, is made again. (Version 1 had the same
//! bytes, but did not say beneath which layers a table with missing parents was made; versions 1 and 2 had SHA-256.)

use super::entry::{Entry, Kind};
use crate::{Digest, file, limits};
use std::{io, path::Path};

const MAGIC: &[u8; 8] = b"SLIPTOC3";
/// What the magics of all versions begin with.
const FAMILY: &[u8] = MAGIC.split_at(7).0;
const FLAG_OPAQUE: u8 = 1;
const FLAG_IMPLICIT: u8 = 2;
const FLAG_CONTENT: u8 = 4;
/// Largest table file that is read, in bytes.
const MOST_BYTES: u64 = 2 << 30;

/// A table that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TocError {
    /// The file system refused.
    #[error("cannot read the table of contents `{0}`")]
    Io(std::path::PathBuf, #[source] io::Error),
    /// A table of another version.
    #[error("the table of contents `{0}` is of another version of slipway")]
    Other(std::path::PathBuf),
    /// No table, cut off, or unsorted.
    #[error("the table of contents `{0}` is damaged")]
    Damaged(std::path::PathBuf),
}

/// Every path of one layer, sorted by its bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Toc {
    entries: Vec<Entry>,
}

impl Toc {
    /// A table of `entries`. Of two entries of one path the later wins, as in an archive; a whiteout and an entry of
    /// one path are a replacement: the entry, and where it is a folder, an opaque one.
    pub fn new(mut entries: Vec<Entry>) -> Toc {
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        let mut merged: Vec<Entry> = Vec::with_capacity(entries.len());
        for mut entry in entries {
            match merged.last_mut().filter(|last| last.path == entry.path) {
                Some(last) if entry.kind == Kind::Whiteout => last.opaque |= last.is_directory(),
                Some(last) => {
                    entry.opaque |= entry.is_directory() && (last.kind == Kind::Whiteout || last.opaque);
                    entry.implicit &= last.implicit || last.kind == Kind::Whiteout;
                    *last = entry;
                }
                None => merged.push(entry),
            }
        }
        Toc { entries: merged }
    }

    /// All entries, sorted by path.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entry of exactly `path`.
    pub fn get(&self, path: &[u8]) -> Option<&Entry> {
        self.position(path).map(|index| &self.entries[index])
    }

    /// Where in [`Toc::entries`] that is.
    pub(crate) fn position(&self, path: &[u8]) -> Option<usize> {
        self.entries.binary_search_by(|entry| entry.path.as_slice().cmp(path)).ok()
    }

    /// The same as [`Toc::get`] for paths most of which come in order: `next` is where the one after the last is.
    pub(crate) fn get_in_order(&self, path: &[u8], next: &mut usize) -> Option<&Entry> {
        let is_next = self.entries.get(*next).is_some_and(|entry| entry.path == path);
        let index = if is_next { *next } else { self.position(path)? };
        *next = index + 1;
        Some(&self.entries[index])
    }

    /// Whether there is anything below `folder`, deletions included.
    pub(crate) fn has_below(&self, folder: &[u8]) -> bool {
        let prefix = if folder.is_empty() { Vec::new() } else { [folder, b"/"].concat() };
        let below = self.entries.partition_point(|entry| entry.path <= prefix);
        self.entries.get(below).is_some_and(|entry| entry.path.starts_with(&prefix))
    }

    /// The entries directly in `folder`.
    pub fn children<'a>(&'a self, folder: &[u8]) -> impl Iterator<Item = &'a Entry> + use<'a> {
        let mut prefix = folder.to_vec();
        if !prefix.is_empty() {
            prefix.push(b'/');
        }
        let mut index = self.entries.partition_point(|entry| entry.path.as_slice() < prefix.as_slice());
        std::iter::from_fn(move || {
            loop {
                let entry = self.entries.get(index).filter(|entry| entry.path.starts_with(&prefix))?;
                let rest = &entry.path[prefix.len()..];
                match rest.iter().position(|byte| *byte == b'/') {
                    None if rest.is_empty() => index += 1, // the root itself
                    None => {
                        index += 1;
                        return Some(entry);
                    }
                    Some(slash) => {
                        // past the whole subtree in one jump: '0' follows '/'
                        let mut past = entry.path[..prefix.len() + slash].to_vec();
                        past.push(b'0');
                        index += self.entries[index..].partition_point(|entry| entry.path < past);
                    }
                }
            }
        })
    }

    /// Whether the layer has folders whose attributes only lower layers know.
    pub fn has_implicit(&self) -> bool {
        self.entries.iter().any(|entry| entry.implicit)
    }

    /// Sum of the files' sizes in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.entries.iter().map(|entry| entry.size_bytes).sum()
    }

    /// Reads a table.
    pub fn load(path: &Path) -> Result<Toc, TocError> {
        let bytes =
            file::read_capped(path, MOST_BYTES).map_err(|error| TocError::Io(path.to_owned(), error))?;
        Toc::decode(&bytes).ok_or_else(|| match bytes.starts_with(FAMILY) && !bytes.starts_with(MAGIC) {
            true => TocError::Other(path.to_owned()),
            false => TocError::Damaged(path.to_owned()),
        })
    }

    /// Writes the table into `temporary` and moves it to its place ([`crate::file::replace`]).
    pub fn save(&self, path: &Path, temporary: &Path) -> io::Result<()> {
        crate::file::replace(path, temporary, &self.encode())
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.entries.len() * 120 + 16);
        out.extend_from_slice(MAGIC);
        put_u32(&mut out, self.entries.len());
        for entry in &self.entries {
            let mut flags = 0;
            for (flag, set) in [
                (FLAG_OPAQUE, entry.opaque),
                (FLAG_IMPLICIT, entry.implicit),
                (FLAG_CONTENT, entry.content.is_some()),
            ] {
                flags |= if set { flag } else { 0 };
            }
            out.extend_from_slice(&[entry.kind as u8, flags]);
            for value in [entry.mode, entry.uid, entry.gid] {
                out.extend_from_slice(&value.to_le_bytes());
            }
            out.extend_from_slice(&entry.mtime.to_le_bytes());
            out.extend_from_slice(&entry.size_bytes.to_le_bytes());
            out.extend_from_slice(&entry.device.0.to_le_bytes());
            out.extend_from_slice(&entry.device.1.to_le_bytes());
            put_bytes(&mut out, &entry.path);
            put_bytes(&mut out, &entry.link);
            out.extend_from_slice(&(entry.xattrs.len() as u16).to_le_bytes());
            for (name, value) in &entry.xattrs {
                put_bytes(&mut out, name);
                put_bytes(&mut out, value);
            }
            if let Some(digest) = &entry.content {
                out.extend_from_slice(digest.as_bytes());
            }
        }
        out
    }

    fn decode(bytes: &[u8]) -> Option<Toc> {
        let mut input = Input(bytes.strip_prefix(MAGIC)?);
        let count = input.u32()? as usize;
        // an entry has at least 56 bytes: a lying count cannot make us allocate more than the file is worth
        let mut entries = Vec::with_capacity(count.min(bytes.len() / 56));
        for _ in 0..count {
            let (kind, flags) = (Kind::from_u8(input.u8()?)?, input.u8()?);
            let mut entry = Entry::new(Vec::new(), kind, input.u32()?);
            (entry.uid, entry.gid) = (input.u32()?, input.u32()?);
            entry.mtime = input.u64()? as i64;
            entry.size_bytes = input.u64()?;
            entry.device = (input.u32()?, input.u32()?);
            (entry.path, entry.link) = (input.bytes()?.to_vec(), input.bytes()?.to_vec());
            for _ in 0..input.u16()? {
                entry.xattrs.push((input.bytes()?.to_vec(), input.bytes()?.to_vec()));
            }
            (entry.opaque, entry.implicit) = (flags & FLAG_OPAQUE != 0, flags & FLAG_IMPLICIT != 0);
            if flags & FLAG_CONTENT != 0 {
                entry.content = Some(Digest::of_content(input.take(32)?.try_into().ok()?));
            }
            entries.push(entry);
        }
        let sorted = entries.windows(2).all(|pair| pair[0].path < pair[1].path);
        (sorted && input.0.is_empty() && entries.len() as u64 <= limits::LAYER_ENTRIES)
            .then_some(Toc { entries })
    }
}

fn put_u32(out: &mut Vec<u8>, value: usize) {
    out.extend_from_slice(&u32::try_from(value).expect("lengths are capped far below 4 GiB").to_le_bytes());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u32(out, bytes.len());
    out.extend_from_slice(bytes);
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }
    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }
    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_le_bytes(self.take(2)?.try_into().ok()?))
    }
    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }
    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }
    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.u32()? as usize;
        self.take(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Toc {
        let mut file = Entry::new("a/b", Kind::File, 0o644);
        file.content = Some(Digest::content(b"x"));
        file.xattrs = vec![(b"user.k".to_vec(), b"v".to_vec())];
        Toc::new(vec![
            file,
            Entry::new("a", Kind::Directory, 0o755),
            Entry::new("a-b", Kind::Whiteout, 0),
            Entry::new("", Kind::Directory, 0o755),
            Entry::new("a/c/d", Kind::File, 0o600),
            Entry::new("a/c", Kind::Directory, 0o755),
        ])
    }

    #[test]
    fn round_trip_and_damage() {
        let toc = sample();
        let bytes = toc.encode();
        assert_eq!(Toc::decode(&bytes), Some(toc));
        for cut in 0..bytes.len() {
            assert_eq!(Toc::decode(&bytes[..cut]), None, "cut at {cut}");
        }
    }

    #[test]
    fn what_is_below_a_folder_is_told_from_what_sorts_near_it() {
        let toc = sample();
        let paths: Vec<&str> = ["", "a", "a/b", "a/c", "a-b", "a/c/d", "b"].into();
        let below: Vec<&str> = paths.iter().copied().filter(|path| toc.has_below(path.as_bytes())).collect();
        assert_eq!(below, ["", "a", "a/c"]);
        assert!(!Toc::new(vec![Entry::new("", Kind::Directory, 0o755)]).has_below(b""));
    }

    #[test]
    fn order_saves_looking_and_changes_nothing() {
        let toc = sample();
        let mut next = 0;
        for path in ["a/b", "a/c", "a/c/d", "", "none", "a", "a-b", "a-b", "a/b"] {
            assert_eq!(toc.get_in_order(path.as_bytes(), &mut next), toc.get(path.as_bytes()), "{path}");
        }
    }

    #[test]
    fn children_are_direct() {
        let toc = sample();
        let names = |folder: &str| -> Vec<String> {
            toc.children(folder.as_bytes()).map(|e| String::from_utf8_lossy(&e.path).into_owned()).collect()
        };
        assert_eq!(names(""), ["a", "a-b"]);
        assert_eq!(names("a"), ["a/b", "a/c"]);
        assert!(names("a/b").is_empty());
    }

    #[test]
    fn a_whiteout_beside_its_replacement_is_opaque() {
        let whiteout = Entry::new("d", Kind::Whiteout, 0);
        let folder = Entry::new("d", Kind::Directory, 0o700);
        for order in [vec![whiteout.clone(), folder.clone()], vec![folder, whiteout]] {
            let toc = Toc::new(order);
            assert_eq!(toc.entries().len(), 1);
            assert!(toc.entries()[0].opaque);
        }
    }
}
