//! One path of a layer.

use super::Attributes;
use crate::Digest;
use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// What a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A regular file.
    File = 0,
    /// A folder.
    Directory = 1,
    /// A symbolic link; [`Entry::link`] is its text.
    Symlink = 2,
    /// Another name of the file [`Entry::link`] of the same layer.
    Hardlink = 3,
    /// A character device.
    CharDevice = 4,
    /// A block device.
    BlockDevice = 5,
    /// A named pipe.
    Fifo = 6,
    /// The path of lower layers is deleted.
    Whiteout = 7,
}

impl Kind {
    pub(crate) fn from_u8(value: u8) -> Option<Kind> {
        use Kind::*;
        [File, Directory, Symlink, Hardlink, CharDevice, BlockDevice, Fifo, Whiteout]
            .get(usize::from(value))
            .copied()
    }
}

/// A path of a layer with everything that the archive says of it but the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Relative path without `.`, `..` or a leading slash; empty for the root.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time in seconds since 1970.
    pub mtime: i64,
    /// Size in bytes; 0 for what is no file.
    pub size_bytes: u64,
    /// Target of a symbolic or hard link.
    pub link: Vec<u8>,
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// Extended attributes, sorted by name.
    pub xattrs: Attributes,
    /// A folder that hides what lower layers have below it.
    pub opaque: bool,
    /// A folder that the archive does not name but needs: its attributes are those of lower layers.
    pub implicit: bool,
    /// Digest of a file's bytes ([`crate::digest::CONTENT`]).
    pub content: Option<Digest>,
}

impl Entry {
    /// An entry of `kind` at `path` with mode `mode`, owned by root, of time 0.
    pub fn new(path: impl Into<Vec<u8>>, kind: Kind, mode: u32) -> Entry {
        Entry {
            path: path.into(),
            kind,
            mode,
            uid: 0,
            gid: 0,
            mtime: 0,
            size_bytes: 0,
            link: Vec::new(),
            device: (0, 0),
            xattrs: Vec::new(),
            opaque: false,
            implicit: false,
            content: None,
        }
    }

    /// The path as a [`Path`].
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.path))
    }

    /// The path for messages.
    pub fn to_path(&self) -> PathBuf {
        self.as_path().to_owned()
    }

    /// Whether it is a folder.
    pub fn is_directory(&self) -> bool {
        self.kind == Kind::Directory
    }
}

/// The folder part of a layer path; the root's parent is nothing.
pub(crate) fn parent_of(path: &[u8]) -> Option<&[u8]> {
    if path.is_empty() {
        return None;
    }
    Some(path.iter().rposition(|byte| *byte == b'/').map_or(&path[..0], |slash| &path[..slash]))
}

/// The last component of a layer path.
pub(crate) fn name_of(path: &[u8]) -> &[u8] {
    path.iter().rposition(|byte| *byte == b'/').map_or(path, |slash| &path[slash + 1..])
}

/// `folder/name`, or `name` in the root.
pub(crate) fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(folder.len() + 1 + name.len());
    path.extend_from_slice(folder);
    if !folder.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}
