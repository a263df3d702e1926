//! From a hostile archive to a folder in overlayfs form and a table of contents.
//!
//! Rules that hold for every entry: its path is cleaned and refused where it has `..`; its parent is opened inside the
//! target with [`Root`], so a link that the archive itself made cannot lead out; the object is made with `O_EXCL` or
//! its kin on the held parent; a hard link's target is looked up the same way and must be a file of this layer;
//! counts, sizes and lengths are capped. What was there under the name before is removed first: in a layer the later
//! entry wins.

use super::{
    LayerError, OverlayXattrs,
    archive::{Archive, Item},
    describe::describe,
    disk::Disk,
    entry::{Entry, Kind, name_of, parent_of},
    footing::{Footing, link_target},
    sink::{Nowhere, Sink},
    toc::Toc,
};
use crate::{
    Algorithm, Digest,
    compression::BackgroundReader,
    digest::HashingReader,
    erofs::{Earlier, Search, Seeking, Writer, Written},
    limits,
    unpacking::TooMuch,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    ffi::OsStr,
    fs::File,
    io::{self, Read},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// An archive that was read to its end.
#[derive(Debug)]
pub struct Unpacked {
    /// Digest of the archive as it was read.
    pub diff_id: Digest,
    /// Size of the archive in bytes.
    pub archive_bytes: u64,
    /// What the layer holds.
    pub toc: Toc,
}

/// Unpacks the uncompressed archive `source` into the empty folder `target`.
///
/// Parents that the archive does not name are looked up in `footing`: a link there is followed and a folder there lends
/// its attributes; without a footing such parents are plain folders marked implicit.
pub fn unpack(
    source: impl Read,
    target: &Path,
    xattrs: OverlayXattrs,
    footing: Option<&Footing>,
) -> Result<Unpacked, LayerError> {
    read_archive(hashing(source), &mut Disk::open(target, xattrs)?, footing)
}

/// The same of an archive that comes from a thread of its own.
pub(crate) fn unpack_ahead(
    source: BackgroundReader,
    target: &Path,
    xattrs: OverlayXattrs,
    footing: Option<&Footing>,
) -> Result<Unpacked, LayerError> {
    read_archive(source, &mut Disk::open(target, xattrs)?, footing)
}

/// Writes the uncompressed archive `source` into the empty file `target`, which the kernel then mounts as the folder that
/// [`unpack`] would make on the same footing.
pub fn write_image(
    source: impl Read,
    target: File,
    footing: Option<&Footing>,
) -> Result<(Unpacked, Written), LayerError> {
    write_archive(hashing(source), Writer::new(target, Arc::default()), footing)
}

/// The same without the contents that `earlier` has: the file refers to them there.
pub fn write_image_on(
    source: impl Read,
    target: File,
    earlier: Arc<Earlier>,
    footing: Option<&Footing>,
) -> Result<(Unpacked, Written), LayerError> {
    write_archive(hashing(source), Writer::new(target, earlier), footing)
}

/// As [`write_image`], of an archive that comes from a thread of its own.
pub(crate) fn write_image_ahead(
    source: BackgroundReader,
    target: File,
    earlier: Arc<Earlier>,
    footing: Option<&Footing>,
) -> Result<(Unpacked, Written), LayerError> {
    write_archive(source, Writer::new(target, earlier), footing)
}

/// The same of one of which nobody knows what it holds: `search` looks for earlier layers that it is like.
pub(crate) fn write_image_seeking(
    source: BackgroundReader,
    target: File,
    search: &mut dyn Search,
    footing: Option<&Footing>,
) -> Result<(Unpacked, Written), LayerError> {
    seek_archive(source, Writer::new(target, Arc::default()), search, footing)
}

/// Writes the archive of a layer that stands on nothing; `search` as for [`write_image_seeking`].
pub(super) fn write_plain(
    source: impl Read,
    writer: Writer,
    search: Option<&mut dyn Search>,
) -> Result<(Unpacked, Written), LayerError> {
    match search {
        Some(search) => seek_archive(hashing(source), writer, search, None),
        None => write_archive(hashing(source), writer, None),
    }
}

fn seek_archive(
    source: impl Digested,
    writer: Writer,
    search: &mut dyn Search,
    footing: Option<&Footing>,
) -> Result<(Unpacked, Written), LayerError> {
    let mut seeking = Seeking::new(writer, search);
    let unpacked = read_archive(source, &mut seeking, footing)?;
    let written = seeking.finish(&unpacked.toc)?;
    Ok((unpacked, written))
}

fn write_archive(
    source: impl Digested,
    mut writer: Writer,
    footing: Option<&Footing>,
) -> Result<(Unpacked, Written), LayerError> {
    let unpacked = read_archive(source, &mut writer, footing)?;
    let written = writer.finish(&unpacked.toc)?;
    Ok((unpacked, written))
}

/// Reads the uncompressed archive `source` for its table of contents and diff id; nothing is put on disk. The table is
/// that of the folder which [`unpack`] would make on the same footing.
pub fn index(source: impl Read, footing: Option<&Footing>) -> Result<Unpacked, LayerError> {
    read_archive(hashing(source), &mut Nowhere, footing)
}

/// The same of an archive that comes from a thread of its own.
pub(crate) fn index_ahead(
    source: BackgroundReader,
    footing: Option<&Footing>,
) -> Result<Unpacked, LayerError> {
    read_archive(source, &mut Nowhere, footing)
}

/// An archive whose bytes are digested while it is read.
trait Digested: Read {
    /// The digest of all its bytes, and how many there were, once it was read to its end.
    fn end(self) -> io::Result<(Digest, u64)>;
}

impl<R: Read> Digested for HashingReader<R> {
    fn end(self) -> io::Result<(Digest, u64)> {
        let (_, digest, bytes) = self.finish();
        Ok((digest, bytes))
    }
}

impl Digested for BackgroundReader {
    fn end(self) -> io::Result<(Digest, u64)> {
        self.finish().ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

fn hashing<R: Read>(source: R) -> HashingReader<R> {
    HashingReader::new(source, Algorithm::Sha256)
}

struct Unpacker<'a> {
    sink: &'a mut dyn Sink,
    footing: Option<&'a Footing>,
    entries: BTreeMap<Vec<u8>, Entry>,
    /// Names that were linked to a file's first one, by that; some may have been taken away again.
    linked: HashMap<Vec<u8>, BTreeSet<Vec<u8>>>,
    /// How many of them were looked at because a first name went.
    passed_on: u64,
    whiteouts: HashSet<Vec<u8>>,
    unpacked_bytes: u64,
    /// Links that the current entry's parents led through.
    links: usize,
}

fn read_archive(
    mut source: impl Digested,
    sink: &mut dyn Sink,
    footing: Option<&Footing>,
) -> Result<Unpacked, LayerError> {
    let mut unpacker = Unpacker {
        sink,
        footing,
        entries: BTreeMap::new(),
        linked: HashMap::new(),
        passed_on: 0,
        whiteouts: HashSet::new(),
        unpacked_bytes: 0,
        links: 0,
    };
    let mut archive = Archive::new(&mut source);
    let mut count = 0;
    while let Some(item) = archive.next_item().map_err(LayerError::Archive)? {
        count += 1;
        if count > limits::LAYER_ENTRIES {
            return Err(LayerError::Limit { what: "entries", most: limits::LAYER_ENTRIES });
        }
        unpacker.take(&item, &mut archive)?;
    }
    // the diff id is that of all bytes, those after the end mark included
    io::copy(&mut source, &mut io::sink()).map_err(LayerError::Archive)?;
    let (diff_id, archive_bytes) = source.end().map_err(LayerError::Archive)?;
    unpacker.finish(diff_id, archive_bytes)
}

impl Unpacker<'_> {
    fn take(&mut self, item: &Item, source: &mut impl Read) -> Result<(), LayerError> {
        let mut entry = describe(item)?;
        let name = name_of(&entry.path).to_vec();
        if let Some(path) = parent_of(&entry.path).map(<[u8]>::to_vec) {
            self.links = 0;
            let parent = self.ensure_parent(&path)?;
            entry.path = super::entry::join(&parent, &name);
        }
        if name == b".wh..wh..opq" {
            let parent = parent_of(&entry.path).unwrap_or_default().to_vec();
            return self.make_opaque(&parent);
        }
        if name.starts_with(b".wh..wh.") {
            return Ok(()); // aufs's own book-keeping
        }
        if let Some(deleted) = name.strip_prefix(b".wh.") {
            if deleted.is_empty() || deleted == b"." || deleted == b".." {
                return Err(bad(&entry.path, "a whiteout that names no file"));
            }
            let path = super::entry::join(parent_of(&entry.path).unwrap_or_default(), deleted);
            return self.whiteout(path, entry.mtime);
        }
        self.place(entry, source)
    }

    fn place(&mut self, mut entry: Entry, source: &mut impl Read) -> Result<(), LayerError> {
        if entry.kind == Kind::Hardlink {
            entry.link = self.hardlink_target(&entry)?;
            self.linked.entry(entry.link.clone()).or_default().insert(entry.path.clone());
        }
        if let Some(previous) = self.entries.get(&entry.path) {
            let both_folders = previous.is_directory() && entry.is_directory();
            entry.opaque |= both_folders && previous.opaque;
            if !both_folders {
                self.remove(&entry.path.clone())?;
            }
        }
        if self.whiteouts.remove(&entry.path) {
            entry.opaque |= entry.is_directory();
        }
        self.unpacked_bytes = self.unpacked_bytes.saturating_add(entry.size_bytes);
        let most = crate::unpacking::most_bytes();
        if self.unpacked_bytes > most {
            return Err(LayerError::TooMuch(TooMuch::Bytes { most }));
        }
        entry.content = self.sink.create(&entry, source)?;
        self.entries.insert(entry.path.clone(), entry);
        Ok(())
    }

    /// Sees to it that the folder `path` is there and answers where it really is.
    fn ensure_parent(&mut self, path: &[u8]) -> Result<Vec<u8>, LayerError> {
        match self.entries.get(path) {
            Some(entry) if entry.is_directory() => return Ok(path.to_vec()),
            None if path.is_empty() => return Ok(Vec::new()),
            _ => {}
        }
        let parent = self.ensure_parent(parent_of(path).unwrap_or_default())?;
        let here = super::entry::join(&parent, name_of(path));
        match self.entries.get(&here) {
            Some(entry) if entry.is_directory() => return Ok(here),
            Some(entry) if entry.kind == Kind::Symlink => {
                let target = link_target(&here, &entry.link.clone());
                return self.ensure_followed(&target);
            }
            Some(_) => self.remove(&here)?,
            None => {}
        }
        let mut folder = Entry::new(here.clone(), Kind::Directory, 0o755);
        folder.implicit = true;
        let found = if self.whiteouts.contains(&here) { None } else { self.beneath(&here)? };
        match found {
            Some(entry) if entry.kind == Kind::Symlink => {
                let target = link_target(&here, &entry.link);
                return self.ensure_followed(&target);
            }
            Some(entry) if entry.is_directory() => {
                folder = Entry { opaque: false, content: None, ..entry.clone() };
                folder.implicit = false;
            }
            _ => {}
        }
        self.place(folder, &mut io::empty())?;
        Ok(here)
    }

    fn ensure_followed(&mut self, target: &[u8]) -> Result<Vec<u8>, LayerError> {
        // in all, as the kernel counts: links that each name the next one twice are a bomb of any small depth
        self.links += 1;
        if self.links > limits::SYMLINKS || target.len() > limits::PATH_BYTES {
            return Err(bad(target, "its folder leads through too many links"));
        }
        let mut here = Vec::new();
        for component in super::tree::components(target) {
            if component == b".." {
                here.truncate(parent_of(&here).map_or(0, <[u8]>::len));
                continue;
            }
            let next = super::entry::join(&here, component);
            let entry = match self.entries.get(&next) {
                Some(own) => Some(own.clone()),
                None => self.beneath(&next)?.cloned(),
            };
            here = match entry {
                Some(entry) if entry.kind == Kind::Symlink => {
                    self.ensure_followed(&link_target(&next, &entry.link))?
                }
                _ => self.ensure_parent(&next)?,
            };
        }
        Ok(here)
    }

    /// What the layers beneath have at `path`.
    fn beneath(&self, path: &[u8]) -> Result<Option<&Entry>, LayerError> {
        let Some(footing) = self.footing else { return Ok(None) };
        // else what is unpacked would depend on more than its name says
        let unforeseen =
            || bad(path, "a folder that is reached through a link which the archive replaces later");
        footing.get(path).ok_or_else(unforeseen)
    }

    fn hardlink_target(&self, entry: &Entry) -> Result<Vec<u8>, LayerError> {
        let target =
            clean(&entry.link).ok_or_else(|| bad(&entry.path, "a hard link that leads out of the layer"))?;
        let first = match self.entries.get(&target) {
            Some(found) if found.kind == Kind::Hardlink => found.link.clone(),
            Some(found) if !found.is_directory() => target,
            _ => return Err(bad(&entry.path, "a hard link to a file that is not in the layer")),
        };
        if first == entry.path {
            return Err(bad(&entry.path, "a hard link to itself"));
        }
        if first.strip_prefix(entry.path.as_slice()).is_some_and(|below| below.starts_with(b"/")) {
            return Err(bad(&entry.path, "a hard link to a file in the folder that it replaces"));
        }
        Ok(first)
    }

    fn whiteout(&mut self, path: Vec<u8>, mtime: i64) -> Result<(), LayerError> {
        if let Some(entry) = self.entries.get_mut(&path) {
            // the replacement came first in the archive: what is below it is hidden, it stays
            if entry.is_directory() {
                return self.make_opaque(&path);
            }
            return Ok(());
        }
        self.sink.whiteout(&path)?;
        self.whiteouts.insert(path.clone());
        let mut entry = Entry::new(path.clone(), Kind::Whiteout, 0);
        entry.mtime = mtime;
        self.entries.insert(path, entry);
        Ok(())
    }

    fn make_opaque(&mut self, path: &[u8]) -> Result<(), LayerError> {
        if path.is_empty() {
            self.entries.entry(Vec::new()).or_insert_with(|| Entry::new("", Kind::Directory, 0o755));
        }
        let Some(entry) = self.entries.get_mut(path).filter(|entry| entry.is_directory()) else {
            return Err(bad(path, "an opaque mark for what is no folder"));
        };
        entry.opaque = true;
        self.sink.set_opaque(path)
    }

    fn remove(&mut self, path: &[u8]) -> Result<(), LayerError> {
        let mut prefix = path.to_vec();
        let mut gone: Vec<Entry> = self.entries.remove(path).into_iter().collect();
        prefix.push(b'/');
        let below: Vec<Vec<u8>> = self
            .entries
            .range(prefix.clone()..)
            .take_while(|(name, _)| name.starts_with(&prefix))
            .map(|(name, _)| name.clone())
            .collect();
        for name in below {
            gone.extend(self.entries.remove(&name));
            self.whiteouts.remove(&name);
        }
        gone.into_iter().try_for_each(|entry| self.pass_on(entry))?;
        self.sink.remove(path)
    }

    /// A file whose first name is gone is still what its other names say: one of them is the first now. All of them are
    /// looked at each time, so that this is bounded as a whole.
    fn pass_on(&mut self, gone: Entry) -> Result<(), LayerError> {
        let Some(names) = self.linked.remove(&gone.path) else { return Ok(()) };
        self.passed_on += names.len() as u64;
        if self.passed_on > limits::LINKS_PASSED_ON {
            let most = limits::LINKS_PASSED_ON;
            return Err(LayerError::Limit { what: "names of files whose first names are replaced", most });
        }
        let is_linked = |name: &Vec<u8>| {
            self.entries
                .get(name)
                .is_some_and(|entry| entry.kind == Kind::Hardlink && entry.link == gone.path)
        };
        let mut names: BTreeSet<Vec<u8>> = names.into_iter().filter(is_linked).collect();
        let Some(first) = names.pop_first() else { return Ok(()) };
        self.entries.insert(first.clone(), Entry { path: first.clone(), ..gone });
        for name in &names {
            if let Some(entry) = self.entries.get_mut(name) {
                entry.link.clone_from(&first);
            }
        }
        self.linked.insert(first, names);
        Ok(())
    }

    fn finish(self, diff_id: Digest, archive_bytes: u64) -> Result<Unpacked, LayerError> {
        // folders last and deepest first: making their children changed their times
        for entry in self.entries.values().rev().filter(|entry| entry.is_directory()) {
            self.sink.finish_folder(entry)?;
        }
        Ok(Unpacked { diff_id, archive_bytes, toc: Toc::new(self.entries.into_values().collect()) })
    }
}

pub(super) fn bad(path: &[u8], reason: &'static str) -> LayerError {
    LayerError::Entry { path: PathBuf::from(OsStr::from_bytes(path)), reason }
}

/// A path without `.`, empty components and a leading slash; `None` where it has `..` or is too long.
pub(super) fn clean(path: &[u8]) -> Option<Vec<u8>> {
    if path.len() > limits::PATH_BYTES || path.contains(&0) {
        return None;
    }
    let mut cleaned = Vec::with_capacity(path.len());
    let mut depth = 0;
    for component in super::tree::components(path) {
        if component == b".." || component.len() > 255 {
            return None;
        }
        depth += 1;
        if !cleaned.is_empty() {
            cleaned.push(b'/');
        }
        cleaned.extend_from_slice(component);
    }
    (depth <= limits::TREE_DEPTH).then_some(cleaned)
}

#[cfg(test)]
#[path = "unpack_tests.rs"]
mod tests;
