//! Where short looks into the storage run: on the thread that has the request, while they are short.
//!
//! A look-up in a database whose pages are in memory and a small file take some ten microseconds; handing them to another thread and
//! back takes two wake-ups, which cost more than that. On a disk that lets one wait, it is the other way round: then a look would
//! hold up all that its thread serves. So each is timed, and after one that took long they go to the threads that may
//! wait, for a while.

use super::{error::ApiError, storage::StorageError};
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// What takes longer than this has waited for something.
const LONG: Duration = Duration::from_millis(2);
/// How long nothing is tried in place after that.
const WHILE: Duration = Duration::from_millis(500);

/// How looks went lately.
pub(super) struct Quick {
    begun: Instant,
    /// Until when others may wait, in microseconds since `begun`.
    until: AtomicU64,
    /// Whether anything is tried in place.
    near: bool,
}

impl Quick {
    /// Nothing took long so far. What is not `near` lies behind a network: that is always waited for elsewhere.
    pub(super) fn new(near: bool) -> Quick {
        Quick { begun: Instant::now(), until: AtomicU64::new(0), near }
    }

    /// Runs `work`, which looks something up that most often is in memory, here or where it may wait.
    pub(super) async fn look<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, ApiError> {
        if !self.is_quick(Instant::now()) {
            return Ok(tokio::task::spawn_blocking(work).await??);
        }
        let begun = Instant::now();
        let found = work();
        let ended = Instant::now();
        self.took(ended, ended - begun);
        Ok(found?)
    }

    fn is_quick(&self, now: Instant) -> bool {
        self.near && self.micros(now) >= self.until.load(Ordering::Relaxed)
    }

    fn took(&self, now: Instant, took: Duration) {
        if took > LONG {
            self.until.fetch_max(self.micros(now + WHILE), Ordering::Relaxed);
        }
    }

    fn micros(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.begun).as_micros()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_took_long_sends_the_next_ones_away_for_a_while() {
        let quick = Quick::new(true);
        let now = Instant::now();
        assert!(quick.is_quick(now));
        quick.took(now, LONG);
        assert!(quick.is_quick(now), "not longer than that");
        quick.took(now, LONG + Duration::from_micros(1));
        assert!(!quick.is_quick(now) && !quick.is_quick(now + WHILE / 2));
        // a short one in between ends nothing
        quick.took(now + WHILE / 2, Duration::ZERO);
        assert!(!quick.is_quick(now + WHILE / 2));
        assert!(quick.is_quick(now + WHILE));
    }

    #[tokio::test]
    async fn what_is_far_is_never_looked_at_here() {
        let here = std::thread::current().id();
        let place = || Ok(std::thread::current().id());
        assert_ne!(Quick::new(false).look(place).await.ok(), Some(here));
    }

    #[tokio::test]
    async fn a_look_runs_here_until_one_takes_long() {
        let quick = Quick::new(true);
        let here = std::thread::current().id();
        let place = || Ok(std::thread::current().id());
        assert_eq!(quick.look(place).await.ok(), Some(here));
        let slow = move || {
            std::thread::sleep(LONG * 2);
            place()
        };
        assert_eq!(quick.look(slow).await.ok(), Some(here), "nobody knew");
        assert_ne!(quick.look(place).await.ok(), Some(here));
        tokio::time::sleep(WHILE + LONG).await;
        assert_eq!(quick.look(place).await.ok(), Some(here));
        let unknown = || Err::<(), _>(StorageError::RepositoryUnknown("r".to_owned()));
        assert!(quick.look(unknown).await.is_err());
    }
}
