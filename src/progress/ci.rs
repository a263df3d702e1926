//! For the logs of CI systems: each step's lines fold into one, and what failed stays open.
//!
//! GitHub's runner (and Forgejo's, Gitea's) reads commands in a job's output (`::group::`, "Workflow commands for GitHub Actions");
//! GitLab's reads sections (`section_start`, "Custom collapsible sections"). What steps write is theirs: a runner is told to look
//! for no commands in it (`::stop-commands::` with a word that nobody can know), and escape sequences are taken out of it.
//!
//! A step's lines come when it ends, all together, for a fold cannot be interrupted by another step's.

use super::{Ending, Moved, Show, Told, seconds};
use crate::show::{human, live, text};
use slipway_builder::{Event, Outcome, Progress, StepId};
use std::{
    collections::{BTreeMap, VecDeque},
    io::Read,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

/// So much of a step's output is shown; the rest is in its log.
const OUTPUT_BYTES: usize = 1 << 20;

/// Whose logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// GitHub's, and those that read its commands.
    Github,
    /// GitLab's.
    Gitlab,
}

/// Shows work so.
pub(super) struct Ci {
    kind: Kind,
    /// Draws the word that ends the time in which no commands are looked for: one for each step, once that has ended.
    token: fn() -> String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    open: BTreeMap<StepId, Step>,
    told: Vec<Told>,
}

#[derive(Default)]
struct Step {
    head: String,
    line: u32,
    lines: VecDeque<String>,
    bytes: usize,
    /// Bytes that are not shown.
    left_out: usize,
}

impl Step {
    fn push(&mut self, line: String) {
        // an empty line takes room as well
        self.bytes += line.len() + 1;
        self.lines.push_back(line);
        while self.bytes > OUTPUT_BYTES {
            let Some(first) = self.lines.pop_front() else { break };
            self.bytes -= first.len() + 1;
            self.left_out += first.len() + 1;
        }
    }
}

/// A word that what is built cannot know.
fn token() -> String {
    let mut bytes = [0; 16];
    // a machine without it has no randomness for anything
    let read = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    read.map_or_else(
        |_| slipway_oci::file::temporary_name("stop"),
        |()| bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
    )
}

/// A value of one of GitHub's commands (actions/toolkit, `escapeData`).
pub(crate) fn escaped(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// A property of one of GitHub's commands (`escapeProperty`).
pub(crate) fn escaped_property(text: &str) -> String {
    escaped(text).replace(':', "%3A").replace(',', "%2C")
}

impl Ci {
    pub(super) fn new(kind: Kind) -> Ci {
        Ci { kind, token, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A step's lines, folded where it went well.
    fn block(&self, number: usize, step: &Step, ending: &str, failed: bool, seconds: u64) -> String {
        let mut body: String = step.lines.iter().map(|line| format!("{line}\n")).collect();
        if step.left_out > 0 {
            let size = human(step.left_out as u64);
            body = format!("... {size} before this are in the step's log (`slipway builds logs`)\n{body}");
        }
        let head = format!("#{number} {} {ending}", step.head);
        if body.is_empty() {
            return format!("{}\n", self.own(&head));
        }
        match (self.kind, failed) {
            (Kind::Github, _) => {
                let token = (self.token)();
                let body = format!("::stop-commands::{token}\n{body}::{token}::\n");
                match failed {
                    true => format!("{}\n{body}", self.own(&head)),
                    false => format!("::group::{}\n{body}::endgroup::\n", escaped(&head)),
                }
            }
            (Kind::Gitlab, true) => format!("{head}\n{body}"),
            (Kind::Gitlab, false) => {
                let (start, end) = (format!("step_{number}"), format!("step_{number}"));
                format!(
                    "\x1b[0Ksection_start:{seconds}:{start}[collapsed=true]\r\x1b[0K{head}\n{body}\
                     \x1b[0Ksection_end:{seconds}:{end}\r\x1b[0K\n"
                )
            }
        }
    }

    /// A line of ours, which has what recipes say in it.
    fn own(&self, line: &str) -> String {
        match self.kind {
            Kind::Github => no_commands(line),
            Kind::Gitlab => line.to_owned(),
        }
    }

    fn write(&self, line: &str) {
        live::print(&format!("{}\n", self.own(&text::line(line))));
    }
}

/// A text in which GitHub's runner finds no command: one begins a line, in its older form it may stand anywhere.
pub(crate) fn no_commands(text: &str) -> String {
    let line = |line: &str| match line.trim_start().starts_with("::") {
        true => format!(". {line}"),
        false => line.to_owned(),
    };
    text.replace("##[", "## [").split_inclusive('\n').map(line).collect()
}

impl Progress for Ci {
    fn event(&self, event: Event<'_>) {
        let mut state = self.state();
        match event {
            Event::Started { step, stage, number, total, line, text: instruction } => {
                let head = format!("[{} {number}/{total}] {}", text::line(stage), text::line(instruction));
                state.open.insert(step, Step { head, line, ..Step::default() });
            }
            Event::Output { step, bytes, .. } => {
                if let Some(open) = state.open.get_mut(&step) {
                    let output = String::from_utf8_lossy(bytes);
                    let settled = text::settled(&output).into_owned();
                    settled.lines().for_each(|line| open.push(text::plain(line).into_owned()));
                }
            }
            Event::Explained { why } => {
                if let Some(open) = state.open.get_mut(&why.step.saturating_sub(1)) {
                    for cause in &why.causes {
                        open.push(format!("WHY {}", text::line(&cause.to_string())));
                    }
                }
            }
            Event::Finished { step, outcome, took, reason } => {
                let Some(open) = state.open.remove(&step) else { return };
                let ending = match outcome {
                    Outcome::Cached => "CACHED".to_owned(),
                    Outcome::Done => format!("DONE {}", seconds(took)),
                    Outcome::Failed => format!("FAILED: {}", text::line(reason)),
                    Outcome::Cancelled => "CANCELED".to_owned(),
                };
                let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
                live::print(&self.block(step + 1, &open, &ending, outcome == Outcome::Failed, now));
                let Step { head, line, .. } = open;
                state.told.push(Told { number: step + 1, head, line, outcome, took });
            }
            Event::Warning { message } => match self.kind {
                Kind::Github => live::print(&format!("::warning::{}\n", escaped(&text::line(message)))),
                Kind::Gitlab => self.write(&format!("warning: {message}")),
            },
            Event::Resolving { reference } => self.write(&format!("resolving {reference}")),
            Event::Exporting => self.write("exporting the image"),
            Event::Planned { .. }
            | Event::Unfinished { .. }
            | Event::Known { .. }
            | Event::Paused { .. }
            | Event::Resumed { .. } => {}
        }
    }
}

impl Show for Ci {
    fn begin(&self, title: &str, _: usize) {
        self.write(title);
    }

    fn moved(&self, doing: &'static str, event: &Moved<'_>) {
        match event {
            Moved::Finished { name } => self.write(&format!("{doing} {name}: done")),
            Moved::Present { name } => self.write(&format!("{name} is there already")),
            Moved::Mounted { name, from } => self.write(&format!("{name} taken from `{from}`")),
            Moved::Retrying { words } => self.write(&format!("warning: {words}")),
            Moved::Started { .. } | Moved::Advanced { .. } => {}
        }
    }

    fn end(&self, _: Ending) {}

    fn told(&self) -> Vec<Told> {
        self.state().told.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(lines: &[&str]) -> Step {
        let mut step = Step { head: "[build 2/5] RUN x: 100%".to_owned(), ..Step::default() };
        lines.iter().for_each(|line| step.push((*line).to_owned()));
        step
    }

    #[test]
    fn what_went_well_folds_and_what_failed_stays_open() {
        let github = Ci { kind: Kind::Github, token: || "t0".to_owned(), state: Mutex::default() };
        let lines = step(&["one", "::error::mine", "##[set-env]x"]);
        assert_eq!(
            github.block(2, &lines, "DONE 1.0s", false, 7),
            "::group::#2 [build 2/5] RUN x: 100%25 DONE 1.0s\n::stop-commands::t0\none\n::error::mine\n##[set-env]x\n::t0::\n::endgroup::\n"
        );
        assert_eq!(
            github.block(2, &lines, "FAILED: ##[x", true, 7),
            "#2 [build 2/5] RUN x: 100% FAILED: ## [x\n::stop-commands::t0\none\n::error::mine\n##[set-env]x\n::t0::\n"
        );
        assert_eq!(github.block(2, &step(&[]), "CACHED", false, 7), "#2 [build 2/5] RUN x: 100% CACHED\n");
        let gitlab = Ci { kind: Kind::Gitlab, token: String::new, state: Mutex::default() };
        assert_eq!(
            gitlab.block(2, &step(&["one"]), "DONE 1.0s", false, 7),
            "\x1b[0Ksection_start:7:step_2[collapsed=true]\r\x1b[0K#2 [build 2/5] RUN x: 100% DONE 1.0s\none\n\
             \x1b[0Ksection_end:7:step_2\r\x1b[0K\n"
        );
        assert_eq!(
            gitlab.block(2, &step(&["one"]), "FAILED: y", true, 7),
            "#2 [build 2/5] RUN x: 100% FAILED: y\none\n"
        );
    }

    #[test]
    fn an_endless_output_is_shown_by_its_end() {
        let mut long = Step::default();
        for number in 0..100_000 {
            long.push(format!("line {number} {}", "x".repeat(30)));
        }
        assert!(long.bytes <= OUTPUT_BYTES && long.left_out > OUTPUT_BYTES);
        assert!(long.lines.back().unwrap().starts_with("line 99999 "));
        let shown = Ci::new(Kind::Github).block(1, &long, "DONE", false, 0);
        assert!(shown.contains("before this are in the step's log"));
        let mut empty = Step::default();
        (0..2 * OUTPUT_BYTES).for_each(|_| empty.push(String::new()));
        assert!(empty.lines.len() <= OUTPUT_BYTES);
    }

    #[test]
    fn values_are_escaped_as_the_runner_reads_them() {
        assert_eq!(escaped("50%\r\nnext: a,b"), "50%25%0D%0Anext: a,b");
        assert_eq!(escaped_property("a:b,c%\n"), "a%3Ab%2Cc%25%0A");
        assert_ne!(token(), token());
    }
}
