//! File systems as detached mounts: made by the parent, attached by the child.
//!
//! Everything goes through the mount calls of Linux 5.2 (fsopen, fsconfig, fsmount, open_tree), which give a descriptor
//! and no place in any tree, so nothing has to be cleaned up when a later step fails.

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_string, fsmount,
    fsopen, open_tree,
};

use crate::sandbox::sys;
use crate::sandbox::sys::mount::MountAttr;

/// `MOUNT_ATTR_RDONLY` (linux/mount.h).
pub(crate) const ATTR_RDONLY: u64 = 0x1;
/// `MOUNT_ATTR_NODEV` (linux/mount.h).
pub(crate) const ATTR_NODEV: u64 = 0x4;

/// Sets attributes on a detached tree and cuts it from the host's propagation.
pub(crate) fn make_private(tree: &OwnedFd, set: u64) -> Result<(), Errno> {
    use std::os::fd::AsFd;
    let attributes = MountAttr { set, propagation: libc::MS_PRIVATE, ..MountAttr::default() };
    sys::mount::set_attributes(tree.as_fd(), true, &attributes)
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

/// A detached clone of what a descriptor shows.
pub(crate) fn clone_of(source: BorrowedFd<'_>, recursive: bool) -> Result<OwnedFd, Errno> {
    let mut flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    open_tree(source, "", flags)
}
