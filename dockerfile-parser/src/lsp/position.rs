//! The protocol's positions: lines from 0, columns in UTF-16 units.

use crate::LineIndex;
use serde_json::{Value, json};

/// A document's text with the index that finds places in it.
pub(super) struct Places<'a> {
    index: LineIndex<'a>,
}

impl<'a> Places<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { index: LineIndex::new(text) }
    }

    /// The byte offset of a position; past a line's end it is the end, past the last line that of the text.
    pub(super) fn offset(&self, position: &Value) -> Option<usize> {
        let line = position.get("line")?.as_u64()?;
        let mut units = position.get("character")?.as_u64()?;
        let number = u32::try_from(line).ok().and_then(|line| line.checked_add(1)).unwrap_or(u32::MAX);
        let start = self.index.line_start(number);
        if number > self.index.line_count() {
            return Some(start);
        }
        let text = self.index.line_text(number);
        for (at, ch) in text.char_indices() {
            let width = ch.len_utf16() as u64;
            if units < width {
                return Some(start + at);
            }
            units -= width;
        }
        Some(start + text.len())
    }

    /// The position of a byte offset.
    pub(super) fn position(&self, offset: usize) -> Value {
        let source = self.index.source();
        let offset =
            (0..=offset.min(source.len())).rev().find(|at| source.is_char_boundary(*at)).unwrap_or(0);
        let (line, _) = self.index.position(offset);
        let start = self.index.line_start(line);
        let units: usize = source[start..offset].chars().map(char::len_utf16).sum();
        json!({"line": line - 1, "character": units})
    }

    /// The range of the bytes `start..end`.
    pub(super) fn range(&self, start: usize, end: usize) -> Value {
        json!({"start": self.position(start), "end": self.position(end)})
    }
}
