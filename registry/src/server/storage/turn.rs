//! Work in the background that one process at a time does: of a folder's by the folder's own locks, of all replicas by leases in the
//! database that they share.
//!
//! A lease is extended by a thread of its own for as long as the turn lives. Whoever could not extend it in time stops. What such a
//! one does until it notices does no harm beside its successor: what it takes away is looked at again in each transaction, and
//! what it writes down carries the number of its lease, which the successor's is higher than.

use super::{
    Storage, StorageError, content, now_seconds,
    pointers::{Lease, Leases},
};
use crate::limits;
use std::{
    sync::Arc,
    sync::{
        Mutex, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// Work in the background.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Retention and collection.
    Collect,
    /// Reading everything again.
    Scrub,
    /// Uploads and content that nobody ever finished.
    Sweep,
}

impl Work {
    fn name(self) -> &'static str {
        match self {
            Work::Collect => "collect",
            Work::Scrub => "scrub",
            Work::Sweep => "sweep",
        }
    }
}

/// The turn at some work, until this is dropped.
pub struct Turn(Place);

/// Whose something is that one of all replicas does for all.
pub enum Errand {
    /// The caller's.
    Mine(Turn),
    /// Another replica is at it.
    Elsewhere,
    /// It was done so long ago.
    Done(Duration),
}

enum Place {
    /// Several processes of one machine may do it beside each other.
    Free,
    Own {
        _lock: content::Turn,
    },
    Shared(Held),
}

impl Storage {
    /// Whether replicas share this.
    pub fn is_shared(&self) -> bool {
        self.leases.is_some()
    }

    /// The turn at something that one of all replicas does for all, `every` so often. Where nothing is shared it is the caller's.
    pub fn errand(&self, name: &str, every: Duration) -> Result<Errand, StorageError> {
        let Some(leases) = &self.leases else { return Ok(Errand::Mine(Turn(Place::Free))) };
        if let Some(held) = Held::take(leases, name, every)? {
            return Ok(Errand::Mine(Turn(Place::Shared(held))));
        }
        let age = leases.age(name)?.filter(|age| *age < every);
        Ok(age.map_or(Errand::Elsewhere, Errand::Done))
    }

    /// The turn at work that is done `every` so often; `None` where another replica has it or did it less long ago. Where nothing is
    /// shared the caller alone knows when it is due, and `None` says that another process is at it.
    pub fn turn(&self, work: Work, every: Duration) -> Result<Option<Turn>, StorageError> {
        let Some(leases) = &self.leases else {
            // who takes a registry over has bytes that nothing points at yet: nobody sweeps meanwhile
            let alone = work == Work::Sweep;
            return if alone { self.own_turn(work) } else { Ok(Some(Turn(Place::Free))) };
        };
        let Some(held) = Held::take(leases, work.name(), every)? else { return Ok(None) };
        let seconds = now_seconds() - held.lease.at;
        if seconds.unsigned_abs() > limits::CLOCK_LEAP.as_secs() {
            // what it takes for old may be another replica's youngest
            return Err(StorageError::Clock { seconds });
        }
        Ok(Some(Turn(Place::Shared(held))))
    }

    /// The turn at work, waited for while another replica has it. `told` hears of each that is waited for who it is.
    pub fn await_turn(&self, work: Work, told: &mut dyn FnMut(&str)) -> Result<Turn, StorageError> {
        let mut last = None;
        loop {
            if let Some(turn) = self.turn(work, Duration::ZERO)? {
                return Ok(turn);
            }
            let holder = match &self.leases {
                Some(leases) => leases.holder(work.name())?,
                None => Some("another process".to_owned()),
            };
            if let Some(holder) = holder.filter(|holder| last.as_ref() != Some(holder)) {
                told(&holder);
                last = Some(holder);
            }
            thread::sleep(limits::TURN_LOOK);
        }
    }

    /// The turn at work of which a folder has one at a time too.
    pub(super) fn only_turn(&self, work: Work) -> Result<Option<Turn>, StorageError> {
        if self.leases.is_some() {
            return self.turn(work, Duration::ZERO);
        }
        self.own_turn(work)
    }

    fn own_turn(&self, work: Work) -> Result<Option<Turn>, StorageError> {
        Ok(self.content.turn(work.name())?.map(|lock| Turn(Place::Own { _lock: lock })))
    }

    /// How far some work is.
    pub(super) fn work_note(&self, work: Work) -> Result<Option<String>, StorageError> {
        match &self.leases {
            Some(leases) => leases.note(work.name()),
            None => self.content.note(work.name()),
        }
    }

    /// Writes down how far it is. Answers whether the turn is still the caller's.
    pub(super) fn set_work_note(&self, turn: &Turn, work: Work, text: &str) -> Result<bool, StorageError> {
        match &turn.0 {
            Place::Shared(held) => held.leases.set_note(&held.lease, text),
            Place::Free | Place::Own { .. } => self.content.set_note(work.name(), text).map(|()| true),
        }
    }
}

impl Turn {
    /// Whether it is still this one's by all that is known.
    pub fn holds(&self) -> bool {
        match &self.0 {
            Place::Free | Place::Own { .. } => true,
            Place::Shared(held) => held.holds(),
        }
    }

    /// The work is done for now: no replica takes it up before it is due again.
    pub fn finish(self) {
        if let Place::Shared(held) = self.0 {
            held.finish();
        }
    }
}

/// Until when the lease is certain, by this process's clock; `None` once it is lost.
type Certain = Arc<Mutex<Option<Instant>>>;

/// A lease, and the thread that extends it.
struct Held {
    leases: Leases,
    lease: Lease,
    certain: Certain,
    /// Tells the thread that it is over, and whether the work is done.
    over: Option<mpsc::Sender<bool>>,
    thread: Option<JoinHandle<()>>,
}

fn set(certain: &Certain, until: Option<Instant>) {
    *certain.lock().unwrap_or_else(PoisonError::into_inner) = until;
}

impl Held {
    fn take(leases: &Leases, name: &str, every: Duration) -> Result<Option<Held>, StorageError> {
        // from before it was asked for: this clock says too early that it is over, never too late
        let until = Instant::now() + limits::LEASE;
        let Some(lease) = leases.take(name, every, limits::LEASE)? else { return Ok(None) };
        let certain: Certain = Arc::new(Mutex::new(Some(until)));
        let (over, told) = mpsc::channel();
        let (own, named, shown) = (leases.clone(), lease.clone(), Arc::clone(&certain));
        let begun = thread::Builder::new().spawn(move || extend(&own, &named, &shown, &told));
        let thread = begun.map_err(|source| {
            // nobody would extend it
            drop(leases.end(&lease, false));
            StorageError::Io { operation: "start a thread for the turn at", path: name.into(), source }
        })?;
        Ok(Some(Held { leases: leases.clone(), lease, certain, over: Some(over), thread: Some(thread) }))
    }

    fn holds(&self) -> bool {
        let until = *self.certain.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() < until)
    }

    fn finish(self) {
        if let Some(over) = &self.over {
            // a thread that is gone has lost the lease
            let _ = over.send(true);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.over.take());
        if let Some(thread) = self.thread.take() {
            // a panic there was reported by itself
            let _ = thread.join();
        }
    }
}

/// Extends a lease until it is over or lost, and gives it back.
fn extend(leases: &Leases, lease: &Lease, certain: &Certain, told: &mpsc::Receiver<bool>) {
    loop {
        let finished = match told.recv_timeout(limits::LEASE_WORD) {
            Ok(finished) => finished,
            Err(RecvTimeoutError::Disconnected) => false,
            Err(RecvTimeoutError::Timeout) => {
                let until = Instant::now() + limits::LEASE;
                match leases.keep(lease, limits::LEASE) {
                    Ok(true) => set(certain, Some(until)),
                    Ok(false) => return set(certain, None),
                    // it may be heard the next time, before it is over
                    Err(_) => {}
                }
                continue;
            }
        };
        // what cannot be given back is over soon
        let _ = leases.end(lease, finished);
        return;
    }
}
