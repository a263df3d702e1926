//! What a build says to the CI system that runs it: annotations at the recipe's lines, and a page that sums it up.

use super::exports::Results;
use crate::{
    progress::{Told, ci},
    show::{self, text},
};
use slipway_builder::{BuildError, GraphError, Outcome};
use slipway_dockerfile::lint::LintReport;
use std::{
    fmt::Write as _,
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

/// Names the file that the page goes to.
const SUMMARY: &str = "GITHUB_STEP_SUMMARY";
/// The checkout, which annotations name files in.
const WORKSPACE: &str = "GITHUB_WORKSPACE";
/// Most steps on the page: a page has a megabyte at most.
const STEPS: usize = 300;
/// Most characters of an instruction on it.
const INSTRUCTION: usize = 160;

/// A place in the recipe and what is to be said of it.
struct Note {
    lines: Option<(u32, u32)>,
    title: &'static str,
    message: String,
}

/// Says why a build failed, at its place in the recipe. `words` are those of the failure.
pub(super) fn failed(error: &BuildError, words: &str, recipe: &str) {
    for note in notes(error, words) {
        show::note(command(
            "error",
            recipe,
            std::env::var_os(WORKSPACE).map(PathBuf::from).as_deref(),
            &note,
        ));
    }
}

/// Says what a recipe's check found.
pub(super) fn warned(report: &LintReport, recipe: &str) {
    let workspace = std::env::var_os(WORKSPACE).map(PathBuf::from);
    for warning in &report.warnings {
        let message = format!("{}: {}", warning.rule.code, warning.message);
        let note = Note { lines: Some((warning.line, warning.line)), title: "slipway check", message };
        show::note(command("warning", recipe, workspace.as_deref(), &note));
    }
}

fn notes(error: &BuildError, words: &str) -> Vec<Note> {
    let title = "slipway build";
    let one = |lines, message: &str| vec![Note { lines, title, message: message.to_owned() }];
    match error {
        BuildError::Recipe(diagnostics) => diagnostics
            .iter()
            .filter(|diagnostic| diagnostic.is_error())
            .map(|diagnostic| {
                let line = diagnostic.span.line;
                Note { lines: Some((line, line)), title, message: diagnostic.message.clone() }
            })
            .collect(),
        BuildError::Graph(GraphError { message, origin, .. }) => {
            one(origin.as_ref().map(|origin| (origin.start_line, origin.end_line)), message)
        }
        BuildError::Step(at) => {
            let lines = at.origin.as_ref().map(|origin| (origin.start_line, origin.end_line));
            one(lines, &slipway_oci::error::chain(&at.error))
        }
        _ => one(None, words),
    }
}

/// `::error file=F,line=N,endLine=N,title=T::MESSAGE`.
fn command(kind: &str, recipe: &str, workspace: Option<&Path>, note: &Note) -> String {
    let mut properties = Vec::new();
    if let Some((first, last)) = note.lines {
        let path = Path::new(recipe);
        let file = workspace.and_then(|root| path.strip_prefix(root).ok()).unwrap_or(path);
        let file = file.strip_prefix("./").unwrap_or(file);
        properties.push(format!("file={}", ci::escaped_property(&file.display().to_string())));
        properties.push(format!("line={first}"));
        properties.push(format!("endLine={last}"));
    }
    properties.push(format!("title={}", ci::escaped_property(note.title)));
    format!("::{kind} {}::{}", properties.join(","), ci::escaped(&ci::no_commands(&note.message)))
}

/// What the page tells.
pub(super) struct Page<'a> {
    /// The recipe.
    pub(super) recipe: &'a str,
    /// The steps, in the order in which they ended.
    pub(super) steps: &'a [Told],
    /// What came of it, or why nothing did.
    pub(super) ended: Result<&'a Results, &'a str>,
    /// How long it took.
    pub(super) took: Duration,
}

impl Page<'_> {
    /// Adds the page to the one of the job, where there is one. A page that cannot be written fails no build.
    pub(super) fn append(&self) {
        let Some(path) = std::env::var_os(SUMMARY).filter(|path| !path.is_empty()).map(PathBuf::from) else {
            return;
        };
        let opened = std::fs::File::options().append(true).create(true).open(&path);
        if let Err(error) = opened.and_then(|mut file| file.write_all(self.markdown().as_bytes())) {
            show::note(format_args!("warning: {SUMMARY}: cannot write `{}`: {error}", path.display()));
        }
    }

    fn markdown(&self) -> String {
        let mut page = format!("### slipway build: {}\n\n", code(self.recipe));
        let count = |outcome| self.steps.iter().filter(|step| step.outcome == outcome).count();
        let took = format!("{:.2} s", self.took.as_secs_f64());
        match self.ended {
            Ok(results) => {
                page.push_str("| | |\n|---|---|\n");
                let mut row = |name: &str, value: String| page.push_str(&format!("| {name} | {value} |\n"));
                for name in &results.names {
                    row("image", code(&name.familiar()));
                }
                row("digest", code(&results.target.digest.to_string()));
                if let Some(config) = &results.config {
                    row("id", code(&config.to_string()));
                }
                for name in &results.pushed {
                    row("pushed to", code(&name.familiar()));
                }
                row("steps", format!("{} done, {} cached", count(Outcome::Done), count(Outcome::Cached)));
                row("time", took);
            }
            Err(words) => {
                let _ = writeln!(page, "**Failed** after {took}: {}", code(words));
            }
        }
        if !self.steps.is_empty() {
            page.push_str(
                "\n<details><summary>Steps</summary>\n\n| # | step | line | |\n|---:|---|---:|---|\n",
            );
            for step in self.steps.iter().take(STEPS) {
                let outcome = match step.outcome {
                    Outcome::Cached => "cached".to_owned(),
                    Outcome::Done => format!("{:.1} s", step.took.as_secs_f64()),
                    Outcome::Failed => "**failed**".to_owned(),
                    Outcome::Cancelled => "canceled".to_owned(),
                };
                let head: String = step.head.chars().take(INSTRUCTION).collect();
                let _ = writeln!(page, "| {} | {} | {} | {outcome} |", step.number, code(&head), step.line);
            }
            if self.steps.len() > STEPS {
                let _ = writeln!(page, "| | and {} more | | |", self.steps.len() - STEPS);
            }
            page.push_str("\n</details>\n");
        }
        page.push('\n');
        page
    }
}

/// Text that is shown as it is: of Markdown and HTML nothing is left in it.
fn code(text: &str) -> String {
    let one = |c: char| match c.is_ascii_punctuation() {
        true => format!("&#{};", u32::from(c)),
        false => c.to_string(),
    };
    format!("<code>{}</code>", text::line(text).chars().map(one).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_name_the_recipe_in_the_checkout() {
        let note = |lines| Note { lines, title: "t: x", message: "50%\nof it".to_owned() };
        let root = Some(Path::new("/w"));
        for (recipe, workspace, expected) in [
            (
                "/w/a,b/Dockerfile",
                root,
                "::error file=a%2Cb/Dockerfile,line=3,endLine=5,title=t%3A x::50%25%0Aof it",
            ),
            ("./Dockerfile", root, "::error file=Dockerfile,line=3,endLine=5,title=t%3A x::50%25%0Aof it"),
            ("/x/D", None, "::error file=/x/D,line=3,endLine=5,title=t%3A x::50%25%0Aof it"),
        ] {
            assert_eq!(command("error", recipe, workspace, &note(Some((3, 5)))), expected);
        }
        assert_eq!(command("warning", "D", None, &note(None)), "::warning title=t%3A x::50%25%0Aof it");
    }

    #[test]
    fn a_page_shows_what_steps_say_and_does_nothing_of_it() {
        let step = |number, head: &str, outcome| Told {
            number,
            head: head.to_owned(),
            line: 7,
            outcome,
            took: Duration::from_millis(1500),
        };
        let steps = [step(1, "RUN a | <b> `c` *d*\nx", Outcome::Done), step(2, "RUN b", Outcome::Failed)];
        let page =
            Page { recipe: "Dockerfile", steps: &steps, ended: Err("it |failed|"), took: Duration::ZERO };
        let page = page.markdown();
        assert!(
            page.contains(
                "| 1 | <code>RUN a &#124; &#60;b&#62; &#96;c&#96; &#42;d&#42; x</code> | 7 | 1.5 s |"
            ),
            "{page}"
        );
        assert!(page.contains("**Failed** after 0.00 s: <code>it &#124;failed&#124;</code>"), "{page}");
        assert!(page.contains("| **failed** |"));
        let many: Vec<Told> = (0..STEPS + 5).map(|at| step(at, "x", Outcome::Cached)).collect();
        let page = Page { recipe: "D", steps: &many, ended: Err(""), took: Duration::ZERO }.markdown();
        assert!(page.contains("| | and 5 more | | |") && page.len() < 1 << 20);
    }
}
