//! From an image to a root that a sandbox can run on.
//!
//! The layers, folders or files that are mounted ([`Lower`]), are stacked by an overlay of the sandbox's own ([`RootFs`]); what the sandbox mounts on comes from one more
//! layer beneath them ([`mount_points`]), so that none of it is part of what a command changed.

mod changes;
mod layer;
mod mapped;
mod overlay;
mod points;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};

use crate::error::Error;
use crate::sandbox::detached::{ATTR_NODEV, make_private};
pub use changes::{Changes, takes_overlays};
pub use layer::{Lower, Via, can_be_cloned, mount as mount_layer, try_mount};
pub use mapped::{Extent, IdMap};
use overlay::Layers;
pub use points::{MountPoint, make_mount_points, mount_points};

/// The root file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootFs {
    /// An overlay (Documentation/filesystems/overlayfs.rst), mounted for this sandbox alone.
    Overlay {
        /// The read-only layers, topmost first; at least one.
        lower: Vec<Lower>,
        /// Where changes go.
        upper: PathBuf,
        /// Overlayfs' scratch folder, empty, on the file system of `upper`.
        work: PathBuf,
        /// Whether the kernel may leave syncing out: for what is thrown away or digested at once. Such a `work` folder
        /// cannot be mounted a second time.
        volatile: bool,
        /// Whether whiteouts and opaque marks are in `user.overlay.*`, as they must be in a user namespace.
        userxattr: bool,
    },
    /// A folder of the host, with what is mounted below it.
    Directory(PathBuf),
    /// The same root, its owners shown in the ids of a user namespace ([`mapped`]).
    Mapped {
        /// The root, an overlay or a folder; of an overlay `upper` and `work` lie in one folder.
        root: Box<RootFs>,
        /// The ids.
        ids: IdMap,
    },
}

/// Makes the root as a detached mount. `nodev` keeps device nodes on it from being opened.
pub(crate) fn detached(root: &RootFs, nodev: bool) -> Result<OwnedFd, Error> {
    made(root, nodev, None)
}

fn made(root: &RootFs, nodev: bool, ids: Option<&IdMap>) -> Result<OwnedFd, Error> {
    match root {
        RootFs::Mapped { root, ids } => made(root, nodev, Some(ids)),
        RootFs::Directory(path) => {
            let tree = folder(path, nodev)?;
            ids.map_or(Ok(()), |ids| ids.apply(&tree, path))?;
            Ok(tree)
        }
        RootFs::Overlay { lower, upper, work, volatile, userxattr } => {
            let place = ids.map(|ids| ids.changes(upper, work)).transpose()?;
            let (upper, work) = match &place {
                None => (upper.clone(), work.clone()),
                Some(place) => (place.path(upper), place.path(work)),
            };
            let layers = Layers {
                lower: overlay::prepared(lower, ids)?,
                upper: &upper,
                work: &work,
                volatile: *volatile,
                userxattr: *userxattr,
            };
            let mounted = match ids {
                None => overlay::mounted(&layers, nodev),
                Some(ids) => ids.mounting(|| overlay::mounted(&layers, nodev)),
            };
            mounted.map_err(|error| nested(error, &upper))
        }
    }
}

/// `OVERLAYFS_SUPER_MAGIC` (linux/magic.h).
const OVERLAY_MAGIC: u64 = 0x794C_7630;

/// Names the reason that the kernel keeps to itself: an upper folder on another overlay.
fn nested(error: Error, upper: &Path) -> Error {
    let is_overlay = rustix::fs::statfs(upper).is_ok_and(|found| found.f_type as u64 == OVERLAY_MAGIC);
    match error {
        Error::Root { source, .. } if is_overlay => Error::NestedOverlay { upper: upper.to_owned(), source },
        error => error,
    }
}

/// A clone of a host folder with all that is mounted below it.
fn folder(path: &Path, nodev: bool) -> Result<OwnedFd, Error> {
    let failed = |errno: Errno| Error::Open { path: path.to_owned(), source: errno.into() };
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    let held = rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let tree = open_tree(held.map_err(failed)?, "", flags | OpenTreeFlags::AT_EMPTY_PATH).map_err(failed)?;
    let set = if nodev { ATTR_NODEV } else { 0 };
    make_private(&tree, set).map_err(failed)?;
    Ok(tree)
}
