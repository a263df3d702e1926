//! What a command changed in a plain folder, found by a walk before and one after it.
//!
//! The first walk notes of every path which file it is and when its status last changed, a time that nobody but the kernel
//! sets. What has the same file and time afterwards is as it was; everything else is read and compared with what the layers
//! say, metadata first, then the bytes. So the layer is the one that an overlay's upper folder gives
//! ([`diff::append_changes`](super::diff::append_changes)).

use super::{
    LayerError, LayerWriter, Tree,
    diff::{Clamp, Opened, Terms, is_same, kind_of, linked, names, observe},
    entry::{Entry, Kind, join},
    io_at,
};
use crate::limits;
use rustix::{
    fs::{self, AtFlags, Mode, OFlags, Stat, StatxFlags},
    io::Errno,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ffi::CString,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::Path,
};

/// Which file a name is, and when it was last changed in any way.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Identity {
    inode: u64,
    changed: (i64, u32),
    born: (i64, u32),
    links: u32,
}

impl Identity {
    fn of(folder: &OwnedFd, name: &CString) -> Result<Identity, Errno> {
        let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
        let found = fs::statx(folder, name, AtFlags::SYMLINK_NOFOLLOW, wanted)?;
        let has_birth = StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::BTIME);
        let born = if has_birth { (found.stx_btime.tv_sec, found.stx_btime.tv_nsec) } else { (0, 0) };
        Ok(Identity {
            inode: found.stx_ino,
            changed: (found.stx_ctime.tv_sec, found.stx_ctime.tv_nsec),
            born,
            links: found.stx_nlink,
        })
    }

    /// Whether it is the same file, be it changed.
    fn is_file_of(&self, other: &Identity) -> bool {
        (self.inode, self.born) == (other.inode, other.born)
    }
}

/// How a folder was before a command.
pub struct Before {
    /// By folder: its names.
    folders: HashMap<Vec<u8>, BTreeMap<CString, Identity>>,
    /// Paths that are not the layer's: what is put there for the command alone.
    passed_over: BTreeSet<Vec<u8>>,
}

impl Before {
    /// Looks at everything in `folder` but `passed_over` and what is below.
    ///
    /// # Errors
    /// When something cannot be read.
    pub fn of(folder: &Path, passed_over: BTreeSet<Vec<u8>>) -> Result<Before, LayerError> {
        let mut before = Before { folders: HashMap::new(), passed_over };
        let mut stack = vec![(opened(folder)?, Vec::new())];
        while let Some((descriptor, path)) = stack.pop() {
            let mut found = BTreeMap::new();
            for name in names(&descriptor, &path)? {
                let here = join(&path, name.as_bytes());
                if before.passed_over.contains(&here) {
                    continue;
                }
                let failed = |errno: Errno| at("read", &here)(errno.into());
                let stat = fs::statat(&descriptor, &name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
                found.insert(name.clone(), Identity::of(&descriptor, &name).map_err(failed)?);
                if kind_of(&stat) == Some(Kind::Directory) {
                    if path.iter().filter(|byte| **byte == b'/').count() >= limits::TREE_DEPTH {
                        return Err(too_deep());
                    }
                    stack.push((folder_at(&descriptor, &name, &here)?, here));
                }
            }
            before.folders.insert(path, found);
        }
        Ok(before)
    }
}

fn too_deep() -> LayerError {
    LayerError::Limit { what: "folders within folders", most: limits::TREE_DEPTH as u64 }
}

fn at(operation: &'static str, path: &[u8]) -> impl FnOnce(std::io::Error) -> LayerError {
    io_at(operation, Path::new(std::ffi::OsStr::from_bytes(path)))
}

fn opened(folder: &Path) -> Result<OwnedFd, LayerError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    fs::open(folder, flags, Mode::empty()).map_err(|errno| io_at("open", folder)(errno.into()))
}

fn folder_at(folder: &OwnedFd, name: &CString, path: &[u8]) -> Result<OwnedFd, LayerError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    fs::openat(folder, name, flags, Mode::empty()).map_err(|errno| at("open", path)(errno.into()))
}

/// Appends what is other in `folder` than `before` to `writer`, sorted by component; `below` are the layers that were laid
/// out in it.
///
/// # Errors
/// When something cannot be read or written.
pub fn append_changed(
    writer: &mut LayerWriter,
    folder: &Path,
    before: &Before,
    below: &Tree,
    terms: &Terms,
) -> Result<(), LayerError> {
    let descriptor = opened(folder)?;
    let top = terms.top(&descriptor, folder)?;
    if (top.mode, top.uid, top.gid) != terms.root {
        writer.append(top)?;
    }
    let mut walk = After {
        writer,
        before,
        below,
        terms,
        links: HashMap::new(),
        stack: Vec::new(),
        nothing: BTreeMap::new(),
    };
    walk.enter(descriptor, Vec::new(), false, None)?;
    while let Some(folder) = walk.stack.last_mut() {
        match folder.names.pop() {
            Some(name) => walk.visit(&name)?,
            None => drop(walk.stack.pop()),
        }
    }
    Ok(())
}

struct Folder {
    descriptor: OwnedFd,
    path: Vec<u8>,
    /// Names that are there or were, the next one last.
    names: Vec<CString>,
    /// Its own entry, while nothing below differs.
    pending: Option<Entry>,
    /// Whether nothing of it was there before.
    is_new: bool,
}

struct After<'a> {
    writer: &'a mut LayerWriter,
    before: &'a Before,
    below: &'a Tree,
    terms: &'a Terms,
    links: HashMap<u64, Vec<u8>>,
    stack: Vec<Folder>,
    nothing: BTreeMap<CString, Identity>,
}

impl<'a> After<'a> {
    fn were(&self, path: &[u8], is_new: bool) -> &BTreeMap<CString, Identity> {
        if is_new { &self.nothing } else { self.before.folders.get(path).unwrap_or(&self.nothing) }
    }

    fn enter(
        &mut self,
        descriptor: OwnedFd,
        path: Vec<u8>,
        is_new: bool,
        pending: Option<Entry>,
    ) -> Result<(), LayerError> {
        if self.stack.len() > limits::TREE_DEPTH {
            return Err(too_deep());
        }
        let mut all: BTreeSet<CString> = names(&descriptor, &path)?.into_iter().collect();
        all.extend(self.were(&path, is_new).keys().cloned());
        let names = all.into_iter().rev().collect();
        self.stack.push(Folder { descriptor, path, names, pending, is_new });
        Ok(())
    }

    fn write(&mut self, entry: Entry, opened: Opened) -> Result<(), LayerError> {
        for folder in &mut self.stack {
            if let Some(pending) = folder.pending.take() {
                self.writer.append(pending)?;
            }
        }
        match opened {
            Opened::File(mut file) => self.writer.append_file(entry, &mut file).map(drop),
            _ => self.writer.append(entry),
        }
    }

    fn visit(&mut self, name: &CString) -> Result<(), LayerError> {
        let Some(folder) = self.stack.last() else { return Ok(()) };
        let path = join(&folder.path, name.as_bytes());
        if self.before.passed_over.contains(&path) {
            return Ok(());
        }
        let was = self.were(&folder.path, folder.is_new).get(name).copied();
        let failed = |errno: Errno| at("read", &path)(errno.into());
        let stat = match fs::statat(&folder.descriptor, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return self.deleted(path),
            Err(errno) => return Err(failed(errno)),
        };
        // an overlay takes this device for a deletion
        let kind = match kind_of(&stat) {
            Some(Kind::Whiteout) => return self.deleted(path),
            Some(kind) => kind,
            // a socket has no place in a layer, but in that of what was there
            None if was.is_some() => return self.deleted(path),
            None => return Ok(()),
        };
        let is = Identity::of(&folder.descriptor, name).map_err(failed)?;
        match kind {
            Kind::Directory => self.folder(name, path, &stat, was, is),
            _ if was == Some(is) => Ok(()),
            _ => self.file(name, path, kind, &stat, (was, is)),
        }
    }

    fn folder(
        &mut self,
        name: &CString,
        path: Vec<u8>,
        stat: &Stat,
        was: Option<Identity>,
        is: Identity,
    ) -> Result<(), LayerError> {
        let Some(parent) = self.stack.last() else { return Ok(()) };
        let kept = was.is_some_and(|was| was.is_file_of(&is));
        let (mut entry, opened) = observe(&parent.descriptor, name, path.clone(), stat, self.terms)?;
        let replaces = !kept && !parent.is_new && self.below.get(&path).is_some();
        entry.opaque = replaces;
        let same = kept && (was == Some(is) || is_same(&entry, &opened, self.below)?);
        let Opened::Folder(descriptor) = opened else { return Ok(()) };
        if same {
            return self.enter(descriptor, path, false, Some(entry));
        }
        self.write(entry, Opened::Nothing)?;
        self.enter(descriptor, path, !kept, None)
    }

    fn file(
        &mut self,
        name: &CString,
        path: Vec<u8>,
        kind: Kind,
        stat: &Stat,
        (was, is): (Option<Identity>, Identity),
    ) -> Result<(), LayerError> {
        let Some(folder) = self.stack.last() else { return Ok(()) };
        let was = was.filter(|was| was.is_file_of(&is));
        // names that an overlay copies up each for itself
        let is_kept = was.is_some();
        if !is_kept && let Some(entry) = linked(&path, kind, stat, self.terms, &mut self.links) {
            return self.write(entry, Opened::Nothing);
        }
        let (entry, opened) = observe(&folder.descriptor, name, path, stat, self.terms)?;
        // one of them goes along with the new names that it has got
        let carries = was.is_some_and(|was| was.links < is.links) && !self.links.contains_key(&is.inode);
        if is_kept && !carries && is_same(&entry, &opened, self.below)? {
            return Ok(());
        }
        if is_kept && is.links > 1 {
            self.links.entry(is.inode).or_insert_with(|| entry.path.clone());
        }
        self.write(entry, opened)
    }

    fn deleted(&mut self, path: Vec<u8>) -> Result<(), LayerError> {
        if self.stack.last().is_some_and(|folder| folder.is_new) || self.below.get(&path).is_none() {
            return Ok(());
        }
        let mut entry = Entry::new(path, Kind::Whiteout, 0);
        entry.mtime = match self.terms.clamp {
            Clamp::Latest(latest) => latest,
            Clamp::Keep => now(),
        };
        self.write(entry, Opened::Nothing)
    }
}

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}
