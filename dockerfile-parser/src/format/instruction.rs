//! One instruction's lines.

use super::token::{INDENT, Token, tokens};
use super::{Style, meaning, shell};
use crate::parse::parse_trigger;
use crate::{Comment, LineIndex, Node};

/// The lines of `node` up to its heredocs' bodies, formatted if that provably keeps the meaning, else as written.
pub(super) fn lines(
    node: &Node,
    comments: &[Comment],
    index: &LineIndex<'_>,
    escape: char,
    style: Style,
) -> Vec<String> {
    let own: Vec<_> = within(node, comments).cloned().collect();
    layout(node, &own, index, escape, style)
        .filter(|lines| is_safe(lines, node, &own, index, escape, style))
        .unwrap_or_else(|| as_written(node, index))
}

/// The bodies of the node's heredocs and their terminators, the last line end included if there is one.
pub(super) fn bodies<'a>(node: &Node, index: &LineIndex<'a>) -> &'a str {
    let Some(first) = node.heredocs.first() else { return "" };
    &index.source()[first.span.start..index.line_start(node.end_line + 1)]
}

fn within<'c>(node: &Node, comments: &'c [Comment]) -> impl Iterator<Item = &'c Comment> + use<'c> {
    let (first, last) = (node.start_line, node.end_line);
    let from = comments.partition_point(|comment| comment.span.line < first);
    comments[from..].iter().take_while(move |comment| comment.span.line <= last)
}

/// Where the instruction's own text ends.
fn own_end(node: &Node, index: &LineIndex<'_>) -> usize {
    let end = node.heredocs.first().map_or(node.span.end, |heredoc| heredoc.span.start);
    index.source()[..end].trim_end_matches(['\r', '\n']).len().max(node.keyword_span.end)
}

fn as_written(node: &Node, index: &LineIndex<'_>) -> Vec<String> {
    let end = node.heredocs.first().map_or(node.end_line + 1, |heredoc| heredoc.span.line);
    // A body at the end of a file without a last line end begins on the line that announced it.
    let end = end.max(node.start_line + 1);
    let text = |line: u32| {
        let text = index.line_text(line).trim_end_matches('\r');
        if line == 1 { text.trim_start_matches('\u{feff}') } else { text }
    };
    (node.start_line..end).map(|line| text(line).to_owned()).collect()
}

/// The tokens with the line breaks and comments they had, evenly spaced.
fn layout(
    node: &Node,
    comments: &[Comment],
    index: &LineIndex<'_>,
    escape: char,
    style: Style,
) -> Option<Vec<String>> {
    let line_of = |offset: usize| index.position(offset).0;
    let mut comments = comments.iter().peekable();
    let mut lines = vec![String::new()];
    let mut before: Option<Token> = None;
    for mut token in tokens(node, index, escape, own_end(node, index))? {
        if style.indent_shell && token.is_shell {
            shell::indent(&mut token.lines, escape);
        }
        let first = line_of(token.start);
        if let Some(before) = before {
            if first > line_of(before.end) {
                let line = lines.last_mut()?;
                line.push(' ');
                line.push(escape);
                while let Some(comment) = comments.next_if(|comment| comment.span.line < first) {
                    let text = index.source()[comment.span.start..comment.span.end].trim_end();
                    lines.push(format!("{INDENT}{text}"));
                }
                lines.push(INDENT.to_owned());
            } else if !token.glue {
                lines.last_mut()?.push(' ');
            }
        }
        // The comments inside a token are among its lines.
        while comments.next_if(|comment| comment.span.start < token.end).is_some() {}
        let mut parts = token.lines.iter();
        lines.last_mut()?.push_str(parts.next()?);
        lines.extend(parts.cloned());
        before = Some(token);
    }
    comments.next().is_none().then_some(lines)
}

/// Whether the formatted lines mean what the node means, and formatting them again changes nothing.
fn is_safe(
    lines: &[String],
    node: &Node,
    comments: &[Comment],
    index: &LineIndex<'_>,
    escape: char,
    style: Style,
) -> bool {
    let text = format!("{}\n{}", lines.join("\n"), bodies(node, index));
    let again = parse_trigger(&text, escape);
    let [found] = again.file.nodes.as_slice() else { return false };
    let count = again.file.comments.len();
    meaning::same_node(node, found, style.indent_shell)
        && meaning::same_comments(comments.iter(), again.file.comments.iter())
        && within(found, &again.file.comments).count() == count
        && layout(found, &again.file.comments, &LineIndex::new(&text), escape, style).as_deref()
            == Some(lines)
}
