//! Where a stage or variable is defined.

use super::context;
use crate::{Span, parse};

/// The place that defines the name at `offset`.
pub(super) fn find(source: &str, offset: usize) -> Option<Span> {
    let file = parse(source).file;
    let node = context::node_at(&file, offset)?;
    let (word, start) = context::word_at(source, offset, "_");
    let before = &source[..start];
    if before.ends_with('$') || before.ends_with("${") {
        let (_, setter) =
            context::variables(&file, node.span.start).filter(|(name, _)| *name == word).last()?;
        let word =
            setter.args.iter().find(|arg| arg.text.split('=').next() == Some(word)).map(|arg| arg.span);
        return word
            .or_else(|| {
                setter
                    .pairs
                    .iter()
                    .find(|pair| pair.key == *source.get(start..start + pair.key.len()).unwrap_or_default())
                    .map(|pair| pair.key_span)
            })
            .or(Some(setter.span));
    }
    let (name, start) = context::word_at(source, offset, "_-.");
    let is_base = node.keyword == "from" && node.args.first().is_some_and(|base| base.span.start == start);
    if !is_base && !source[..start].ends_with("from=") {
        return None;
    }
    let (_, from) = context::stages(&file, node.span.start)
        .filter(|(known, _)| known.eq_ignore_ascii_case(name))
        .last()?;
    from.args.get(2).map(|name| name.span)
}
