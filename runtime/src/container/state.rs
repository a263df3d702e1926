//! What a kept container came to.
//!
//! Its monitor writes this down while it holds the container's lock; where nobody holds that, a container that is said to
//! run has lost its monitor.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::sandbox::handle::{Handle, ProcessId};

/// Where a container is in its life, in docker's words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// Made, and never started.
    #[default]
    Created,
    /// Its command runs.
    Running,
    /// It waits to be started again.
    Restarting,
    /// It has ended.
    Exited,
}

impl Status {
    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Status::Created => "created",
            Status::Running => "running",
            Status::Restarting => "restarting",
            Status::Exited => "exited",
        }
    }

    /// Whether somebody attends to it.
    pub fn is_up(self) -> bool {
        matches!(self, Status::Running | Status::Restarting)
    }
}

/// A moment: nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Moment(pub i64);

impl Moment {
    /// By the machine's clock.
    pub fn now() -> Moment {
        Moment::at(SystemTime::now())
    }

    /// That of a time of the machine's.
    pub fn at(time: SystemTime) -> Moment {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Moment(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
    }

    /// Whole seconds since 1970.
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000_000)
    }
}

impl std::fmt::Display for Moment {
    /// As docker writes it: RFC 3339 with nanoseconds.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let whole = slipway_oci::spec::rfc3339::format(self.seconds());
        let whole = whole.trim_end_matches('Z');
        write!(formatter, "{whole}.{:09}Z", self.0.rem_euclid(1_000_000_000))
    }
}

/// What a container came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct State {
    /// Where it is in its life.
    pub status: Status,
    /// Its first process, while it runs.
    pub process: Option<ProcessId>,
    /// Whoever attends to it, while somebody does.
    pub monitor: Option<ProcessId>,
    /// The machine's start in which that was so (`/proc/sys/kernel/random/boot_id`).
    pub boot: String,
    /// When it last started.
    pub started: Option<Moment>,
    /// When it last ended.
    pub finished: Option<Moment>,
    /// What it last ended with, as a shell tells it.
    pub exit_code: i32,
    /// Why it could not be started, or ended other than by itself.
    pub error: String,
    /// How often it was started again since somebody started it.
    pub restarts: u32,
    /// Whether somebody wants it to be stopped.
    pub stop_wanted: bool,
    /// Whether somebody is about to start it.
    pub starting: bool,
}

impl State {
    /// Reads what [`State::text`] has written.
    ///
    /// # Errors
    /// For a text of somebody else's.
    pub fn parse(text: &str) -> Result<State, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// As text.
    pub fn text(&self) -> String {
        // nothing in it can fail to be written
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Whether somebody attends to it, or is about to.
    pub fn is_attended(&self) -> bool {
        self.status.is_up() || self.starting
    }

    /// The first process, if it lives: found by number and time of start, in this start of the machine.
    pub fn find_process(&self) -> Option<Handle> {
        self.find(self.process)
    }

    /// The monitor, if it lives.
    pub fn find_monitor(&self) -> Option<Handle> {
        self.find(self.monitor)
    }

    fn find(&self, process: Option<ProcessId>) -> Option<Handle> {
        if self.boot != boot_id() {
            return None;
        }
        Handle::find(process?).ok().flatten()
    }

    /// It has ended.
    pub fn end(&mut self, exit_code: i32, error: String) {
        *self = State {
            status: Status::Exited,
            process: None,
            monitor: None,
            finished: Some(Moment::now()),
            exit_code,
            error,
            starting: false,
            ..std::mem::take(self)
        };
    }
}

/// Which start of the machine this is (random(4)).
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let state = State {
            status: Status::Running,
            process: Some(ProcessId { pid: 7, start_time: 9 }),
            started: Some(Moment(1_700_000_000_123_456_789)),
            ..State::default()
        };
        assert_eq!(State::parse(&state.text()).expect("state"), state);
        assert_eq!(State::parse("{}").expect("a later field is missing"), State::default());
        assert!(State::parse("").is_err());
        assert_eq!(state.started.expect("started").to_string(), "2023-11-14T22:13:20.123456789Z");
        // of another start of the machine
        assert!(state.find_process().is_none());
    }
}
