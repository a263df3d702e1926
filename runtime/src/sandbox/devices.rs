//! `/dev`: a file system of our own, whatever the image has there (runtime-spec config-linux.md, "Default Devices").
//!
//! The nodes are the host's, each a mount of its own, and not made with mknod: a user namespace may not make them, and
//! a `/dev` that is `nodev` otherwise keeps a container with `CAP_MKNOD` from making one for the host's disk there.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, mkdirat, mknodat, openat, statat, symlinkat};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use crate::error::Error;
use crate::sandbox::detached;

/// Name, major and minor number of the devices that every container has.
pub(crate) const NODES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// The links in `/dev` (runtime-spec runtime-linux.md, "Dev symbolic links"), and the one to the terminal multiplexer.
const LINKS: [(&str, &str); 6] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("/proc/kcore", "core"),
    ("pts/ptmx", "ptmx"),
];

/// What docker gives `/dev` and `/dev/shm`.
const DEV_BYTES: u64 = 64 * 1024 * 1024;
const SHM_BYTES: u64 = 64 * 1024 * 1024;

/// `/dev` and what is mounted in it, detached.
pub(crate) struct Devices {
    /// The file system with links, folders and places for the nodes.
    pub(crate) folder: OwnedFd,
    /// The host's nodes in the order of [`NODES`].
    pub(crate) nodes: Vec<OwnedFd>,
    /// `/dev/shm`.
    pub(crate) shm: OwnedFd,
}

impl Devices {
    /// The null device's node.
    pub(crate) fn null(&self) -> Option<&OwnedFd> {
        self.nodes.first()
    }

    /// Opens the null device through its lent node: through one that is opened at the host's place, `fchmod` reaches the
    /// host's node.
    pub(crate) fn open_null(&self) -> Result<OwnedFd, Errno> {
        let node = self.null().ok_or(Errno::NODEV)?;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        // the link leads to the very node that the descriptor holds, wherever that is mounted
        openat(CWD, format!("/proc/self/fd/{}", node.as_raw_fd()), flags, Mode::empty())
    }
}

/// Makes `/dev`; `device_nodes` allows nodes beside ours, `console` makes the place for `/dev/console`, `hosts_shm` shares
/// the caller's `/dev/shm`.
pub(crate) fn prepare(device_nodes: bool, console: bool, hosts_shm: bool) -> Result<Devices, Error> {
    let failed = |what: &str| {
        let what = what.to_owned();
        move |errno: rustix::io::Errno| Error::Prepare { what, source: errno.into() }
    };
    let mut attributes = MountAttrFlags::MOUNT_ATTR_NOSUID;
    attributes.set(MountAttrFlags::MOUNT_ATTR_NODEV, !device_nodes);
    let folder = detached::tmpfs(Some(DEV_BYTES), 0o755, attributes).map_err(failed("/dev"))?;
    for name in ["pts", "shm", "mqueue"] {
        mkdirat(&folder, name, Mode::from_raw_mode(0o755)).map_err(failed("/dev"))?;
    }
    for (target, name) in LINKS {
        symlinkat(target, &folder, name).map_err(failed("/dev"))?;
    }
    let places = NODES.iter().map(|(name, ..)| *name).chain(console.then_some("console"));
    for name in places {
        mknodat(&folder, name, FileType::RegularFile, Mode::from_raw_mode(0o600), 0)
            .map_err(failed("/dev"))?;
    }
    let nodes =
        NODES.iter().map(|(name, major, minor)| node(name, *major, *minor)).collect::<Result<_, _>>()?;
    let strict = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let shm = match hosts_shm {
        true => hosts(c"/dev/shm", u64::from(strict.bits())),
        false => detached::tmpfs(Some(SHM_BYTES), 0o1777, strict),
    };
    let shm = shm.map_err(failed("/dev/shm"))?;
    Ok(Devices { folder, nodes, shm })
}

/// A folder of the caller's as a mount with attributes of our own.
fn hosts(folder: &CStr, attributes: u64) -> Result<OwnedFd, Errno> {
    let held = openat(CWD, folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let tree = detached::clone_of(held.as_fd(), false)?;
    detached::make_private(&tree, attributes)?;
    Ok(tree)
}

/// A clone of one host node, checked to be that device on the very descriptor that will be mounted (CVE-2025-31133).
fn node(name: &str, major: u32, minor: u32) -> Result<OwnedFd, Error> {
    let path = format!("/dev/{name}");
    let failed = |source: std::io::Error| Error::Open { path: path.clone().into(), source };
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let held = openat(CWD, &path, flags, Mode::empty()).map_err(|errno| failed(errno.into()))?;
    let node = detached::lent(held.as_fd()).map_err(|errno| failed(errno.into()))?;
    let found = statat(&node, "", AtFlags::EMPTY_PATH).map_err(|errno| failed(errno.into()))?;
    let is_device = FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice
        && found.st_rdev == rustix::fs::makedev(major, minor);
    if is_device { Ok(node) } else { Err(failed(std::io::Error::other("it is not the device of that name"))) }
}
