//! Moves what is in SQLite's log into the database, on a thread of its own.
//!
//! By default the connection whose commit makes the log long does so at once: up to a thousand pages are written to where they belong
//! and two files synced, while everybody waits for the one thread that writes. But a log is begun anew only by a writer that finds
//! all of it moved (sqlite.org/wal.html, section 2.2), which beside one that never rests is never so. Hence this thread moves the
//! bulk, and the writer, after its next commit, the few pages that came meanwhile.

use crate::{limits, server::storage::StorageError};
use rusqlite::Connection;
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU32, Ordering},
        mpsc,
    },
    thread,
};

/// Nothing is asked of the thread.
const IDLE: u8 = 0;
/// The thread moves the bulk.
const MOVING: u8 = 1;
/// It has; the rest is the writer's.
const MOVED: u8 = 2;

/// The thread, and how long the log is.
pub(super) struct Checkpoint {
    pages: Arc<AtomicU32>,
    state: Arc<AtomicU8>,
    queue: Option<mpsc::SyncSender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

/// Moves what can be moved without waiting for anybody. Whatever stands in its way stands in the way of writes too, which say so.
fn passive(database: &Connection) {
    let _ = database.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
}

impl Checkpoint {
    /// Takes the place of SQLite's own checkpoints for the connection that writes.
    pub(super) fn start(writer: &mut Connection, path: &Path) -> Result<Checkpoint, StorageError> {
        let pages = Arc::new(AtomicU32::new(0));
        let seen = Arc::clone(&pages);
        writer.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, count| {
            seen.store(u32::try_from(count).unwrap_or(0), Ordering::Relaxed);
            Ok(())
        }))?;
        let own = super::schema::connect(path)?;
        let state = Arc::new(AtomicU8::new(IDLE));
        let (queue, asked) = mpsc::sync_channel::<()>(1);
        let told = Arc::clone(&state);
        let thread = thread::spawn(move || {
            for () in asked {
                passive(&own);
                told.store(MOVED, Ordering::Release);
            }
        });
        Ok(Checkpoint { pages, state, queue: Some(queue), thread: Some(thread) })
    }

    /// Called by the writer between two transactions.
    pub(super) fn after_commit(&self, database: &Connection) {
        match self.state.load(Ordering::Acquire) {
            IDLE if self.pages.load(Ordering::Relaxed) >= limits::LOG_PAGES => {
                self.state.store(MOVING, Ordering::Relaxed);
                let asked = self.queue.as_ref().is_some_and(|queue| queue.try_send(()).is_ok());
                if !asked {
                    passive(database);
                    self.state.store(IDLE, Ordering::Relaxed);
                }
            }
            MOVED => {
                passive(database);
                self.state.store(IDLE, Ordering::Relaxed);
            }
            _ => {}
        }
    }
}

impl Drop for Checkpoint {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // a panic there was reported by itself
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::server::storage::pointers::{Pointers, sqlite::SqlitePointers};
    use slipway_oci::Digest;
    use std::{fs, thread};

    /// However long writers keep on, the log begins anew: without that it would be twenty times as long.
    #[test]
    fn the_log_stays_short_under_writers_that_never_rest() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("registry.db");
        let pointers = SqlitePointers::open(&path).expect("a database");
        let longest = thread::scope(|scope| {
            let writers: Vec<_> = (0..4)
                .map(|number| {
                    let pointers = &pointers;
                    scope.spawn(move || {
                        for one in 0..4000 {
                            let digest = Digest::sha256(format!("{number} {one}").as_bytes());
                            pointers.put_blob("app", &digest, 1, None, &[], 1).expect("a blob");
                        }
                    })
                })
                .collect();
            let mut longest = 0;
            while writers.iter().any(|writer| !writer.is_finished()) {
                let log = fs::metadata(folder.path().join("registry.db-wal")).map_or(0, |file| file.len());
                longest = longest.max(log);
                thread::yield_now();
            }
            longest
        });
        let most = 8 * u64::from(crate::limits::LOG_PAGES) * 4096;
        assert!(longest > 0 && longest < most, "{longest}");
        drop(pointers);
        assert!(!folder.path().join("registry.db-wal").exists(), "whoever closes it last leaves no log");
    }
}
