//! How work is shown: for a terminal, as plain lines, as JSON, or not at all. To standard error, always, so that
//! standard output stays for results.
//!
//! A build reports itself through the builder's events, transfers of a pull, a push or a build's base through
//! [`Show::moved`]; each style takes both, so there is one picture whatever goes on.

mod board;
mod choice;
pub(crate) mod ci;
mod json;
mod plain;
mod terminal;

pub(crate) use choice::Choice;

use crate::{error::Failure, show};
use slipway_oci::Digest;
use slipway_registry::client;
use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// The value of `--progress`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Style {
    /// A terminal's style on a terminal, else plain lines.
    #[default]
    Auto,
    /// Lines that are rewritten in place.
    Tty,
    /// A line an event.
    Plain,
    /// A JSON object an event.
    #[value(alias = "rawjson")]
    Json,
    /// For jobs of GitHub Actions and Forgejo: folds, annotations, a summary.
    Github,
    /// For jobs of GitLab: folds.
    Gitlab,
    /// Nothing but failures.
    #[value(alias = "none")]
    Quiet,
}

impl Style {
    /// Whether a failed step's output was shown in full, and is still there to be read.
    pub(crate) fn keeps_output(self) -> bool {
        match self {
            Style::Auto => !show::terminal(),
            Style::Plain | Style::Json | Style::Github | Style::Gitlab => true,
            Style::Tty | Style::Quiet => false,
        }
    }
}

/// What a build is called.
const BUILDING: &str = "Building";

/// How something ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// All is well.
    Finished,
    /// It failed.
    Failed,
}

/// One step of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moved<'a> {
    /// Bytes begin to move.
    Started { name: &'a str, size_bytes: u64 },
    /// So many are there.
    Advanced { name: &'a str, done_bytes: u64 },
    /// All are there.
    Finished { name: &'a str },
    /// They were there before.
    Present { name: &'a str },
    /// The registry took them from another of its repositories.
    Mounted { name: &'a str, from: &'a str },
    /// An attempt failed; there will be another.
    Retrying { words: &'a str },
}

/// A way to show work.
pub(crate) trait Show: slipway_builder::Progress + Send + Sync {
    /// A registry is asked what there is to move.
    fn asking(&self, _title: &str) {}
    /// A pull or push of so many blobs begins.
    fn begin(&self, title: &str, parts: usize);
    /// A transfer got on.
    fn moved(&self, doing: &'static str, event: &Moved<'_>);
    /// What was begun, or the build, is over.
    fn end(&self, ending: Ending);
    /// The steps that have ended, where they are kept.
    fn told(&self) -> Vec<Told> {
        Vec::new()
    }
}

/// A step that has ended.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    /// Its number, from 1.
    pub(crate) number: usize,
    /// Where it stands, and its instruction.
    pub(crate) head: String,
    /// Its line in the recipe, from 1.
    pub(crate) line: u32,
    /// How it ended.
    pub(crate) outcome: slipway_builder::Outcome,
    /// How long its own work took.
    pub(crate) took: Duration,
}

/// The way to show work in `style`.
pub(crate) fn of(style: Style) -> Box<dyn Show> {
    match style {
        Style::Auto if show::terminal() => Box::new(terminal::Terminal::default()),
        Style::Tty => Box::new(terminal::Terminal::default()),
        Style::Auto | Style::Plain => Box::new(plain::Plain::new()),
        Style::Json => Box::new(json::Json::default()),
        Style::Github => Box::new(ci::Ci::new(ci::Kind::Github)),
        Style::Gitlab => Box::new(ci::Ci::new(ci::Kind::Gitlab)),
        Style::Quiet => Box::new(Quiet),
    }
}

/// The same, ended as the work did.
pub(crate) fn ended<T, E>(show: &dyn Show, result: Result<T, E>) -> Result<T, E> {
    show.end(if result.is_ok() { Ending::Finished } else { Ending::Failed });
    result
}

/// Shows how far something is that is read as one thing, told in bytes done and in all.
pub(crate) fn reading<T, E>(
    shown: &dyn Show,
    name: &str,
    work: impl FnOnce(&(dyn Fn(u64, u64) + Sync)) -> Result<T, E>,
) -> Result<T, E> {
    let begun = Mutex::new(false);
    let result = work(&|done_bytes, size_bytes| {
        let mut begun = begun.lock().unwrap_or_else(PoisonError::into_inner);
        if !*begun {
            shown.begin("Reading", 1);
            shown.moved("reading", &Moved::Started { name, size_bytes });
            *begun = true;
        }
        shown.moved("reading", &Moved::Advanced { name, done_bytes });
    });
    if begun.into_inner().unwrap_or_else(PoisonError::into_inner) {
        if result.is_ok() {
            shown.moved("reading", &Moved::Finished { name });
        }
        shown.end(if result.is_ok() { Ending::Finished } else { Ending::Failed });
    }
    result
}

/// Shows nothing.
pub(crate) struct Quiet;

impl slipway_builder::Progress for Quiet {
    fn event(&self, _: slipway_builder::Event<'_>) {}
}

impl Show for Quiet {
    fn begin(&self, _: &str, _: usize) {}
    fn moved(&self, _: &'static str, _: &Moved<'_>) {}
    fn end(&self, _: Ending) {}
}

/// Listens to the registry client.
pub(crate) struct Transfers<'a> {
    pub(crate) show: &'a dyn Show,
    /// What is done with each blob, in one word.
    pub(crate) doing: &'static str,
}

impl client::Progress for Transfers<'_> {
    fn event(&self, event: &client::Event<'_>) {
        let moved = |event: Moved<'_>| self.show.moved(self.doing, &event);
        match event {
            client::Event::Started { digest, size_bytes } => {
                moved(Moved::Started { name: &digest.short(), size_bytes: *size_bytes });
            }
            client::Event::Advanced { digest, done_bytes, .. } => {
                moved(Moved::Advanced { name: &digest.short(), done_bytes: *done_bytes });
            }
            client::Event::Finished { digest } => moved(Moved::Finished { name: &digest.short() }),
            client::Event::Present { digest } => moved(Moved::Present { name: &digest.short() }),
            client::Event::Mounted { digest, from } => moved(Moved::Mounted { name: &digest.short(), from }),
            client::Event::PassedOver { place, reason } => {
                moved(Moved::Retrying { words: &format!("{place}: {reason}; asking elsewhere") });
            }
            client::Event::Retrying { what, attempt, reason, pause } => {
                moved(Moved::Retrying { words: &again(what, *attempt, reason, *pause) });
            }
        }
    }
}

/// Listens where nothing moves yet: what is asked again is shown, and mirrors that had nothing are kept for the words of a
/// failure.
pub(crate) struct Waits<'a> {
    show: &'a dyn Show,
    passed: Mutex<Vec<String>>,
}

impl<'a> Waits<'a> {
    pub(crate) fn new(show: &'a dyn Show) -> Waits<'a> {
        Waits { show, passed: Mutex::default() }
    }

    /// A failure that says which mirrors were asked first.
    pub(crate) fn named(&self, failure: Failure) -> Failure {
        let all = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        match all.is_empty() {
            true => failure,
            false => failure.with_hint(format!("mirrors were asked first; {}", all.join("; "))),
        }
    }
}

impl client::Progress for Waits<'_> {
    fn event(&self, event: &client::Event<'_>) {
        match event {
            client::Event::PassedOver { place, reason } => {
                let mut passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
                passed.push(format!("`{place}`: {reason}"));
            }
            client::Event::Retrying { what, attempt, reason, pause } => {
                self.show.moved("", &Moved::Retrying { words: &again(what, *attempt, reason, *pause) });
            }
            _ => {}
        }
    }
}

/// What is said of an attempt that failed. A reason that names the thing itself needs it no second time, and nobody reads
/// digests whole.
fn again(what: &str, attempt: u32, reason: &str, pause: Duration) -> String {
    let about = if reason.contains(what) { String::new() } else { format!("{what}: ") };
    let mut words = format!("{about}{reason}; again in {:.1}s (attempt {attempt})", pause.as_secs_f64());
    if let Ok(digest) = what.parse::<Digest>() {
        words = words.replace(what, &digest.short());
    }
    words
}

/// Seconds as buildx writes them.
fn seconds(took: Duration) -> String {
    format!("{:.1}s", took.as_secs_f64())
}
