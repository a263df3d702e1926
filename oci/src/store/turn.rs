//! Turns: what several processes are about to do is done by one of them.
//!
//! A turn is a lock on the file `run/turns/<hex>`, named by the digest of the work. Who gets it looks again whether the
//! work was done meanwhile, and does it otherwise. The file goes with its owner; where that was killed, the next one
//! finds it unlocked.

use super::{Store, StoreError, io_at};
use crate::{Digest, lease, lock::Lock};
use std::{
    fs::{self, File},
    io,
    path::PathBuf,
};

/// A turn that is held until it is dropped.
#[derive(Debug)]
pub struct Turn {
    path: PathBuf,
    /// Holds the lock.
    _lock: Lock,
}

impl Drop for Turn {
    fn drop(&mut self) {
        // while the lock is held, so that nobody has taken the file over; one that stays costs a name
        let _ = fs::remove_file(&self.path);
    }
}

impl Store {
    /// The turn for the work called `work`; `None` while another process, or another holder in this one, has it.
    pub fn try_turn(&self, work: &Digest) -> Result<Option<Turn>, StoreError> {
        let folder = self.root.join("run/turns");
        match crate::private::new_folder(&folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(io_at("create", &folder)(error));
            }
            _ => {}
        }
        let path = folder.join(work.hex());
        loop {
            let options = File::options().create(true).truncate(false).write(true).clone();
            let file = options.open(&path).map_err(io_at("open", &path))?;
            let Some(lock) = Lock::try_alone(file).map_err(io_at("lock", &path))? else { return Ok(None) };
            // whoever had it may have taken the file away between opening and locking
            if lease::is_at(&lock, &path).map_err(io_at("read", &path))? {
                return Ok(Some(Turn { path, _lock: lock }));
            }
        }
    }

    /// Removes the turns of the dead.
    pub(super) fn sweep_turns(&self) {
        for entry in fs::read_dir(self.root.join("run/turns")).into_iter().flatten().flatten() {
            let Ok(file) = File::open(entry.path()) else { continue };
            let Ok(Some(lock)) = Lock::try_alone(file) else { continue };
            if lease::is_at(&lock, &entry.path()).unwrap_or(false) {
                // a name that stays costs nothing else
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::OverlayXattrs;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn a_turn_is_one_holders_at_a_time_whatever_is_swept() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("store");
        let work = Digest::sha256(b"work");
        let (inside, most, done) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let store = Store::open(&path, OverlayXattrs::User).expect("store");
                    for _ in 0..100 {
                        if let Some(_turn) = store.try_turn(&work).expect("turn") {
                            most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                            store.sweep_turns();
                            inside.fetch_sub(1, Ordering::SeqCst);
                            done.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                });
            }
        });
        assert_eq!(most.load(Ordering::SeqCst), 1);
        assert!(done.load(Ordering::SeqCst) > 0);
        assert_eq!(fs::read_dir(path.join("run/turns")).expect("list").count(), 0);
    }

    #[test]
    fn turns_of_the_dead_are_free_and_swept() {
        let folder = tempfile::tempdir().expect("folder");
        let store = Store::open(&folder.path().join("store"), OverlayXattrs::User).expect("store");
        let work = Digest::sha256(b"work");
        let turn = store.try_turn(&work).expect("turn").expect("free");
        assert!(store.try_turn(&work).expect("looked").is_none());
        assert!(store.try_turn(&Digest::sha256(b"other")).expect("turn").is_some(), "another work's turn");
        // as a killed process leaves it: the file without its lock
        let path = turn.path.clone();
        drop(turn);
        fs::write(&path, "").expect("file");
        assert!(store.try_turn(&work).expect("turn").is_some());
        fs::write(&path, "").expect("file");
        store.sweep_turns();
        assert!(!path.exists());
    }
}
