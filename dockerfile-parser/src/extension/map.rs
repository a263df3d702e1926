//! A lowered text and where its lines came from.

use crate::{Diagnostic, LineIndex, Span};

/// Where a line of the lowered text came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineOrigin {
    /// The included file; nothing for the recipe itself.
    pub path: Option<String>,
    /// The line there, from 1.
    pub line: u32,
    /// Where the recipe included that file: its outermost INCLUDE.
    pub include: Option<Span>,
    /// Whether the line stands there to the letter.
    pub is_verbatim: bool,
}

/// A recipe in the standard language.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lowered {
    /// The text.
    pub text: String,
    /// Where each of its lines came from.
    pub source_map: Vec<LineOrigin>,
}

impl Lowered {
    /// `source` as it is.
    pub(super) fn unchanged(source: &str) -> Self {
        let mut lowered = Self::default();
        for (line, text) in (1..).zip(source.split_inclusive('\n')) {
            lowered.push(text, LineOrigin { path: None, line, include: None, is_verbatim: true });
        }
        lowered
    }

    /// Adds a line, which ends with its line end.
    pub(super) fn push(&mut self, text: &str, origin: LineOrigin) {
        self.text.push_str(text);
        self.source_map.push(origin);
    }

    /// Where line `number`, from 1, came from; for the place after the last line, where that came from.
    pub fn origin(&self, number: u32) -> Option<&LineOrigin> {
        let index = (number as usize).saturating_sub(1).min(self.source_map.len().checked_sub(1)?);
        self.source_map.get(index)
    }

    /// A diagnostic about the lowered text as one about the recipe it was made from. What is in an included file is
    /// marked at its INCLUDE, and the message says where in the file it is.
    pub fn translate(&self, found: &Diagnostic, source: &str) -> Diagnostic {
        let (lowered, index) = (LineIndex::new(&self.text), LineIndex::new(source));
        let mut found = found.clone();
        if let Some(LineOrigin { path: Some(path), line, .. }) = self.origin(found.span.line) {
            found.message = format!("`{path}` line {line}: {}", found.message);
        }
        found.span = self.span(found.span, &lowered, &index);
        for note in &mut found.notes {
            note.span = note.span.map(|span| self.span(span, &lowered, &index));
        }
        found
    }

    fn span(&self, span: Span, lowered: &LineIndex<'_>, index: &LineIndex<'_>) -> Span {
        let Some(origin) = self.origin(span.line) else { return index.span(0, 0) };
        if let Some(include) = origin.include {
            return include;
        }
        let line = index.line_start(origin.line);
        let (start, end) = (self.offset(span.start, lowered, index), self.offset(span.end, lowered, index));
        match (origin.is_verbatim, start) {
            (true, Some(start)) => index.span(start, end.filter(|end| *end >= start).unwrap_or(start)),
            _ => index.span(line, line + index.line_text(origin.line).len()),
        }
    }

    /// The offset in the recipe of an offset in a line that was taken over to the letter.
    fn offset(&self, offset: usize, lowered: &LineIndex<'_>, index: &LineIndex<'_>) -> Option<usize> {
        let (line, _) = lowered.position(offset);
        let origin = self.origin(line).filter(|origin| origin.path.is_none() && origin.is_verbatim)?;
        let at = offset - lowered.line_start(line).min(offset);
        let start = index.line_start(origin.line);
        Some((start + at).min(start + index.line_text(origin.line).len()))
    }
}
