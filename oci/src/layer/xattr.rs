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

    /// The attribute that makes an empty file a deletion (Linux 6.7).
    pub(crate) const fn whiteout(self) -> &'static str {
        match self {
            OverlayXattrs::Trusted => "trusted.overlay.whiteout",
            OverlayXattrs::User | OverlayXattrs::UserOneId => "user.overlay.whiteout",
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

/// Extended attributes: name and value each.
pub type Attributes = Vec<(Vec<u8>, Vec<u8>)>;

/// The attributes of an open file that travel, sorted by name.
pub(crate) fn read_all(file: impl AsFd) -> io::Result<Attributes> {
    Ok(collect(
        is_portable,
        |list| fs::flistxattr(&file, list),
        |name, value| fs::fgetxattr(&file, name, value),
    )?)
}

/// The attributes of the file `path` (never of what a link leads to) that travel and are `wanted`, sorted by name.
pub fn read_at(path: &Path, wanted: impl Fn(&[u8]) -> bool) -> io::Result<Attributes> {
    Ok(collect(
        |name| is_portable(name) && wanted(name),
        |list| fs::llistxattr(path, list),
        |name, value| fs::lgetxattr(path, name, value),
    )?)
}

fn collect(
    wanted: impl Fn(&[u8]) -> bool,
    list: impl Fn(&mut [u8]) -> Result<usize, Errno>,
    get: impl Fn(&[u8], &mut [u8]) -> Result<usize, Errno>,
) -> Result<Attributes, Errno> {
    // one call says that there is none, which is nearly always so
    let mut names = [0u8; 1024];
    match list(&mut names) {
        Ok(0) | Err(Errno::OPNOTSUPP) => Ok(Vec::new()),
        Ok(length) => values(&names[..length], wanted, get),
        // the kernel's own bound of a list (XATTR_LIST_MAX, linux/limits.h)
        Err(Errno::RANGE) => {
            let mut names = vec![0u8; crate::limits::XATTR_BYTES];
            let length = list(&mut names)?;
            values(&names[..length], wanted, get)
        }
        Err(error) => Err(error),
    }
}

fn values(
    names: &[u8],
    wanted: impl Fn(&[u8]) -> bool,
    get: impl Fn(&[u8], &mut [u8]) -> Result<usize, Errno>,
) -> Result<Attributes, Errno> {
    let mut attributes = Vec::new();
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty() && wanted(name)) {
        let mut value = vec![0u8; crate::limits::XATTR_BYTES];
        let count = match get(name, &mut value) {
            // gone since it was listed
            Err(Errno::NODATA) => continue,
            read => read?,
        };
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

/// Makes an open empty file a deletion in an open folder; a folder that hides everything below it stays so.
pub(crate) fn set_whiteout(folder: impl AsFd, file: impl AsFd, xattrs: OverlayXattrs) -> io::Result<()> {
    fs::fsetxattr(file, xattrs.whiteout(), b"y", fs::XattrFlags::empty())?;
    match is_opaque(&folder, xattrs)? {
        true => Ok(()),
        false => Ok(fs::fsetxattr(folder, xattrs.opaque(), b"x", fs::XattrFlags::empty())?),
    }
}

/// Sets an attribute by path without following a link; what this file system or user may not have is passed over,
/// as docker, podman and containerd do.
pub(crate) fn set(path: &Path, name: &[u8], value: &[u8]) -> io::Result<()> {
    match fs::lsetxattr(path, name, value, fs::XattrFlags::empty()) {
        Err(Errno::OPNOTSUPP | Errno::PERM) => Ok(()),
        other => Ok(other?),
    }
}
