//! For people: finished steps scroll by, running ones are rewritten at the bottom with the last line of their output.

use super::seconds;
use slipway_builder::{Event, Outcome, Progress, StepId};
use std::{
    collections::BTreeMap,
    io::Write,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Running steps shown at once.
const ROWS: usize = 8;
/// Time between two redrawings that only output asked for.
const FRAME: Duration = Duration::from_millis(50);

#[derive(Default)]
pub(super) struct Terminal {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: BTreeMap<StepId, Running>,
    /// Lines at the bottom that the next drawing replaces.
    drawn: usize,
    last: Option<Instant>,
}

struct Running {
    title: String,
    began: Instant,
    output: String,
}

impl State {
    fn print(&mut self, line: Option<&str>) {
        let width = rustix::termios::tcgetwinsize(std::io::stderr())
            .map_or(80, |size| usize::from(size.ws_col).max(20));
        let mut text = String::new();
        if self.drawn > 0 {
            text.push_str(&format!("\x1b[{}A\x1b[J", self.drawn));
        }
        if let Some(line) = line {
            text.push_str(line);
            text.push('\n');
        }
        self.drawn = 0;
        for running in self.running.values().take(ROWS) {
            let row = format!(" => {} {}", running.title, seconds(running.began.elapsed()));
            text.push_str(&cut(&row, width));
            text.push('\n');
            self.drawn += 1;
            if !running.output.is_empty() {
                text.push_str(&format!(
                    "\x1b[2m{}\x1b[0m\n",
                    cut(&format!(" => => {}", running.output), width)
                ));
                self.drawn += 1;
            }
        }
        // a closed standard error must not stop the build
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
        self.last = Some(Instant::now());
    }
}

/// The beginning of a line, without control characters, that fits the terminal.
fn cut(text: &str, width: usize) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(width - 1).collect()
}

impl Progress for Terminal {
    fn event(&self, event: Event<'_>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Planned { .. } | Event::Exporting | Event::Paused { .. } | Event::Resumed { .. } => {}
            Event::Resolving { reference } => state.print(Some(&format!(" => resolving {reference}"))),
            Event::Started { step, stage, number, total, text } => {
                let title = format!("[{stage} {number}/{total}] {text}");
                state.running.insert(step, Running { title, began: Instant::now(), output: String::new() });
                state.print(None);
            }
            Event::Output { step, bytes, .. } => {
                if let Some(running) = state.running.get_mut(&step) {
                    running.output = String::from_utf8_lossy(bytes).trim_end().to_owned();
                }
                if state.last.is_none_or(|last| last.elapsed() >= FRAME) {
                    state.print(None);
                }
            }
            Event::Finished { step, outcome, took, .. } => {
                let title = state.running.remove(&step).map_or_else(String::new, |running| running.title);
                let line = match outcome {
                    Outcome::Cached => format!("\x1b[34m => CACHED {title}\x1b[0m"),
                    Outcome::Done => format!(" => {title} \x1b[32m{}\x1b[0m", seconds(took)),
                    Outcome::Failed => format!("\x1b[31m => FAILED {title}\x1b[0m"),
                    Outcome::Cancelled => format!(" => CANCELED {title}"),
                };
                state.print(Some(&line));
            }
            Event::Warning { message } => state.print(Some(&format!("\x1b[33mwarning: {message}\x1b[0m"))),
        }
    }
}
