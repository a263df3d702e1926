//! For people: what is done scrolls by, what runs is at the bottom under a header with counts, each with its clock and
//! the last lines of its output. A thread draws ten times a second, so that a step without output is seen to be alive.

use super::{BUILDING, Ending, Moved, Show, board::Board, seconds};
use crate::{
    show::{
        live::{self, Line, Tone},
        text,
    },
    signals,
};
use slipway_builder::{Event, Progress};
use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// Time between two drawings.
const FRAME: Duration = Duration::from_millis(100);
/// A wait that deserves a line of its own when it is over.
const LONG_WAIT: Duration = Duration::from_millis(300);

#[derive(Default)]
pub(super) struct Terminal {
    shared: Arc<Shared>,
    ticking: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    board: Option<Board>,
    over: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Draws until all is over.
    fn tick(&self) {
        let mut state = self.state();
        while !state.over {
            if let Some(board) = &state.board {
                live::set(board.lines(live::size(), Instant::now()));
            }
            state = self.changed.wait_timeout(state, FRAME).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Terminal {
    /// Changes the board. A line that comes out of it stays above what runs; the rest is drawn with the next frame.
    fn change(&self, change: impl FnOnce(&mut Board, Instant) -> Option<Line>) {
        let mut state = self.shared.state();
        let now = Instant::now();
        let board = state.board.get_or_insert_with(|| Board::new(BUILDING, 0, now));
        if let Some(line) = change(board, now) {
            live::print_line(&line, board.lines(live::size(), now));
        }
        drop(state);
        let mut ticking = self.ticking.lock().unwrap_or_else(PoisonError::into_inner);
        if ticking.is_none() {
            self.shared.state().over = false;
            let shared = self.shared.clone();
            // without the thread the picture changes with events only
            *ticking = std::thread::Builder::new().name("progress".into()).spawn(move || shared.tick()).ok();
        }
    }

    fn stop(&self) {
        self.shared.state().over = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.ticking.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // a thread that panicked has said so
            let _ = thread.join();
        }
        live::set(Vec::new());
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Progress for Terminal {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Planned { steps } => self.change(|board, now| {
                *board = Board::new(BUILDING, steps, now);
                None
            }),
            Event::Resolving { reference } => {
                let line = Line::new(Tone::Dim, format!(" => resolving {reference}"), "");
                self.change(|_, _| Some(line));
            }
            Event::Started { step, stage, number, total, text, .. } => {
                let title = format!("[{stage} {number}/{total}] {text}");
                self.change(|board, now| {
                    board.start(step, title, now);
                    None
                });
            }
            Event::Output { step, bytes, .. } => self.change(|board, _| {
                board.output(step, bytes);
                None
            }),
            Event::Unfinished { step, bytes } => self.change(|board, _| {
                board.unfinished(step, bytes);
                None
            }),
            Event::Paused { step, reason } => self.change(|board, now| {
                board.pause(step, reason, now);
                None
            }),
            Event::Resumed { step, reason, took } => self.change(|board, now| {
                board.resume(step, now);
                let tell = took >= LONG_WAIT && reason.starts_with("unpacking");
                tell.then(|| Line::new(Tone::Plain, format!(" => => {reason}"), seconds(took)))
            }),
            Event::Finished { step, outcome, took, .. } => {
                self.change(|board, _| Some(board.finish(step, outcome, took)));
            }
            Event::Explained { why } => {
                for cause in &why.causes {
                    let words = text::line(&format!("#{} why: {cause}", why.step));
                    self.change(|_, _| Some(Line::new(Tone::Dim, format!(" => => {words}"), "")));
                }
            }
            Event::Warning { message } => {
                let line = Line::new(Tone::Warning, format!("warning: {}", text::line(message)), "");
                self.change(|_, _| Some(line));
            }
            Event::Known { .. } => {}
            Event::Exporting => self.change(|board, now| {
                board.export(now);
                None
            }),
        }
    }
}

impl Show for Terminal {
    fn asking(&self, title: &str) {
        self.begin(title, 0);
    }

    fn begin(&self, title: &str, parts: usize) {
        // where they cannot be waited for, the screen keeps what it shows
        let _ = signals::end_screen();
        self.change(|board, now| {
            board.begin(title, parts, now);
            None
        });
    }

    fn moved(&self, doing: &'static str, event: &Moved<'_>) {
        self.change(|board, now| board.transfer(doing, event, now));
    }

    fn end(&self, ending: Ending) {
        let mut state = self.shared.state();
        if let Some(board) = state.board.take() {
            let words = match ending {
                Ending::Finished => "FINISHED",
                Ending::Failed => "FAILED",
            };
            live::print_line(&board.summary(words, Instant::now()), Vec::new());
        }
        drop(state);
        // what comes now, a container's terminal for instance, is not to be drawn on
        self.stop();
    }
}
