//! The second pass: with all text in one place, every extension but INCLUDE becomes standard instructions.

use super::map::{LineOrigin, Lowered};
use super::{from, include, optional, unset};
use crate::{Diagnostic, LineIndex, Node, parse};
use std::ops::Range;

/// A replacement within the text.
pub(super) type Edit = (Range<usize>, String);

/// Rewrites `flat`; diagnostics are places in it.
pub(super) fn rewrite(flat: &Lowered, escape: char) -> Result<Lowered, Vec<Diagnostic>> {
    let file = parse(&flat.text).file;
    debug_assert!(file.directives.escape == escape, "taking over lines keeps the directives");
    let index = LineIndex::new(&flat.text);
    let mut found: Vec<_> = file.nodes.iter().filter_map(include::in_trigger).collect();
    let mut aliases = from::Aliases::of(&file);
    let mut edits: Vec<Edit> = Vec::new();
    for (at, node) in file.nodes.iter().enumerate() {
        aliases.pass(at, node);
        let outcome = match node.keyword.as_str() {
            "unset" => unset::lower(node).map(|text| vec![(node.span.start..node.span.end, text)]),
            "copy" => optional::lower(node, &flat.text, escape).and_then(|mut more| {
                aliases.copy(&file, node).map(|own| {
                    more.extend(own);
                    more
                })
            }),
            _ => Ok(Vec::new()),
        };
        match outcome {
            Ok(more) => edits.extend(more),
            Err(diagnostic) => found.push(diagnostic),
        }
    }
    edits.extend(aliases.renumber(&file, &flat.text));
    edits.sort_by_key(|(range, _)| range.start);
    if found.is_empty() { Ok(apply(flat, &index, &file.nodes, &edits, &aliases)) } else { Err(found) }
}

/// The text with its edits and the alias stages.
fn apply(
    flat: &Lowered,
    index: &LineIndex<'_>,
    nodes: &[Node],
    edits: &[Edit],
    aliases: &from::Aliases,
) -> Lowered {
    let mut out = Lowered::default();
    let mut nodes = nodes.iter().peekable();
    let mut number = 1;
    let origin = |number: u32, is_verbatim: bool| {
        let fallback = LineOrigin { path: None, line: number, include: None, is_verbatim };
        flat.origin(number).map_or(fallback, |origin| LineOrigin {
            is_verbatim: is_verbatim && origin.is_verbatim,
            ..origin.clone()
        })
    };
    while number < index.line_count() {
        for alias in aliases.before(number) {
            out.push(&format!("FROM {} AS {}\n", alias.value, alias.name), origin(alias.line, false));
        }
        let node = nodes.next_if(|node| node.start_line == number);
        let last = node.map_or(number, |node| node.end_line);
        let (start, end) = (index.line_start(number), index.line_start(last + 1));
        let from = edits.partition_point(|(range, _)| range.start < start);
        let to = edits.partition_point(|(range, _)| range.start < end);
        let own = &edits[from..to];
        if own.is_empty() {
            for line in number..=last {
                out.push(&flat.text[index.line_start(line)..index.line_start(line + 1)], origin(line, true));
            }
        } else {
            for line in edited(&flat.text, start..end, own).split_inclusive('\n') {
                out.push(line, origin(number, false));
            }
        }
        number = last + 1;
    }
    out
}

/// The part `range` of the text with its edits, which are in order.
fn edited(text: &str, range: Range<usize>, edits: &[Edit]) -> String {
    let mut out = String::new();
    let mut at = range.start;
    for (part, with) in edits {
        out.push_str(&text[at..part.start.max(at)]);
        out.push_str(with);
        at = part.end.max(at);
    }
    out + &text[at..range.end]
}
