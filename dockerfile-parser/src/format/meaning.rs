//! Whether two syntax trees mean the same.

use super::shell;
use crate::{CheckDirective, Comment, Directive, Directives, Dockerfile, Heredoc, Keyword, Node};

/// Whether two files mean the same: equal in everything but places, the spacing between words, and the case of
/// keywords (the `AS` of FROM among them). Comments and the text of shell commands must be equal to the letter.
pub fn same_meaning(a: &Dockerfile, b: &Dockerfile) -> bool {
    same_file(a, b, false)
}

/// The same; with `loose`, blanks between the words of a shell command do not count either.
pub(super) fn same_file(a: &Dockerfile, b: &Dockerfile, loose: bool) -> bool {
    same_directives(&a.directives, &b.directives)
        && a.comments.iter().map(|comment| &comment.text).eq(b.comments.iter().map(|comment| &comment.text))
        && a.nodes.len() == b.nodes.len()
        && a.nodes.iter().zip(&b.nodes).all(|(a, b)| same_node(a, b, loose) && same_remarks(a, b))
}

fn same_directives(a: &Directives, b: &Directives) -> bool {
    let value = |directive: &Option<Directive>| directive.as_ref().map(|found| found.value.clone());
    value(&a.syntax) == value(&b.syntax)
        && a.escape == b.escape
        && value(&a.escape_directive) == value(&b.escape_directive)
        && same_check(a.check.as_ref(), b.check.as_ref())
}

fn same_check(a: Option<&CheckDirective>, b: Option<&CheckDirective>) -> bool {
    let parts = |check: &CheckDirective| (check.skip.clone(), check.experimental.clone(), check.error);
    a.map(parts) == b.map(parts)
}

fn same_remarks(a: &Node, b: &Node) -> bool {
    a.comments == b.comments && same_check(a.check.as_ref(), b.check.as_ref())
}

/// Whether two instructions mean the same, the comments above them aside.
pub(super) fn same_node(a: &Node, b: &Node, loose: bool) -> bool {
    let pair = |pair: &crate::Pair| (pair.key.clone(), pair.value.clone(), pair.separator);
    let same_child = match (&a.child, &b.child) {
        (Some(a), Some(b)) => same_node(a, b, loose),
        (None, None) => true,
        _ => false,
    };
    a.keyword == b.keyword
        && (a.json, a.broken) == (b.json, b.broken)
        && a.flags.iter().map(|flag| &flag.text).eq(b.flags.iter().map(|flag| &flag.text))
        && same_args(a, b, loose)
        && a.pairs.iter().map(pair).eq(b.pairs.iter().map(pair))
        && same_child
        && a.heredocs.len() == b.heredocs.len()
        && a.heredocs.iter().zip(&b.heredocs).all(|(a, b)| same_heredoc(a, b))
}

fn same_args(a: &Node, b: &Node, loose: bool) -> bool {
    let Some(keyword) = Keyword::from_word(&a.keyword) else {
        // An extension's instruction; parsing keeps nothing of it but the text.
        return a.original.split_whitespace().skip(1).eq(b.original.split_whitespace().skip(1));
    };
    a.args.len() == b.args.len()
        && a.args.iter().zip(&b.args).enumerate().all(|(at, (a, b))| {
            let is_as = keyword == Keyword::From && at == 1 && a.text.eq_ignore_ascii_case("as");
            a.text == b.text
                || (is_as && a.text.eq_ignore_ascii_case(&b.text))
                || (loose && shell::same_words(&a.text, &b.text))
        })
}

fn same_heredoc(a: &Heredoc, b: &Heredoc) -> bool {
    (&a.name, &a.content, a.expand, a.chomp, a.fd) == (&b.name, &b.content, b.expand, b.chomp, b.fd)
}

/// Whether the comments among two instructions' lines say the same.
pub(super) fn same_comments<'a>(
    a: impl Iterator<Item = &'a Comment>,
    b: impl Iterator<Item = &'a Comment>,
) -> bool {
    a.map(|comment| &comment.text).eq(b.map(|comment| &comment.text))
}
