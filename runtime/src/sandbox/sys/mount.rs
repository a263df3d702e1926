//! mount_setattr(2), which rustix lacks.

use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

use super::{check, raw};

/// `struct mount_attr` of linux/mount.h.
#[repr(C)]
#[derive(Default)]
pub(crate) struct MountAttr {
    /// `MOUNT_ATTR_*` to set.
    pub(crate) set: u64,
    /// `MOUNT_ATTR_*` to clear.
    pub(crate) clear: u64,
    /// `MS_PRIVATE` and its kin, or 0.
    pub(crate) propagation: u64,
    /// The user namespace of an idmapped mount.
    pub(crate) userns: u64,
}

/// Changes the attributes of the mount whose root `mount` is; with `recursive` of all below it too.
pub(crate) fn set_attributes(
    mount: BorrowedFd<'_>,
    recursive: bool,
    attributes: &MountAttr,
) -> Result<(), Errno> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    let arguments = [
        mount.as_raw_fd() as usize,
        c"".as_ptr() as usize,
        flags as usize,
        std::ptr::from_ref(attributes) as usize,
        size_of::<MountAttr>(),
        0,
    ];
    // SAFETY: the path is an empty C string and `attributes` a full `mount_attr` of the given size.
    check(unsafe { raw::call(libc::SYS_mount_setattr, arguments) }).map(drop)
}
