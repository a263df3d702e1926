//! `slipway builds inspect`.

use super::{duration, history, title};
use crate::{
    app::Global,
    error::Failure,
    show::{human, say, text},
};
use serde_json::{Value, json};
use slipway_builder::history::{BuildRecord, History, StepRecord};
use slipway_oci::spec::rfc3339;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// How it is printed
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// An id or its beginning, `^N` for the one N before the last, or an image's name [default: the last]
    #[arg(value_name = "BUILD")]
    build: Option<String>,
}

/// The value of `--format`.
#[derive(Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people
    #[default]
    Text,
    /// All that is kept
    Json,
}

/// Carries the command out.
pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    let history = history(global)?;
    let build = history.find(arguments.build.as_deref())?;
    match arguments.format {
        Format::Json => say(format_args!("{:#}", as_json(&history, &build)))?,
        Format::Text => {
            head(&build).into_iter().try_for_each(|(name, value)| say(format_args!("{name:<9} {value}")))?;
            for step in &build.steps {
                say("")?;
                lines(&history, &build, step).into_iter().try_for_each(say)?;
            }
        }
    }
    Ok(0)
}

/// What is said of the whole build.
pub(super) fn head(build: &BuildRecord) -> Vec<(&'static str, String)> {
    let list = |names: &[String]| text::line(&names.join(", "));
    let mut head = vec![
        ("build", build.id.clone()),
        ("status", build.state().word().to_owned()),
        ("began", rfc3339::format((build.began_ms / 1000) as i64)),
        ("recipe", text::line(&build.recipe)),
        ("context", text::line(build.context.as_deref().unwrap_or_default())),
        ("target", text::line(build.target.as_deref().unwrap_or_default())),
        ("platform", text::line(&build.platform)),
        ("arguments", list(&build.arguments)),
        ("secrets", list(&build.secrets)),
        ("names", list(&build.names)),
    ];
    if let Some(end) = &build.end {
        head.push(("took", duration(end.took_us)));
        head.push(("image", end.image.as_ref().map_or_else(String::new, ToString::to_string)));
        head.push(("error", text::line(end.error.as_deref().unwrap_or_default())));
    }
    head.retain(|(_, value)| !value.is_empty());
    head
}

fn lines(history: &History, build: &BuildRecord, step: &StepRecord) -> Vec<String> {
    let ended = step.outcome.map_or("did not end", |outcome| outcome.word());
    let mut lines =
        vec![title(step), format!("   line {}, {ended} in {}", step.line, duration(step.took_us))];
    let mut say = |words: String| lines.push(format!("   {words}"));
    if !step.reason.is_empty() {
        say(text::line(&step.reason));
    }
    if let Some(command) = &step.command {
        let memory = command.largest_bytes.map(|bytes| format!(", largest process {}", human(bytes)));
        say(format!(
            "exit status {}, processor {} and {} in the kernel{}",
            command.status,
            duration(command.user_us),
            duration(command.system_us),
            memory.unwrap_or_default()
        ));
    }
    if let Some(layer) = &step.layer {
        say(format!("layer {} of {}", layer.diff_id, human(layer.size_bytes)));
    }
    if step.log_bytes > 0 {
        let left_out = match step.output_bytes - step.log_bytes.min(step.output_bytes) {
            0 => String::new(),
            bytes => format!(", {} left out", human(bytes)),
        };
        let path = history.folder_of(build).join(format!("{}.log", step.number));
        say(format!(
            "log of {}{left_out}: {}",
            human(step.output_bytes),
            text::line(&path.to_string_lossy())
        ));
    }
    lines
}

/// All that is kept, as one object.
fn as_json(history: &History, build: &BuildRecord) -> Value {
    let mut value = json!(build);
    value["state"] = json!(build.state());
    value["end"] = json!(build.end);
    value["steps"] = json!(build.steps);
    value["folder"] = json!(history.folder_of(build));
    value
}
