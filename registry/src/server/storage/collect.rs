//! What goes: condemned content, sessions that nobody finishes, and what a crash left.

use super::{Candidate, Kind, Pointer, Reason, Storage, StorageError, now_seconds, seconds};
use crate::limits;
use slipway_oci::Digest;
use std::{
    collections::HashMap,
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant, SystemTime},
};

/// What a collection took away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Manifests that went into the trash.
    pub trashed: u64,
    /// Manifests that went for good.
    pub manifests: u64,
    /// Blobs, each once in each repository.
    pub blobs: u64,
    /// Contents that nothing pointed at any more, and that were removed.
    pub contents: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Told how many pointers were taken; waits as long as that is worth, and answers whether to go on.
pub(super) type Pause<'a> = dyn FnMut(u64) -> bool + 'a;

/// The reasons in the order in which a collection goes through them.
const REASONS: [Reason; 2] = [Reason::Trashed, Reason::Loose];

impl Storage {
    /// Before when something has to be in the trash, or loose, to go; with no time at all everything does, whatever the clock
    /// said.
    fn due(&self, reason: Reason, grace: Duration, now: i64) -> i64 {
        let age = match reason {
            Reason::Trashed => self.trash.load(Ordering::Relaxed),
            Reason::Loose | Reason::Untagged => i64::try_from(grace.as_secs()).unwrap_or(i64::MAX),
        };
        if age == 0 { i64::MAX } else { now.saturating_sub(age) }
    }

    /// Takes away what lay in the trash for its time, and what nothing has held for `grace`, in small transactions beside
    /// everybody else's, of any process. Whatever is pushed, named, mounted or asked for meanwhile stays: each transaction looks
    /// again.
    pub fn collect(&self, grace: Duration, pause: &mut Pause<'_>) -> Result<Collected, StorageError> {
        let mut collected = Collected::default();
        let begun = now_seconds();
        loop {
            let before = collected;
            for reason in REASONS {
                let due = self.due(reason, grace, begun);
                loop {
                    let found = self.pointers.candidates(reason, None, due, limits::COLLECT_FIND)?;
                    for batch in found.chunks(limits::COLLECT_BATCH) {
                        let gone = self.collect_batch(reason, due, batch, &mut collected)?;
                        if !pause(gone) {
                            return Ok(collected);
                        }
                    }
                    if found.is_empty() {
                        break;
                    }
                }
            }
            // what one takes away makes others loose: without a grace they go at once
            if before == collected {
                self.carry_out_old(SystemTime::now())?;
                return Ok(collected);
            }
        }
    }

    /// Some transactions, of which the last one waits for the disk, and then what they condemned is removed. Answers how many went.
    fn collect_batch(
        &self,
        reason: Reason,
        due: i64,
        batch: &[Candidate],
        collected: &mut Collected,
    ) -> Result<u64, StorageError> {
        let begun = now_seconds();
        let trash = self.trash.load(Ordering::Relaxed) > 0;
        let (mut all, mut condemned) = (0, Vec::new());
        let mut pages = batch.chunks(limits::COLLECT_PAGE as usize).peekable();
        while let Some(page) = pages.next() {
            let pointers: Vec<Pointer> = page.iter().map(|one| one.pointer.clone()).collect();
            let durable = pages.peek().is_none();
            let (gone, more) = self.with_reserve(|| {
                self.pointers.collect(&pointers, reason, due, trash, now_seconds(), durable)
            })?;
            let manifests = pointers.iter().filter(|one| one.kind == Kind::Manifest).count() as u64;
            match reason {
                Reason::Trashed => collected.manifests += manifests.min(gone),
                _ if trash => collected.trashed += manifests.min(gone),
                _ => collected.manifests += manifests.min(gone),
            }
            collected.blobs += gone.saturating_sub(manifests);
            all += gone;
            condemned.extend(more);
        }
        self.with_reserve(|| self.carry_out(&condemned, begun))?;
        let sizes: HashMap<&Digest, u64> =
            batch.iter().map(|one| (&one.pointer.digest, one.size_bytes)).collect();
        collected.contents += condemned.len() as u64;
        collected.bytes += condemned.iter().filter_map(|one| sizes.get(one)).sum::<u64>();
        Ok(all)
    }

    /// What the next collection takes as things are now, at most `count` for each reason.
    pub fn collectable(&self, grace: Duration, count: u64) -> Result<Vec<(Reason, Candidate)>, StorageError> {
        let now = now_seconds();
        let mut all = Vec::new();
        for reason in REASONS {
            let found = self.pointers.candidates(reason, None, self.due(reason, grace, now), count)?;
            all.extend(found.into_iter().map(|one| (reason, one)));
        }
        Ok(all)
    }

    /// Removes contents that this process condemned at `since`, and lifts the sentence. One that was held up for long
    /// leaves the rest to those who come after, for they may have carried it out already.
    pub(super) fn carry_out(&self, digests: &[Digest], since: i64) -> Result<(), StorageError> {
        let in_time = || now_seconds() <= since + limits::CONDEMNED_OWN.as_secs() as i64;
        let mut gone = 0;
        let removed = digests.iter().take_while(|_| in_time()).try_for_each(|digest| {
            self.content.remove(digest)?;
            gone += 1;
            Ok(())
        });
        if !in_time() {
            // somebody may have it placed again by now, after another process carried it out
            return removed;
        }
        removed.and(self.pointers.forget(&digests[..gone]))
    }

    /// Removes what was placed for a pointer that was refused, unless something else points at it.
    pub(super) fn take_back(&self, digest: &Digest) {
        let now = now_seconds();
        let taken = self.with_reserve(|| {
            if self.pointers.condemn(digest, now)? {
                self.carry_out(std::slice::from_ref(digest), now)
            } else {
                Ok(())
            }
        });
        // the refusal is what its asker has to hear; what cannot go now is swept
        drop(taken);
    }

    /// Waits until content is no longer condemned; one whose remover died is removed here.
    pub(super) fn await_removal(&self, digest: &Digest) -> Result<(), StorageError> {
        let patience = limits::CONDEMNED_AGE + Duration::from_secs(2);
        let started = Instant::now();
        loop {
            let condemned = self.pointers.condemned(i64::MAX, limits::SWEEP_ENTRIES)?;
            if !condemned.contains(digest) {
                return Ok(());
            }
            self.carry_out_old(SystemTime::now())?;
            if started.elapsed() > patience {
                return Err(StorageError::Condemned(digest.clone()));
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn carry_out_old(&self, now: SystemTime) -> Result<usize, StorageError> {
        let before = seconds(now) - limits::CONDEMNED_AGE.as_secs() as i64;
        let old = self.pointers.condemned(before, limits::SWEEP_ENTRIES)?;
        old.iter().try_for_each(|digest| self.content.remove(digest))?;
        self.pointers.forget(&old)?;
        Ok(old.len())
    }

    /// Removes sessions without a write since [`limits::SESSION_AGE`], bytes without a session or a pointer older than
    /// [`limits::ORPHAN_AGE`], and what was condemned by somebody who died. Answers how many uploads went.
    pub fn sweep_uploads(&self, now: SystemTime) -> Result<usize, StorageError> {
        let mut swept = self.end_idle(None, now, limits::SESSION_AGE)?;
        let since = |age| now.checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
        // what another replica is reading in has no lock that could be looked at
        let uploads = since(if self.is_shared() { limits::STORE_UPLOAD_AGE } else { limits::ORPHAN_AGE });
        let orphans = since(limits::ORPHAN_AGE);
        let mut last = None;
        loop {
            let (stale, next) = self.content.stale_uploads(uploads, last.as_ref())?;
            for id in stale {
                if !self.pointers.has_session(&id)? && self.content.discard(&id)? {
                    swept += 1;
                }
            }
            match next {
                Some(next) => last = Some(next),
                None => break,
            }
        }
        self.carry_out_old(now)?;
        self.content.let_go()?;
        if let Some(leases) = &self.leases {
            leases.prune(limits::MIRROR_ERRAND, limits::MIRROR_ERRAND_AGE)?;
        }
        self.collect_orphans(orphans)?;
        // a store that cannot tell of them has everything else swept by now
        Ok(swept + self.content.end_dangling(uploads, &|id| self.pointers.has_session(id))?)
    }

    /// Content that was placed before its pointer was refused, or before a crash.
    fn collect_orphans(&self, before: SystemTime) -> Result<(), StorageError> {
        let mut last: Option<Digest> = None;
        loop {
            let page = self.content.placed(last.as_ref(), before, limits::SWEEP_ENTRIES as usize)?;
            let Some(end) = page.last() else { return Ok(()) };
            last = Some(end.clone());
            for digest in &page {
                let now = now_seconds();
                if !self.pointers.is_needed(digest)? && self.pointers.condemn(digest, now)? {
                    self.carry_out(std::slice::from_ref(digest), now)?;
                }
            }
        }
    }

    /// Ends sessions that nobody wrote to for `age`; only of one repository where one is named.
    pub(super) fn end_idle(
        &self,
        repository: Option<&str>,
        now: SystemTime,
        age: Duration,
    ) -> Result<usize, StorageError> {
        let before = seconds(now).saturating_sub(age.as_secs() as i64);
        let idle = self.pointers.idle_sessions(repository, before, limits::SWEEP_ENTRIES)?;
        let mut ended = 0;
        for id in idle {
            // one that is being written, however slowly, stays
            if self.content.discard(&id)? {
                self.pointers.end_session(&id)?;
                ended += 1;
            }
        }
        Ok(ended)
    }
}
