//! The way out to people: every line that this program writes to its standard streams.
//!
//! - [`say`] writes results to standard output. What a program reads is exactly what is there; what a terminal shows is
//!   cleaned ([`text`]).
//! - [`note`] writes words to standard error, cleaned always, for they go into logs as well.
//! - A reader that went away is no failure: nothing here panics or aborts.
//! - [`colours`] alone decides whether there are colours.
//!
//! Beside that: sizes, times, templates.

pub(crate) mod listing;
pub(crate) mod live;
pub(crate) mod template;
pub(crate) mod text;

use crate::error::Failure;
use std::{
    fmt::Display,
    io::{ErrorKind, IsTerminal, Write},
};

/// Writes a line of a command's result to standard output.
pub(crate) fn say(text: impl Display) -> Result<(), Failure> {
    let text = text.to_string();
    write_result(&if std::io::stdout().is_terminal() { text::plain(&text) } else { text.into() })
}

/// Writes a piece of what another program wrote to standard output: as it is, but for a terminal its colours and nothing
/// else. Whether anybody still reads.
pub(crate) fn say_output(bytes: &[u8]) -> Result<bool, Failure> {
    let mut out = std::io::stdout().lock();
    let written = if out.is_terminal() {
        let text = String::from_utf8_lossy(bytes);
        let shown = if result_colours() { text::coloured(&text) } else { text::plain(&text) };
        out.write_all(shown.as_bytes())
    } else {
        out.write_all(bytes)
    };
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        other => Ok(other.map(|()| true)?),
    }
}

/// The same for a result that has colours of its own where [`result_colours`] wants them.
pub(crate) fn say_coloured(text: impl Display) -> Result<(), Failure> {
    if !result_colours() {
        return say(text);
    }
    write_result(&text::coloured(&text.to_string()))
}

fn write_result(text: &str) -> Result<(), Failure> {
    match writeln!(std::io::stdout().lock(), "{text}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// Writes a line for people to standard error. Where that is closed there is nobody to tell.
pub(crate) fn note(text: impl Display) {
    let text = text.to_string();
    write_aside(&format!("{}\n", text::plain(text.trim_end())));
}

/// Writes what is clean already to standard error, in one piece.
pub(crate) fn write_aside(text: &str) {
    live::print(text);
}

/// Whether standard error is a terminal that understands more than lines.
pub(crate) fn terminal() -> bool {
    understands(&std::io::stderr())
}

/// Whether standard error may have colours.
pub(crate) fn colours() -> bool {
    terminal() && colours_allowed()
}

/// Whether standard output may have colours.
pub(crate) fn result_colours() -> bool {
    understands(&std::io::stdout()) && colours_allowed()
}

fn understands(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// <https://no-color.org>: `NO_COLOR` that is not empty forbids them.
fn colours_allowed() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A time as docker's listings write it, which is Go's way.
pub(crate) fn time(seconds: Option<i64>) -> String {
    let text = seconds.map(slipway_oci::spec::rfc3339::format).unwrap_or_default();
    match text.trim_end_matches('Z').split_once('T') {
        Some((day, time)) => format!("{day} {time} +0000 UTC"),
        None => "N/A".to_owned(),
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

/// Asks on standard error; whether the answer is yes.
pub(crate) fn ask(question: &str) -> Result<bool, Failure> {
    write_aside(&text::plain(question));
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes" | "Yes" | "YES"))
}

/// Seconds since 1970.
pub(crate) fn now() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| since.as_secs() as i64)
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
