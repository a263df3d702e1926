//! The scrub in the background: reads everything that is stored again and again, slowly, and tells of what is damaged.

use super::{
    call::Shared,
    event::Event,
    storage::{Damage, Scrubbed, Scrubbing, StorageError},
    throttle::bytes,
};
use crate::limits;
use std::{
    fmt,
    str::FromStr,
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

/// How fast everything is read, and how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scrub {
    /// Most bytes a second; none at all where it is off.
    pub rate: Option<u64>,
    /// Time from the beginning of a round to that of the next.
    pub every: Duration,
}

impl Default for Scrub {
    fn default() -> Scrub {
        Scrub { rate: Some(limits::SCRUB_RATE), every: limits::SCRUB_EVERY }
    }
}

impl FromStr for Scrub {
    type Err = String;

    /// `off`, or `RATE/s [every TIME]`: `50MiB/s`, `1GiB/s every 1d`.
    fn from_str(text: &str) -> Result<Scrub, String> {
        let wrong = || format!("`{text}` is neither `off` nor a rate: `50MiB/s`, `50MiB/s every 7d`");
        let mut words = text.split_whitespace();
        let rate = words.next().ok_or_else(wrong)?;
        let every = match (words.next(), words.next(), words.next()) {
            (None, ..) => limits::SCRUB_EVERY,
            (Some("every"), Some(time), None) => time_of(time).ok_or_else(wrong)?,
            _ => return Err(wrong()),
        };
        if text.trim() == "off" {
            return Ok(Scrub { rate: None, every });
        }
        let rate = rate.strip_suffix("/s").and_then(bytes).filter(|rate| *rate > 0).ok_or_else(wrong)?;
        Ok(Scrub { rate: Some(rate), every })
    }
}

/// A whole number of seconds, minutes, hours or days, at least one second, and no more than ten years.
fn time_of(text: &str) -> Option<Duration> {
    let factor = match text.chars().last()? {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 24 * 3600,
        _ => return None,
    };
    let number: u64 = text[..text.len() - 1].parse().ok()?;
    let seconds = number.checked_mul(factor).filter(|seconds| (1..=3650 * 24 * 3600).contains(seconds))?;
    Some(Duration::from_secs(seconds))
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_times() {
        let scrub = |rate, seconds| Ok(Scrub { rate, every: Duration::from_secs(seconds) });
        let week = limits::SCRUB_EVERY.as_secs();
        for (text, expected) in [
            ("off", scrub(None, week)),
            ("50MiB/s", scrub(Some(50 << 20), week)),
            (" 1GiB/s  every 1d ", scrub(Some(1 << 30), 86_400)),
            ("1KiB/s every 90m", scrub(Some(1 << 10), 5400)),
            ("9MB/s every 1s", scrub(Some(9_000_000), 1)),
        ] {
            assert_eq!(text.parse::<Scrub>(), expected, "{text}");
        }
        for text in [
            "",
            "on",
            "off every 1d",
            "50MiB",
            "50MiB/m",
            "0/s",
            "-1MiB/s",
            "1MiB/s each 1d",
            "1MiB/s every",
            "1MiB/s every 0s",
            "1MiB/s every 1w",
            "1MiB/s every 1d 2",
            "1MiB/s every 99999999d",
            "1MiB/s every d",
            "1MiB/s every \u{e4}",
        ] {
            assert!(text.parse::<Scrub>().is_err(), "{text}");
        }
    }
}
