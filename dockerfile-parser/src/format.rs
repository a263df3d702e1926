//! Formats a recipe: one style for everything whose spacing means nothing, every other byte as it was.
//!
//! The style: keywords and `AS` in upper case, one space between words, arrays as `["a", "b"]`, continued lines indented
//! by four, no blank line inside an instruction, at most one between instructions and one before every stage but the
//! first, no space at a line's end, a line end at the file's end. Line breaks within an instruction stay where they are.
//!
//! Kept byte for byte: comments but for their indentation, heredoc bodies, and the text of shell commands. The last is
//! on purpose: that text is what the shell gets, what the image's history shows and what the cache is asked for, so
//! that formatting never changes an image and never makes a step run again. [`Style::indent_shell`] gives that up for
//! evenly indented commands.
//!
//! Three guards stand behind this. Each formatted instruction is parsed again and must mean the same, comments included;
//! formatting it again must change nothing; and the whole result must mean the same. What fails a guard stays as it was
//! written, which is what happens to oddities such as a keyword broken across lines.
//!
//! ```
//! let tidy = slipway_dockerfile::format::format("from  alpine as base\nrun   echo  'a  b'\n").unwrap();
//! assert_eq!(tidy, "FROM alpine AS base\nRUN echo  'a  b'\n");
//! ```

mod instruction;
mod meaning;
mod shell;
mod token;

pub use meaning::same_meaning;

use crate::diagnostic::code;
use crate::{Comment, Diagnostic, Dockerfile, Keyword, LineIndex, Node, extension, parse};

/// What the formatter may do beyond the rules that always hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Style {
    /// Whether the continued lines of shell commands are indented by four too, where they are provably outside quotes.
    /// The shell then does the same, but its text, and so the image's history and the cache keys, differ.
    pub indent_shell: bool,
}

/// Formats a recipe.
///
/// # Errors
/// The diagnostics of a text that is no recipe: what cannot be understood is not touched.
pub fn format(source: &str) -> Result<String, Vec<Diagnostic>> {
    format_with(source, Style::default())
}

/// Formats a recipe in a chosen style.
///
/// # Errors
/// The diagnostics of a text that is no recipe: what cannot be understood is not touched.
pub fn format_with(source: &str, style: Style) -> Result<String, Vec<Diagnostic>> {
    let parsed = parse(source);
    let extended = extension::is_enabled(&parsed.file);
    let refuses = |found: &&Diagnostic| {
        let known = extended
            && found.code == code::UNKNOWN_INSTRUCTION
            && extension::is_keyword(&source[found.span.start..found.span.end]);
        found.is_error() && !known
    };
    if parsed.diagnostics.iter().any(|found| refuses(&found)) {
        return Err(parsed.diagnostics.into_iter().filter(|found| refuses(&found)).collect());
    }
    let index = LineIndex::new(source);
    // A text of shells that quote in another way is left alone: nothing about its quotes is provable.
    let foreign_shell = parsed.file.nodes.iter().any(has_shell) || parsed.file.directives.escape != '\\';
    let style = Style { indent_shell: style.indent_shell && !foreign_shell };
    let text = Page { index: &index, file: &parsed.file, style, out: String::new() }.write();
    let again = parse(&text).file;
    let same = meaning::same_file(&parsed.file, &again, style.indent_shell);
    Ok(if same { text } else { source.to_owned() })
}

fn has_shell(node: &Node) -> bool {
    node.keyword == "shell" || node.child.as_deref().is_some_and(has_shell)
}

/// One thing that stands at the top level.
#[derive(Clone, Copy)]
enum Item<'a> {
    Comment(&'a Comment),
    Node(&'a Node),
}

impl Item<'_> {
    fn lines(&self) -> (u32, u32) {
        match self {
            Self::Comment(comment) => (comment.span.line, comment.span.line),
            Self::Node(node) => (node.start_line, node.end_line),
        }
    }
}

/// The result while it is written.
struct Page<'a> {
    index: &'a LineIndex<'a>,
    file: &'a Dockerfile,
    style: Style,
    out: String,
}

impl<'a> Page<'a> {
    fn write(mut self) -> String {
        let source = self.index.source();
        if source.starts_with('\u{feff}') {
            self.out.push('\u{feff}');
        }
        let end = if self.first_line_ends_with_return() { "\r\n" } else { "\n" };
        let items = self.items();
        let opens = opens_stage(&items);
        let (mut last, mut stages) = (0, 0);
        for (at, item) in items.iter().enumerate() {
            let (first, item_end) = item.lines();
            let blank = first > last + 1;
            // The comments above a FROM have the blank line that is the FROM's.
            let is_first = |at: usize| blank || !opens[at - 1] || matches!(items[at - 1], Item::Node(_));
            let wanted = match at {
                0 => blank && might_be_directive(item, source),
                _ => blank || (stages > 0 && opens[at] && is_first(at)),
            };
            if wanted {
                self.out.push_str(end);
            }
            match item {
                Item::Comment(comment) => {
                    self.line(source[comment.span.start..comment.span.end].trim_end(), end);
                }
                Item::Node(node) => {
                    stages += usize::from(node.keyword == "from");
                    self.node(node, end);
                }
            }
            last = item_end;
        }
        self.out
    }

    fn first_line_ends_with_return(&self) -> bool {
        self.index.source().split_once('\n').is_some_and(|(first, _)| first.ends_with('\r'))
    }

    /// Instructions, and the comments between them, in order.
    fn items(&self) -> Vec<Item<'a>> {
        let mut items: Vec<_> = self.file.nodes.iter().map(Item::Node).collect();
        items.extend(self.file.comments.iter().filter(|comment| self.is_outside(comment)).map(Item::Comment));
        items.sort_by_key(|item| item.lines().0);
        items
    }

    fn is_outside(&self, comment: &Comment) -> bool {
        let line = comment.span.line;
        let next = self.file.nodes.partition_point(|node| node.start_line <= line);
        next == 0 || self.file.nodes[next - 1].end_line < line
    }

    fn line(&mut self, text: &str, end: &str) {
        self.out.push_str(text);
        self.out.push_str(end);
    }

    fn node(&mut self, node: &Node, end: &str) {
        let escape = self.file.directives.escape;
        for line in instruction::lines(node, &self.file.comments, self.index, escape, self.style) {
            self.line(&line, end);
        }
        let bodies = instruction::bodies(node, self.index);
        self.out.push_str(bodies);
        if !bodies.is_empty() && !bodies.ends_with('\n') {
            self.out.push_str(end);
        }
    }
}

/// For each item whether it is a FROM or among the comments right above one.
fn opens_stage(items: &[Item<'_>]) -> Vec<bool> {
    let mut opens = vec![false; items.len()];
    for (at, item) in items.iter().enumerate().rev() {
        opens[at] = match item {
            Item::Node(node) => Keyword::from_word(&node.keyword) == Some(Keyword::From),
            Item::Comment(_) => {
                items.get(at + 1).is_some_and(|next| opens[at + 1] && next.lines().0 == item.lines().1 + 1)
            }
        };
    }
    opens
}

/// Whether the comment could count as a directive once no blank line stands before it.
fn might_be_directive(item: &Item<'_>, source: &str) -> bool {
    match item {
        Item::Comment(comment) => {
            comment.text.contains('=') || source[comment.span.start..comment.span.end].starts_with("#!")
        }
        Item::Node(_) => false,
    }
}

#[cfg(test)]
mod tests;
