//! What a build, a pull or a push looks like at one moment: plain data, and the lines that show it.

use super::{Moved, seconds};
use crate::show::{
    human,
    live::{Line, Size, Tone},
    text,
};
use slipway_builder::{Outcome, StepId};
use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

/// Lines of output that a running step shows (buildx shows as many).
const TAIL: usize = 6;
/// Cells of a transfer's bar.
const BAR: usize = 20;

/// A clock that can stand still.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    ran: Duration,
    since: Option<Instant>,
}

impl Clock {
    pub(super) fn start(now: Instant) -> Clock {
        Clock { ran: Duration::ZERO, since: Some(now) }
    }

    pub(super) fn read(&self, now: Instant) -> Duration {
        self.ran + self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    pub(super) fn stop(&mut self, now: Instant) {
        *self = Clock { ran: self.read(now), since: None };
    }

    pub(super) fn go_on(&mut self, now: Instant) {
        self.since = self.since.or(Some(now));
    }
}

struct Step {
    title: String,
    clock: Clock,
    /// What it waits for, and since when.
    waiting: Option<(String, Instant)>,
    tail: VecDeque<String>,
    /// The line that has not ended yet.
    unfinished: String,
}

struct Transfer {
    doing: &'static str,
    began: Instant,
    done_bytes: u64,
    size_bytes: u64,
}

/// Everything that is under way.
pub(super) struct Board {
    title: String,
    began: Instant,
    total: usize,
    done: usize,
    steps: BTreeMap<StepId, Step>,
    transfers: BTreeMap<String, Transfer>,
    /// Bytes of transfers that are done.
    moved_bytes: u64,
    exporting: Option<Instant>,
}

impl Board {
    pub(super) fn new(title: impl Into<String>, total: usize, now: Instant) -> Board {
        Board {
            title: title.into(),
            began: now,
            total,
            done: 0,
            steps: BTreeMap::new(),
            transfers: BTreeMap::new(),
            moved_bytes: 0,
            exporting: None,
        }
    }

    /// Goes on to so many parts of the same thing, or begins another.
    pub(super) fn begin(&mut self, title: &str, total: usize, now: Instant) {
        let began = if self.title == title { self.began } else { now };
        *self = Board { began, ..Board::new(title, total, now) };
    }

    pub(super) fn start(&mut self, step: StepId, title: String, now: Instant) {
        let step_now = Step {
            title,
            clock: Clock::start(now),
            waiting: None,
            tail: VecDeque::new(),
            unfinished: String::new(),
        };
        self.steps.insert(step, step_now);
    }

    pub(super) fn output(&mut self, step: StepId, bytes: &[u8]) {
        let Some(step) = self.steps.get_mut(&step) else { return };
        step.unfinished.clear();
        let line = output_line(bytes);
        if line.is_empty() {
            return;
        }
        if step.tail.len() == TAIL {
            step.tail.pop_front();
        }
        step.tail.push_back(line);
    }

    /// What the line that a step writes is so far.
    pub(super) fn unfinished(&mut self, step: StepId, bytes: &[u8]) {
        if let Some(step) = self.steps.get_mut(&step) {
            step.unfinished = output_line(bytes);
        }
    }

    pub(super) fn pause(&mut self, step: StepId, reason: &str, now: Instant) {
        if let Some(step) = self.steps.get_mut(&step) {
            step.clock.stop(now);
            step.waiting = Some((reason.to_owned(), now));
        }
    }

    pub(super) fn resume(&mut self, step: StepId, now: Instant) {
        if let Some(step) = self.steps.get_mut(&step) {
            step.clock.go_on(now);
            step.waiting = None;
        }
    }

    /// Takes a step off; answers the line that stays.
    pub(super) fn finish(&mut self, step: StepId, outcome: Outcome, took: Duration) -> Line {
        let title = self.steps.remove(&step).map_or_else(String::new, |step| step.title);
        self.done += 1;
        let (tone, word) = match outcome {
            Outcome::Done => (Tone::Plain, ""),
            Outcome::Cached => (Tone::Cached, "CACHED "),
            Outcome::Failed => (Tone::Bad, "ERROR "),
            Outcome::Cancelled => (Tone::Dim, "CANCELED "),
        };
        Line::new(tone, format!(" => {word}{title}"), seconds(took))
    }

    /// The image is being put together.
    pub(super) fn export(&mut self, now: Instant) {
        self.exporting = Some(now);
    }

    /// Takes note of a transfer; answers a line where something stays to be said.
    pub(super) fn transfer(&mut self, doing: &'static str, event: &Moved<'_>, now: Instant) -> Option<Line> {
        match event {
            Moved::Started { name, size_bytes } => {
                let (done_bytes, size_bytes) = (0, *size_bytes);
                let transfer = Transfer { doing, began: now, done_bytes, size_bytes };
                self.transfers.insert((*name).to_owned(), transfer);
                None
            }
            Moved::Advanced { name, done_bytes } => {
                if let Some(transfer) = self.transfers.get_mut(*name) {
                    transfer.done_bytes = *done_bytes;
                }
                None
            }
            Moved::Finished { name } => {
                let transfer = self.transfers.remove(*name)?;
                self.done += usize::from(self.counts_transfers());
                self.moved_bytes += transfer.size_bytes.max(transfer.done_bytes);
                let took = seconds(now.saturating_duration_since(transfer.began));
                let size = human(transfer.size_bytes.max(transfer.done_bytes));
                Some(Line::new(Tone::Plain, format!(" => {} {name} {size}", transfer.doing), took))
            }
            Moved::Present { name } => {
                self.done += usize::from(self.counts_transfers());
                Some(Line::new(Tone::Cached, format!(" => {name} is there already"), ""))
            }
            Moved::Mounted { name, from } => {
                self.done += usize::from(self.counts_transfers());
                Some(Line::new(Tone::Cached, format!(" => {name} taken from `{from}`"), ""))
            }
            Moved::Retrying { words } => Some(Line::new(Tone::Warning, format!("warning: {words}"), "")),
        }
    }

    /// A build counts steps, a pull or push its blobs.
    fn counts_transfers(&self) -> bool {
        self.steps.is_empty() && self.title != super::BUILDING
    }

    /// The line that says how it all went.
    pub(super) fn summary(&self, ending: &str, now: Instant) -> Line {
        let mut line = self.header(now);
        line.end.push(' ');
        line.end.push_str(ending);
        line
    }

    fn header(&self, now: Instant) -> Line {
        let took = seconds(now.saturating_duration_since(self.began));
        let mut end = format!(" {took}");
        if self.total > 0 {
            end.push_str(&format!(" ({}/{})", self.done.min(self.total), self.total));
        }
        if self.counts_transfers() && (self.moved_bytes > 0 || !self.transfers.is_empty()) {
            let moving: u64 = self.transfers.values().map(|transfer| transfer.done_bytes).sum();
            end.push_str(&format!(" {}", human(self.moved_bytes + moving)));
        }
        Line { end, ..Line::new(Tone::Plain, format!("[+] {}", self.title), "") }
    }

    /// What is shown at the bottom of a terminal of this size.
    pub(super) fn lines(&self, size: Size, now: Instant) -> Vec<Line> {
        let mut lines = vec![self.header(now)];
        // the header, and one row that stays free for the cursor
        let room = size.rows.saturating_sub(2);
        let rows = self.steps.len() + self.transfers.len() + usize::from(self.exporting.is_some());
        let hidden = if rows > room { rows - room.saturating_sub(1) } else { 0 };
        // what room is left goes to output, the same to each
        let tail = room.saturating_sub(rows).checked_div(self.steps.len()).unwrap_or(0).min(TAIL);
        let mut body: Vec<Vec<Line>> = self.steps.values().map(|step| step.lines(tail, now)).collect();
        body.extend(self.transfers.iter().map(|(name, transfer)| vec![transfer.line(name, now)]));
        if let Some(since) = self.exporting {
            let took = seconds(now.saturating_duration_since(since));
            body.push(vec![Line::new(Tone::Plain, " => exporting the image", took)]);
        }
        lines.extend(body.into_iter().take(rows - hidden).flatten());
        if hidden > 0 {
            lines.push(Line::new(Tone::Dim, format!(" => and {hidden} more"), ""));
        }
        lines
    }
}

/// A line of output, as a terminal would show it in the end.
fn output_line(bytes: &[u8]) -> String {
    text::line(&text::settled(&String::from_utf8_lossy(bytes)))
}

impl Step {
    fn lines(&self, tail: usize, now: Instant) -> Vec<Line> {
        let mut lines = vec![match &self.waiting {
            // its own clock stands still, but the wait is seen to be alive
            Some((reason, since)) => {
                let waited = seconds(now.saturating_duration_since(*since));
                let reason = if reason.starts_with("unpacking") {
                    reason.clone()
                } else {
                    format!("waits for {reason}")
                };
                Line::new(Tone::Dim, format!(" => {}", self.title), format!("{reason} {waited}"))
            }
            None => Line::new(Tone::Plain, format!(" => {}", self.title), seconds(self.clock.read(now))),
        }];
        let all = self.tail.iter().chain(Some(&self.unfinished).filter(|line| !line.is_empty()));
        let from = all.clone().count().saturating_sub(tail);
        lines.extend(all.skip(from).map(|text| Line::new(Tone::Dim, format!(" => => # {text}"), "")));
        lines
    }
}

impl Transfer {
    fn line(&self, name: &str, now: Instant) -> Line {
        let took = seconds(now.saturating_duration_since(self.began));
        let done = human(self.done_bytes);
        let left = if self.size_bytes == 0 {
            format!(" => {} {name} {done}", self.doing)
        } else {
            let share = self.done_bytes.min(self.size_bytes) as f64 / self.size_bytes as f64;
            let full = (share * BAR as f64) as usize;
            let head = if full < BAR { ">" } else { "" };
            let bar = format!("{}{head}{}", "=".repeat(full), " ".repeat(BAR - full - head.len()));
            format!(" => {} {name} [{bar}] {done} / {}", self.doing, human(self.size_bytes))
        };
        Line::new(Tone::Plain, left, took)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size { columns: 60, rows: 24 };

    fn shown(board: &Board, size: Size, now: Instant) -> Vec<String> {
        board.lines(size, now).iter().map(|line| line.fit(size.columns).trim_end().to_owned()).collect()
    }

    #[test]
    fn a_silent_step_is_seen_to_run() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut board = Board::new("Building", 5, start);
        board.start(1, "[app 2/5] RUN make".into(), at(100));
        assert_eq!(
            shown(&board, SIZE, at(1600)),
            ["[+] Building 1.6s (0/5)", " => [app 2/5] RUN make                                  1.5s"]
        );
        board.finish(1, Outcome::Done, Duration::from_secs(2));
        assert_eq!(shown(&board, SIZE, at(2100)), ["[+] Building 2.1s (1/5)"]);
    }

    #[test]
    fn the_last_lines_of_output_are_shown() {
        let start = Instant::now();
        let mut board = Board::new("Building", 1, start);
        board.start(0, "RUN".into(), start);
        for n in 0..9 {
            board.output(0, format!("line {n}\n").as_bytes());
        }
        board.output(0, b"\n");
        board.output(0, b" 10%\r 99%\r\n");
        board.output(0, b"\x1b]0;title\x07\x1b[32mgreen\x1b[0m\n");
        let lines = shown(&board, SIZE, start);
        let expected =
            ["line 5", "line 6", "line 7", "line 8", "99%", "green"].map(|l| format!(" => => # {l}"));
        assert_eq!(lines[2..], expected);
        // a small terminal shows what fits
        assert_eq!(shown(&board, Size { columns: 60, rows: 5 }, start)[2..], expected[4..]);
    }

    #[test]
    fn waiting_stops_the_clock() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut board = Board::new("Building", 1, start);
        board.start(0, "COPY".into(), start);
        board.pause(0, "stage `base`", at(1));
        assert!(shown(&board, SIZE, at(9))[1].ends_with("waits for stage `base` 8.0s"));
        board.resume(0, at(9));
        assert!(shown(&board, SIZE, at(10))[1].ends_with(" 2.0s"));
        board.pause(0, "unpacking 3 layers", at(10));
        assert!(shown(&board, SIZE, at(11))[1].ends_with(" unpacking 3 layers 1.0s"));
    }

    #[test]
    fn many_rows_are_counted_where_they_do_not_fit() {
        let start = Instant::now();
        let mut board = Board::new("Building", 50, start);
        for step in 0..50 {
            board.start(step, format!("step {step}"), start);
        }
        let lines = shown(&board, Size { columns: 60, rows: 10 }, start);
        assert_eq!(lines.len(), 9);
        assert_eq!(lines[8], " => and 43 more");
    }

    #[test]
    fn transfers_have_bars_with_bytes() {
        let start = Instant::now();
        let now = start + Duration::from_secs(1);
        let mut board = Board::new("Pulling debian:12", 2, start);
        let event = Moved::Started { name: "0123456789ab", size_bytes: 10_000_000 };
        assert_eq!(board.transfer("pulling", &event, start), None);
        board.transfer("pulling", &Moved::Advanced { name: "0123456789ab", done_bytes: 5_000_000 }, start);
        let wide = Size { columns: 80, rows: 24 };
        assert_eq!(
            shown(&board, wide, now),
            [
                "[+] Pulling debian:12 1.0s (0/2) 5.00MB",
                " => pulling 0123456789ab [==========>         ] 5.00MB / 10.0MB             1.0s"
            ]
        );
        let line = board.transfer("pulling", &Moved::Finished { name: "0123456789ab" }, now).expect("line");
        assert_eq!(line.left, " => pulling 0123456789ab 10.0MB");
        board.transfer("pulling", &Moved::Present { name: "x" }, now);
        assert_eq!(
            board.summary("FINISHED", now).fit(99),
            "[+] Pulling debian:12 1.0s (2/2) 10.0MB FINISHED"
        );
    }

    #[test]
    fn endings_have_their_words() {
        let mut board = Board::new("Building", 4, Instant::now());
        for (outcome, expected) in [
            (Outcome::Done, " => x"),
            (Outcome::Cached, " => CACHED x"),
            (Outcome::Failed, " => ERROR x"),
            (Outcome::Cancelled, " => CANCELED x"),
        ] {
            board.start(0, "x".into(), Instant::now());
            assert_eq!(board.finish(0, outcome, Duration::ZERO).left, expected);
        }
    }
}
