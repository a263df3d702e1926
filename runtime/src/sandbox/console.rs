//! `/dev/pts` and the container's terminal (pts(4), ioctl_tty(2)).

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen,
};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// The two sides of a terminal.
pub(crate) struct Terminal {
    /// The caller's side.
    pub(crate) master: OwnedFd,
    /// The container's side, which lives in the container's own `/dev/pts`.
    pub(crate) slave: OwnedFd,
}

/// A new, detached devpts instance. The group is `tty`'s customary 5, where that id exists.
pub(crate) fn devpts() -> Result<OwnedFd, Errno> {
    let context = fsopen("devpts", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "source", "devpts")?;
    fsconfig_set_flag(&context, "newinstance")?;
    fsconfig_set_string(&context, "ptmxmode", "0666")?;
    fsconfig_set_string(&context, "mode", "0620")?;
    match fsconfig_set_string(&context, "gid", "5") {
        // A user namespace with a single id has no group 5.
        Ok(()) | Err(Errno::INVAL) => {}
        Err(errno) => return Err(errno),
    }
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// Opens a terminal in that instance. Its container's side comes from the master's descriptor (TIOCGPTPEER) and never
/// from a name, which the container could have swapped (CVE-2025-52565).
pub(crate) fn open(devpts: &OwnedFd, size: Option<(u16, u16)>) -> Result<Terminal, Errno> {
    let master = openat(devpts, "ptmx", OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
    unlockpt(&master)?;
    let slave = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    if let Some((rows, columns)) = size {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(master.as_fd(), size)?;
    }
    Ok(Terminal { master, slave })
}
