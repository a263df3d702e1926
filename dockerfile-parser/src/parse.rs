//! Text to syntax tree.
//!
//! Two grammars, both of nom parsers: `lines.rs` reads physical lines over the whole text and joins continuations to
//! statements, `statement.rs` reads one statement's keyword, flags and arguments. A mistake in one statement does not
//! hinder the next.

mod array;
mod directives;
mod heredoc;
mod lines;
mod statement;
mod words;

pub use directives::detect_syntax;
pub(crate) use heredoc::{Opening, opening as heredoc_opening};

use crate::diagnostic::code;
use crate::limits::{MAX_DIAGNOSTICS, MAX_HEREDOC_RECOVERIES, MAX_LINE_BYTES};
use crate::{CheckDirective, Comment, Diagnostic, Directive, Directives, Dockerfile, LineIndex, Node, Span};
use directives::Zone;
use lines::{Lines, PhysicalLine, Statement};

/// A syntax tree and what was wrong with the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed {
    /// The tree, as far as the text could be understood.
    pub file: Dockerfile,
    /// Errors and warnings in the order of their places.
    pub diagnostics: Vec<Diagnostic>,
}

impl Parsed {
    /// Whether any diagnostic is an error.
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(Diagnostic::is_error)
    }
}

/// Parses a Dockerfile. It never fails and never panics; mistakes are in [`Parsed::diagnostics`].
pub fn parse(source: &str) -> Parsed {
    FileParser::new(&LineIndex::new(source), Directives::default(), Zone::Open).run()
}

/// Parses the text of a trigger: the escape character is given, and nothing in it is a directive.
pub(crate) fn parse_trigger(source: &str, escape: char) -> Parsed {
    let directives = Directives { escape, ..Directives::default() };
    FileParser::new(&LineIndex::new(source), directives, Zone::Closed).run()
}

/// Everything about the file while it is read.
struct FileParser<'a> {
    index: &'a LineIndex<'a>,
    lines: Lines<'a>,
    zone: Zone,
    directives: Directives,
    comments: Vec<Comment>,
    /// The comments since the last instruction or blank comment, for the next instruction.
    pending: Vec<Comment>,
    nodes: Vec<Node>,
    diagnostics: Vec<Diagnostic>,
    /// Unclosed heredocs so far.
    recoveries: usize,
}

impl<'a> FileParser<'a> {
    fn new(index: &'a LineIndex<'a>, directives: Directives, zone: Zone) -> Self {
        Self {
            index,
            lines: Lines::new(index.source()),
            zone,
            directives,
            comments: Vec::new(),
            pending: Vec::new(),
            nodes: Vec::new(),
            diagnostics: Vec::new(),
            recoveries: 0,
        }
    }

    fn run(mut self) -> Parsed {
        while let Some(line) = self.lines.next() {
            self.check_length(&line);
            if line.is_comment() {
                self.comment(&line, true);
                continue;
            }
            self.zone = Zone::Closed;
            if let Some(statement) = self.statement(&line) {
                self.instruction(statement);
            }
        }
        if self.nodes.is_empty() && !self.diagnostics.iter().any(Diagnostic::is_error) {
            let end = self.index.source().len();
            self.report(
                Diagnostic::error(
                    code::EMPTY_FILE,
                    self.index.span(end, end),
                    "the file has no instructions",
                )
                .with_expected("at least `FROM` and a base image"),
            );
        }
        self.diagnostics.sort_by_key(|diagnostic| (diagnostic.span.start, diagnostic.code));
        let file = Dockerfile { directives: self.directives, nodes: self.nodes, comments: self.comments };
        Parsed { file, diagnostics: self.diagnostics }
    }

    fn report(&mut self, diagnostic: Diagnostic) {
        if self.diagnostics.len() < MAX_DIAGNOSTICS {
            self.diagnostics.push(diagnostic);
        }
    }

    fn check_length(&mut self, line: &PhysicalLine<'_>) {
        // The line feed does not count, a carriage return does: BuildKit's scanner sees it so.
        if line.raw.strip_suffix('\n').unwrap_or(line.raw).len() > MAX_LINE_BYTES {
            let span = self.index.span(line.offset, line.offset);
            self.report(
                Diagnostic::error(
                    code::LINE_TOO_LONG,
                    span,
                    format!("line is longer than {MAX_LINE_BYTES} bytes"),
                )
                .with_hint("break the line with continuations, or move the data into a file and copy it"),
            );
        }
    }

    /// Keeps a comment; `counts` when it stands between instructions, where directives are found.
    fn comment(&mut self, line: &PhysicalLine<'a>, counts: bool) {
        let (text, start) = line.trimmed();
        let comment = Comment { text: text[1..].trim().to_owned(), span: self.index.span(start, line.end()) };
        self.comments.push(comment.clone());
        if !counts || self.directive(text, comment.span) {
            return;
        }
        if comment.text.is_empty() {
            self.pending.clear();
        } else {
            self.pending.push(comment);
        }
    }

    /// Takes the line as a directive if it is one and may be one here; otherwise the zone ends.
    fn directive(&mut self, text: &str, span: Span) -> bool {
        let found = directives::directive(text, "#");
        if self.zone == Zone::Closed {
            self.late_directive(found, span);
            return false;
        }
        let is_shebang = text.starts_with("#!") && span.line == 1;
        let Some((name, value)) = found else {
            self.zone = if is_shebang { Zone::AfterShebang } else { Zone::Closed };
            return false;
        };
        let directive = Directive { value: value.to_owned(), span };
        let seen = match name {
            "syntax" => self.directives.syntax.replace(directive).map(|old| old.span),
            "check" => {
                let old = self.directives.check.take().map(|old| old.span);
                self.directives.check = self.check_directive(value, span);
                old
            }
            _ if self.zone == Zone::AfterShebang => None,
            _ => {
                self.escape_directive(value, span);
                self.directives.escape_directive.replace(directive).map(|old| old.span)
            }
        };
        if let Some(first) = seen {
            self.report(
                Diagnostic::error(
                    code::DUPLICATE_DIRECTIVE,
                    span,
                    format!("directive `{name}` is given twice"),
                )
                .with_note("it is first given here", Some(first)),
            );
        }
        true
    }

    fn late_directive(&mut self, found: Option<(&str, &str)>, span: Span) {
        // A late `check` counts for the next instruction; the others are silently comments elsewhere.
        if let Some((name @ ("syntax" | "escape"), _)) = found {
            self.report(
                Diagnostic::warning(
                    code::LATE_DIRECTIVE,
                    span,
                    format!("directive `{name}` stands too late to count"),
                )
                .with_hint("parser directives come before every other comment, blank line and instruction"),
            );
        }
    }

    fn escape_directive(&mut self, value: &str, span: Span) {
        match value {
            "\\" => self.directives.escape = '\\',
            "`" => self.directives.escape = '`',
            other => self.report(
                Diagnostic::error(
                    code::BAD_ESCAPE_DIRECTIVE,
                    span,
                    format!("invalid escape character `{other}`"),
                )
                .with_expected("a backslash or a backtick"),
            ),
        }
    }

    fn check_directive(&mut self, value: &str, span: Span) -> Option<CheckDirective> {
        match CheckDirective::parse(value) {
            Ok(check) => Some(check.at(span)),
            Err(problem) => {
                self.report(
                    Diagnostic::error(
                        code::BAD_CHECK_DIRECTIVE,
                        span,
                        format!("invalid check directive: {problem}"),
                    )
                    .with_expected("`skip=`, `error=` and `experimental=` parts, separated by `;`"),
                );
                None
            }
        }
    }

    /// The statement that begins on `line`, its continuations joined; a blank line gives none.
    fn statement(&mut self, line: &PhysicalLine<'a>) -> Option<Statement<'a>> {
        let escape = self.directives.escape;
        let (text, start) = line.trimmed();
        let first = lines::cut_continuation(text, escape);
        if first.is_none() && text.is_empty() {
            return None;
        }
        let mut statement = Statement::new(first.unwrap_or(text), start, line);
        let (mut continues, mut warned) = (first.is_some(), false);
        // A continuation on the last line of the file just ends there.
        while let Some(line) = if continues { self.lines.next() } else { None } {
            self.check_length(&line);
            statement.extend_to(&line);
            if line.is_comment() {
                self.comment(&line, false);
            } else if line.text.trim().is_empty() {
                if !std::mem::replace(&mut warned, true) {
                    self.empty_continuation(&line);
                }
            } else {
                let part = lines::cut_continuation(line.text, escape);
                continues = part.is_some();
                statement.push(part.unwrap_or(line.text), &line);
            }
        }
        Some(statement)
    }

    fn empty_continuation(&mut self, line: &PhysicalLine<'_>) {
        let span = self.index.span(line.offset, line.end());
        self.report(
            Diagnostic::warning(code::EMPTY_CONTINUATION, span, "blank line inside a continued instruction")
                .with_hint("remove the blank line, or put a comment there"),
        );
    }

    /// Parses a statement, with the heredocs on the lines after it, and keeps its node.
    fn instruction(&mut self, mut statement: Statement<'a>) {
        let pending = std::mem::take(&mut self.pending);
        let (mut node, mut found) = statement::parse(&statement, self.index, self.directives.escape);
        if node.takes_heredocs() {
            self.heredocs(&mut node, &mut statement);
        }
        reach(&mut node, &statement);
        node.check = self.check_comment(&pending);
        node.comments = pending.into_iter().map(|comment| comment.text).collect();
        if node.keyword.is_empty() {
            let message = "continuation leads to no instruction";
            found = vec![Diagnostic::error(code::EMPTY_STATEMENT, node.span, message)];
        } else {
            self.explain_unknown(&mut found);
            self.nodes.push(node);
        }
        found.into_iter().for_each(|diagnostic| self.report(diagnostic));
    }

    /// Adds the likeliest reason to an unknown keyword that resembles no known one.
    fn explain_unknown(&self, found: &mut [Diagnostic]) {
        let Some(previous) = self.nodes.last() else { return };
        for diagnostic in found {
            if diagnostic.code == code::UNKNOWN_INSTRUCTION && diagnostic.hint.is_none() {
                diagnostic.hint = Some(format!(
                    "if this line belongs to the {} on line {}, end the line before with `{}`",
                    previous.keyword.to_uppercase(),
                    previous.start_line,
                    self.directives.escape
                ));
            }
        }
    }

    /// The `check=` comment among those right above an instruction; the last one holds.
    fn check_comment(&mut self, pending: &[Comment]) -> Option<CheckDirective> {
        let comment = pending.iter().rfind(|comment| {
            let marked = format!("#{}", comment.text);
            matches!(directives::directive(&marked, "#"), Some(("check", _)))
        })?;
        let (_, value) = comment.text.split_once('=')?;
        self.check_directive(value, comment.span)
    }

    /// Reads the heredocs that the statement announces.
    fn heredocs(&mut self, node: &mut Node, statement: &mut Statement<'a>) {
        let mut searched = 0;
        for opening in heredoc::openings(statement.text()) {
            let at =
                statement.text()[searched..].find(&opening.word).map_or(searched, |found| searched + found);
            searched = at + opening.word.len().min(statement.text().len() - at);
            let (start, end) = statement.source_range(at, searched);
            let before = self.lines;
            if let Some(heredoc) = heredoc::body(&opening, &mut self.lines, self.index) {
                node.heredocs.push(heredoc);
            } else if opening.is_likely_shift() {
                self.lines = before;
            } else {
                node.broken = true;
                let span = self.index.span(start, end);
                self.unterminated(&opening, before, span);
            }
            statement.end_line = self.lines.number();
            statement.end =
                self.index.line_start(statement.end_line) + self.index.line_text(statement.end_line).len();
        }
        self.check_body_lengths(statement);
    }

    /// Reports a missing terminator, and reads on after a line that was probably meant as one.
    fn unterminated(&mut self, opening: &heredoc::Opening, before: Lines<'a>, span: Span) {
        let name = &opening.name;
        let mut diagnostic =
            Diagnostic::error(code::UNTERMINATED_HEREDOC, span, format!("heredoc `{name}` is not closed"))
                .with_expected(format!("a line that is exactly `{name}`"));
        self.recoveries += 1;
        let near = if self.recoveries > MAX_HEREDOC_RECOVERIES {
            None
        } else {
            heredoc::near_terminator(opening, before)
        };
        if let Some(number) = near {
            let line = self.index.line_start(number);
            let near = self.index.span(line, line + self.index.line_text(number).len());
            diagnostic = diagnostic.with_note(
                format!("this line would close it without the white space around `{name}`"),
                Some(near),
            );
            if !opening.chomp
                && self.index.line_text(number).trim_start_matches('\t').starts_with(name.as_str())
            {
                diagnostic = diagnostic.with_hint(format!("`<<-{name}` allows tabs before the terminator"));
            }
            self.lines = before;
            while self.lines.number() < number && self.lines.next().is_some() {}
        }
        self.report(diagnostic);
    }

    /// The line cap holds in heredoc bodies too.
    fn check_body_lengths(&mut self, statement: &Statement<'a>) {
        let body = &self.index.source()[statement.start().min(statement.end)..statement.end];
        if body.len() <= MAX_LINE_BYTES {
            return;
        }
        for number in statement.start_line + 1..=statement.end_line {
            let (start, text) = (self.index.line_start(number), self.index.line_text(number));
            if text.len() > MAX_LINE_BYTES && !self.diagnostics.iter().any(|found| found.span.start == start)
            {
                self.check_length(&PhysicalLine { text, raw: text, offset: start, number });
            }
        }
    }
}

/// Makes a node, and the instruction it may hold, reach to the end of its statement.
fn reach(node: &mut Node, statement: &Statement<'_>) {
    let mut next = Some(node);
    while let Some(node) = next {
        node.end_line = statement.end_line;
        node.span.end = statement.end;
        next = node.child.as_deref_mut();
    }
}

impl Node {
    /// Whether `<<WORD` in this instruction, or in the one that ONBUILD holds, begins a heredoc.
    fn takes_heredocs(&self) -> bool {
        let inner = match &self.child {
            Some(child) => child,
            None => self,
        };
        !inner.json && crate::Keyword::from_word(&inner.keyword).is_some_and(crate::Keyword::takes_heredocs)
    }
}

#[cfg(test)]
mod tests;
