//! How long what nobody needs is kept, and how fast it goes: the words of the settings.

use super::pace::time_of;
use crate::limits;
use std::{str::FromStr, time::Duration};

/// A time in words: a whole number of seconds, minutes, hours or days (`90s`, `7d`), or `0`.
pub fn period(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let zero = matches!(text, "0" | "0s" | "0m" | "0h" | "0d");
    let time = if zero { Some(Duration::ZERO) } else { time_of(text) };
    time.ok_or_else(|| format!("`{text}` is no time: `7d`, `12h`, `90m`, `0`"))
}

/// How long deleted things stay in the trash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trash(pub Duration);

impl Default for Trash {
    fn default() -> Trash {
        Trash(limits::TRASH_AGE)
    }
}

impl FromStr for Trash {
    type Err = String;

    fn from_str(text: &str) -> Result<Trash, String> {
        period(text).map(Trash)
    }
}

/// How what nothing holds is collected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Collect {
    /// Most pointers a second; none at all where it is off.
    pub rate: Option<u64>,
    /// Time between two passes.
    pub every: Duration,
    /// How long something has been loose before it goes: whoever pushes a blob has so long to push its manifest.
    pub grace: Duration,
}

impl Default for Collect {
    fn default() -> Collect {
        Collect {
            rate: Some(limits::COLLECT_RATE),
            every: limits::COLLECT_EVERY,
            grace: limits::COLLECT_GRACE,
        }
    }
}

impl FromStr for Collect {
    type Err = String;

    /// `off`, or any of `RATE/s`, `every TIME`, `after TIME`: `1000/s every 1h after 1d`.
    fn from_str(text: &str) -> Result<Collect, String> {
        let wrong = || format!("`{text}` is neither `off` nor like `1000/s every 1h after 1d`");
        let mut collect = Collect::default();
        let mut words = text.split_whitespace().peekable();
        if text.trim() == "off" {
            return Ok(Collect { rate: None, ..collect });
        }
        words.peek().ok_or_else(wrong)?;
        let mut said = Vec::new();
        while let Some(word) = words.next() {
            let kind = if word.ends_with("/s") { "rate" } else { word };
            if said.contains(&kind) {
                return Err(wrong());
            }
            said.push(kind);
            match kind {
                "rate" => {
                    let rate = word.strip_suffix("/s").and_then(|rate| rate.parse().ok());
                    collect.rate = Some(rate.filter(|rate| *rate > 0).ok_or_else(wrong)?);
                }
                "every" => collect.every = words.next().and_then(time_of).ok_or_else(wrong)?,
                "after" => {
                    collect.grace = words.next().ok_or_else(wrong).and_then(|time| {
                        let grace = period(time)?;
                        // a client that was told of a blob is not told wrong
                        let short = grace < limits::LOOSE_RENEWED * 2;
                        let least = limits::LOOSE_RENEWED.as_secs() / 30;
                        let words = || format!("`{time}` is too short: a push may take `{least}m` at least");
                        if short { Err(words()) } else { Ok(grace) }
                    })?;
                }
                _ => return Err(wrong()),
            }
        }
        Ok(collect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sentences() {
        let day = Duration::from_secs(86_400);
        for (text, expected) in
            [("0", Duration::ZERO), ("0d", Duration::ZERO), (" 7d ", day * 7), ("90s", day / 960)]
        {
            assert_eq!(text.parse::<Trash>(), Ok(Trash(expected)), "{text}");
        }
        for text in ["", "7", "d", "-1d", "1w", "1.5d", "99999999d", "7 d"] {
            assert!(text.parse::<Trash>().is_err(), "{text}");
        }
        let usual = Collect::default();
        for (text, expected) in [
            ("off", Collect { rate: None, ..usual }),
            ("50/s", Collect { rate: Some(50), ..usual }),
            ("after 2d", Collect { grace: day * 2, ..usual }),
            (
                "every 30s after 20m 9/s",
                Collect { rate: Some(9), every: Duration::from_secs(30), grace: Duration::from_secs(1200) },
            ),
        ] {
            assert_eq!(text.parse::<Collect>(), Ok(expected), "{text}");
        }
        for text in [
            "",
            "on",
            "off every 1d",
            "0/s",
            "5/m",
            "every",
            "every 0s",
            "after 19m",
            "after 0",
            "1/s 2/s",
            "5",
        ] {
            assert!(text.parse::<Collect>().is_err(), "{text}");
        }
    }
}
