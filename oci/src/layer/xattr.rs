//! Extended attributes: which are kept, and overlayfs's own.

use rustix::{fs, io::Errno};
use std::{io, os::fd::AsFd, path::Path};

/// Which namespace overlayfs keeps its marks in: `trusted.` needs real root, `user.` works in a user namespace
/// (mount option `userxattr`, Linux 5.11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverlayXattrs {
    /// `trusted.overlay.*`
    Trusted,
    /// `user.overlay.*`
    User,
    /// The same where only one id is mapped: owners are beside the files ([`owner`](super::owner)).
    UserOneId,
}

impl OverlayXattrs {
    /// The attribute that marks an opaque folder.
    pub const fn opaque(self) -> &'static str {
        match self {
            OverlayXattrs::Trusted => "trusted.overlay.opaque",
            OverlayXattrs::User | OverlayXattrs::UserOneId => "user.overlay.opaque",
        }
    }

    /// Whether an overlay of such layers is mounted with `userxattr`.
    pub fn is_user(self) -> bool {
        self != OverlayXattrs::Trusted
    }
}

/// Attributes that belong to the host or to overlayfs and never travel.
fn is_private(name: &[u8]) -> bool {
    const PRIVATE: [&[u8]; 6] = [
        b"trusted.overlay.",
        b"user.overlay.",
        b"security.selinux",
        b"security.ima",
        b"security.evm",
        super::owner::ATTRIBUTE.as_bytes(),
    ];
    PRIVATE.iter().any(|prefix| name.starts_with(prefix))
}

/// Whether an attribute of an archive is put on disk.
pub(crate) fn is_portable(name: &[u8]) -> bool {
    !is_private(name) && (name.starts_with(b"user.") || name == b"security.capability" || is_acl(name))
}

fn is_acl(name: &[u8]) -> bool {
    name == b"system.posix_acl_access" || name == b"system.posix_acl_default"
}

/// The attributes of an open file that travel, sorted by name.
pub(crate) fn read_all(file: impl AsFd) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    // one call says that there is none, which is nearly always so
    let mut list = vec![0u8; 1024];
    let length = loop {
        match fs::flistxattr(&file, &mut list[..]) {
            Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
            Ok(length) => break length,
            Err(Errno::RANGE) if list.len() < crate::limits::XATTR_BYTES => list.resize(list.len() * 4, 0),
            Err(error) => return Err(error.into()),
        }
    };
    let mut attributes = Vec::new();
    for name in list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        if !is_portable(name) {
            continue;
        }
        let mut value = vec![0u8; crate::limits::XATTR_BYTES];
        let count = fs::fgetxattr(&file, name, &mut value[..])?;
        value.truncate(count);
        attributes.push((name.to_vec(), value));
    }
    attributes.sort();
    Ok(attributes)
}

/// Whether an open folder carries an overlay's opaque mark.
pub(crate) fn is_opaque(folder: impl AsFd, xattrs: OverlayXattrs) -> io::Result<bool> {
    let mut value = [0u8; 4];
    match fs::fgetxattr(folder, xattrs.opaque(), &mut value[..]) {
        Ok(length) => Ok(&value[..length] == b"y"),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(false),
        Err(Errno::RANGE) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Puts an overlay's opaque mark on an open folder.
pub(crate) fn set_opaque(folder: impl AsFd, xattrs: OverlayXattrs) -> io::Result<()> {
    Ok(fs::fsetxattr(folder, xattrs.opaque(), b"y", fs::XattrFlags::empty())?)
}

/// Sets an attribute by path without following a link; what this file system or user may not have is passed over,
/// as docker, podman and containerd do.
pub(crate) fn set(path: &Path, name: &[u8], value: &[u8]) -> io::Result<()> {
    match fs::lsetxattr(path, name, value, fs::XattrFlags::empty()) {
        Err(Errno::OPNOTSUPP | Errno::PERM) => Ok(()),
        other => Ok(other?),
    }
}
