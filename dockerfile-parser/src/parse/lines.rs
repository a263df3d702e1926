//! Physical lines, and the statements that continuations make of them.

use nom::bytes::complete::{tag, take_till};
use nom::combinator::{consumed, opt, verify};
use nom::{IResult, Parser};
use std::borrow::Cow;

/// One line of the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct PhysicalLine<'a> {
    /// The text without its line end; carriage returns before it are gone too.
    pub(super) text: &'a str,
    /// The text with its line end, as heredoc bodies keep it.
    pub(super) raw: &'a str,
    /// Where it begins in the source.
    pub(super) offset: usize,
    /// Its number, from 1.
    pub(super) number: u32,
}

impl<'a> PhysicalLine<'a> {
    /// The text without leading white space, and where that begins.
    pub(super) fn trimmed(&self) -> (&'a str, usize) {
        let text = self.text.trim_start();
        (text, self.offset + self.text.len() - text.len())
    }

    /// Whether it is a comment: the first character that is not white space is `#`.
    pub(super) fn is_comment(&self) -> bool {
        self.trimmed().0.starts_with('#')
    }

    /// The offset just past the text.
    pub(super) fn end(&self) -> usize {
        self.offset + self.text.len()
    }
}

/// A line with its line end; fails at the end of the input.
fn physical_line(input: &str) -> IResult<&str, &str> {
    verify(consumed((take_till(|ch| ch == '\n'), opt(tag("\n")))).map(|(raw, _)| raw), |raw: &str| {
        !raw.is_empty()
    })
    .parse(input)
}

/// The lines of a source, one after the other. Copying it remembers a place to come back to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lines<'a> {
    rest: &'a str,
    offset: usize,
    number: u32,
}

impl<'a> Lines<'a> {
    /// Begins at the first line, past a byte-order mark.
    pub(super) fn new(source: &'a str) -> Self {
        let rest = source.strip_prefix('\u{feff}').unwrap_or(source);
        Self { rest, offset: source.len() - rest.len(), number: 0 }
    }

    /// The number of the line that was read last.
    pub(super) fn number(&self) -> u32 {
        self.number
    }

    /// The offset at which the next line begins.
    pub(super) fn offset(&self) -> usize {
        self.offset
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = PhysicalLine<'a>;

    fn next(&mut self) -> Option<PhysicalLine<'a>> {
        let (rest, raw) = physical_line(self.rest).ok()?;
        self.number = self.number.saturating_add(1);
        let text = raw.trim_end_matches(['\r', '\n']);
        let line = PhysicalLine { text, raw, offset: self.offset, number: self.number };
        self.rest = rest;
        self.offset += raw.len();
        Some(line)
    }
}

/// A stretch of a statement's text that stands unbroken in the source.
#[derive(Debug, Clone, Copy)]
struct Piece {
    at: usize,
    source: usize,
}

/// An instruction's text with its continuations joined, and the way back to the source.
#[derive(Debug, Clone)]
pub(super) struct Statement<'a> {
    text: Cow<'a, str>,
    pieces: Vec<Piece>,
    /// First line, from 1.
    pub(super) start_line: u32,
    /// Last line so far.
    pub(super) end_line: u32,
    /// The source offset just past the last line.
    pub(super) end: usize,
}

impl<'a> Statement<'a> {
    /// Begins with `text`, which stands at `source`.
    pub(super) fn new(text: &'a str, source: usize, line: &PhysicalLine<'a>) -> Self {
        Self {
            text: Cow::Borrowed(text),
            pieces: vec![Piece { at: 0, source }],
            start_line: line.number,
            end_line: line.number,
            end: line.end(),
        }
    }

    /// Joins a further line's text.
    pub(super) fn push(&mut self, text: &'a str, line: &PhysicalLine<'a>) {
        self.pieces.push(Piece { at: self.text.len(), source: line.offset });
        self.text.to_mut().push_str(text);
        self.extend_to(line);
    }

    /// Notes that the statement reaches to the end of `line`.
    pub(super) fn extend_to(&mut self, line: &PhysicalLine<'a>) {
        self.end_line = line.number;
        self.end = line.end();
    }

    /// The joined text.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Where the statement begins in the source.
    pub(super) fn start(&self) -> usize {
        self.pieces.first().map_or(0, |piece| piece.source)
    }

    /// The source range of `start..end` of the joined text.
    pub(super) fn source_range(&self, start: usize, end: usize) -> (usize, usize) {
        let first = self.source_offset(start);
        // The end is mapped through its last byte: the byte after it may be on another line.
        let last = if end > start { self.source_offset(end - 1) + 1 } else { first };
        (first, last.max(first))
    }

    fn source_offset(&self, at: usize) -> usize {
        let next = self.pieces.partition_point(|piece| piece.at <= at);
        self.pieces.get(next.saturating_sub(1)).map_or(at, |piece| piece.source + (at - piece.at))
    }
}

/// The text before a continuation at the end of `text`, or nothing when the line does not continue.
///
/// A continuation is the escape character with only blanks after it. Two escape characters do not continue; neither do
/// three, though the first two could be read as an escaped one: BuildKit only looks at the character before.
pub(super) fn cut_continuation(text: &str, escape: char) -> Option<&str> {
    let before = text.trim_end_matches([' ', '\t']).strip_suffix(escape)?;
    if before.ends_with(escape) { None } else { Some(before) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_keep_their_places() {
        let lines: Vec<_> =
            Lines::new("\u{feff}a\r\n\n b").map(|line| (line.text, line.offset, line.number)).collect();
        assert_eq!(lines, [("a", 3, 1), ("", 6, 2), (" b", 7, 3)]);
    }

    #[test]
    fn continuations() {
        for (text, escape, expected) in [
            ("RUN a \\", '\\', Some("RUN a ")),
            ("RUN a \\ \t", '\\', Some("RUN a ")),
            ("\\", '\\', Some("")),
            ("RUN a \\\\", '\\', None),
            ("RUN a \\\\\\", '\\', None),
            ("RUN a `", '\\', None),
            ("RUN a `", '`', Some("RUN a ")),
            ("RUN a \\ b", '\\', None),
        ] {
            assert_eq!(cut_continuation(text, escape), expected, "{text:?}");
        }
    }
}
