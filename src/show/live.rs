//! The lines at the bottom of a terminal that are written anew while work goes on.
//!
//! There is one such area, and everything that goes to standard error passes through here ([`print`]), so a warning in
//! the midst of a build appears above the area and never in it. A frame is one write: up to the first line of the
//! area, each line followed by "erase to the end of the line", then "erase below". Nothing is assumed about the
//! terminal but its size, which is asked each time: where it became narrower, the lines that it broke are counted as
//! the rows that they take now.

use std::{
    io::Write,
    sync::{Mutex, PoisonError},
};
use unicode_width::UnicodeWidthChar;

/// How a line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Tone {
    /// As any text.
    #[default]
    Plain,
    /// What matters less.
    Dim,
    /// What was there already.
    Cached,
    /// What failed.
    Bad,
    /// What deserves a look.
    Warning,
}

impl Tone {
    fn code(self) -> &'static str {
        match self {
            Tone::Plain => "",
            Tone::Dim => "\x1b[2m",
            Tone::Cached => "\x1b[34m",
            Tone::Bad => "\x1b[31m",
            Tone::Warning => "\x1b[33m",
        }
    }
}

/// One line: text from the left, and a little at the right edge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) left: String,
    /// What follows the left part and stays whole where that has to be cut.
    pub(crate) end: String,
    pub(crate) right: String,
    pub(crate) tone: Tone,
}

impl Line {
    pub(crate) fn new(tone: Tone, left: impl Into<String>, right: impl Into<String>) -> Line {
        Line { left: left.into(), end: String::new(), right: right.into(), tone }
    }

    /// The line in at most so many columns; the right part is never cut before the left one.
    pub(crate) fn fit(&self, columns: usize) -> String {
        if !self.end.is_empty() {
            let end = cut(&self.end, columns);
            let room = columns - cells(&end);
            return match cells(&super::text::plain(&self.left)) > room {
                true if room == 0 => end,
                true => format!("{}…{end}", cut(&self.left, room.saturating_sub(1))),
                false => self.left.clone() + &end,
            };
        }
        if self.right.is_empty() {
            return cut(&self.left, columns);
        }
        let right = cut(&self.right, columns);
        let room = columns.saturating_sub(cells(&right) + 1);
        let left = cut(&self.left, room);
        let gap = columns.saturating_sub(cells(&left) + cells(&right));
        format!("{left}{}{right}", " ".repeat(gap))
    }
}

/// Columns that a text takes at most. Emoji that are joined into one picture are several where a terminal does not join them;
/// a line that were too long would be broken, and the area with it.
fn cells(text: &str) -> usize {
    text.chars().map(cell).sum()
}

/// Columns that a character takes at most. The selector of a picture makes some that had one column take two.
fn cell(c: char) -> usize {
    if c == '\u{fe0f}' { 1 } else { c.width().unwrap_or(0) }
}

/// The beginning of a text that fits so many columns.
fn cut(text: &str, columns: usize) -> String {
    let (mut out, mut used) = (String::new(), 0);
    for c in super::text::plain(text).chars() {
        let c = if c == '\n' || c == '\t' { ' ' } else { c };
        used += cell(c);
        if used > columns {
            break;
        }
        out.push(c);
    }
    out
}

/// A terminal's columns and rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) columns: usize,
    pub(crate) rows: usize,
}

/// The size of the terminal behind standard error.
pub(crate) fn size() -> Size {
    let found = rustix::termios::tcgetwinsize(std::io::stderr()).ok();
    let found = found.filter(|size| size.ws_col > 0 && size.ws_row > 0);
    found.map_or(Size { columns: 80, rows: 24 }, |size| Size {
        columns: usize::from(size.ws_col).max(8),
        rows: usize::from(size.ws_row).max(4),
    })
}

/// What is at the bottom now.
#[derive(Debug, Default)]
struct Area {
    lines: Vec<Line>,
    /// Width of each line as it was written.
    drawn: Vec<usize>,
    /// Nothing is drawn any more.
    abandoned: bool,
}

static AREA: Mutex<Area> = Mutex::new(Area { lines: Vec::new(), drawn: Vec::new(), abandoned: false });

impl Area {
    /// What brings the terminal from what is drawn to `above`, followed by the area's lines.
    fn frame(&mut self, above: &str, size: Size, colours: bool) -> String {
        // the last column stays free: terminals differ in what a full line does
        let columns = size.columns - 1;
        let rows: usize = self.drawn.iter().map(|width| width.div_ceil(size.columns).max(1)).sum();
        let mut text = String::new();
        if rows > 0 {
            text.push_str(&format!("\r\x1b[{rows}A"));
        }
        if !self.drawn.is_empty() && (!above.is_empty() || rows != self.drawn.len()) {
            text.push_str("\x1b[J");
        }
        text.push_str(above);
        let before = self.drawn.len();
        self.drawn.clear();
        for line in self.lines.iter().take(size.rows - 1) {
            let shown = line.fit(columns);
            self.drawn.push(cells(&shown));
            match line.tone.code() {
                code if colours && !code.is_empty() => text.push_str(&format!("{code}{shown}\x1b[0m")),
                _ => text.push_str(&shown),
            }
            text.push_str("\x1b[K\n");
        }
        if before > self.drawn.len() && !text.contains("\x1b[J") {
            text.push_str("\x1b[J");
        }
        text
    }
}

fn write(area: &mut Area, above: &str) {
    let text = match area.lines.is_empty() && area.drawn.is_empty() {
        true => above.to_owned(),
        false => area.frame(above, size(), super::colours()),
    };
    // where standard error is closed there is nobody to tell
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// Writes text that is clean above the area.
pub(crate) fn print(text: &str) {
    write(&mut AREA.lock().unwrap_or_else(PoisonError::into_inner), text);
}

/// Writes one line above the area and the area anew, in one piece. A warning is shown whole: the terminal may break it,
/// since it is not written again.
pub(crate) fn print_line(line: &Line, lines: Vec<Line>) {
    let shown = match line.tone {
        Tone::Warning => super::text::line(&line.left),
        _ => line.fit(size().columns - 1),
    };
    let shown = match line.tone.code() {
        code if super::colours() && !code.is_empty() => format!("{code}{shown}\x1b[0m\n"),
        _ => format!("{shown}\n"),
    };
    let mut area = AREA.lock().unwrap_or_else(PoisonError::into_inner);
    area.lines = if area.abandoned { Vec::new() } else { lines };
    write(&mut area, &shown);
}

/// Ends the area for good, because the program does: its first line stays, with a word about how it ended.
pub(crate) fn abandon(word: &str) {
    let mut area = AREA.lock().unwrap_or_else(PoisonError::into_inner);
    let lines = std::mem::take(&mut area.lines);
    area.abandoned = true;
    if let Some(mut line) = lines.into_iter().next() {
        line.end.push_str(word);
        let shown = line.fit(size().columns - 1);
        write(&mut area, &format!("{shown}\n"));
    }
}

/// Changes what is at the bottom; nothing ends it.
pub(crate) fn set(lines: Vec<Line>) {
    let mut area = AREA.lock().unwrap_or_else(PoisonError::into_inner);
    if area.abandoned {
        return;
    }
    if area.lines == lines && area.drawn.len() == lines.len() {
        return;
    }
    area.lines = lines;
    write(&mut area, "");
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Size = Size { columns: 20, rows: 5 };

    fn line(left: &str, right: &str) -> Line {
        Line::new(Tone::Plain, left, right)
    }

    #[test]
    fn lines_fit_whatever_is_in_them() {
        for (left, right, columns, expected) in [
            ("short", "0.1s", 16, "short       0.1s"),
            ("a line that is too long", "0.1s", 16, "a line that 0.1s"),
            ("no right side at all", "", 10, "no right s"),
            ("日本語日本語", "1s", 9, "日本語 1s"),
            ("日本語", "", 5, "日本"),
            ("tabs\tand\nlines \x1b[31mred", "", 30, "tabs and lines red"),
            ("left", "much too long", 6, "much t"),
            ("❤\u{fe0f}", "1s", 7, "❤\u{fe0f}   1s"),
            ("👩‍👧", "1s", 10, "👩‍👧    1s"),
        ] {
            assert_eq!(line(left, right).fit(columns), expected, "{left:?}");
        }
        for (left, end, columns, expected) in [
            ("[+] Pulling a", " 1.0s", 30, "[+] Pulling a 1.0s"),
            ("[+] Pulling registry.test/app", " 1.0s (1/2)", 24, "[+] Pulling … 1.0s (1/2)"),
            ("日本語", " 1.0s", 10, "日本… 1.0s"),
            ("x", " 1.0s (1/2)", 5, " 1.0s"),
        ] {
            let line = Line { end: end.to_owned(), ..line(left, "") };
            assert_eq!(line.fit(columns), expected, "{left:?}");
        }
    }

    #[test]
    fn frames_replace_each_other() {
        let mut area = Area { lines: vec![line("a", ""), line("b", "")], ..Area::default() };
        assert_eq!(area.frame("", SMALL, false), "a\x1b[K\nb\x1b[K\n");
        // in place, without a blink
        assert_eq!(area.frame("", SMALL, false), "\r\x1b[2Aa\x1b[K\nb\x1b[K\n");
        area.lines.pop();
        assert_eq!(area.frame("", SMALL, false), "\r\x1b[2Aa\x1b[K\n\x1b[J");
        assert_eq!(area.frame("above\n", SMALL, false), "\r\x1b[1A\x1b[Jabove\na\x1b[K\n");
        area.lines.clear();
        assert_eq!(area.frame("", SMALL, false), "\r\x1b[1A\x1b[J");
        assert_eq!(area.frame("", SMALL, false), "");
    }

    #[test]
    fn a_narrower_terminal_breaks_lines_that_are_counted() {
        let mut area = Area { lines: vec![line("0123456789abcdefgh", "")], ..Area::default() };
        area.frame("", Size { columns: 40, rows: 5 }, false);
        assert!(area.frame("", Size { columns: 10, rows: 5 }, false).starts_with("\r\x1b[2A\x1b[J"));
    }

    #[test]
    fn no_more_lines_than_the_terminal_has() {
        let mut area = Area { lines: vec![line("x", ""); 50], ..Area::default() };
        assert_eq!(area.frame("", SMALL, false).matches('\n').count(), 4);
    }

    #[test]
    fn colours_are_left_out_where_nobody_wants_them() {
        let mut area = Area { lines: vec![Line::new(Tone::Bad, "x", "")], ..Area::default() };
        assert_eq!(area.frame("", SMALL, true), "\x1b[31mx\x1b[0m\x1b[K\n");
        assert_eq!(area.frame("", SMALL, false), "\r\x1b[1Ax\x1b[K\n");
    }
}
