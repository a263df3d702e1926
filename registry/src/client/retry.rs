//! Trying again: which failures, how often, after which pause.

use super::{
    error::ClientError,
    progress::{Event, Progress},
};
use std::time::Duration;

/// How attempts follow each other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Policy {
    /// Attempts after the first one.
    pub(super) retries: u32,
    /// Pause before the second attempt; each further one is twice as long.
    pub(super) backoff: Duration,
}

/// Longest pause of our own choice.
const LONGEST: Duration = Duration::from_secs(15);

/// The attempts at one thing.
pub(super) struct Attempts<'a> {
    policy: Policy,
    what: String,
    progress: &'a dyn Progress,
    failed: u32,
    total: u32,
}

impl<'a> Attempts<'a> {
    pub(super) fn new(policy: Policy, what: impl Into<String>, progress: &'a dyn Progress) -> Attempts<'a> {
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
        let reason = with_sources(&error);
        self.progress.event(&Event::Retrying {
            what: &self.what,
            attempt: self.failed,
            reason: &reason,
            pause,
        });
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

/// An error and what caused it, in one line.
fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
