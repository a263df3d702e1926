//! What goes: condemned content, sessions that nobody finishes, and what a crash left.

use super::{Storage, StorageError, now_seconds, seconds};
use crate::limits;
use slipway_oci::Digest;
use std::{
    thread,
    time::{Duration, Instant, SystemTime},
};

impl Storage {
    /// Removes content that this process condemned at `since`, and lifts the sentence. One that was held up for long
    /// leaves it to those who come after, for they may have carried it out already.
    pub(super) fn carry_out(&self, digest: &Digest, since: i64) -> Result<(), StorageError> {
        if now_seconds() > since + limits::CONDEMNED_OWN.as_secs() as i64 {
            return Ok(());
        }
        self.content.remove(digest)?;
        self.pointers.forget(digest)
    }

    /// Removes what was placed for a pointer that was refused, unless something else points at it.
    pub(super) fn take_back(&self, digest: &Digest) {
        let now = now_seconds();
        let taken = self.with_reserve(|| {
            if self.pointers.condemn(digest, now)? { self.carry_out(digest, now) } else { Ok(()) }
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
        for digest in &old {
            self.content.remove(digest)?;
            self.pointers.forget(digest)?;
        }
        Ok(old.len())
    }

    /// Removes sessions without a write since [`limits::SESSION_AGE`], bytes without a session or a pointer older than
    /// [`limits::ORPHAN_AGE`], and what was condemned by somebody who died. Answers how many uploads went.
    pub fn sweep_uploads(&self, now: SystemTime) -> Result<usize, StorageError> {
        let mut swept = self.end_idle(None, now, limits::SESSION_AGE)?;
        let orphans = now.checked_sub(limits::ORPHAN_AGE).unwrap_or(SystemTime::UNIX_EPOCH);
        for id in self.content.stale_uploads(orphans)? {
            if !self.pointers.has_session(&id)? && self.content.discard(&id)? {
                swept += 1;
            }
        }
        self.carry_out_old(now)?;
        self.content.let_go()?;
        self.collect_orphans(orphans)?;
        Ok(swept)
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
                    self.carry_out(digest, now)?;
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
