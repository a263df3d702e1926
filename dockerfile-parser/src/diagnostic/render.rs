//! A diagnostic as text for people, after rustc's manner.

use super::{Diagnostic, Severity};
use crate::limits::{MAX_EXCERPT_COLUMNS, MAX_EXCERPT_LINES, MAX_NOTES};
use crate::{LineIndex, Span};
use std::fmt::Write as _;

/// Terminal styles, all empty without colour.
struct Style {
    strong: &'static str,
    level: &'static str,
    frame: &'static str,
    reset: &'static str,
}

impl Style {
    fn new(severity: Severity, color: bool) -> Self {
        let level = match severity {
            Severity::Error => "\x1b[1;31m",
            Severity::Warning => "\x1b[1;33m",
        };
        if color {
            Self { strong: "\x1b[1m", level, frame: "\x1b[1;34m", reset: "\x1b[0m" }
        } else {
            Self { strong: "", level: "", frame: "", reset: "" }
        }
    }
}

impl Diagnostic {
    /// The diagnostic as text: code, message, the source with the span marked, what was expected, a hint.
    ///
    /// At most one screen, whatever the source is; control characters of the source are shown as `�`, so that a
    /// hostile recipe cannot drive the terminal.
    pub fn render(&self, source: &str, file_name: &str, color: bool) -> String {
        let style = Style::new(self.severity, color);
        let index = LineIndex::new(source);
        let mut out = String::new();
        let (level, strong, reset) = (style.level, style.strong, style.reset);
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(
            out,
            "{level}{}[{}]{reset}{strong}: {}{reset}",
            self.severity.name(),
            self.code,
            printable(&self.message)
        );
        let gutter = gutter_width(&index, self);
        excerpt(&mut out, &index, &style, self.span, file_name, gutter, "-->");
        for note in self.notes.iter().take(MAX_NOTES) {
            footer(&mut out, &style, gutter, "note", &note.message);
            if let Some(span) = note.span {
                excerpt(&mut out, &index, &style, span, file_name, gutter, ":::");
            }
        }
        if let Some(expected) = &self.expected {
            footer(&mut out, &style, gutter, "expected", expected);
        }
        if let Some(hint) = &self.hint {
            footer(&mut out, &style, gutter, "hint", hint);
        }
        out
    }
}

fn gutter_width(index: &LineIndex<'_>, diagnostic: &Diagnostic) -> usize {
    let spans = std::iter::once(diagnostic.span).chain(diagnostic.notes.iter().filter_map(|note| note.span));
    spans.map(|span| last_line(index, span).to_string().len()).max().unwrap_or(1)
}

fn last_line(index: &LineIndex<'_>, span: Span) -> u32 {
    index.position(span.end.saturating_sub(1).max(span.start)).0.max(span.line)
}

fn footer(out: &mut String, style: &Style, gutter: usize, title: &str, text: &str) {
    let (frame, strong, reset) = (style.frame, style.strong, style.reset);
    let _ = writeln!(out, "{:gutter$} {frame}={reset} {strong}{title}{reset}: {}", "", printable(text));
}

fn excerpt(
    out: &mut String,
    index: &LineIndex<'_>,
    style: &Style,
    span: Span,
    file_name: &str,
    gutter: usize,
    arrow: &str,
) {
    let (frame, level, reset) = (style.frame, style.level, style.reset);
    let (first, last) = (span.line.max(1), last_line(index, span));
    let name = printable(file_name);
    let _ = writeln!(out, "{:gutter$}{frame}{arrow}{reset} {name}:{first}:{}", "", span.column.max(1));
    let _ = writeln!(out, "{:gutter$} {frame}|{reset}", "");
    let shown_last = last.min(first.saturating_add(MAX_EXCERPT_LINES as u32 - 1));
    for number in first..=shown_last {
        let (text, from, to) = marked_line(index, span, number);
        let (text, from, to) = window(&text, from, to);
        let gap = if text.is_empty() { "" } else { " " };
        let _ = writeln!(out, "{frame}{number:>gutter$} |{reset}{gap}{text}");
        if to > from {
            let pad = " ".repeat(from);
            let _ =
                writeln!(out, "{:gutter$} {frame}|{reset} {pad}{level}{}{reset}", "", "^".repeat(to - from));
        }
    }
    if last > shown_last {
        let _ = writeln!(out, "{:gutter$} {frame}|{reset} … {} more lines", "", last - shown_last);
    }
}

/// The characters of line `number` as shown, and which of them the span covers.
fn marked_line(index: &LineIndex<'_>, span: Span, number: u32) -> (Vec<char>, usize, usize) {
    let text = index.line_text(number);
    let offset = index.line_start(number);
    let (mut shown, mut from, mut to) = (Vec::new(), None, 0);
    let indent = text.len() - text.trim_start().len();
    for (at, ch) in text.char_indices() {
        let covered = offset + at >= span.start && offset + at < span.end;
        // The indentation of a further line is not part of what is wrong.
        if covered && (number == span.line || at >= indent) {
            from.get_or_insert(shown.len());
        }
        shown.extend(if ch == '\t' { "    ".chars() } else { "".chars() });
        if ch != '\t' {
            shown.push(printable_char(ch));
        }
        if covered && from.is_some() {
            to = shown.len();
        }
    }
    match from {
        Some(from) => (shown, from, to.max(from + 1)),
        // An empty span, such as the end of a line, still gets a mark on its line.
        None if number == span.line => {
            let at = (span.column as usize).saturating_sub(1).min(shown.len());
            (shown, at, at + 1)
        }
        None => (shown, 0, 0),
    }
}

/// Cuts a long line to what surrounds the mark.
fn window(text: &[char], from: usize, to: usize) -> (String, usize, usize) {
    if text.len() <= MAX_EXCERPT_COLUMNS {
        return (text.iter().collect(), from, to);
    }
    let width = MAX_EXCERPT_COLUMNS - 2;
    let start = from.saturating_sub(width / 3).min(text.len().saturating_sub(width));
    let end = (start + width).min(text.len());
    let (before, after) = (if start > 0 { "…" } else { "" }, if end < text.len() { "…" } else { "" });
    let shift = usize::from(start > 0);
    let clamp = |at: usize| at.clamp(start, end) - start + shift;
    (format!("{before}{}{after}", text[start..end].iter().collect::<String>()), clamp(from), clamp(to))
}

fn printable_char(ch: char) -> char {
    // Control characters drive terminals; bidirectional marks make text look like other text.
    let hidden = ch.is_control()
        || matches!(ch, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if hidden { '\u{fffd}' } else { ch }
}

fn printable(text: &str) -> String {
    text.chars().take(MAX_EXCERPT_COLUMNS * 2).map(printable_char).collect()
}
