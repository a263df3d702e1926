//! From an overlay's upper folder to a layer.
//!
//! Overlayfs has collected exactly what changed: whole files that were written, deletions as character devices 0:0,
//! folders that replaced others with an opaque mark. The walk holds every folder open while it is in it, so depth and
//! length of paths do not matter, and it is iterative.

use super::{
    LayerError, LayerWriter, OverlayXattrs,
    entry::{Entry, Kind, join},
    io_at, owner, xattr,
};
use crate::limits;
use rustix::{
    fs::{self, AtFlags, Dir, FileType, Mode, OFlags, Stat},
    io::Errno,
};
use std::{
    collections::HashMap,
    ffi::CString,
    fs::File,
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

struct Folder {
    descriptor: OwnedFd,
    path: Vec<u8>,
    /// Names still to be visited, the next one last.
    names: Vec<CString>,
}

/// Appends everything in the overlay folder `upper` to `writer`, sorted by component. `root` is what mode, owner and
/// group the root had before; it is written only where that changed. `creator` is as whom everything ran that made it, for
/// where the disk cannot say so.
pub fn append_upper(
    writer: &mut LayerWriter,
    upper: &Path,
    xattrs: OverlayXattrs,
    clamp: Clamp,
    root: (u32, u32, u32),
    creator: (u32, u32),
) -> Result<(), LayerError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let descriptor = fs::open(upper, flags, Mode::empty()).map_err(|e| io_at("open", upper)(e.into()))?;
    let stat = fs::fstat(&descriptor).map_err(|e| io_at("read", upper)(e.into()))?;
    let mut top = described(Vec::new(), Kind::Directory, &stat, clamp);
    let owners = (xattrs == OverlayXattrs::UserOneId).then_some(creator);
    if owners.is_some() {
        let kept = owner::read(&descriptor).map_err(io_at("read", upper))?;
        (top.uid, top.gid) = kept.unwrap_or((root.1, root.2));
    }
    if (top.mode, top.uid, top.gid) != root {
        writer.append(top)?;
    }
    let mut links: HashMap<u64, Vec<u8>> = HashMap::new();
    let mut stack = vec![list(descriptor, Vec::new())?];
    while let Some(folder) = stack.last_mut() {
        let Some(name) = folder.names.pop() else {
            stack.pop();
            continue;
        };
        let path = join(&folder.path, name.as_bytes());
        if let Some(below) = append_one(writer, folder, &name, path, (xattrs, owners), clamp, &mut links)? {
            if stack.len() >= limits::TREE_DEPTH {
                return Err(LayerError::Limit {
                    what: "folders within folders",
                    most: limits::TREE_DEPTH as u64,
                });
            }
            stack.push(below);
        }
    }
    Ok(())
}

fn list(descriptor: OwnedFd, path: Vec<u8>) -> Result<Folder, LayerError> {
    let shown = std::ffi::OsStr::from_bytes(&path).to_owned();
    let failed = |error: Errno| io_at("list", Path::new(&shown))(error.into());
    let mut names = Vec::new();
    for entry in Dir::read_from(&descriptor).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name().to_owned();
        if !matches!(name.as_bytes(), b"." | b"..") {
            names.push(name);
        }
    }
    names.sort_by(|a, b| b.cmp(a));
    Ok(Folder { descriptor, path, names })
}

fn append_one(
    writer: &mut LayerWriter,
    folder: &Folder,
    name: &CString,
    path: Vec<u8>,
    (xattrs, owners): (OverlayXattrs, Option<(u32, u32)>),
    clamp: Clamp,
    links: &mut HashMap<u64, Vec<u8>>,
) -> Result<Option<Folder>, LayerError> {
    let shown = std::ffi::OsStr::from_bytes(&path).to_owned();
    let failed = |operation| {
        let shown = &shown;
        move |error: Errno| io_at(operation, Path::new(shown))(error.into())
    };
    let stat = fs::statat(&folder.descriptor, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed("read"))?;
    let Some(kind) = kind_of(&stat) else { return Ok(None) };
    if kind == Kind::Whiteout {
        let mut entry = Entry::new(path, kind, 0);
        entry.mtime = if let Clamp::Latest(latest) = clamp { latest } else { stat.st_mtime };
        return writer.append(entry).map(|()| None);
    }
    clamp_on_disk(&folder.descriptor, name, &stat, clamp).map_err(failed("set the time of"))?;
    let mut entry = described(path, kind, &stat, clamp);
    if let Some(creator) = owners {
        (entry.uid, entry.gid) = creator;
    }
    let own = |entry: &mut Entry, file: &dyn AsFd| -> Result<(), LayerError> {
        if let Some(creator) = owners {
            let owner = owner::of_upper(file.as_fd(), creator);
            (entry.uid, entry.gid) = owner.map_err(io_at("read", Path::new(&shown)))?;
        }
        Ok(())
    };
    if kind != Kind::Directory && stat.st_nlink > 1 {
        if let Some(first) = links.get(&stat.st_ino) {
            (entry.kind, entry.link, entry.size_bytes) = (Kind::Hardlink, first.clone(), 0);
            return writer.append(entry).map(|()| None);
        }
        links.insert(stat.st_ino, entry.path.clone());
    }
    let open = |flags: OFlags| {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        fs::openat(&folder.descriptor, name, flags, Mode::empty()).map_err(failed("open"))
    };
    match kind {
        Kind::Symlink => {
            let target = fs::readlinkat(&folder.descriptor, name, Vec::new()).map_err(failed("read"))?;
            entry.link = target.into_bytes();
            writer.append(entry)?;
        }
        Kind::File => {
            let mut file = File::from(open(OFlags::RDONLY)?);
            own(&mut entry, &file)?;
            entry.xattrs = xattr::read_all(&file).map_err(io_at("read", Path::new(&shown)))?;
            writer.append_file(entry, &mut file)?;
        }
        Kind::Directory => {
            let below = open(OFlags::RDONLY | OFlags::DIRECTORY)?;
            own(&mut entry, &below)?;
            entry.xattrs = xattr::read_all(&below).map_err(io_at("read", Path::new(&shown)))?;
            entry.opaque = xattr::is_opaque(&below, xattrs).map_err(io_at("read", Path::new(&shown)))?;
            let path = entry.path.clone();
            writer.append(entry)?;
            return list(below, path).map(Some);
        }
        _ => writer.append(entry)?,
    }
    Ok(None)
}

/// What a path on disk is in a layer; sockets have no place in one.
fn kind_of(stat: &Stat) -> Option<Kind> {
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

fn described(path: Vec<u8>, kind: Kind, stat: &Stat, clamp: Clamp) -> Entry {
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
    let time = fs::Timespec { tv_sec: clamped, tv_nsec: 0 };
    let times = fs::Timestamps { last_access: time, last_modification: time };
    fs::utimensat(folder, name, &times, AtFlags::SYMLINK_NOFOLLOW)
}
