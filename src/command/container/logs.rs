//! `slipway logs`.

use super::kept::Kept;
use crate::{
    app::{App, Global},
    error::Failure,
    show,
};
use slipway_runtime::container::{
    config::Config,
    log::{Entry, LogReader, Source},
    state::Moment,
};
use std::{io::Write, time::Duration};

/// Show what a container wrote.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Go on with what it writes, until it ends
    #[arg(short, long)]
    follow: bool,
    /// When each line was written
    #[arg(short, long)]
    timestamps: bool,
    /// The last lines only
    #[arg(short = 'n', long, value_name = "NUMBER", default_value = "all")]
    tail: String,
    /// What was written since: a time, seconds since 1970, or how long ago, such as 10m
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// What was written before: the same
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// The container: a name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
}

/// How often a log that is followed is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Which lines are shown, and how.
struct Wanted {
    since: Option<String>,
    until: Option<String>,
    timestamps: bool,
}

/// Carries the command out.
pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    let time = |flag: &str, text: &Option<String>| {
        text.as_deref().map(|text| moment(flag, text, Moment::now())).transpose()
    };
    let wanted = Wanted {
        since: time("--since", &arguments.since)?,
        until: time("--until", &arguments.until)?,
        timestamps: arguments.timestamps,
    };
    let tail = match arguments.tail.as_str() {
        "all" | "-1" => None,
        text => Some(text.parse::<usize>().map_err(|_| {
            Failure::usage(format!("--tail: `{text}` is neither a number of lines nor `all`"))
        })?),
    };
    let app = App::open(global)?;
    let mut kept = Kept::find(&app, &arguments.container)?;
    let folder = kept.folder(&app);
    let config = Config::read(&folder);
    if config.as_ref().is_ok_and(|config| !config.log.is_kept) {
        let words = format!("container `{}` has no log: it was made with --log-driver none", kept.row.name);
        return Err(Failure::new(words));
    }
    let mut reader = LogReader::open(&folder);
    if let Some(count) = tail {
        for entry in reader.last(count)? {
            if !wanted.show(&entry)? {
                return Ok(0);
            }
        }
    }
    loop {
        // looked at before the log is: what it wrote before its end is there then
        let is_up = arguments.follow && kept.state.status.is_up();
        while let Some(entry) = reader.next_entry()? {
            if !wanted.show(&entry)? {
                return Ok(0);
            }
        }
        if !is_up {
            return Ok(0);
        }
        std::thread::sleep(LOOK);
        kept = match Kept::find(&app, &kept.row.id) {
            Ok(found) => found,
            // it has removed itself, and its log with it
            Err(_) => return Ok(0),
        };
    }
}

impl Wanted {
    /// Shows a line, if it is one; whether anybody reads on, and there can be more.
    fn show(&self, entry: &Entry) -> Result<bool, Failure> {
        // times of one form are in the order of their texts
        if self.since.as_ref().is_some_and(|since| entry.time < *since) {
            return Ok(true);
        }
        if self.until.as_ref().is_some_and(|until| entry.time >= *until) {
            return Ok(false);
        }
        let mut bytes = Vec::new();
        if self.timestamps {
            bytes.extend_from_slice(format!("{} ", entry.time).as_bytes());
        }
        bytes.extend_from_slice(&entry.content());
        match entry.stream {
            Source::Stdout => show::say_output(&bytes),
            Source::Stderr => match std::io::stderr().lock().write_all(&bytes) {
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
                other => Ok(other.map(|()| true)?),
            },
        }
    }
}

/// A time of the caller's, in the form of the log's.
fn moment(flag: &str, text: &str, now: Moment) -> Result<String, Failure> {
    const SECOND: i64 = 1_000_000_000;
    let seconds = text.split_once('.').map_or(text, |(whole, _)| whole);
    if let Ok(seconds) = seconds.parse::<i64>() {
        return Ok(Moment(seconds.saturating_mul(SECOND)).to_string());
    }
    if let Some(ago) = ago(text) {
        return Ok(Moment(now.0.saturating_sub(ago.saturating_mul(SECOND))).to_string());
    }
    let is_day = text.len() == 10;
    let whole = if is_day { format!("{text}T00:00:00Z") } else { text.to_owned() };
    let whole = if whole.ends_with('Z') || whole.contains('+') { whole } else { format!("{whole}Z") };
    let read = slipway_oci::spec::rfc3339::parse(&whole);
    read.map(|seconds| Moment(seconds.saturating_mul(SECOND)).to_string()).ok_or_else(|| {
        Failure::usage(format!("{flag}: `{text}` is no time"))
            .with_hint("for example 2026-11-27T09:00:00Z, 1795770000, or 10m for ten minutes ago")
    })
}

/// `1h30m`, `45s`: seconds.
fn ago(text: &str) -> Option<i64> {
    let (mut all, mut number) = (0i64, String::new());
    for letter in text.chars() {
        let unit = match letter {
            '0'..='9' => {
                number.push(letter);
                continue;
            }
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            _ => return None,
        };
        all = all.checked_add(number.parse::<i64>().ok()?.checked_mul(unit)?)?;
        number.clear();
    }
    (number.is_empty() && !text.is_empty()).then_some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_docker_reads_them() {
        let now = Moment(1_700_000_000_000_000_000);
        for (text, seconds) in [
            ("1600000000", 1_600_000_000),
            ("1600000000.5", 1_600_000_000),
            ("10m", 1_700_000_000 - 600),
            ("1h30m5s", 1_700_000_000 - 5405),
            ("2023-11-14T22:13:20Z", 1_700_000_000),
            ("2023-11-14T22:13:20", 1_700_000_000),
            ("2023-11-14", 1_699_920_000),
        ] {
            let expected = Moment(seconds * 1_000_000_000).to_string();
            assert_eq!(moment("--since", text, now).ok(), Some(expected), "{text}");
        }
        for text in ["", "soon", "10x", "m", "10", "2023-99-99"] {
            assert_eq!(moment("--since", text, now).is_ok(), text == "10", "{text}");
        }
    }
}
