//! The bytes of what rows point at, from one side to the other, digested on the way.

use crate::{
    limits,
    server::storage::{
        StorageError,
        content::Content,
        keep::carry::{Carried, carry},
        pointers::rows::Cell,
    },
};
use slipway_oci::Digest;
use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

/// Both sides, and what was done.
pub(super) struct Contents<'a> {
    from: &'a dyn Content,
    to: &'a dyn Content,
    progress: (&'a (dyn Fn(u64, u64) + Sync), u64),
    done: AtomicU64,
    pub(super) copied: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) present: AtomicU64,
    pub(super) lost: Mutex<Vec<Digest>>,
}

impl<'a> Contents<'a> {
    pub(super) fn new(
        from: &'a dyn Content,
        to: &'a dyn Content,
        progress: (&'a (dyn Fn(u64, u64) + Sync), u64),
    ) -> Contents<'a> {
        let number = AtomicU64::default;
        Contents {
            from,
            to,
            progress,
            done: number(),
            copied: number(),
            bytes: number(),
            present: number(),
            lost: Mutex::default(),
        }
    }

    /// Has the bytes of some contents there, several at a time. Answers of each whether its row may be written: where the source
    /// lacks them only when `is_last`, and then they are lost.
    pub(super) fn bring(&self, wanted: &[(&Cell, &Cell)], is_last: bool) -> Result<Vec<bool>, StorageError> {
        let parsed = |(digest, size): &(&Cell, &Cell)| match (digest, size) {
            (Cell::Text(digest), Cell::Number(size)) => {
                Some((digest.parse::<Digest>().ok()?, u64::try_from(*size).ok()?))
            }
            _ => None,
        };
        let all: Vec<Option<(Digest, u64)>> = wanted.iter().map(parsed).collect();
        // one that several rows point at is brought once
        let different: HashMap<&Digest, u64> =
            all.iter().flatten().map(|(digest, size)| (digest, *size)).collect();
        let next = Mutex::new(different.into_iter());
        let there = Mutex::new(HashMap::new());
        let work = || -> Result<(), StorageError> {
            loop {
                let taken = next.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some((digest, size_bytes)) = taken else { return Ok(()) };
                let is_there = self.one(digest, size_bytes)?;
                there.lock().unwrap_or_else(PoisonError::into_inner).insert(digest.clone(), is_there);
            }
        };
        thread::scope(|scope| {
            let workers: Vec<_> = (0..limits::MOVE_COPIES).map(|_| scope.spawn(work)).collect();
            workers
                .into_iter()
                .try_for_each(|worker| worker.join().expect("a panic of a worker is one of this"))
        })?;
        let there = there.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut may = Vec::with_capacity(all.len());
        for one in &all {
            let is_there = one.as_ref().is_some_and(|(digest, _)| there.get(digest) == Some(&true));
            if let (true, false, Some((digest, _))) = (is_last, is_there, one) {
                self.lost.lock().unwrap_or_else(PoisonError::into_inner).push(digest.clone());
            }
            may.push(is_there || is_last);
        }
        Ok(may)
    }

    fn one(&self, digest: &Digest, size_bytes: u64) -> Result<bool, StorageError> {
        if self.to.size(digest)? == Some(size_bytes) {
            self.present.fetch_add(1, Ordering::Relaxed);
            self.tell(size_bytes);
            return Ok(true);
        }
        let Some(reader) = self.from.open_stored(digest, size_bytes)? else { return Ok(false) };
        let tell = |count| self.tell(count);
        if carry(&*reader, digest, size_bytes, self.to, &tell)? != Carried::Whole {
            return Ok(false);
        }
        self.copied.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(size_bytes, Ordering::Relaxed);
        Ok(self.to.size(digest)? == Some(size_bytes))
    }

    fn tell(&self, count: u64) {
        let done = self.done.fetch_add(count, Ordering::Relaxed) + count;
        // what came since the first look makes it more
        (self.progress.0)(done.min(self.progress.1), self.progress.1);
    }
}
