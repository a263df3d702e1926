//! The scrub in the background: reads everything that is stored again and again, slowly, and tells of what is damaged.

use super::{
    call::Shared,
    event::Event,
    storage::{Damage, Scrubbed, Scrubbing, StorageError},
};
use crate::limits;
use std::{
    fmt,
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Damage { digest, fault, aside, repositories, .. } = self;
        let place = if *aside { "; it is in quarantine" } else { "" };
        write!(
            f,
            "`{digest}` of {} is damaged: {fault}{place}; a push brings it back",
            repositories.join(", ")
        )
    }
}

/// Takes its time for what it reads, at the rate of the moment; what was not read in time is not caught up with.
struct Pacer<'a> {
    stop: &'a Receiver<()>,
    shared: &'a Shared,
    due: Instant,
}

impl Pacer<'_> {
    /// Waits for what was read. Answers whether to go on.
    fn pace(&mut self, read: u64) -> bool {
        self.shared.metrics.scrubbed.fetch_add(read, Ordering::Relaxed);
        let Some(rate) = self.shared.policy.current().scrub.rate else { return false };
        let now = Instant::now();
        self.due = self.due.max(now.checked_sub(Duration::from_secs(1)).unwrap_or(now));
        self.due += Duration::from_secs_f64(read as f64 / rate as f64);
        !stopped(self.stop, self.due.saturating_duration_since(now))
    }
}

/// Waits, unless the server stops before.
fn stopped(stop: &Receiver<()>, time: Duration) -> bool {
    !matches!(stop.recv_timeout(time), Err(RecvTimeoutError::Timeout))
}

/// Scrubs until the other end of `stop` is gone.
pub(super) fn run(shared: &Arc<Shared>, stop: &Receiver<()>) {
    let mut under_way: Option<Scrubbing> = None;
    loop {
        let scrub = shared.policy.current().scrub;
        let wait = if under_way.is_some() { Duration::ZERO } else { scrub.every.min(limits::SCRUB_LOOK) };
        if stopped(stop, wait) {
            return;
        }
        if scrub.rate.is_none() {
            under_way = None;
            continue;
        }
        match go_on(shared, stop, scrub.every, &mut under_way) {
            Ok(Scrubbed::On(_)) => {}
            Ok(Scrubbed::Ended(_) | Scrubbed::Idle) => under_way = None,
            Err(error) => {
                under_way = None;
                failed(shared, &error);
                // whatever it is, it is not said every moment
                if stopped(stop, limits::SCRUB_LOOK) {
                    return;
                }
            }
        }
    }
}

fn failed(shared: &Shared, error: &StorageError) {
    shared.metrics.fail();
    shared.tell(&Event::Failure { operation: "scrub", error });
}

fn go_on(
    shared: &Arc<Shared>,
    stop: &Receiver<()>,
    every: Duration,
    under_way: &mut Option<Scrubbing>,
) -> Result<Scrubbed, StorageError> {
    if under_way.is_none() {
        *under_way = shared.storage.begin_scrub(every)?;
    }
    let Some(scrubbing) = under_way else { return Ok(Scrubbed::Idle) };
    let now = Instant::now();
    let mut pacer = Pacer { stop, shared, due: now };
    let failed = |error: &StorageError| failed(shared, error);
    shared.storage.scrub(scrubbing, now + limits::SCRUB_SAVE, &mut |read| pacer.pace(read), &failed)
}
