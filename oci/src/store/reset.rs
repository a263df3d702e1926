//! Takes a whole store away.
//!
//! The database is not opened, so a store that is damaged, or of a later format, goes as well. Only what a store is made of
//! is removed, by name; a registry that lies in the same folder, and what else somebody put there, stays. Pointers go first:
//! a removal that is cut short leaves content that nothing names, and can be repeated.

use super::{Holder, StoreError, io_at, sweep::remove};
use crate::private::PrivateError;
use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// What a store is made of, in the order in which it goes. The lock that keeps others out is the last.
const PARTS: [&str; 15] = [
    "store.db",
    "store.db-wal",
    "store.db-shm",
    "reserve",
    "layers",
    "blobs",
    "builds",
    "caches",
    "containers",
    "context",
    "run",
    "tmp",
    "layers.lock",
    "leases",
    "store.lock",
];

/// What a reset left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reset {
    /// What lies in the folder and is not of the store.
    pub strangers: Vec<PathBuf>,
}

/// Whether a folder holds a store.
pub fn is_store(root: &Path) -> Result<bool, StoreError> {
    let lock = root.join("store.lock");
    lock.try_exists().map_err(io_at("read", &lock))
}

/// Removes the store in `root`, which nobody may be using, and the folder if nothing else is in it.
pub fn reset(root: &Path) -> Result<Reset, StoreError> {
    if !is_store(root)? {
        return Err(StoreError::NoStore(root.to_owned()));
    }
    let root = &root.canonicalize().map_err(io_at("open", root))?;
    let (owner, user) = (fs::metadata(root).map_err(io_at("read", root))?.uid(), rustix::process::geteuid());
    if owner != user.as_raw() {
        let (path, user) = (root.to_owned(), user.as_raw());
        return Err(PrivateError::Foreign { path, owner, user }.into());
    }
    let holder = Holder::new(root)?;
    let alive = || Ok::<_, StoreError>(holder.leases().list()?.iter().filter(|held| held.alive).count());
    let removed = holder.alone(|_| {
        if alive()? > 0 || has_containers_that_run(root)? {
            return Err(StoreError::InUse(root.to_owned()));
        }
        // who opens the store now waits until it is gone, and fails
        PARTS
            .iter()
            .map(|part| root.join(part))
            .try_for_each(|path| remove(&path).map_err(io_at("remove", &path)))
    })?;
    // somebody could not note what it relies on, so it relies on everything
    removed.unwrap_or(Err(StoreError::InUse(root.to_owned())))?;
    let mut left = Reset::default();
    for entry in fs::read_dir(root).map_err(io_at("list", root))? {
        left.strangers.push(entry.map_err(io_at("list", root))?.path());
    }
    if left.strangers.is_empty() {
        match fs::remove_dir(root) {
            // a volume that is mounted there, or a parent that is not ours: an empty folder is no store any more
            Err(error)
                if !matches!(error.kind(), io::ErrorKind::ResourceBusy | io::ErrorKind::PermissionDenied) =>
            {
                return Err(io_at("remove", root)(error));
            }
            _ => {}
        }
    }
    Ok(left)
}

/// Whether somebody holds the lock of a container.
fn has_containers_that_run(root: &Path) -> Result<bool, StoreError> {
    let all = root.join("containers");
    let entries = match fs::read_dir(&all) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(io_at("list", &all)(error)),
    };
    for entry in entries {
        let lock = entry.map_err(io_at("list", &all))?.path();
        if super::containers::lock(&lock)?.is_none() {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{layer::OverlayXattrs, store::Store};

    fn made() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("folder");
        let root = folder.path().join("store");
        let store = Store::open(&root, OverlayXattrs::User).expect("store");
        store.blobs().put(b"x").expect("blob");
        store.new_container_folder("c").expect("container");
        (folder, root)
    }

    /// Every name that a store makes is one that a reset knows.
    #[test]
    fn nothing_of_a_store_is_left() {
        let (_folder, root) = made();
        assert_eq!(reset(&root).expect("reset"), Reset::default());
        assert!(!root.exists());
        assert!(matches!(reset(&root), Err(StoreError::NoStore(_))));
    }

    #[test]
    fn a_container_that_runs_is_not_taken_away_beneath_its_feet() {
        let (_folder, root) = made();
        let store = Store::open(&root, OverlayXattrs::User).expect("store");
        let lock = store.lock_container("c").expect("looked").expect("free");
        drop(store);
        assert!(matches!(reset(&root), Err(StoreError::InUse(_))));
        assert!(root.join("store.db").exists());
        drop(lock);
        reset(&root).expect("reset");
        assert!(!root.exists());
    }

    #[test]
    fn what_is_not_of_the_store_stays() {
        let (_folder, root) = made();
        fs::create_dir_all(root.join("registry/blobs")).expect("folder");
        fs::write(root.join("notes"), "mine").expect("file");
        let mut left = reset(&root).expect("reset").strangers;
        left.sort();
        assert_eq!(left, [root.join("notes"), root.join("registry")]);
        assert!(root.join("registry/blobs").is_dir());
        assert!(matches!(reset(&root), Err(StoreError::NoStore(_))), "and is no store");
        Store::open(&root, OverlayXattrs::User).expect("a new one can be made");
        assert_eq!(reset(&root).expect("reset").strangers.len(), 2);
    }

    #[test]
    fn a_folder_that_is_no_store_is_left_alone() {
        let folder = tempfile::tempdir().expect("folder");
        for name in ["tmp", "run", "layers"] {
            fs::create_dir(folder.path().join(name)).expect("folder");
        }
        assert!(matches!(reset(folder.path()), Err(StoreError::NoStore(_))));
        assert_eq!(fs::read_dir(folder.path()).expect("list").count(), 3);
    }

    #[test]
    fn a_store_that_is_used_stays_and_one_that_cannot_be_opened_goes() {
        let (_folder, root) = made();
        let user = Store::open(&root, OverlayXattrs::User).expect("user");
        user.temporary_folder("work").expect("work");
        assert!(matches!(reset(&root), Err(StoreError::InUse(_))));
        assert!(root.join("store.db").exists());
        drop(user);
        fs::write(root.join("store.db"), "no database").expect("damage");
        assert!(Store::open(&root, OverlayXattrs::User).is_err());
        reset(&root).expect("reset");
        assert!(!root.exists());
    }

    #[test]
    fn a_reset_that_was_cut_short_can_be_repeated() {
        for cut in 0..PARTS.len() {
            let (_folder, root) = made();
            for part in &PARTS[..cut] {
                remove(&root.join(part)).expect("removed");
            }
            reset(&root).expect("reset");
            assert!(!root.exists(), "{cut}");
        }
    }
}
