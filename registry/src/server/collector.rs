//! The collection in the background: what nothing holds goes, in small transactions beside pushes, and pulls are written down.

use super::{
    call::Shared,
    event::{Change, Event},
    retention,
    storage::{Author, Collected, Retired, StorageError, Turn, Work},
};
use crate::limits;
use std::{
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant, SystemTime},
};

/// The two clocks at a moment.
#[derive(Clone, Copy)]
struct Clocks(Instant, SystemTime);

impl Clocks {
    fn now() -> Clocks {
        Clocks(Instant::now(), SystemTime::now())
    }

    /// Whether the time of day went on like the time that passed: one that leaps a year ahead would empty the trash.
    fn agree(self, later: Clocks) -> bool {
        let passed = later.0.saturating_duration_since(self.0);
        let shown = later.1.duration_since(self.1).unwrap_or_default();
        shown <= passed + limits::CLOCK_LEAP
    }
}

/// Waits, unless the server stops before.
fn stopped(stop: &Receiver<()>, time: Duration) -> bool {
    !matches!(stop.recv_timeout(time), Err(RecvTimeoutError::Timeout))
}

fn failed(shared: &Shared, operation: &str, error: &StorageError) {
    shared.metrics.fail();
    shared.tell(&Event::Failure { operation, error });
}

fn write_pulls(shared: &Shared) {
    if let Err(error) = shared.pulls.write(&shared.storage) {
        failed(shared, "write pulls down", &error);
    }
}

/// Collects until the other end of `stop` is gone.
pub(super) fn run(shared: &Arc<Shared>, stop: &Receiver<()>) {
    let (mut clocks, mut last) = (Clocks::now(), Instant::now());
    while !stopped(stop, limits::PULLS_EVERY) {
        write_pulls(shared);
        let policy = shared.policy.current();
        shared.storage.keep_trash(policy.trash.0);
        if policy.collect.rate.is_none() || policy.read_only {
            continue;
        }
        // of replicas each asks all the time whose turn it is: one that dies is followed soon
        if !shared.storage.is_shared() && last.elapsed() < policy.collect.every {
            continue;
        }
        match shared.storage.turn(Work::Collect, policy.collect.every) {
            Ok(Some(turn)) => {
                last = Instant::now();
                let now = Clocks::now();
                if std::mem::replace(&mut clocks, now).agree(now) {
                    retire(shared, stop, &turn);
                    pass(shared, stop, &turn);
                }
                // what a stopping server leaves others go on with at once
                if !stopped(stop, Duration::ZERO) {
                    turn.finish();
                }
            }
            Ok(None) => {}
            Err(error) => failed(shared, "take a turn at collecting", &error),
        }
    }
    write_pulls(shared);
}

/// Tags and untagged manifests that are kept no longer.
fn retire(shared: &Arc<Shared>, stop: &Receiver<()>, turn: &Turn) {
    let (policy, access) = (shared.policy.current(), shared.access.current());
    let rules = &policy.retention;
    if rules.is_empty() {
        return;
    }
    let author = Author { who: None, origin: Some("retention".to_owned()) };
    let rate = policy.collect.rate.unwrap_or(limits::COLLECT_RATE);
    let mut pause = |one: &Retired| {
        let (tags, digest) = (Vec::from_iter(one.tag.clone()), one.digest.to_string());
        shared.tell(&Event::Change(Change {
            time: SystemTime::now(),
            action: "expire",
            repository: &one.repository,
            tags: &tags,
            digest: Some(&digest),
            user: None,
            client: None,
            agent: None,
        }));
        !stopped(stop, Duration::from_secs_f64(1.0 / rate as f64)) && turn.holds()
    };
    if let Err(error) = retention::retire(&shared.storage, (rules, &access), &author, false, &mut pause) {
        failed(shared, "retire tags", &error);
    }
}

fn pass(shared: &Arc<Shared>, stop: &Receiver<()>, turn: &Turn) {
    let grace = shared.policy.current().collect.grace;
    let mut pace = |done: u64| {
        shared.metrics.collected.fetch_add(done, Ordering::Relaxed);
        let Some(rate) = shared.policy.current().collect.rate else { return false };
        !stopped(stop, Duration::from_secs_f64(done as f64 / rate as f64)) && turn.holds()
    };
    match shared.storage.collect(grace, &mut pace) {
        Ok(collected) => {
            shared.metrics.freed.fetch_add(collected.bytes, Ordering::Relaxed);
            shared.metrics.passed();
            if collected != Collected::default() {
                shared.tell(&Event::Collected(&collected));
            }
        }
        Err(error) => failed(shared, "collect", &error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_leaps_ahead_is_not_believed() {
        let begun = Clocks::now();
        let after = |passed: u64, shown: i64| {
            let shown_time = Duration::from_secs(shown.unsigned_abs());
            let day = if shown < 0 { begun.1 - shown_time } else { begun.1 + shown_time };
            Clocks(begun.0 + Duration::from_secs(passed), day)
        };
        for (passed, shown, agree) in [
            (10, 10, true),
            (3600, 3600, true),
            (10, -86_400, true),
            (10, 86_400 * 365, false),
            (3600, 7800, false),
        ] {
            assert_eq!(begun.agree(after(passed, shown)), agree, "{passed} {shown}");
        }
    }
}
