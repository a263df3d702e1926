//! Removes what processes that are gone have left behind.

use super::{Store, StoreError, io_at};
use crate::{
    file,
    lease::{self, LeaseError},
};
use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

/// How long the output of a failed step is kept, in seconds.
const LOG_SECONDS: u64 = 7 * 86_400;

/// How long a file is kept whose name says nothing of its owner, in seconds: of earlier versions, or left by hand.
const STRANGER_SECONDS: u64 = 86_400;

impl Store {
    /// Removes what the dead have left in `tmp/`, and their leases. What cannot be removed is left to the next sweep.
    pub(super) fn sweep(&self) -> Result<(), StoreError> {
        let folder = self.root.join("tmp");
        let mut by_owner: HashMap<String, Vec<PathBuf>> = HashMap::new();
        for entry in fs::read_dir(&folder).map_err(io_at("list", &folder))? {
            let entry = entry.map_err(io_at("list", &folder))?;
            let name = entry.file_name();
            match name.to_str().and_then(lease::owner_of) {
                Some(id) => by_owner.entry(id.to_owned()).or_default().push(entry.path()),
                None if is_old(&entry.path(), STRANGER_SECONDS) => drop(remove(&entry.path())),
                None => {}
            }
        }
        let leases = self.holder.leases();
        for (id, paths) in &by_owner {
            // the name was seen before this look: its owner has finished, for a lease goes last
            if !leases.exists(id)? {
                paths.iter().for_each(|path| drop(remove(path)));
            }
        }
        let swept = leases.sweep(|dead| {
            for path in by_owner.get(&dead.id).into_iter().flatten() {
                remove(path).map_err(|source| LeaseError::Io {
                    operation: "remove",
                    path: path.clone(),
                    source,
                })?;
            }
            Ok(())
        });
        self.sweep_turns();
        // a left-over that cannot be removed must not keep anybody from working
        drop(swept);
        Ok(())
    }

    /// Removes the output of steps that failed long ago, and stat caches whose writing did not end.
    pub(super) fn sweep_old(&self) -> Result<(), StoreError> {
        let logs = entries(&self.root.join("run/logs"))?.into_iter().map(|entry| (entry, LOG_SECONDS));
        let caches = entries(&self.root.join("context"))?.into_iter().filter(|entry| {
            entry.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("stat-"))
        });
        for (entry, seconds) in logs.chain(caches.map(|entry| (entry, STRANGER_SECONDS))) {
            if is_old(&entry, seconds) {
                // another process may sweep at the same time: what is gone is gone
                let _ = fs::remove_file(entry);
            }
        }
        Ok(())
    }
}

pub(super) fn entries(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| Ok(entry.map_err(io_at("list", folder))?.path())).collect(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(io_at("list", folder)(error)),
    }
}

pub(super) fn remove(path: &Path) -> std::io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => file::remove_tree(path),
        Ok(_) => match fs::remove_file(path) {
            // another process may sweep at the same time: what is gone is gone
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        },
        Err(_) => Ok(()),
    }
}

fn is_old(path: &Path, seconds: u64) -> bool {
    let modified = fs::symlink_metadata(path).and_then(|metadata| metadata.modified()).ok();
    modified.and_then(|time| time.elapsed().ok()).is_some_and(|age| age.as_secs() > seconds)
}
