//! A bound on what the whole store takes of the disk.
//!
//! Who writes takes room first ([`Room::take`]). Most of the time that is a subtraction: room is granted in pieces. For a new
//! piece the store is measured, under a lock that all processes with a quota share, and what they were granted and may not
//! have written yet counts as written. Where it is not enough, what builds have kept goes, the longest unused first, as
//! `prune --keep-storage` does it, and nothing that a living process relies on; where that is not enough either, writing
//! fails ([`OverQuota`]), as on a full disk, and leaves as little behind.
//!
//! ```text
//! run/room.lock         held while the store is measured and room is granted
//! run/room/<id>         bytes that the owner of the lease <id> was granted; counts while that lives
//! ```
//!
//! What a container or a RUN writes passes no such place. It is [watched](Watch): as soon as the disk has less room than
//! before, the store is measured, and what writes is stopped a little before the bound ([`SLACK`]), so that what comes between
//! two looks does not go beyond it.

use super::{Prune, Store, StoreError, now};
use crate::{file, layer::OverlayXattrs, lease};
use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

/// Largest piece of room that is granted at once beyond what is asked for.
const PIECE: u64 = 64 << 20;

/// How far before the bound a command that is watched is stopped: what a disk may take between two looks. A tenth of the quota
/// where that is less.
const SLACK: u64 = 64 << 20;

/// How often the disk is looked at while a command runs.
const LOOK: Duration = Duration::from_millis(10);

/// A smaller change of the disk's room than this is not worth measuring the store for.
const CHANGE: u64 = 4 << 20;

/// The store would take more than it may.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store `{}` may take {quota} bytes of the disk and has {used}, of which nothing more can go", path.display())]
pub struct OverQuota {
    /// The store.
    pub path: PathBuf,
    /// What it may take, in bytes.
    pub quota: u64,
    /// What it takes.
    pub used: u64,
}

impl OverQuota {
    /// The refusal that `error` is, itself or by its causes.
    pub fn of<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a OverQuota> {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if let Some(found) = error.downcast_ref::<OverQuota>() {
                return Some(found);
            }
            let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            cause = match inner {
                Some(inner) => Some(inner as &(dyn std::error::Error + 'static)),
                None => error.source(),
            };
        }
        None
    }
}

/// The room that this process may write into.
pub struct Room {
    quota: u64,
    /// As another process has it open: what this one relies on is relied on by a living process.
    store: Mutex<Store>,
    root: PathBuf,
    /// What is left of what was granted.
    left: AtomicI64,
    /// This process' grant.
    grant: PathBuf,
}

impl Room {
    /// A bound for the store in `root`, whose user's lease is `lease`.
    pub(super) fn new(
        root: &Path,
        xattrs: OverlayXattrs,
        lease: &str,
        quota: u64,
    ) -> Result<Room, StoreError> {
        let folder = root.join("run/room");
        fs::create_dir_all(&folder).map_err(super::io_at("create", &folder))?;
        let store = Mutex::new(Store::open(root, xattrs)?);
        Ok(Room { quota, store, root: root.to_owned(), left: AtomicI64::new(0), grant: folder.join(lease) })
    }

    /// Takes room for so many bytes, before they are written.
    ///
    /// # Errors
    /// When there is none, and none can be made; the inner error is [`OverQuota`].
    pub fn take(&self, bytes: u64) -> io::Result<()> {
        let wanted = i64::try_from(bytes).unwrap_or(i64::MAX);
        if self.left.fetch_sub(wanted, Ordering::Relaxed) >= wanted {
            return Ok(());
        }
        let store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        // another thread may have been granted enough meanwhile
        if self.left.load(Ordering::Relaxed) >= 0 {
            return Ok(());
        }
        self.left.store(0, Ordering::Relaxed);
        self.grant(&store, bytes, 0).inspect_err(|_| self.left.store(0, Ordering::Relaxed))
    }

    /// Measures, makes room where that is needed, and grants at least `bytes`, with `slack` beside them.
    fn grant(&self, store: &Store, bytes: u64, slack: u64) -> io::Result<()> {
        let path = self.root.join("run/room.lock");
        let lock = File::options().create(true).truncate(false).write(true).open(&path)?;
        lock.lock()?;
        // what this process was granted is written, or given up
        let _ = fs::remove_file(&self.grant);
        let others = self.others(store)?;
        let needed = others.saturating_add(bytes).saturating_add(slack);
        let mut used = measured(&self.root)?;
        if used.saturating_add(needed) > self.quota {
            make_room(store, used.saturating_add(needed) - self.quota);
            used = measured(&self.root)?;
        }
        let Some(free) = self.quota.checked_sub(used.saturating_add(needed)) else {
            let over = OverQuota { path: self.root.clone(), quota: self.quota, used };
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, over));
        };
        let more = (free / 4).min(PIECE);
        fs::write(&self.grant, (bytes + more).to_string())?;
        self.left.store(i64::try_from(more).unwrap_or(0), Ordering::Relaxed);
        Ok(())
    }

    /// What the other living ones were granted.
    fn others(&self, store: &Store) -> io::Result<u64> {
        let living = store.holder.leases().list().map_err(io::Error::other)?;
        let mut sum = 0_u64;
        for entry in fs::read_dir(self.root.join("run/room"))? {
            let path = entry?.path();
            let Some(id) = path.file_name().and_then(|name| name.to_str()).filter(|id| lease::is_id(id))
            else {
                continue;
            };
            if living.iter().any(|held| held.alive && held.id == id) {
                let text = file::read_capped(&path, 64).unwrap_or_default();
                sum += String::from_utf8_lossy(&text).trim().parse::<u64>().unwrap_or(0);
            } else {
                let _ = fs::remove_file(&path);
            }
        }
        Ok(sum)
    }

    /// Watches what a command that this process runs writes, and calls `stop` where it comes near the bound.
    pub fn watch(self: &Arc<Room>, stop: impl Fn() + Send + 'static) -> Watch {
        let (over, ended) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (room, flags) = (self.clone(), (over.clone(), ended.clone()));
        let thread = std::thread::spawn(move || {
            let slack = SLACK.min(room.quota / 10);
            // the first look is a measurement: it may be near already
            let mut before = u64::MAX;
            while !flags.1.load(Ordering::Acquire) {
                let now = free_bytes(&room.root);
                // who was asked to stop may go on writing while it ends: that is nobody's to prevent
                if now < before.saturating_sub(CHANGE.min(room.quota / 40)) {
                    let store = room.store.lock().unwrap_or_else(PoisonError::into_inner);
                    if room.grant(&store, 0, slack).is_err_and(|error| OverQuota::of(&error).is_some()) {
                        flags.0.store(true, Ordering::Release);
                        stop();
                        return;
                    }
                    before = free_bytes(&room.root);
                } else {
                    before = before.max(now).min(now.saturating_add(CHANGE));
                }
                std::thread::sleep(LOOK);
            }
        });
        Watch { over, ended, thread: Some(thread) }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.grant);
    }
}

impl std::fmt::Debug for Room {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Room({} bytes for {})", self.quota, self.root.display())
    }
}

/// Someone looks at the disk until this is dropped.
pub struct Watch {
    over: Arc<AtomicBool>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Whether the bound was come near, so that it was stopped.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Store {
    /// Bounds what the store may take of the disk, in bytes, as long as this process lives.
    pub fn limit(&self, quota: u64) -> Result<(), StoreError> {
        let lease = self.holder.lease()?.id().to_owned();
        let room = Room::new(&self.root, self.xattrs, &lease, quota)?;
        self.holder.set_room(Arc::new(room));
        Ok(())
    }

    /// What is read of `source` is written into the store: room is taken for it.
    pub(super) fn within_room(&self, source: Box<dyn Read + Send>) -> Box<dyn Read + Send> {
        match self.room() {
            Some(room) => Box::new(Taking { source, room: room.clone() }),
            None => source,
        }
    }

    /// The room that what is written needs, where there is a bound.
    pub fn room(&self) -> Option<&Arc<Room>> {
        self.holder.room()
    }
}

/// A stream for which room is taken.
struct Taking {
    source: Box<dyn Read + Send>,
    room: Arc<Room>,
}

impl Read for Taking {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.room.take(count as u64)?;
        Ok(count)
    }
}

/// What the store takes of the disk. A registry in the same folder has quotas of its own.
fn measured(root: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(root)? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name != "registry") {
            // what goes meanwhile weighs nothing
            bytes += file::disk_bytes(&path).unwrap_or(0);
        }
    }
    Ok(bytes)
}

fn free_bytes(path: &Path) -> u64 {
    rustix::fs::statvfs(path).map_or(0, |found| found.f_bfree.saturating_mul(found.f_frsize))
}

/// Lets go so many bytes of what builds have kept, or all of it; what goes wrong is met by whoever measures again.
fn make_room(store: &Store, bytes: u64) {
    let Ok(account) = store.account() else { return };
    let kept: u64 = account
        .totals
        .iter()
        .filter(|(kind, _)| kind.is_kept_for_builds())
        .map(|(_, share)| share.bytes)
        .sum();
    // what nothing names goes with it, and is counted with nothing
    let rules = Prune {
        unnamed_images: false,
        cache: true,
        mounts: true,
        contexts: true,
        keep_bytes: Some(kept.saturating_sub(bytes)),
        used_before: Some(now() + 1),
        ..Prune::default()
    };
    let _ = store.prune(&rules);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Digest, store::tests};
    use std::io::Write;

    /// The whole store, as `du` sees it.
    fn size(store: &Store) -> u64 {
        measured(store.root()).expect("measured")
    }

    fn cache(store: &Store, id: &str, bytes: usize) -> String {
        let name = Digest::sha256(id.as_bytes()).hex();
        let _lock = store.try_lock_cache(&name, true).expect("lock").expect("free");
        fs::create_dir_all(store.cache_folder(&name)).expect("folder");
        fs::write(store.cache_folder(&name).join("file"), vec![7; bytes]).expect("file");
        name
    }

    #[test]
    fn what_was_kept_goes_before_anything_is_refused_and_the_bound_holds() {
        let (folder, first) = tests::store();
        let name = cache(&first, "old", 3 << 20);
        drop(first);
        let store = tests::store_in(&folder.path().join("store"));
        let quota = size(&store) + (4 << 20);
        store.limit(quota).expect("limit");
        let mut kept = Vec::new();
        let refused = loop {
            let mut writer = store.blobs().writer(crate::digest::Algorithm::Sha256).expect("writer");
            let bytes = vec![kept.len() as u8; 1 << 20];
            match writer
                .write_all(&bytes)
                .map_err(super::super::io_at("write", store.root()))
                .and_then(|()| Ok(writer.commit(None)?))
            {
                Ok((digest, _)) => kept.push(digest),
                Err(error) => break error,
            }
            assert!(size(&store) <= quota, "{} blobs", kept.len());
        };
        assert!(OverQuota::of(&refused).is_some_and(|over| over.quota == quota), "{refused:?}");
        assert!(!store.cache_folder(&name).exists(), "the cache went first");
        assert!((5..=8).contains(&kept.len()), "{}", kept.len());
        for digest in &kept {
            assert!(store.blobs().contains(digest).expect("looked"), "what this process relies on stays");
        }
        assert!(fs::read_dir(store.root().join("tmp")).expect("tmp").count() <= 1, "nothing half");
    }

    #[test]
    fn two_writers_stay_below_one_bound() {
        let (folder, first) = tests::store();
        let path = folder.path().join("store");
        let quota = size(&first) + (8 << 20);
        drop(first);
        std::thread::scope(|scope| {
            for thread in 0..2_u8 {
                let path = &path;
                scope.spawn(move || {
                    let store = tests::store_in(path);
                    store.limit(quota).expect("limit");
                    for number in 0..20_u8 {
                        let mut writer =
                            store.blobs().writer(crate::digest::Algorithm::Sha256).expect("writer");
                        if writer.write_all(&vec![thread * 100 + number; 512 << 10]).is_err() {
                            break;
                        }
                        if writer.commit(None).is_err() {
                            break;
                        }
                        assert!(
                            size(&store) <= quota + (256 << 10),
                            "the database's own pages alone come on top"
                        );
                    }
                });
            }
        });
    }

    #[test]
    fn who_writes_beside_is_watched() {
        let (_folder, store) = tests::store();
        let quota = size(&store) + (20 << 20);
        store.limit(quota).expect("limit");
        let stopped = Arc::new(AtomicBool::new(false));
        let told = stopped.clone();
        let watch = store.room().expect("room").watch(move || told.store(true, Ordering::Release));
        let folder = store.temporary_folder("run").expect("folder");
        let mut file = File::create(folder.join("big")).expect("file");
        for _ in 0..400 {
            if stopped.load(Ordering::Acquire) {
                break;
            }
            file.write_all(&vec![1; 256 << 10]).expect("written");
            std::thread::sleep(Duration::from_millis(8));
        }
        assert!(watch.is_over());
        assert!(size(&store) <= quota, "{} of {quota}", size(&store));
    }
}
