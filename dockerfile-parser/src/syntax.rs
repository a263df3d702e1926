//! The syntax tree: what was written and where, before anything is judged.

use crate::Span;
use std::borrow::Cow;

/// A parsed file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dockerfile {
    /// The parser directives at the top.
    pub directives: Directives,
    /// The instructions in order.
    pub nodes: Vec<Node>,
    /// Every comment line in order, directives and those inside continued instructions included.
    pub comments: Vec<Comment>,
}

/// One instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The keyword in lower case.
    pub keyword: String,
    /// Where the keyword is; the source there has its case as written.
    pub keyword_span: Span,
    /// The words beginning `--` after the keyword, dashes kept, quotes and escapes removed.
    pub flags: Vec<Word>,
    /// The arguments, split as the instruction's grammar asks; empty for ENV, LABEL and ONBUILD.
    pub args: Vec<Word>,
    /// Whether the arguments (of HEALTHCHECK: the command) were a JSON array.
    pub json: bool,
    /// The pairs of ENV and LABEL.
    pub pairs: Vec<Pair>,
    /// The instruction of ONBUILD.
    pub child: Option<Box<Node>>,
    /// The heredocs in order; those of an ONBUILD's child are here, on the outer node, as in BuildKit's tree.
    pub heredocs: Vec<Heredoc>,
    /// From the keyword to the end of the last line, heredoc terminators included, line end excluded.
    pub span: Span,
    /// First line, from 1.
    pub start_line: u32,
    /// Last line, heredocs included.
    pub end_line: u32,
    /// The instruction as one line: continuations joined, comments within dropped, heredoc bodies not included.
    pub original: String,
    /// The texts of the comment lines right above (no blank comment between), without `#`.
    pub comments: Vec<String>,
    /// A `# check=` comment right above, which holds for this instruction alone.
    pub check: Option<CheckDirective>,
    /// Whether parsing already reported an error here, so that judging it again would only repeat that.
    pub broken: bool,
}

/// A piece of an instruction and its place.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Word {
    /// The text.
    pub text: String,
    /// Where it stands; it may cover a continuation.
    pub span: Span,
}

impl Word {
    /// The place of `part` within the word. Nothing when quotes, escapes or continuations make the source differ from
    /// the text, for then the two cannot be matched up.
    pub(crate) fn part(&self, part: &str) -> Option<Span> {
        let at = self.text.find(part).filter(|_| self.span.end - self.span.start == self.text.len())?;
        let skipped = u32::try_from(self.text[..at].chars().count()).ok()?;
        let start = self.span.start + at;
        Some(Span {
            start,
            end: start + part.len(),
            line: self.span.line,
            column: self.span.column + skipped,
        })
    }
}

/// A key and value of ENV or LABEL, both as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The key.
    pub key: String,
    /// The value, quotes and escapes kept.
    pub value: String,
    /// `=`, or empty for the old form (`ENV key value`).
    pub separator: &'static str,
    /// Where the key is.
    pub key_span: Span,
    /// Where key, separator and value are.
    pub span: Span,
}

/// A heredoc: `<<WORD` and the lines up to the terminator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// The delimiter, quotes removed.
    pub name: String,
    /// The body, its line ends included. In the syntax tree as written; in a recipe `<<-` has been applied.
    pub content: String,
    /// Whether variables are expanded in the body: no part of the delimiter was quoted.
    pub expand: bool,
    /// Whether it was `<<-`: leading tabs do not count.
    pub chomp: bool,
    /// The digits before `<<`.
    pub fd: Option<u32>,
    /// Where the body is, terminator excluded.
    pub span: Span,
}

impl Heredoc {
    /// The body without the leading tabs that `<<-` removes.
    pub fn body(&self) -> Cow<'_, str> {
        if !self.chomp || !self.content.contains('\t') {
            return Cow::Borrowed(&self.content);
        }
        Cow::Owned(self.content.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect())
    }
}

/// A comment line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comment {
    /// What follows `#`, spaces at both ends removed.
    pub text: String,
    /// From `#` to the end of the line.
    pub span: Span,
}

/// The parser directives and what follows from them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directives {
    /// `# syntax=`: the frontend image; read and kept, never fetched.
    pub syntax: Option<Directive>,
    /// The escape character: backslash unless `# escape=` says backtick.
    pub escape: char,
    /// `# escape=` as written.
    pub escape_directive: Option<Directive>,
    /// `# check=`.
    pub check: Option<CheckDirective>,
}

impl Default for Directives {
    fn default() -> Self {
        Self { syntax: None, escape: '\\', escape_directive: None, check: None }
    }
}

/// One parser directive's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directive {
    /// The value, spaces at both ends removed.
    pub value: String,
    /// The whole line, from `#`.
    pub span: Span,
}

/// What `# check=` asks of the linter.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CheckDirective {
    /// Rules not to report.
    pub skip: RuleSelection,
    /// Experimental rules to report too.
    pub experimental: RuleSelection,
    /// Whether a warning fails the build.
    pub error: bool,
    /// The whole line, from `#`.
    pub span: Span,
}

/// A set of lint rules.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RuleSelection {
    /// Whether the word was `all`.
    pub all: bool,
    /// The names as written.
    pub names: Vec<String>,
}

impl RuleSelection {
    /// Whether `rule` is in the set; names are compared without case, as BuildKit does.
    pub fn contains(&self, rule: &str) -> bool {
        self.all || self.names.iter().any(|name| name.eq_ignore_ascii_case(rule))
    }
}
