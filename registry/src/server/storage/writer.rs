//! The one thread that writes pointers: group commit.
//!
//! Whatever waits while a transaction is being committed shares the next one: one sync of each folder that was renamed
//! into, one commit of SQLite's log, for up to [`limits::BATCH_WRITES`] requests. Each write runs in a savepoint of its
//! own, so that a refused one undoes nothing but itself. Renames into the blob folder and removals from it happen
//! under SQLite's write lock, hence never at the same time, in this process or in another one on the same folder.

use super::StorageError;
use crate::limits;
use rusqlite::Connection;
use slipway_oci::{Digest, blobs::Blobs, file};
use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Arc, mpsc},
    thread,
};

/// What the writes of one transaction leave to do around its commit.
#[derive(Default)]
pub(super) struct Batch {
    /// Folders to sync before the commit: content first, pointer last.
    pub(super) renamed_into: BTreeSet<PathBuf>,
    /// Blobs that may have lost their last reference.
    pub(super) released: BTreeSet<Digest>,
}

/// How sure a write has to be before it is answered.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Durability {
    /// On disk: names that clients were told of.
    Durable,
    /// Survives the process, perhaps not the machine: upload sessions, which clients can start again.
    Lazy,
}

type Reply = Box<dyn FnOnce(Option<&Arc<StorageError>>) + Send>;
/// Runs inside the savepoint; the flag says whether to keep what it wrote.
type Work = Box<dyn FnOnce(&Connection, &mut Batch) -> (bool, Reply) + Send>;

struct Job {
    durability: Durability,
    work: Work,
}

/// Hands writes to the thread.
pub(super) struct Writer {
    queue: Option<mpsc::Sender<Job>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread over its own connection.
    pub(super) fn start(database: Connection, blobs: Blobs) -> Writer {
        let (queue, jobs) = mpsc::channel();
        let thread = thread::spawn(move || run(&database, &blobs, &jobs));
        Writer { queue: Some(queue), thread: Some(thread) }
    }

    /// Runs `work` in a transaction and answers once that is committed. Blocks.
    pub(super) fn write<T: Send + 'static>(
        &self,
        durability: Durability,
        work: impl FnOnce(&Connection, &mut Batch) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let (answer, answered) = mpsc::sync_channel(1);
        let work: Work = Box::new(move |database, batch| {
            let result = work(database, batch);
            let keep = result.is_ok();
            let reply: Reply = Box::new(move |failure| {
                let result = match failure {
                    Some(error) => Err(StorageError::Commit(Arc::clone(error))),
                    None => result,
                };
                // nobody waits any more: the request was cut off, the write stands
                let _ = answer.send(result);
            });
            (keep, reply)
        });
        let queue = self.queue.as_ref().ok_or(StorageError::Stopped)?;
        queue.send(Job { durability, work }).map_err(|_| StorageError::Stopped)?;
        answered.recv().map_err(|_| StorageError::Skipped)?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // a panic in the thread was reported by itself; there is nobody left to tell
            let _ = thread.join();
        }
    }
}

fn run(database: &Connection, blobs: &Blobs, jobs: &mpsc::Receiver<Job>) {
    while let Ok(first) = jobs.recv() {
        let mut waiting = vec![first];
        waiting.extend(jobs.try_iter().take(limits::BATCH_WRITES - 1));
        let mut batch = Batch::default();
        let mut replies = Vec::with_capacity(waiting.len());
        let outcome = commit(database, waiting, &mut batch, &mut replies).map_err(Arc::new);
        if outcome.is_err() && !database.is_autocommit() {
            // the failure that matters is the first one
            let _ = database.execute_batch("ROLLBACK");
        }
        if outcome.is_ok() && !batch.released.is_empty() {
            // what cannot be removed now is unreferenced garbage; the delete itself stands
            let _ = remove_released(database, blobs, &batch.released);
        }
        for reply in replies {
            reply(outcome.as_ref().err());
        }
    }
}

fn commit(
    database: &Connection,
    jobs: Vec<Job>,
    batch: &mut Batch,
    replies: &mut Vec<Reply>,
) -> Result<(), StorageError> {
    let durable = jobs.iter().any(|job| job.durability == Durability::Durable);
    database.pragma_update(None, "synchronous", if durable { "FULL" } else { "NORMAL" })?;
    database.execute_batch("BEGIN IMMEDIATE")?;
    for job in jobs {
        database.execute_batch("SAVEPOINT job")?;
        let (keep, reply) = (job.work)(database, batch);
        replies.push(reply);
        database.execute_batch(if keep { "RELEASE job" } else { "ROLLBACK TO job; RELEASE job" })?;
    }
    for folder in &batch.renamed_into {
        file::sync_folder(folder).map_err(super::error::io_error("sync", folder))?;
    }
    database.execute_batch("COMMIT")?;
    Ok(())
}

/// Removes the files of blobs that no repository refers to any more, under the write lock and after the pointers went.
fn remove_released(
    database: &Connection,
    blobs: &Blobs,
    released: &BTreeSet<Digest>,
) -> Result<(), StorageError> {
    let transaction =
        rusqlite::Transaction::new_unchecked(database, rusqlite::TransactionBehavior::Immediate)?;
    for digest in released {
        let mut statement = transaction.prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM blobs WHERE digest = ?1) OR EXISTS (SELECT 1 FROM manifests WHERE digest = ?1)",
        )?;
        let referenced: bool = statement.query_row([digest.to_string()], |row| row.get(0))?;
        if !referenced {
            blobs.remove(digest)?;
        }
    }
    transaction.commit()?;
    Ok(())
}
