//! Trying again: which failures, how often, after which pause.

use super::{
    error::ClientError,
    progress::{Event, Progress},
};
use std::{
    collections::BTreeMap,
    sync::Mutex,
    time::{Duration, Instant},
};

/// How attempts follow each other.
#[derive(Debug)]
pub(super) struct Policy {
    /// Attempts after the first one.
    pub(super) retries: u32,
    /// Pause before the second attempt; each further one is twice as long.
    pub(super) backoff: Duration,
    /// Until when a host is known to be out of reach, or to answer with a status: parallel transfers that wait for one host
    /// say so once.
    told: Mutex<BTreeMap<(String, u16), Instant>>,
}

impl Policy {
    pub(super) fn new(retries: u32, backoff: Duration) -> Policy {
        Policy { retries, backoff, told: Mutex::default() }
    }

    /// Whether nobody has told yet that this host cannot be reached, or answers so, for the moment.
    fn is_news(&self, error: &ClientError, pause: Duration) -> bool {
        let what = match error {
            ClientError::Connect { host, .. } => (host.clone(), 0),
            // what one transfer must wait for alone: its session, its piece
            ClientError::Status { status: 409 | 416, .. } => return true,
            ClientError::Status { host, status, .. } => (host.clone(), *status),
            _ => return true,
        };
        let mut told = self.told.lock().expect("no panic happens while the hosts are held");
        let now = Instant::now();
        if told.get(&what).is_some_and(|until| now < *until) {
            return false;
        }
        told.insert(what, now + pause);
        true
    }
}

/// Longest pause of our own choice.
const LONGEST: Duration = Duration::from_secs(15);

/// The attempts at one thing.
pub(super) struct Attempts<'a> {
    policy: &'a Policy,
    what: String,
    progress: &'a dyn Progress,
    failed: u32,
    total: u32,
}

impl<'a> Attempts<'a> {
    pub(super) fn new(
        policy: &'a Policy,
        what: impl Into<String>,
        progress: &'a dyn Progress,
    ) -> Attempts<'a> {
        Attempts { policy, what: what.into(), progress, failed: 0, total: 0 }
    }

    /// Counts from zero again, because something was achieved.
    pub(super) fn achieved(&mut self) {
        self.failed = 0;
    }

    /// Waits after a failure that may pass; gives any other one, or the last one, back.
    pub(super) async fn after(&mut self, error: ClientError) -> Result<(), ClientError> {
        if !error.is_transient() || self.failed >= self.policy.retries || self.total >= crate::limits::RESUMES
        {
            return Err(error);
        }
        self.failed += 1;
        self.total += 1;
        let own = self.policy.backoff.saturating_mul(1 << (self.failed - 1).min(16)).min(LONGEST);
        let pause = error.retry_after().unwrap_or(own);
        if self.policy.is_news(&error, pause) {
            let (what, attempt, reason) = (&self.what, self.failed, slipway_oci::error::chain(&error));
            self.progress.event(&Event::Retrying { what, attempt, reason: &reason, pause });
        }
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unreachable_host_is_told_once_a_pause() {
        let policy = Policy::new(5, Duration::ZERO);
        let gone = |host: &str| ClientError::Connect { host: host.into(), why: "refused".into() };
        let hour = Duration::from_secs(3600);
        assert!(policy.is_news(&gone("a"), hour));
        assert!((0..4).all(|_| !policy.is_news(&gone("a"), hour)), "parallel transfers repeat it");
        assert!(policy.is_news(&gone("b"), Duration::ZERO), "another host is other news");
        assert!(policy.is_news(&gone("b"), hour), "the next attempt is news");
        let busy = |host: &str, status| ClientError::Status {
            host: host.into(),
            method: "HEAD".into(),
            path: "/v2/".into(),
            status,
            message: String::new(),
            retry_after: None,
        };
        assert!(policy.is_news(&busy("a", 503), hour) && !policy.is_news(&busy("a", 503), hour));
        assert!(policy.is_news(&busy("a", 429), hour), "another answer is other news");
        assert!(policy.is_news(&busy("a", 409), hour) && policy.is_news(&busy("a", 409), hour));
        let broken = ClientError::Interrupted { host: "a".into(), source: None };
        assert!(policy.is_news(&broken, hour) && policy.is_news(&broken, hour), "each transfer breaks alone");
    }
}
