//! Caches of `RUN --mount=type=cache`: where they lie, who uses them, what is known of them.
//!
//! ```text
//! caches/<hex>         the contents
//! caches/<hex>.lock    held by whoever uses the cache, shared or alone; the file goes with the cache, so whoever gets the
//!                      lock looks whether it is still the file of that name
//! caches/<hex>.about   what it is, as JSON ([`CacheAbout`]): for people, and to carry it elsewhere; nothing relies on it
//! caches/<hex>.seen    what steps with it have seen (the builder's)
//! ```
//!
//! A cache is taken away by who holds its lock alone: it is renamed into `tmp/` first, so that nobody finds half of one.

use super::{Store, StoreError, io_at, now, usage::modified};
use crate::{file, lease, limits, lock::Lock};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

/// What a cache is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheAbout {
    /// The id that recipes call it by, else its target.
    pub id: String,
    /// The namespace that builds gave (`BUILDKIT_CACHE_MOUNT_NS`).
    #[serde(default)]
    pub scope: String,
    /// Owner and mode of a new one's folder.
    #[serde(default)]
    pub uid: u32,
    /// The same.
    #[serde(default)]
    pub gid: u32,
    /// The same.
    #[serde(default)]
    pub mode: u32,
    /// What a new one is filled from: the chain id of layers, and a path in them; empty where it begins empty.
    #[serde(default)]
    pub from: String,
    /// When it was made, in seconds since 1970.
    #[serde(default)]
    pub made: i64,
    /// When it was last used, to the hour.
    #[serde(default)]
    pub used: i64,
}

/// A cache in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheMount {
    /// Its name in the store: a digest's hexadecimal form.
    pub name: String,
    /// What it is; nothing where an earlier version made it and nobody has used it since.
    pub about: Option<CacheAbout>,
    /// Bytes of disk.
    pub bytes: u64,
    /// When it was last used, in seconds since 1970.
    pub used: i64,
    /// Whether a step uses it now.
    pub in_use: bool,
}

/// A cache that is locked; until this is dropped.
#[derive(Debug)]
pub struct CacheLock {
    _lock: Lock,
}

/// Whether `name` can be a cache's.
pub fn is_cache_name(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

impl Store {
    /// Where the contents of a cache lie, whether or not it is there. `name` is a digest's hexadecimal form.
    pub fn cache_folder(&self, name: &str) -> PathBuf {
        assert!(is_cache_name(name), "a cache is named by a digest");
        self.root.join("caches").join(name)
    }

    /// Locks a cache, alone or shared with others who share; `None` while somebody holds it otherwise.
    pub fn try_lock_cache(&self, name: &str, alone: bool) -> Result<Option<CacheLock>, StoreError> {
        let folder = self.root.join("caches");
        match crate::private::new_folder(&folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(io_at("create", &folder)(error));
            }
            _ => {}
        }
        let path = beside(&self.cache_folder(name), "lock");
        loop {
            let options = File::options().create(true).truncate(false).write(true).clone();
            let file = options.open(&path).map_err(io_at("open", &path))?;
            let lock = if alone { Lock::try_alone(file) } else { Lock::try_shared(file) };
            let Some(lock) = lock.map_err(io_at("lock", &path))? else { return Ok(None) };
            // whoever took the cache away took this file too, between opening and locking
            if lease::is_at(&lock, &path).map_err(io_at("read", &path))? {
                return Ok(Some(CacheLock { _lock: lock }));
            }
        }
    }

    /// Notes what a cache is and that it is used; whoever calls it holds the lock. What cannot be written is left out: nothing
    /// but listings and the order in which caches go relies on it.
    pub fn note_cache(&self, name: &str, about: &CacheAbout) {
        let path = beside(&self.cache_folder(name), "about");
        let now = now();
        let before = read_about(&path);
        let made = before.as_ref().map_or(now, |before| before.made);
        if before.as_ref().is_some_and(|before| {
            let same = CacheAbout { made: before.made, used: before.used, ..about.clone() };
            same == *before && now - before.used < limits::USED_GRAIN
        }) {
            return;
        }
        let written = serde_json::to_vec(&CacheAbout { made, used: now, ..about.clone() });
        let _ = written.map(|bytes| file::write_atomic(&path, &bytes));
    }

    /// What is known of a cache.
    pub fn cache_about(&self, name: &str) -> Option<CacheAbout> {
        read_about(&beside(&self.cache_folder(name), "about"))
    }

    /// Puts the folder `new`, which lies in this store's `tmp/`, in the place of a cache's contents, with what it has seen.
    /// Whoever calls it holds the cache's lock alone.
    pub fn put_cache(
        &self,
        name: &str,
        new: &Path,
        seen: &[u8],
        about: &CacheAbout,
    ) -> Result<(), StoreError> {
        let folder = self.cache_folder(name);
        let record = beside(&folder, "seen");
        // what was seen of other contents is worse than nothing
        match fs::remove_file(&record) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_at("remove", &record)(error));
            }
            _ => {}
        }
        if folder.exists() {
            let old = self.temporary_path("cache")?;
            fs::rename(&folder, &old).map_err(io_at("rename", &folder))?;
            file::remove_tree(&old).map_err(io_at("remove", &old))?;
        }
        fs::rename(new, &folder).map_err(io_at("rename", &folder))?;
        if !seen.is_empty() {
            file::write_atomic(&record, seen).map_err(io_at("write", &record))?;
        }
        self.note_cache(name, about);
        Ok(())
    }

    /// All caches, the longest unused first. Reads the size of every file in them.
    pub fn cache_mounts(&self) -> Result<Vec<CacheMount>, StoreError> {
        let mut found = Vec::new();
        for folder in super::sweep::entries(&self.root.join("caches"))? {
            let Some(name) =
                folder.file_name().and_then(|name| name.to_str()).filter(|name| is_cache_name(name))
            else {
                continue;
            };
            let about = read_about(&beside(&folder, "about"));
            let used = about.as_ref().map(|about| about.used).filter(|used| *used > 0);
            let parts = ["seen", "about"].map(|part| file::disk_bytes(&beside(&folder, part)).unwrap_or(0));
            found.push(CacheMount {
                bytes: file::disk_bytes(&folder).unwrap_or(0) + parts.iter().sum::<u64>(),
                // one of an earlier version: locked with each use, and made by the first
                used: used
                    .or_else(|| modified(&beside(&folder, "seen")))
                    .or_else(|| modified(&folder))
                    .unwrap_or(0),
                in_use: is_locked(&beside(&folder, "lock")),
                name: name.to_owned(),
                about,
            });
        }
        found.sort_by(|one, other| (one.used, &one.name).cmp(&(other.used, &other.name)));
        Ok(found)
    }

    /// Moves a cache to `trash`, a folder in this store's `tmp/`; `false` while a step uses it, or where it is gone.
    pub(super) fn take_cache(
        &self,
        name: &str,
        take: &mut dyn FnMut(&Path) -> bool,
    ) -> Result<bool, StoreError> {
        let Some(_alone) = self.try_lock_cache(name, true)? else { return Ok(false) };
        let folder = self.cache_folder(name);
        let there = folder.exists();
        let gone = !there || take(&folder);
        for part in ["seen", "about"] {
            let path = beside(&folder, part);
            if gone && path.exists() {
                take(&path);
            }
        }
        if gone {
            // the last: whoever waits for the lock makes another file
            let _ = fs::remove_file(beside(&folder, "lock"));
        }
        Ok(there && gone)
    }
}

fn beside(folder: &Path, part: &str) -> PathBuf {
    folder.with_extension(part)
}

fn read_about(path: &Path) -> Option<CacheAbout> {
    serde_json::from_slice(&file::read_capped(path, limits::CACHE_ABOUT_BYTES).ok()?).ok()
}

/// Whether anybody holds the lock. Whoever asks for it at this moment finds it taken, and asks again.
fn is_locked(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| matches!(Lock::try_alone(file), Ok(None)))
}

#[cfg(test)]
mod tests;
