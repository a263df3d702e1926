//! From an overlay's upper folder to a layer.
//!
//! Overlayfs has collected exactly what changed: whole files that were written, deletions as character devices 0:0,
//! folders that replaced others with an opaque mark. The walk holds every folder open while it is in it, so depth and
//! length of paths do not matter, and it is iterative.

use super::{
    LayerError, LayerWriter, OverlayXattrs, Tree,
    entry::{Entry, Kind, join},
    io_at, owner, xattr,
};
use crate::{digest::CONTENT, limits};
use rustix::{
    fs::{self, AtFlags, Dir, FileType, Mode, OFlags, Stat},
    io::Errno,
};
use std::{
    collections::HashMap,
    ffi::{CStr, CString},
    fs::File,
    io::Seek,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

/// What is done with modification times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clamp {
    /// They are kept.
    Keep,
    /// None is later than this many seconds since 1970, in the archive and on disk.
    Latest(i64),
}

impl Clamp {
    /// The time that `mtime` becomes.
    pub fn apply(self, mtime: i64) -> i64 {
        match self {
            Clamp::Keep => mtime,
            Clamp::Latest(latest) => mtime.min(latest),
        }
    }
}

/// How what changed becomes entries.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Where overlayfs keeps its marks.
    pub xattrs: OverlayXattrs,
    /// What is done with times.
    pub clamp: Clamp,
    /// Mode, owner and group that the root had before; it is written only where that changed.
    pub root: (u32, u32, u32),
    /// As whom everything ran that made it, for where the disk cannot say so.
    pub creator: (u32, u32),
}

impl Terms {
    /// Whose what has no owner beside it is, where one id is all there is.
    fn owners(&self) -> Option<(u32, u32)> {
        (self.xattrs == OverlayXattrs::UserOneId).then_some(self.creator)
    }

    /// The root as it is now.
    pub(super) fn top(&self, descriptor: &OwnedFd, shown: &Path) -> Result<Entry, LayerError> {
        let stat = fs::fstat(descriptor).map_err(|e| io_at("read", shown)(e.into()))?;
        let mut top = described(Vec::new(), Kind::Directory, &stat, self.clamp);
        if self.owners().is_some() {
            let kept = owner::read(descriptor).map_err(io_at("read", shown))?;
            (top.uid, top.gid) = kept.unwrap_or((self.root.1, self.root.2));
        }
        Ok(top)
    }
}

struct Folder {
    descriptor: OwnedFd,
    path: Vec<u8>,
    /// Names still to be visited, the next one last.
    names: Vec<CString>,
    /// Its own entry, while nothing below says that it differs from what is beneath.
    pending: Option<Entry>,
    /// Its time, where names of it were taken away.
    restored: Option<i64>,
    mtime: i64,
}

/// Appends everything in the overlay folder `upper` to `writer`, sorted by component.
pub fn append_upper(writer: &mut LayerWriter, upper: &Path, terms: &Terms) -> Result<(), LayerError> {
    append(writer, upper, terms, None)
}

/// The same of a folder above `below`, without what is there as it is here: overlayfs copies a file up when it is opened to
/// be written, be it or not, and every folder above. What is left out is taken from the folder too, so that it is the layer's.
pub fn append_changes(
    writer: &mut LayerWriter,
    upper: &Path,
    terms: &Terms,
    below: &Tree,
) -> Result<(), LayerError> {
    append(writer, upper, terms, Some(below))
}

fn append(
    writer: &mut LayerWriter,
    upper: &Path,
    terms: &Terms,
    below: Option<&Tree>,
) -> Result<(), LayerError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let descriptor = fs::open(upper, flags, Mode::empty()).map_err(|e| io_at("open", upper)(e.into()))?;
    let top = terms.top(&descriptor, upper)?;
    let mtime = top.mtime;
    if (top.mode, top.uid, top.gid) != terms.root {
        writer.append(top)?;
    }
    let mut first = list(descriptor, Vec::new())?;
    first.mtime = mtime;
    let mut walk = Upper { writer, terms, below, links: HashMap::new(), stack: vec![first] };
    while let Some(folder) = walk.stack.last_mut() {
        match folder.names.pop() {
            Some(name) => walk.visit(&name)?,
            None => walk.leave()?,
        }
    }
    Ok(())
}

/// A walk through an upper folder.
struct Upper<'a> {
    writer: &'a mut LayerWriter,
    terms: &'a Terms,
    below: Option<&'a Tree>,
    links: HashMap<u64, Vec<u8>>,
    stack: Vec<Folder>,
}

impl Upper<'_> {
    /// Writes an entry, and before it the folders that it is in.
    fn write(&mut self, entry: Entry, file: Option<&mut File>) -> Result<(), LayerError> {
        for folder in &mut self.stack {
            if let Some(pending) = folder.pending.take() {
                self.writer.append(pending)?;
            }
        }
        match file {
            Some(file) => self.writer.append_file(entry, file).map(drop),
            None => self.writer.append(entry),
        }
    }

    fn visit(&mut self, name: &CString) -> Result<(), LayerError> {
        let Some(folder) = self.stack.last() else { return Ok(()) };
        let path = join(&folder.path, name.as_bytes());
        let shown = std::ffi::OsStr::from_bytes(&path).to_owned();
        let failed = |error: Errno| io_at("read", Path::new(&shown))(error.into());
        let stat = fs::statat(&folder.descriptor, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        let Some(kind) = kind_of(&stat) else { return Ok(()) };
        if kind == Kind::Whiteout {
            let mut entry = Entry::new(path, kind, 0);
            entry.mtime = if let Clamp::Latest(latest) = self.terms.clamp { latest } else { stat.st_mtime };
            return self.write(entry, None);
        }
        if let Some(entry) = linked(&path, kind, &stat, self.terms, &mut self.links) {
            return self.write(entry, None);
        }
        let (entry, opened) = observe(&folder.descriptor, name, path, &stat, self.terms)?;
        let same = match (self.below, stat.st_nlink > 1 && kind != Kind::Directory) {
            (Some(below), false) => is_same(&entry, &opened, below)?,
            _ => false,
        };
        match (opened, same) {
            (Opened::Folder(below), _) => self.enter(entry, below, same),
            (_, true) => self.take_away(name, AtFlags::empty()),
            (Opened::File(mut file), _) => self.write(entry, Some(&mut file)),
            (Opened::Nothing, _) => self.write(entry, None),
        }
    }

    fn enter(&mut self, entry: Entry, descriptor: OwnedFd, same: bool) -> Result<(), LayerError> {
        if self.stack.len() >= limits::TREE_DEPTH {
            let most = limits::TREE_DEPTH as u64;
            return Err(LayerError::Limit { what: "folders within folders", most });
        }
        let mut below = list(descriptor, entry.path.clone())?;
        below.mtime = entry.mtime;
        match same {
            true => below.pending = Some(entry),
            false => self.write(entry, None)?,
        }
        self.stack.push(below);
        Ok(())
    }

    /// Ends with the topmost folder.
    fn leave(&mut self) -> Result<(), LayerError> {
        let Some(folder) = self.stack.pop() else { return Ok(()) };
        if folder.pending.is_some() {
            let name = super::entry::name_of(&folder.path);
            let name = CString::new(name).expect("a name of the disk");
            return self.take_away(&name, AtFlags::REMOVEDIR);
        }
        match folder.restored {
            Some(mtime) => set_time(&folder.descriptor, c".", mtime)
                .map_err(|errno| in_folder("set the time of", &folder.path, errno)),
            None => Ok(()),
        }
    }

    /// Takes a name of the topmost folder away, as it says what is beneath anyhow.
    fn take_away(&mut self, name: &CString, flags: AtFlags) -> Result<(), LayerError> {
        let Some(folder) = self.stack.last_mut() else { return Ok(()) };
        match fs::unlinkat(&folder.descriptor, name, flags) {
            // a socket is in it, which is in no layer
            Ok(()) | Err(Errno::NOTEMPTY) => {}
            Err(errno) => return Err(in_folder("remove a name from", &folder.path, errno)),
        }
        folder.restored = Some(folder.mtime);
        Ok(())
    }
}

fn in_folder(operation: &'static str, path: &[u8], errno: Errno) -> LayerError {
    io_at(operation, Path::new(std::ffi::OsStr::from_bytes(path)))(errno.into())
}

fn list(descriptor: OwnedFd, path: Vec<u8>) -> Result<Folder, LayerError> {
    let mut names = names(&descriptor, &path)?;
    names.sort_by(|a, b| b.cmp(a));
    Ok(Folder { descriptor, path, names, pending: None, restored: None, mtime: 0 })
}

/// The names in an open folder.
pub(super) fn names(descriptor: &OwnedFd, path: &[u8]) -> Result<Vec<CString>, LayerError> {
    let mut names = Vec::new();
    for entry in Dir::read_from(descriptor).map_err(|errno| in_folder("list", path, errno))? {
        let name = entry.map_err(|errno| in_folder("list", path, errno))?.file_name().to_owned();
        if !matches!(name.as_bytes(), b"." | b"..") {
            names.push(name);
        }
    }
    Ok(names)
}

/// The entry of a file whose first name was written before; else it is noted.
pub(super) fn linked(
    path: &[u8],
    kind: Kind,
    stat: &Stat,
    terms: &Terms,
    links: &mut HashMap<u64, Vec<u8>>,
) -> Option<Entry> {
    if kind == Kind::Directory || stat.st_nlink <= 1 {
        return None;
    }
    let Some(first) = links.get(&stat.st_ino) else {
        links.insert(stat.st_ino, path.to_vec());
        return None;
    };
    let mut entry = described(path.to_vec(), kind, stat, terms.clamp);
    (entry.kind, entry.link, entry.size_bytes) = (Kind::Hardlink, first.clone(), 0);
    if let Some(creator) = terms.owners() {
        (entry.uid, entry.gid) = creator;
    }
    Some(entry)
}

/// What of a path is held open.
pub(super) enum Opened {
    Folder(OwnedFd),
    File(File),
    Nothing,
}

/// Reads a path that is no deletion: everything that the layer says of it but a file's bytes. Its time on disk becomes that.
pub(super) fn observe(
    folder: &OwnedFd,
    name: &CString,
    path: Vec<u8>,
    stat: &Stat,
    terms: &Terms,
) -> Result<(Entry, Opened), LayerError> {
    let shown = std::ffi::OsStr::from_bytes(&path).to_owned();
    let failed = |operation| {
        let shown = &shown;
        move |error: Errno| io_at(operation, Path::new(shown))(error.into())
    };
    let kind = kind_of(stat).unwrap_or(Kind::File);
    clamp_on_disk(folder, name, stat, terms.clamp).map_err(failed("set the time of"))?;
    let mut entry = described(path, kind, stat, terms.clamp);
    if let Some(creator) = terms.owners() {
        (entry.uid, entry.gid) = creator;
    }
    if kind == Kind::Symlink {
        let target = fs::readlinkat(folder, name, Vec::new()).map_err(failed("read"))?;
        entry.link = target.into_bytes();
    }
    let flags = match kind {
        Kind::File => OFlags::RDONLY,
        Kind::Directory => OFlags::RDONLY | OFlags::DIRECTORY,
        _ => return Ok((entry, Opened::Nothing)),
    };
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = fs::openat(folder, name, flags, Mode::empty()).map_err(failed("open"))?;
    if let Some(creator) = terms.owners() {
        let owner = owner::of_upper(file.as_fd(), creator);
        (entry.uid, entry.gid) = owner.map_err(io_at("read", Path::new(&shown)))?;
    }
    entry.xattrs = xattr::read_all(&file).map_err(io_at("read", Path::new(&shown)))?;
    if kind == Kind::Directory {
        entry.opaque = xattr::is_opaque(&file, terms.xattrs).map_err(io_at("read", Path::new(&shown)))?;
        return Ok((entry, Opened::Folder(file)));
    }
    Ok((entry, Opened::File(File::from(file))))
}

/// Whether the layers beneath say the same of a path. An open file is at its beginning again afterwards.
pub(super) fn is_same(entry: &Entry, opened: &Opened, below: &Tree) -> Result<bool, LayerError> {
    let Some(found) = below.get(&entry.path) else { return Ok(false) };
    let base = below.linked(found);
    let own = Entry { content: None, ..entry.clone() };
    let theirs =
        Entry { content: None, path: entry.path.clone(), opaque: false, implicit: false, ..base.clone() };
    if own != theirs {
        return Ok(false);
    }
    let Opened::File(file) = opened else { return Ok(true) };
    let Some(content) = base.content.as_ref().filter(|content| content.algorithm() == CONTENT) else {
        return Ok(false);
    };
    let mut file = file;
    let digest = super::copied::copy_digested(&mut file, &mut std::io::sink(), entry)?;
    file.rewind().map_err(io_at("read", entry.as_path()))?;
    Ok(digest == *content)
}

/// What a path on disk is in a layer; sockets have no place in one.
pub(super) fn kind_of(stat: &Stat) -> Option<Kind> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Some(Kind::File),
        FileType::Directory => Some(Kind::Directory),
        FileType::Symlink => Some(Kind::Symlink),
        FileType::Fifo => Some(Kind::Fifo),
        FileType::BlockDevice => Some(Kind::BlockDevice),
        FileType::CharacterDevice if stat.st_rdev == 0 => Some(Kind::Whiteout),
        FileType::CharacterDevice => Some(Kind::CharDevice),
        _ => None,
    }
}

pub(super) fn described(path: Vec<u8>, kind: Kind, stat: &Stat, clamp: Clamp) -> Entry {
    let mut entry = Entry::new(path, kind, stat.st_mode & 0o7777);
    (entry.uid, entry.gid) = (stat.st_uid, stat.st_gid);
    entry.mtime = clamp.apply(stat.st_mtime);
    if kind == Kind::File {
        entry.size_bytes = stat.st_size as u64;
    }
    if matches!(kind, Kind::CharDevice | Kind::BlockDevice) {
        entry.device = (fs::major(stat.st_rdev), fs::minor(stat.st_rdev));
    }
    entry
}

/// The folder must say what the archive says, or a step would see other times on a machine that pulled the layer.
fn clamp_on_disk(folder: impl AsFd, name: &CString, stat: &Stat, clamp: Clamp) -> Result<(), Errno> {
    let clamped = clamp.apply(stat.st_mtime);
    if clamp == Clamp::Keep || (clamped == stat.st_mtime && stat.st_mtime_nsec == 0) {
        return Ok(());
    }
    set_time(folder, name, clamped)
}

/// Sets the time of `name` in a folder, in seconds since 1970.
pub(super) fn set_time(folder: impl AsFd, name: &CStr, seconds: i64) -> Result<(), Errno> {
    let time = fs::Timespec { tv_sec: seconds, tv_nsec: 0 };
    let times = fs::Timestamps { last_access: time, last_modification: time };
    fs::utimensat(folder, name, &times, AtFlags::SYMLINK_NOFOLLOW)
}
