//! File systems as detached mounts: made by the parent, attached by the child.
//!
//! Everything goes through the mount calls of Linux 5.2 (fsopen, fsconfig, fsmount, open_tree), which give a descriptor
//! and no place in any tree, so nothing has to be cleaned up when a later step fails.

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{Gid, Mode, OFlags, Uid, fchmod, fchown, openat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_string, fsmount,
    fsopen, open_tree,
};

use crate::sandbox::sys;
use crate::sandbox::sys::mount::MountAttr;

/// `MOUNT_ATTR_RDONLY` (linux/mount.h).
pub(crate) const ATTR_RDONLY: u64 = 0x1;
/// `MOUNT_ATTR_NOSUID` (linux/mount.h).
pub(crate) const ATTR_NOSUID: u64 = 0x2;
/// `MOUNT_ATTR_NODEV` (linux/mount.h).
pub(crate) const ATTR_NODEV: u64 = 0x4;

/// Sets attributes on a detached tree and cuts it from the host's propagation.
pub(crate) fn make_private(tree: &OwnedFd, set: u64) -> Result<(), Errno> {
    use std::os::fd::AsFd;
    let attributes = MountAttr { set, propagation: libc::MS_PRIVATE, ..MountAttr::default() };
    sys::mount::set_attributes(tree.as_fd(), true, &attributes)
}

/// A clone of what is the host's and only lent: a device node, or a folder of them. The mount is read-only, which keeps
/// owner, mode, times and attributes of the host's own inode from the container; what is written to a device passes, as
/// the kernel asks no mount about special files. Every way of lending a host object goes through here.
pub(crate) fn lent(source: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let tree = clone_of(source, true)?;
    make_private(&tree, ATTR_RDONLY | ATTR_NOSUID)?;
    Ok(tree)
}

/// An empty file system in memory.
pub(crate) fn tmpfs(
    size_bytes: Option<u64>,
    mode: u32,
    attributes: MountAttrFlags,
) -> Result<OwnedFd, Errno> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "source", "tmpfs")?;
    fsconfig_set_string(&context, "mode", format!("{mode:o}"))?;
    if let Some(bytes) = size_bytes {
        fsconfig_set_string(&context, "size", bytes.to_string())?;
    }
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// The name of the one file of [`file`]'s file system.
pub(crate) const FILE: &std::ffi::CStr = c"file";

/// A file system in memory that holds one file, called [`FILE`].
pub(crate) fn file(content: &[u8], mode: u32, uid: u32, gid: u32) -> Result<OwnedFd, Errno> {
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let folder = tmpfs(None, 0o700, attributes)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = openat(&folder, FILE, flags, Mode::RUSR | Mode::WUSR)?;
    let mut rest = content;
    while !rest.is_empty() {
        rest = &rest[rustix::io::write(&file, rest)?..];
    }
    // the owner first: a change of it takes special bits away
    fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    fchmod(&file, Mode::from_raw_mode(mode & 0o7777))?;
    Ok(folder)
}

/// A detached clone of what a descriptor shows.
pub(crate) fn clone_of(source: BorrowedFd<'_>, recursive: bool) -> Result<OwnedFd, Errno> {
    let mut flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    open_tree(source, "", flags)
}
