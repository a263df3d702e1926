//! `slipway builds`: what builds were.

mod inspect;
mod logs;
mod ls;
mod remove;
mod report;
pub(super) mod trace;
mod waste;

use crate::{
    app::{self, Global},
    error::Failure,
    show,
};
use slipway_builder::history::{BuildRecord, History, HistoryError, StepRecord};
use slipway_oci::private::PrivateError;
use std::{os::unix::fs::MetadataExt, time::Duration};

/// Look at builds that ran: steps, times, logs
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// List the builds that carried something out or failed, the last one first
    #[command(alias = "list")]
    Ls(ls::Arguments),
    /// Show one build: its steps, what each took, and why it ended
    #[command(alias = "show")]
    Inspect(inspect::Arguments),
    /// Print what the commands of a build wrote
    Logs(logs::Arguments),
    /// Write one build as a page that needs nothing else: a timeline, what each step cost, why it ran
    Report(report::Arguments),
    /// Write one build as a trace for Perfetto or chrome://tracing
    Trace(trace::Arguments),
    /// Forget builds
    Rm(remove::Arguments),
}

/// Carries the command out.
pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    match &arguments.command {
        Command::Ls(arguments) => ls::run(global, arguments),
        Command::Inspect(arguments) => inspect::run(global, arguments),
        Command::Logs(arguments) => logs::run(global, arguments),
        Command::Report(arguments) => report::run(global, arguments),
        Command::Trace(arguments) => trace::run(global, arguments),
        Command::Rm(arguments) => remove::run(global, arguments),
    }
}

/// The history of the caller's store, which is not opened: it may be read only, damaged, or not there.
pub(in crate::command::builder) fn history(global: &Global) -> Result<History, Failure> {
    let root = app::store_folder(global.root.as_deref())?;
    if let Ok(status) = std::fs::metadata(&root) {
        let (owner, user) = (status.uid(), rustix::process::geteuid().as_raw());
        if owner != user {
            return Err(Failure::of(&PrivateError::Foreign { path: root, owner, user })
                .with_hint("name your own with --root"));
        }
    }
    Ok(History::of(&root))
}

impl From<HistoryError> for Failure {
    fn from(error: HistoryError) -> Failure {
        let failure = Failure::of(&error);
        match error {
            HistoryError::NoBuild(_) | HistoryError::Ambiguous(_) => {
                failure.with_hint("`slipway builds ls` lists them; a name, `^1` for the one before the last, or nothing for the last are taken too")
            }
            HistoryError::Empty => {
                failure.with_hint("a build is kept that carries something out or fails, not one whose steps were all cached")
            }
            HistoryError::NoStep { build, .. } => {
                failure.with_hint(format!("`slipway builds inspect {build}` shows them"))
            }
            HistoryError::Running(_) => failure.with_hint("stop it first, or wait for its end"),
            HistoryError::Io { .. } => failure,
        }
    }
}

/// The step that a text means: its number, as progress shows it, or `STAGE:NUMBER`.
pub(in crate::command::builder) fn step<'b>(
    build: &'b BuildRecord,
    text: &str,
) -> Result<&'b StepRecord, Failure> {
    let number = |text: &str| text.parse::<usize>().ok();
    let found = match text.rsplit_once(':') {
        Some((stage, place)) => {
            let is = |step: &&StepRecord| step.stage == stage && Some(step.place) == number(place);
            build.steps.iter().find(is)
        }
        None => number(text.trim_start_matches('#')).and_then(|number| build.step(number)),
    };
    found.ok_or_else(|| HistoryError::NoStep { build: build.id.clone(), step: text.to_owned() }.into())
}

/// A step as progress names it.
pub(in crate::command::builder) fn title(step: &StepRecord) -> String {
    show::text::line(&format!(
        "#{} [{} {}/{}] {}",
        step.number, step.stage, step.place, step.total, step.text
    ))
}

/// How long something took.
pub(super) fn duration(micros: u64) -> String {
    let took = Duration::from_micros(micros);
    match took.as_secs() {
        0 if took.as_millis() < 100 => format!("{:.1}ms", took.as_secs_f64() * 1000.0),
        0..60 => format!("{:.2}s", took.as_secs_f64()),
        60..3600 => format!("{}m{:02}s", took.as_secs() / 60, took.as_secs() % 60),
        all => format!("{}h{:02}m", all / 3600, all / 60 % 60),
    }
}

/// What a build is called in a line: the image's name, else its recipe's.
pub(super) fn name(build: &BuildRecord) -> String {
    show::text::line(build.names.first().unwrap_or(&build.recipe))
}
