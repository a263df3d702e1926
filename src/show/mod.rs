//! How results are written for people: lines, sizes, times, templates.

pub(crate) mod template;

use crate::error::Failure;

/// Prints a line of a command's result; a reader that went away is no failure of ours.
pub(crate) fn say(text: impl std::fmt::Display) -> Result<(), Failure> {
    use std::io::Write;
    match writeln!(std::io::stdout().lock(), "{text}") {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// How long ago, in docker's words.
pub(crate) fn since(created: Option<i64>) -> String {
    let Some(created) = created else { return "N/A".to_owned() };
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |t| t.as_secs() as i64);
    let seconds = (now - created).max(0);
    for (unit, length) in [
        ("year", 31_536_000),
        ("month", 2_592_000),
        ("week", 604_800),
        ("day", 86_400),
        ("hour", 3600),
        ("minute", 60),
    ] {
        if seconds >= length {
            let count = seconds / length;
            return format!("{count} {unit}{} ago", if count == 1 { "" } else { "s" });
        }
    }
    "a moment ago".to_owned()
}

/// A size in decimal units, as docker prints it.
pub(crate) fn human(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 1000.0 {
            return if unit == "B" {
                format!("{bytes}B")
            } else {
                format!("{value:.3}").chars().take(4).collect::<String>().trim_end_matches('.').to_owned()
                    + unit
            };
        }
        value /= 1000.0;
    }
    format!("{value:.1}TB")
}
