//! The text that a RUN gives to its shell, with the way back to the source.

use super::view::View;
use crate::{Heredoc, Span, Word};
use std::ops::Range;

/// A script: lines joined or stripped as the build does it, and where each stretch stands in the source.
pub(super) struct Script {
    pub(super) text: String,
    pieces: Vec<(usize, usize)>,
}

impl Script {
    /// The text of a shell form: continuations joined, comments and blank lines within dropped.
    pub(super) fn of_word(view: &View<'_>, word: &Word) -> Self {
        let mut script = Self { text: String::new(), pieces: Vec::new() };
        let mut at = word.span.start;
        for (number, raw) in view.text(word.span).split_inclusive('\n').enumerate() {
            let line = raw.trim_end_matches(['\n', '\r']);
            let trimmed = line.trim();
            if number == 0 || !(trimmed.is_empty() || trimmed.starts_with('#')) {
                script.push(before_continuation(line, view.escape), at);
            }
            at += raw.len();
        }
        script
    }

    /// The body of a heredoc, leading tabs stripped if it says so.
    pub(super) fn of_heredoc(view: &View<'_>, heredoc: &Heredoc) -> Self {
        let mut script = Self { text: String::new(), pieces: Vec::new() };
        let mut at = heredoc.span.start;
        for raw in view.text(heredoc.span).split_inclusive('\n') {
            let line = if heredoc.chomp { raw.trim_start_matches('\t') } else { raw };
            script.push(line, at + raw.len() - line.len());
            at += raw.len();
        }
        script
    }

    fn push(&mut self, text: &str, source: usize) {
        self.pieces.push((self.text.len(), source));
        self.text.push_str(text);
    }

    /// Where byte `at` of the script stands in the source.
    pub(super) fn source(&self, at: usize) -> usize {
        let next = self.pieces.partition_point(|piece| piece.0 <= at);
        self.pieces.get(next.saturating_sub(1)).map_or(at, |piece| piece.1 + (at - piece.0))
    }

    /// Where the byte before `at` ends in the source: the place to insert behind something.
    pub(super) fn source_end(&self, at: usize) -> usize {
        if at == 0 { self.source(0) } else { self.source(at - 1) + 1 }
    }

    /// The place of a range.
    pub(super) fn span(&self, view: &View<'_>, range: &Range<usize>) -> Span {
        let start = self.source(range.start);
        view.index.span(start, self.source_end(range.end).max(start))
    }
}

fn before_continuation(line: &str, escape: char) -> &str {
    match line.trim_end_matches([' ', '\t']).strip_suffix(escape) {
        Some(before) if !before.ends_with(escape) => before,
        _ => line,
    }
}

impl Script {
    /// A stretch of the source as it is.
    pub(super) fn whole(view: &View<'_>, span: Span) -> Self {
        Self { text: view.text(span).to_owned(), pieces: vec![(0, span.start)] }
    }
}
