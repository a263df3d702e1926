//! A layer's folder while it is unpacked: every object is reached through a held parent and made exclusively.

use super::{
    LayerError, OverlayXattrs,
    copied::copy_digested,
    entry::{Entry, Kind, name_of, parent_of},
    io_at, owner,
    sink::Sink,
    xattr,
};
use crate::{Digest, Root};
use rustix::{
    fs::{self, AtFlags, FileType, Mode, OFlags},
    io::Errno,
};
use std::{
    ffi::OsStr,
    fs::File,
    io::Read,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

/// The folder that a layer is unpacked into.
pub(super) struct Disk {
    root: Root,
    xattrs: OverlayXattrs,
    target: PathBuf,
    /// The folder of the last entry: archives come folder by folder.
    parent: Option<(Vec<u8>, OwnedFd)>,
}

impl Disk {
    /// The empty folder `target`.
    pub(super) fn open(target: &Path, xattrs: OverlayXattrs) -> Result<Disk, LayerError> {
        let root = Root::open(target).map_err(io_at("open", target))?;
        Ok(Disk { root, xattrs, target: target.to_owned(), parent: None })
    }

    fn parent(&mut self, path: &[u8]) -> Result<&OwnedFd, LayerError> {
        let folder = parent_of(path).unwrap_or_default();
        if self.parent.as_ref().is_none_or(|(held, _)| held != folder) {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
            let path = Path::new(OsStr::from_bytes(folder));
            let descriptor = self.root.open_at(path, flags, Mode::empty()).map_err(io_at("open", path))?;
            self.parent = Some((folder.to_vec(), descriptor));
        }
        Ok(&self.parent.as_ref().expect("just set").1)
    }

    /// A deletion as overlayfs takes it from a layer that lies on another overlay, which lets nobody make the devices that
    /// mean one: an empty file with an attribute, in a folder that says that it has such (Linux 6.7, "Nesting overlayfs
    /// mounts").
    fn whiteout_by_attribute(&mut self, folder: &[u8], name: &OsStr) -> std::io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let folder = self.root.open_at(Path::new(OsStr::from_bytes(folder)), flags, Mode::empty())?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = fs::openat(&folder, name, flags, Mode::empty())?;
        xattr::set_whiteout(&folder, &file, self.xattrs)
    }

    fn open_link_target(&self, entry: &Entry) -> Result<(OwnedFd, std::ffi::OsString), LayerError> {
        let link = Path::new(OsStr::from_bytes(&entry.link));
        self.root.parent(link).map_err(io_at("link", entry.as_path()))
    }
}

impl Sink for Disk {
    fn create(&mut self, entry: &Entry, source: &mut dyn Read) -> Result<Option<Digest>, LayerError> {
        if entry.path.is_empty() {
            return Ok(None); // the root is there; its attributes come last
        }
        let failed = |error: Errno| io_at("create", entry.as_path())(error.into());
        let name = OsStr::from_bytes(name_of(&entry.path)).to_owned();
        let mode = Mode::from_raw_mode(0o700);
        let link_target = match entry.kind {
            Kind::Hardlink => Some(self.open_link_target(entry)?),
            _ => None,
        };
        let xattrs = self.xattrs;
        let target = self.target.clone();
        let parent = self.parent(&entry.path)?;
        match fs::unlinkat(parent, &name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT | Errno::ISDIR) => {}
            Err(error) => return Err(failed(error)),
        }
        let mut content = None;
        match entry.kind {
            Kind::Directory => match fs::mkdirat(parent, &name, mode) {
                Ok(()) | Err(Errno::EXIST) => {
                    if entry.opaque {
                        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                        let folder = fs::openat(parent, &name, flags, Mode::empty()).map_err(failed)?;
                        xattr::set_opaque(&folder, xattrs).map_err(io_at("mark", entry.as_path()))?;
                    }
                    return Ok(None);
                }
                Err(error) => return Err(failed(error)),
            },
            Kind::Symlink => fs::symlinkat(OsStr::from_bytes(&entry.link), parent, &name).map_err(failed)?,
            Kind::Hardlink => {
                let (folder, first) = link_target.expect("opened above");
                return fs::linkat(&folder, &first, parent, &name, AtFlags::empty())
                    .map_err(failed)
                    .map(|()| None);
            }
            Kind::File => {
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let mut file = File::from(fs::openat(parent, &name, flags, mode).map_err(failed)?);
                content = Some(copy_digested(source, &mut file, entry)?);
            }
            _ => match make_node(parent, &name, entry) {
                // a user namespace may make no devices: /dev is ours at run time, nothing is lost
                Err(Errno::PERM) if entry.kind != Kind::Fifo => return Ok(None),
                other => other.map_err(failed)?,
            },
        }
        set_attributes(parent, &name, entry, &target, xattrs)?;
        Ok(content)
    }

    fn whiteout(&mut self, path: &[u8]) -> Result<(), LayerError> {
        let shown = PathBuf::from(OsStr::from_bytes(path));
        let name = OsStr::from_bytes(name_of(path)).to_owned();
        let parent = self.parent(path)?;
        match fs::mknodat(parent, &name, FileType::CharacterDevice, Mode::empty(), 0) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(Errno::PERM) => {
                let folder = parent_of(path).unwrap_or_default().to_vec();
                self.whiteout_by_attribute(&folder, &name).map_err(io_at("mark as deleted", &shown))
            }
            Err(error) => Err(io_at("mark as deleted", &shown)(error.into())),
        }
    }

    fn set_opaque(&mut self, path: &[u8]) -> Result<(), LayerError> {
        let path = Path::new(OsStr::from_bytes(path));
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let folder = self.root.open_at(path, flags, Mode::empty()).map_err(io_at("open", path))?;
        xattr::set_opaque(&folder, self.xattrs).map_err(io_at("mark", path))
    }

    fn remove(&mut self, path: &[u8]) -> Result<(), LayerError> {
        let shown = PathBuf::from(OsStr::from_bytes(path));
        self.parent = None;
        let (parent, name) = self.root.parent(&shown).map_err(io_at("open", &shown))?;
        match fs::unlinkat(&parent, &name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::ISDIR) => {
                // our own folder, whose parents were opened without links: the path is what was opened
                crate::file::remove_tree(&self.target.join(&shown)).map_err(io_at("remove", &shown))
            }
            Err(error) => Err(io_at("remove", &shown)(error.into())),
        }
    }

    fn finish_folder(&mut self, entry: &Entry) -> Result<(), LayerError> {
        if entry.path.is_empty() {
            let here = File::open(&self.target).map_err(io_at("open", entry.as_path()))?;
            return set_attributes(here.as_fd(), OsStr::new("."), entry, &self.target, self.xattrs);
        }
        let target = self.target.clone();
        let name = OsStr::from_bytes(name_of(&entry.path)).to_owned();
        let xattrs = self.xattrs;
        let parent = self.parent(&entry.path)?;
        set_attributes(parent.as_fd(), &name, entry, &target, xattrs)
    }
}

fn make_node(parent: &OwnedFd, name: &OsStr, entry: &Entry) -> Result<(), Errno> {
    let kind = match entry.kind {
        Kind::CharDevice => FileType::CharacterDevice,
        Kind::BlockDevice => FileType::BlockDevice,
        _ => FileType::Fifo,
    };
    let device = fs::makedev(entry.device.0, entry.device.1);
    if kind == FileType::CharacterDevice && device == 0 {
        return Err(Errno::INVAL); // would be a deletion to overlayfs
    }
    fs::mknodat(parent, name, kind, Mode::from_raw_mode(0o600), device)
}

/// Owner first (it clears setuid), then mode, attributes and time.
fn set_attributes(
    parent: impl AsFd,
    name: &OsStr,
    entry: &Entry,
    target: &Path,
    xattrs: OverlayXattrs,
) -> Result<(), LayerError> {
    let failed = |operation| move |error: Errno| io_at(operation, entry.as_path())(error.into());
    // our own folder, just made: the path cannot have been swapped by the archive
    owner::give(&target.join(entry.as_path()), entry.uid, entry.gid, xattrs)
        .map_err(|error| not_mapped(entry, error))?;
    if entry.kind != Kind::Symlink {
        let mode = Mode::from_raw_mode(entry.mode);
        fs::chmodat(&parent, name, mode, AtFlags::empty()).map_err(failed("change mode of"))?;
    }
    for (key, value) in &entry.xattrs {
        let path = target.join(entry.as_path());
        xattr::set(&path, key, value).map_err(io_at("set an attribute of", entry.as_path()))?;
    }
    let time = fs::Timespec { tv_sec: entry.mtime, tv_nsec: 0 };
    let times = fs::Timestamps { last_access: time, last_modification: time };
    fs::utimensat(&parent, name, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(failed("set the time of"))
}

/// The kernel says `invalid argument` to an id that this user namespace has not.
fn not_mapped(entry: &Entry, error: std::io::Error) -> LayerError {
    match error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) {
        true => LayerError::NotMapped { path: entry.as_path().to_owned(), uid: entry.uid, gid: entry.gid },
        false => io_at("change owner of", entry.as_path())(error),
    }
}
