//! The one thread that writes pointers: group commit.
//!
//! Whatever waits while a transaction is being committed shares the next one: one sync of SQLite's log for up to
//! [`limits::BATCH_WRITES`] requests. Each write runs in a savepoint of its own, so that a refused one undoes nothing but
//! itself. What a transaction changes is noted in the [`super::journal`] before it is committed.

use super::{checkpoint::Checkpoint, journal::Journal};
use crate::{
    limits,
    server::storage::{StorageError, Written},
};
use rusqlite::Connection;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

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
type Work = Box<dyn FnOnce(&Connection) -> (bool, Reply) + Send>;

struct Job {
    durability: Durability,
    work: Work,
}

/// What the thread's transactions took of the others' time.
#[derive(Default)]
struct Held {
    transactions: AtomicU64,
    microseconds: AtomicU64,
}

/// Hands writes to the thread.
pub(super) struct Writer {
    queue: Option<mpsc::Sender<Job>>,
    /// Writes that are not answered yet.
    waiting: AtomicUsize,
    held: Arc<Held>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread over its own connection.
    pub(super) fn start(database: Connection, mut journal: Journal, checkpoint: Checkpoint) -> Writer {
        let (queue, jobs) = mpsc::channel();
        let held = Arc::new(Held::default());
        let counted = Arc::clone(&held);
        let thread = thread::spawn(move || run(&database, &jobs, &mut journal, &checkpoint, &counted));
        Writer { queue: Some(queue), waiting: AtomicUsize::new(0), held, thread: Some(thread) }
    }

    /// Runs `work` in a transaction and answers once that is committed. Blocks.
    pub(super) fn write<T: Send + 'static>(
        &self,
        durability: Durability,
        work: impl FnOnce(&Connection) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let (answer, answered) = mpsc::sync_channel(1);
        let work: Work = Box::new(move |database| {
            let result = work(database);
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
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let sent = queue.send(Job { durability, work }).map_err(|_| StorageError::Stopped);
        let answer = sent.and_then(|()| answered.recv().map_err(|_| StorageError::Skipped));
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        answer?
    }

    /// How many transactions there were, and how long they kept others from writing.
    pub(super) fn written(&self) -> Written {
        let microseconds = self.held.microseconds.load(Ordering::Relaxed);
        Written {
            transactions: self.held.transactions.load(Ordering::Relaxed),
            locked: Duration::from_micros(microseconds),
        }
    }

    /// Writes that are not answered yet.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
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

fn run(
    database: &Connection,
    jobs: &mpsc::Receiver<Job>,
    journal: &mut Journal,
    checkpoint: &Checkpoint,
    held: &Held,
) {
    loop {
        let first = match journal.dirty() {
            Some(_) => jobs.recv_timeout(limits::JOURNAL_SYNC),
            None => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        let first = match first {
            Ok(first) => first,
            Err(RecvTimeoutError::Timeout) => {
                journal.sync();
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => break,
        };
        let mut waiting = vec![first];
        waiting.extend(jobs.try_iter().take(limits::BATCH_WRITES - 1));
        let mut replies = Vec::with_capacity(waiting.len());
        let outcome = commit(database, waiting, &mut replies, journal, held).map_err(Arc::new);
        if outcome.is_err() {
            journal.lose();
            if !database.is_autocommit() {
                // the failure that matters is the first one
                let _ = database.execute_batch("ROLLBACK");
            }
        }
        for reply in replies {
            reply(outcome.as_ref().err());
        }
        checkpoint.after_commit(database);
        if journal.dirty().is_some_and(|since| since.elapsed() > limits::JOURNAL_SYNC_MOST) {
            journal.sync();
        }
    }
    if journal.dirty().is_some() {
        journal.sync();
    }
}

fn commit(
    database: &Connection,
    jobs: Vec<Job>,
    replies: &mut Vec<Reply>,
    journal: &mut Journal,
    held: &Held,
) -> Result<(), StorageError> {
    let durable = jobs.iter().any(|job| job.durability == Durability::Durable);
    database.pragma_update(None, "synchronous", if durable { "FULL" } else { "NORMAL" })?;
    database.execute_batch("BEGIN IMMEDIATE")?;
    let begun = Instant::now();
    for job in jobs {
        database.execute_batch("SAVEPOINT job")?;
        let (keep, reply) = (job.work)(database);
        replies.push(reply);
        if !keep && database.is_autocommit() {
            // SQLite gives up the whole transaction where the disk is full (lang_transaction.html, section 3)
            return Err(StorageError::Full);
        }
        database.execute_batch(if keep { "RELEASE job" } else { "ROLLBACK TO job; RELEASE job" })?;
    }
    journal.note(database)?;
    database.execute_batch("COMMIT")?;
    held.transactions.fetch_add(1, Ordering::Relaxed);
    let took = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
    held.microseconds.fetch_add(took, Ordering::Relaxed);
    Ok(())
}
