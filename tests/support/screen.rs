//! A terminal of a few lines: what a person would see of the bytes that a program writes.
//!
//! It knows what slipway uses and no more (ECMA-48: CUU, ED and EL to the end, SGR); anything else is a failure of the test.

use unicode_width::UnicodeWidthChar;

/// A screen and all that has scrolled off it.
#[derive(Clone, Debug)]
pub struct Screen {
    rows: usize,
    columns: usize,
    /// A cell is a character with what belongs to it; the second cell of a wide one is empty.
    lines: Vec<Vec<String>>,
    /// Where the next character goes: the line, and its cell.
    at: (usize, usize),
    /// Whether a line was longer than the screen is wide.
    pub broken: Vec<String>,
    /// How many colours and the like there were.
    pub colours: usize,
    rest: Vec<u8>,
}

impl Screen {
    pub fn new(rows: u16, columns: u16) -> Screen {
        let (rows, columns) = (usize::from(rows), usize::from(columns));
        Screen {
            rows,
            columns,
            lines: vec![Vec::new()],
            at: (0, 0),
            broken: Vec::new(),
            colours: 0,
            rest: Vec::new(),
        }
    }

    /// Takes what was written. A character or sequence that is not whole waits for its end.
    pub fn write(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
        loop {
            let whole = match std::str::from_utf8(&self.rest) {
                Ok(text) => text.len(),
                Err(error) => error.valid_up_to(),
            };
            let text = String::from_utf8(self.rest[..whole].to_vec()).unwrap();
            let Some(taken) = self.one(&text) else { return };
            self.rest.drain(..taken);
        }
    }

    fn one(&mut self, text: &str) -> Option<usize> {
        let c = text.chars().next()?;
        match c {
            '\x1b' => return self.sequence(text),
            '\r' => self.at.1 = 0,
            '\n' => {
                self.at.0 += 1;
                self.line();
            }
            '\x07' => {}
            c if c.is_control() => panic!("{c:?} is nothing for a screen: {text:.60?}"),
            c => self.put(c),
        }
        Some(c.len_utf8())
    }

    fn line(&mut self) -> &mut Vec<String> {
        while self.lines.len() <= self.at.0 {
            self.lines.push(Vec::new());
        }
        &mut self.lines[self.at.0]
    }

    fn put(&mut self, c: char) {
        let width = c.width().unwrap_or(0);
        if width == 0 {
            let at = self.at.1;
            if let Some(cell) = self.line()[..at].iter_mut().rev().find(|cell| !cell.is_empty()) {
                cell.push(c);
            }
            return;
        }
        if self.at.1 + width > self.columns {
            let line = self.line().concat();
            self.broken.push(line);
            self.at = (self.at.0 + 1, 0);
        }
        let at = self.at.1;
        let line = self.line();
        if line.len() < at + width {
            line.resize(at + width, " ".to_owned());
        }
        line[at] = c.to_string();
        line[at + 1..at + width].fill(String::new());
        self.at.1 += width;
    }

    fn sequence(&mut self, text: &str) -> Option<usize> {
        let body = text.strip_prefix("\x1b[").or_else(|| (text == "\x1b").then_some(""))?;
        let end = body.find(|c: char| c.is_ascii_alphabetic())?;
        let (number, kind) = (&body[..end], &body[end..=end]);
        match (kind, number) {
            // not beyond the first row
            ("A", _) => {
                let top = self.lines.len().saturating_sub(self.rows);
                self.at.0 = self.at.0.saturating_sub(number.parse().unwrap_or(1)).max(top);
            }
            ("J", "" | "0") => {
                self.line();
                let (row, column) = self.at;
                self.lines.truncate(row + 1);
                self.lines[row].truncate(column);
            }
            ("K", "" | "0") => {
                let column = self.at.1;
                self.line().truncate(column);
            }
            ("m", _) => self.colours += 1,
            _ => panic!("{:?} is not what slipway writes", &text[..end + 3]),
        }
        Some(end + 3)
    }

    /// Becomes narrower or wider, as terminals do: lines that are too long are broken.
    pub fn resize(&mut self, rows: u16, columns: u16) {
        (self.rows, self.columns) = (usize::from(rows), usize::from(columns));
        let (row, mut lines) = (self.at.0, Vec::new());
        for (number, line) in std::mem::take(&mut self.lines).into_iter().enumerate() {
            if number == row {
                self.at.0 = lines.len();
            }
            match line.is_empty() {
                true => lines.push(line),
                false => lines.extend(line.chunks(self.columns).map(<[String]>::to_vec)),
            }
        }
        self.lines = lines;
    }

    /// Everything, also what has scrolled off, without blanks at the ends.
    pub fn text(&self) -> Vec<String> {
        let mut lines: Vec<String> =
            self.lines.iter().map(|line| line.concat().trim_end().to_owned()).collect();
        while lines.last().is_some_and(String::is_empty) {
            lines.pop();
        }
        lines
    }

    /// Whether the next character begins a line.
    pub fn at_line_start(&self) -> bool {
        self.at.1 == 0 && self.rest.is_empty()
    }
}
