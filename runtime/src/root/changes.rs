//! Where a sandbox's changes go: a folder of the store, or memory where no overlay can write into that.
//!
//! Overlayfs writes into no folder on another overlay, on NFS, FUSE, FAT or a case-insensitive tree
//! (Documentation/filesystems/overlayfs.rst, "Upper and lower"): in every container without a volume the store lies on an
//! overlay. There the upper folder is in a file system in memory, detached, that goes with its descriptor; it holds as much
//! as the kernel gives such file systems, half of the memory. A file system in a file of the store would need one that we
//! can make and that writes itself to the disk in order; what a step changes is read once and thrown away.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{IFlags, Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen,
};

use crate::error::Error;
use crate::sandbox::detached::tmpfs;

/// `EXT4_SUPER_MAGIC`, `XFS_SUPER_MAGIC`, `BTRFS_SUPER_MAGIC`, `TMPFS_MAGIC` (linux/magic.h): they take overlays unless a
/// folder ignores case.
const TAKERS: [u64; 4] = [0xEF53, 0x5846_5342, 0x9123_683E, 0x0102_1994];
/// `FS_CASEFOLD_FL` (linux/fs.h).
const IGNORES_CASE: IFlags = IFlags::from_bits_retain(0x4000_0000);

/// A place for an upper folder and its work folder.
#[derive(Debug)]
pub struct Changes {
    path: PathBuf,
    /// The file system in memory.
    _memory: Option<OwnedFd>,
}

impl Changes {
    /// A place in `folder`, which is empty and the caller's, or in memory.
    ///
    /// # Errors
    /// When neither can be had.
    pub fn within(folder: &Path, userxattr: bool) -> Result<Changes, Error> {
        if takes_overlays(folder, userxattr) {
            return Ok(Changes { path: folder.to_owned(), _memory: None });
        }
        let attributes = MountAttrFlags::empty();
        let memory = tmpfs(None, 0o700, attributes)
            .map_err(|errno| Error::Root { log: "no memory for changes".to_owned(), source: errno.into() })?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", memory.as_raw_fd()));
        Ok(Changes { path, _memory: Some(memory) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is in memory: then nothing in it can be moved into the store.
    pub fn is_in_memory(&self) -> bool {
        self._memory.is_some()
    }
}

/// Whether an overlay can write into `folder`.
pub fn takes_overlays(folder: &Path, userxattr: bool) -> bool {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(opened) = rustix::fs::open(folder, flags, Mode::empty()) else { return true };
    let known = rustix::fs::fstatfs(&opened).is_ok_and(|found| TAKERS.contains(&(found.f_type as u64)));
    let ignores_case = rustix::fs::ioctl_getflags(&opened).is_ok_and(|flags| flags.contains(IGNORES_CASE));
    // what cannot be tried is left to the overlay that is meant, which says what is wrong
    known && !ignores_case || tried(folder, userxattr).unwrap_or(true)
}

/// Whether an overlay that writes into `folder` can be made.
fn tried(folder: &Path, userxattr: bool) -> Option<bool> {
    let trial = folder.join("trial");
    let made =
        ["", "upper", "work", "lower"].iter().try_for_each(|name| std::fs::create_dir(trial.join(name)));
    let result = made.ok().and_then(|()| trial_mount(&trial, userxattr));
    // left-overs go with the folder
    let _ = std::fs::remove_dir_all(&trial);
    result
}

fn trial_mount(trial: &Path, userxattr: bool) -> Option<bool> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).ok()?;
    fsconfig_set_string(&context, "source", "overlay").ok()?;
    for (key, name) in [("lowerdir", "lower"), ("upperdir", "upper"), ("workdir", "work")] {
        if fsconfig_set_string(&context, key, trial.join(name)).is_err() {
            return Some(false);
        }
    }
    if userxattr {
        fsconfig_set_flag(&context, "userxattr").ok()?;
    }
    if fsconfig_create(&context).is_err() {
        return Some(false);
    }
    let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).ok()?;
    drop(mount);
    Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_folders_hold_their_changes() {
        let folder = tempfile::tempdir().unwrap();
        let changes = Changes::within(folder.path(), false).unwrap();
        assert_eq!((changes.path(), changes.is_in_memory()), (folder.path(), false));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn privileged_what_takes_no_overlay_is_told_by_trying() {
        if !crate::host::tests_may_mount() {
            return;
        }
        // procfs takes none, whatever is written there
        assert_eq!(trial_mount(Path::new("/proc/self"), false), Some(false));
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(tried(folder.path(), false), Some(true));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn privileged_on_an_overlay_changes_are_in_memory() {
        if !crate::host::tests_may_mount() {
            return;
        }
        let scratch = tempfile::tempdir().unwrap();
        let path = |name: &str| scratch.path().join(name);
        for name in ["upper", "work", "lower", "top"] {
            std::fs::create_dir(path(name)).unwrap();
        }
        let layers = super::super::overlay::Layers {
            lower: super::super::overlay::prepared(&[path("lower").into()], None).unwrap(),
            upper: &path("upper"),
            work: &path("work"),
            volatile: false,
            userxattr: false,
        };
        let outer = super::super::overlay::mounted(&layers, true).unwrap();
        let inside = PathBuf::from(format!("/proc/self/fd/{}/store", outer.as_raw_fd()));
        std::fs::create_dir(&inside).unwrap();
        let changes = Changes::within(&inside, false).unwrap();
        assert!(changes.is_in_memory());
        std::fs::create_dir(changes.path().join("upper")).unwrap();
        std::fs::create_dir(changes.path().join("work")).unwrap();
        let root = super::super::RootFs::Overlay {
            lower: vec![path("lower").into()],
            upper: changes.path().join("upper"),
            work: changes.path().join("work"),
            volatile: true,
            userxattr: false,
        };
        match super::super::detached(&root, true) {
            Ok(tree) => {
                let file = format!("/proc/self/fd/{}/made", tree.as_raw_fd());
                std::fs::write(file, "x").unwrap();
                assert!(changes.path().join("upper/made").exists());
            }
            // before Linux 6.15 overlayfs takes no upper folder without a place
            Err(error) => slipway_skip::skip(&format!("{error:?}")),
        }
    }
}
