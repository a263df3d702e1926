//! `slipway why`.

use super::builds::{history, step, title};
use crate::{
    app::Global,
    error::Failure,
    show::{say, since, text},
};
use serde_json::json;
use slipway_builder::{
    history::StepRecord,
    why::{Why, why},
};

/// Show why steps of a build ran: what differs from the nearest earlier result
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How it is printed
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// An id or its beginning, `^N` for the one N before the last, or an image's name [default: the last]
    #[arg(value_name = "BUILD")]
    build: Option<String>,
    /// The step: its number, or STAGE:NUMBER [default: all that ran]
    #[arg(value_name = "STEP")]
    step: Option<String>,
}

/// The value of `--format`.
#[derive(Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people
    #[default]
    Text,
    /// A list of steps
    Json,
}

/// Carries the command out.
pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    let history = history(global)?;
    let build = history.find(arguments.build.as_deref())?;
    let earlier = history.before(&build)?;
    let steps: Vec<&StepRecord> = match &arguments.step {
        Some(words) => vec![step(&build, words)?],
        None => build.steps.iter().filter(|step| step.ran).collect(),
    };
    let explained = steps.into_iter().filter(|step| step.ran);
    let all: Vec<(&StepRecord, Why)> =
        explained.map(|step| (step, why(&history, &earlier, &build, step))).collect();
    if arguments.format == Format::Json {
        let list: Vec<_> = all
            .iter()
            .map(|(step, why)| json!({"build": build.id, "step": why.step, "text": step.text, "earlier": why.earlier, "causes": why.causes}))
            .collect();
        say(format_args!("{:#}", json!(list)))?;
        return Ok(0);
    }
    if all.is_empty() {
        say(format_args!("no step of build {} was carried out", build.id))?;
    }
    for (step, why) in &all {
        say(title(step))?;
        why.causes.iter().try_for_each(|cause| say(format_args!("   {}", text::line(&cause.to_string()))))?;
        if let Some(earlier) = &why.earlier {
            let when = since(Some((earlier.began_ms / 1000) as i64));
            say(format_args!("   compared with step {} of build {} ({when})", earlier.step, earlier.build))?;
        }
    }
    Ok(0)
}
