//! A build as one page: a timeline over stages, what each step cost, why it ran. It needs nothing from anywhere and runs no
//! script; all that is shown of a recipe or a command is text, which the template escapes.

use super::{duration, history, name, waste};
use crate::{
    app::Global,
    error::Failure,
    service::output::Output,
    show::{human, say, text},
};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use slipway_builder::{
    history::{BuildRecord, History, StepRecord},
    why::why,
};
use slipway_oci::spec::rfc3339;
use std::{
    io::{Read, Seek, SeekFrom},
    path::PathBuf,
};

/// Most bytes of the end of a step's output that the page has.
const TAIL_BYTES: u64 = 32 << 10;

/// Nothing is fetched, and nothing runs. It stands behind the one style sheet, for it is about what follows it (CSP, "The meta
/// element"): nothing of a recipe can have a style.
const POLICY: &str = "default-src 'none'; base-uri 'none'; form-action 'none'";

const STYLE: &str = "
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #1c2430; background: #fff }
h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin-top: 2rem }
table { border-collapse: collapse; width: 100% } th, td { text-align: left; padding: .25rem .6rem; border-bottom: 1px solid #dfe4ea; vertical-align: top }
td.number, th.number { text-align: right; white-space: nowrap }
code, pre { font: 13px/1.45 ui-monospace, monospace; overflow-wrap: anywhere } pre { white-space: pre-wrap; background: #f4f6f8; padding: .6rem; max-height: 24rem; overflow: auto }
.row { display: flex; align-items: center; margin: .2rem 0 } .row > b { width: 10rem; flex: none; font-weight: 500; overflow: hidden; text-overflow: ellipsis; white-space: nowrap }
.bars { flex: 1; height: 1.3rem; background: #f4f6f8 }
.done { background: #2f7dd1; fill: #2f7dd1 } .cached { background: #9db4c8; fill: #9db4c8 } .failed { background: #c8372d; fill: #c8372d }
.cancelled, .unended { background: #d9a441; fill: #d9a441 }
.advice { border-left: 3px solid #d9a441; padding-left: .6rem; margin: .3rem 0 } ul { margin: .2rem 0; padding-left: 1.2rem } .word { padding: 0 .4rem; border-radius: 3px; color: #fff }
@media (prefers-color-scheme: dark) { body { color: #d8dee6; background: #14181d } th, td { border-color: #2b323a } pre, .bars { background: #1e242b } }
";

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The page that is written [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// An id or its beginning, `^N` for the one N before the last, or an image's name [default: the last]
    #[arg(value_name = "BUILD")]
    build: Option<String>,
}

/// Carries the command out.
pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    let output = arguments.output.as_ref().map(|path| Output::prepare("--output", path)).transpose()?;
    let history = history(global)?;
    let build = history.find(arguments.build.as_deref())?;
    let earlier = history.before(&build)?;
    let image = build.end.as_ref().and_then(|end| end.image.clone());
    // an image that went meanwhile leaves the rest of the page as it is
    let found = image.and_then(|image| waste::look(global, &image).ok());
    let page = page(&history, &earlier, &build, found.as_ref()).into_string();
    match output {
        Some(output) => output.finish_with(page.as_bytes())?,
        None => say(page)?,
    }
    Ok(0)
}

fn page(
    history: &History,
    earlier: &[BuildRecord],
    build: &BuildRecord,
    found: Option<&waste::Found>,
) -> Markup {
    let title = format!("{} ({})", name(build), build.id);
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width";
                title { (title) }
                style { (PreEscaped(STYLE)) }
                meta http-equiv="Content-Security-Policy" content=(POLICY);
            }
            body {
                h1 { (title) }
                table { @for (name, value) in super::inspect::head(build) { tr { th { (name) } td { code { (value) } } } } }
                h2 { "Timeline" }
                (timeline(build))
                h2 { "Steps" }
                (costs(build))
                @if let Some(found) = found { (waste::section(build, found)) }
                @for step in &build.steps { (details(history, earlier, build, step)) }
                p { "Written by slipway for a build that began at " (rfc3339::format((build.began_ms / 1000) as i64)) "." }
            }
        }
    }
}

/// A row a stage, on one scale.
fn timeline(build: &BuildRecord) -> Markup {
    let whole = build.end.as_ref().map_or(0, |end| end.took_us);
    let whole = build.steps.iter().map(|step| step.ended_us).fold(whole.max(1), u64::max);
    let share = |micros: u64| format!("{:.3}", micros as f64 * 100.0 / whole as f64);
    let mut stages: Vec<&str> = Vec::new();
    for step in &build.steps {
        if !stages.contains(&step.stage.as_str()) {
            stages.push(&step.stage);
        }
    }
    html! {
        @for stage in stages {
            div.row {
                b { (text::line(stage)) }
                svg.bars viewBox="0 0 100 10" preserveAspectRatio="none" {
                    @for step in build.steps.iter().filter(|step| step.stage == stage) {
                        rect class=(outcome(step)) x=(share(step.began_us)) height="10"
                            width=(share(step.ended_us.saturating_sub(step.began_us).max(whole / 500))) {
                            title { (text::line(&format!("#{} {}", step.number, step.text))) }
                        }
                    }
                }
            }
        }
        p { "0 to " (duration(whole)) }
    }
}

fn costs(build: &BuildRecord) -> Markup {
    html! {
        table {
            tr {
                th { "step" } th { "line" } th { "" } th.number { "own time" } th.number { "processor" }
                th.number { "largest process" } th.number { "layer" } th.number { "output" }
            }
            @for step in &build.steps {
                @let command = step.command.as_ref();
                tr {
                    td { a href={ "#step" (step.number) } { "#" (step.number) } " " code { (text::line(&step.text)) } }
                    td.number { (step.line) }
                    td { span class={ "word " (outcome(step)) } { (outcome(step)) } }
                    td.number { (duration(step.took_us)) }
                    td.number { @if let Some(command) = command { (duration(command.user_us.saturating_add(command.system_us))) } }
                    td.number { @if let Some(bytes) = command.and_then(|command| command.largest_bytes) { (human(bytes)) } }
                    td.number { @if let Some(layer) = &step.layer { (human(layer.size_bytes)) } }
                    td.number { @if step.output_bytes > 0 { (human(step.output_bytes)) } }
                }
            }
        }
    }
}

/// Why a step ran, and the end of what its command wrote.
fn details(history: &History, earlier: &[BuildRecord], build: &BuildRecord, step: &StepRecord) -> Markup {
    let causes = if step.ran { why(history, earlier, build, step).causes } else { Vec::new() };
    let tail = tail(history, build, step);
    let advice = waste::advice(build, step.line);
    let has_advice = !advice.0.is_empty();
    html! {
        div id={ "step" (step.number) } {
            @if step.ran || tail.is_some() || has_advice {
                h2 { "#" (step.number) " " code { (text::line(&step.text)) } }
                p { (text::line(&step.reason)) }
                @if !causes.is_empty() { ul { @for cause in &causes { li { (text::line(&cause.to_string())) } } } }
                (advice)
                @if let Some(tail) = tail { pre { (tail) } }
            }
        }
    }
}

fn tail(history: &History, build: &BuildRecord, step: &StepRecord) -> Option<String> {
    let mut log = history.log(build, step).ok()??;
    let length = log.metadata().ok()?.len();
    log.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES))).ok()?;
    let mut bytes = Vec::new();
    log.take(TAIL_BYTES).read_to_end(&mut bytes).ok()?;
    let lines = String::from_utf8_lossy(&bytes);
    let shown: String =
        lines.lines().map(|line| text::plain(&text::settled(line)).into_owned() + "\n").collect();
    (!shown.is_empty()).then_some(shown)
}

fn outcome(step: &StepRecord) -> &'static str {
    step.outcome.map_or("unended", |outcome| outcome.word())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_recipe_says_is_text() {
        let evil = "</code><script>alert(1)</script>\" onload=\"x";
        let step = StepRecord {
            number: 1,
            stage: evil.to_owned(),
            text: evil.to_owned(),
            reason: evil.to_owned(),
            ran: true,
            ..StepRecord::default()
        };
        let names = vec![evil.to_owned()];
        let build =
            BuildRecord { names, recipe: evil.to_owned(), steps: vec![step], ..BuildRecord::default() };
        let folder = tempfile::tempdir().expect("folder");
        let page = page(&History::of(folder.path()), &[], &build, None).into_string();
        assert!(!page.contains("<script") && !page.contains("\" onload"), "{page}");
        assert!(page.contains("&lt;script&gt;"));
        assert_eq!(page.matches("default-src 'none'").count(), 1);
    }
}
