//! Places in the source text.

use serde::Serialize;

/// A range of bytes in the source, with the line and column where it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
    /// Line of `start`, counted from 1.
    pub line: u32,
    /// Column of `start` in characters, counted from 1.
    pub column: u32,
}

/// Bytes between two entries of [`LineIndex::continuation`].
const BLOCK: usize = 64;

/// Finds line and column of a byte offset in constant or logarithmic time.
#[derive(Debug, Clone)]
pub struct LineIndex<'a> {
    source: &'a str,
    starts: Vec<usize>,
    /// UTF-8 continuation bytes before each block, so that a column in a line of any length costs one short scan.
    /// Empty when the text is ASCII.
    continuation: Vec<u32>,
}

impl<'a> LineIndex<'a> {
    /// Indexes `source`.
    pub fn new(source: &'a str) -> Self {
        let bytes = source.as_bytes();
        let mut starts = vec![0];
        starts.extend(bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1));
        let mut continuation = Vec::new();
        if !source.is_ascii() {
            let mut seen = 0;
            for block in bytes.chunks(BLOCK) {
                continuation.push(seen);
                seen += count_continuation(block);
            }
            continuation.push(seen);
        }
        Self { source, starts, continuation }
    }

    /// The text that was indexed.
    pub fn source(&self) -> &'a str {
        self.source
    }

    /// Line and column, both from 1, of byte `offset`; offsets past the end count as the end.
    pub fn position(&self, offset: usize) -> (u32, u32) {
        let offset = offset.min(self.source.len());
        let line = self.starts.partition_point(|start| *start <= offset);
        let start = self.starts[line - 1];
        let column = self.characters_before(offset) - self.characters_before(start) + 1;
        (saturate(line), saturate(column))
    }

    /// The span of the bytes `start..end`.
    pub fn span(&self, start: usize, end: usize) -> Span {
        let (line, column) = self.position(start);
        Span { start, end: end.max(start), line, column }
    }

    /// Line `number` (from 1) without its line end; empty past the last line.
    pub fn line_text(&self, number: u32) -> &'a str {
        let index = (number as usize).saturating_sub(1);
        let Some(start) = self.starts.get(index).copied() else { return "" };
        let end = self.starts.get(index + 1).map_or(self.source.len(), |next| next - 1);
        let text = &self.source[start..end.max(start)];
        text.strip_suffix('\r').unwrap_or(text)
    }

    /// The offset at which line `number` (from 1) begins; the end of the text past the last line.
    pub fn line_start(&self, number: u32) -> usize {
        self.starts.get((number as usize).saturating_sub(1)).copied().unwrap_or(self.source.len())
    }

    /// How many lines the text has; a line feed at the end begins a last, empty one.
    pub fn line_count(&self) -> u32 {
        saturate(self.starts.len())
    }

    fn characters_before(&self, offset: usize) -> usize {
        if self.continuation.is_empty() {
            return offset;
        }
        let block = offset / BLOCK;
        let inside = count_continuation(&self.source.as_bytes()[block * BLOCK..offset]);
        offset - (self.continuation[block] + inside) as usize
    }
}

fn count_continuation(bytes: &[u8]) -> u32 {
    saturate(bytes.iter().filter(|byte| **byte & 0xc0 == 0x80).count())
}

fn saturate(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_count_characters() {
        let index = LineIndex::new("ab\nçé x\n\nz");
        for (offset, expected) in
            [(0, (1, 1)), (2, (1, 3)), (3, (2, 1)), (5, (2, 2)), (8, (2, 4)), (10, (3, 1))]
        {
            assert_eq!(index.position(offset), expected, "offset {offset}");
        }
        assert_eq!(index.position(999), (4, 2));
        assert_eq!(index.line_text(2), "çé x");
        assert_eq!(index.line_text(9), "");
    }

    #[test]
    fn long_lines_keep_their_columns() {
        let text = "é".repeat(1000);
        let index = LineIndex::new(&text);
        assert_eq!(index.position(2 * 700), (1, 701));
        assert_eq!(index.position(2000), (1, 1001));
    }
}
