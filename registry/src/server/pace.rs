//! How fast everything that is stored is read again, and how often: the words of the settings.

use super::throttle::bytes;
use crate::limits;
use std::{str::FromStr, time::Duration};

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
pub(super) fn time_of(text: &str) -> Option<Duration> {
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
