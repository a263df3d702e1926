//! A line an event, as buildx prints them into logs: `#number` marks the lines of one step, a blank line parts steps,
//! and a step that goes on after another one's lines says so with `#number ...`.

use super::{Ending, Moved, Show, board::Clock, seconds};
use crate::show::{self, human, live, text};
use slipway_builder::{Event, Outcome, Progress, StepId};
use std::{
    collections::HashMap,
    io::IsTerminal,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Time between two lines on one transfer: a log is not to look dead, nor to drown.
const TELL: Duration = Duration::from_secs(5);
/// A wait that deserves a line.
const LONG_WAIT: Duration = Duration::from_millis(300);

#[derive(Default)]
pub(super) struct Plain {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    clocks: HashMap<StepId, Clock>,
    /// Whose lines come last.
    last: Option<StepId>,
    transfers: HashMap<String, Transfer>,
    /// Whether a screen shows it, on which a line that was begun anew stands once. A log has what was written.
    settles: bool,
}

struct Transfer {
    began: Instant,
    told: Instant,
    done_bytes: u64,
    size_bytes: u64,
}

impl State {
    /// What comes before a line of a step, with `#number ` at its end; buildx counts from one.
    fn mark(&mut self, step: StepId, fresh: bool) -> String {
        let number = step + 1;
        let before = match self.last {
            Some(last) if last == step => String::new(),
            Some(_) if fresh => "\n".to_owned(),
            Some(_) => format!("\n#{number} ...\n"),
            None => String::new(),
        };
        self.last = Some(step);
        format!("{before}#{number} ")
    }

    /// The lines of an event of a build.
    fn lines(&mut self, event: &Event<'_>, now: Instant) -> String {
        match *event {
            // a log has whole lines
            Event::Planned { .. } | Event::Unfinished { .. } | Event::Known { .. } => String::new(),
            Event::Resolving { reference } => format!("resolving {reference}\n"),
            Event::Started { step, stage, number, total, text, .. } => {
                self.clocks.insert(step, Clock::start(now));
                format!("{}[{stage} {number}/{total}] {text}\n", self.mark(step, true))
            }
            Event::Output { step, bytes, .. } => {
                let time = self.clocks.get(&step).map_or(0.0, |clock| clock.read(now).as_secs_f64());
                let output = String::from_utf8_lossy(bytes);
                let output = if self.settles { text::settled(&output) } else { output };
                let output = output.trim_end_matches(['\n', '\r']);
                format!("{}{time:.3} {output}\n", self.mark(step, false))
            }
            Event::Paused { step, .. } => {
                self.clocks.entry(step).and_modify(|clock| clock.stop(now));
                String::new()
            }
            Event::Resumed { step, reason, took } => {
                self.clocks.entry(step).and_modify(|clock| clock.go_on(now));
                if took < LONG_WAIT {
                    return String::new();
                }
                let waited = if reason.starts_with("unpacking") { "" } else { "waited for " };
                format!("{}{waited}{reason} {}\n", self.mark(step, false), seconds(took))
            }
            Event::Finished { step, outcome, took, reason } => {
                self.clocks.remove(&step);
                let mark = self.mark(step, false);
                match outcome {
                    Outcome::Cached => format!("{mark}CACHED\n"),
                    Outcome::Done => format!("{mark}DONE {}\n", seconds(took)),
                    Outcome::Failed => format!("{mark}FAILED: {}\n", text::line(reason)),
                    Outcome::Cancelled => format!("{mark}CANCELED\n"),
                }
            }
            Event::Explained { why } => {
                let mark = self.mark(why.step.saturating_sub(1), false);
                let causes = why.causes.iter().map(|cause| text::line(&cause.to_string()));
                causes.map(|cause| format!("{mark}WHY {cause}\n")).collect()
            }
            Event::Warning { message } => format!("warning: {}\n", text::line(message)),
            Event::Exporting => "\nexporting the image\n".to_owned(),
        }
    }

    fn transfer(&mut self, doing: &str, event: &Moved<'_>, now: Instant) -> Option<String> {
        match event {
            Moved::Started { name, size_bytes } => {
                let transfer = Transfer { began: now, told: now, done_bytes: 0, size_bytes: *size_bytes };
                self.transfers.insert((*name).to_owned(), transfer);
                None
            }
            Moved::Advanced { name, done_bytes } => {
                let transfer = self.transfers.get_mut(*name)?;
                transfer.done_bytes = *done_bytes;
                if now.saturating_duration_since(transfer.told) < TELL {
                    return None;
                }
                transfer.told = now;
                let took = seconds(now.saturating_duration_since(transfer.began));
                let of = match transfer.size_bytes {
                    0 => String::new(),
                    size => format!(" / {}", human(size)),
                };
                Some(format!("{doing} {name}: {}{of} {took}\n", human(*done_bytes)))
            }
            Moved::Finished { name } => {
                let transfer = self.transfers.remove(*name)?;
                let took = seconds(now.saturating_duration_since(transfer.began));
                let size = human(transfer.size_bytes.max(transfer.done_bytes));
                Some(format!("{doing} {name}: {size} done {took}\n"))
            }
            Moved::Present { name } => Some(format!("{name} is there already\n")),
            Moved::Mounted { name, from } => Some(format!("{name} taken from `{from}`\n")),
            Moved::Retrying { words } => Some(format!("warning: {}\n", text::line(words))),
        }
    }
}

/// Into a file or pipe goes what steps wrote, byte by byte; a terminal gets their colours and nothing else.
fn write(text: &str) {
    match std::io::stderr().is_terminal() {
        true if show::colours() => live::print(&text::coloured(text)),
        true => live::print(&text::plain(text)),
        false => live::print(text),
    }
}

impl Plain {
    pub(super) fn new() -> Plain {
        let state = State { settles: std::io::stderr().is_terminal(), ..State::default() };
        Plain { state: Mutex::new(state) }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress for Plain {
    fn event(&self, event: Event<'_>) {
        let mut state = self.state();
        let lines = state.lines(&event, Instant::now());
        if !lines.is_empty() {
            write(&lines);
        }
    }
}

impl Show for Plain {
    fn begin(&self, _: &str, _: usize) {}

    fn moved(&self, doing: &'static str, event: &Moved<'_>) {
        let mut state = self.state();
        if let Some(line) = state.transfer(doing, event, Instant::now()) {
            write(&line);
        }
    }

    fn end(&self, _: Ending) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use slipway_builder::Stream;

    #[test]
    fn steps_are_parted_as_buildx_parts_them() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let begun =
            |step, text| Event::Started { step, stage: "app", number: step + 1, total: 2, line: 1, text };
        let output = |step, bytes| Event::Output { step, stream: Stream::Stdout, bytes };
        let finished = |step, outcome, reason| Event::Finished {
            step,
            outcome,
            took: Duration::from_millis(1240),
            reason,
        };
        let mut state = State::default();
        let mut all = String::new();
        for (event, time) in [
            (begun(0, "FROM x"), 0),
            (finished(0, Outcome::Cached, ""), 0),
            (begun(1, "RUN a"), 10),
            (output(1, b"one\r\n"), 133),
            (begun(2, "RUN b"), 200),
            (Event::Paused { step: 2, reason: "stage `x`" }, 200),
            (output(1, b"two"), 210),
            (Event::Resumed { step: 2, reason: "stage `x`", took: Duration::from_secs(2) }, 2200),
            (output(2, b"late\n"), 2300),
            (finished(1, Outcome::Failed, "exit status 2"), 2400),
            (finished(2, Outcome::Cancelled, ""), 2400),
        ] {
            all.push_str(&state.lines(&event, at(time)));
        }
        let expected = "#1 [app 1/2] FROM x\n#1 CACHED\n\n#2 [app 2/2] RUN a\n#2 0.123 one\n\n#3 [app 3/2] RUN b\n\n\
                        #2 ...\n#2 0.200 two\n\n#3 ...\n#3 waited for stage `x` 2.0s\n#3 0.100 late\n\n#2 ...\n\
                        #2 FAILED: exit status 2\n\n#3 ...\n#3 CANCELED\n";
        assert_eq!(all, expected);
    }

    #[test]
    fn a_long_transfer_is_heard_of() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut state = State::default();
        let mut tell = |event: Moved<'_>, seconds| state.transfer("pulling", &event, at(seconds));
        assert_eq!(tell(Moved::Started { name: "a", size_bytes: 3_000_000 }, 0), None);
        assert_eq!(tell(Moved::Advanced { name: "a", done_bytes: 1_000_000 }, 1), None);
        let line = tell(Moved::Advanced { name: "a", done_bytes: 2_000_000 }, 6);
        assert_eq!(line.as_deref(), Some("pulling a: 2.00MB / 3.00MB 6.0s\n"));
        assert_eq!(tell(Moved::Advanced { name: "a", done_bytes: 2_500_000 }, 7), None);
        let line = tell(Moved::Finished { name: "a" }, 8);
        assert_eq!(line.as_deref(), Some("pulling a: 3.00MB done 8.0s\n"));
        // a manifest, which has no transfer of its own
        assert_eq!(tell(Moved::Finished { name: "m" }, 8), None);
    }
}
