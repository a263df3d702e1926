//! Where in a recipe a place is.

use crate::{Dockerfile, Node};

/// The instruction at a byte offset, the inner one of an ONBUILD, unless the place is in a comment.
pub(super) fn node_at(file: &Dockerfile, offset: usize) -> Option<&Node> {
    let in_comment = file.comments.iter().any(|found| found.span.start <= offset && offset <= found.span.end);
    if in_comment {
        return None;
    }
    let mut node = file.nodes.iter().find(|node| node.span.start <= offset && offset <= node.span.end)?;
    while let Some(child) = node.child.as_deref().filter(|child| child.span.start <= offset) {
        node = child;
    }
    Some(node)
}

/// Whether the place is in the body of a heredoc.
pub(super) fn in_heredoc(file: &Dockerfile, offset: usize) -> bool {
    let bodies =
        file.nodes.iter().flat_map(|node| node.heredocs.iter().map(move |heredoc| (heredoc, node.span.end)));
    let mut bodies = bodies.filter(|(heredoc, end)| heredoc.span.start <= offset && offset <= *end);
    bodies.next().is_some()
}

/// The names of the stages that begin before `offset`, as written, and where.
pub(super) fn stages(file: &Dockerfile, offset: usize) -> impl Iterator<Item = (&str, &Node)> {
    let froms = file.nodes.iter().filter(move |node| node.keyword == "from" && node.span.start < offset);
    froms.filter_map(|node| Some((node.args.get(2)?.text.as_str(), node)))
}

/// The variables that ARG and ENV name before `offset`, and where.
pub(super) fn variables(file: &Dockerfile, offset: usize) -> impl Iterator<Item = (&str, &Node)> {
    let nodes = file.nodes.iter().filter(move |node| node.span.start < offset);
    nodes.flat_map(|node| {
        let args = node.args.iter().filter(|_| node.keyword == "arg");
        let args = args.map(|word| word.text.split('=').next().unwrap_or_default());
        let pairs = node.pairs.iter().filter(|_| node.keyword == "env").map(|pair| pair.key.as_str());
        args.chain(pairs).map(move |name| (name, node))
    })
}

/// The word of `text` around `offset`, letters, digits and `others`, and where it begins.
pub(super) fn word_at<'a>(text: &'a str, offset: usize, others: &str) -> (&'a str, usize) {
    let is_part = |ch: char| ch.is_alphanumeric() || others.contains(ch);
    let start = text[..offset].trim_end_matches(is_part).len();
    let end = text.len() - text[offset..].trim_start_matches(is_part).len();
    (&text[start..end], start)
}
