//! The syntax tree and the typed recipe side by side: rules need the places of the one and the meaning of the other.

use crate::{Dockerfile, Instruction, LineIndex, Node, Recipe, Span, Stage};
use std::collections::HashMap;

/// An instruction as written, and what it means if that could be understood.
#[derive(Clone, Copy)]
pub(super) struct Unit<'a> {
    pub(super) node: &'a Node,
    pub(super) instruction: Option<&'a Instruction>,
}

/// A FROM and the instructions after it.
pub(super) struct StageView<'a> {
    pub(super) index: usize,
    pub(super) node: &'a Node,
    pub(super) stage: Option<&'a Stage>,
    pub(super) units: Vec<Unit<'a>>,
}

impl StageView<'_> {
    /// Name or number, for messages.
    pub(super) fn label(&self) -> String {
        let name = self.stage.and_then(|stage| stage.name.clone());
        name.unwrap_or_else(|| format!("stage-{}", self.index))
    }
}

pub(super) struct View<'a> {
    pub(super) index: &'a LineIndex<'a>,
    pub(super) escape: char,
    pub(super) globals: Vec<Unit<'a>>,
    pub(super) stages: Vec<StageView<'a>>,
}

impl<'a> View<'a> {
    pub(super) fn new(index: &'a LineIndex<'a>, file: &'a Dockerfile, recipe: &'a Recipe) -> Self {
        let stages: HashMap<usize, &Stage> =
            recipe.stages.iter().map(|stage| (stage.origin.span.start, stage)).collect();
        let in_stages = recipe.stages.iter().flat_map(|stage| &stage.instructions);
        let instructions: HashMap<usize, &Instruction> = recipe
            .global_args
            .iter()
            .chain(in_stages)
            .map(|located| (located.origin.span.start, &located.instruction))
            .collect();
        let mut view =
            Self { index, escape: file.directives.escape, globals: Vec::new(), stages: Vec::new() };
        for node in &file.nodes {
            if node.keyword == "from" {
                let stage = stages.get(&node.span.start).copied();
                view.stages.push(StageView { index: view.stages.len(), node, stage, units: Vec::new() });
                continue;
            }
            let unit = Unit { node, instruction: instructions.get(&node.span.start).copied() };
            match view.stages.last_mut() {
                Some(stage) => stage.units.push(unit),
                None => view.globals.push(unit),
            }
        }
        view
    }

    pub(super) fn source(&self) -> &'a str {
        self.index.source()
    }

    /// The source of a span.
    pub(super) fn text(&self, span: Span) -> &'a str {
        self.source().get(span.start..span.end).unwrap_or_default()
    }

    /// The keyword in the case it was written in.
    pub(super) fn keyword(&self, node: &Node) -> &'a str {
        self.text(node.keyword_span)
    }

    /// The place of `$name` or `${name` in an instruction, or the whole instruction.
    pub(super) fn variable(&self, node: &Node, name: &str) -> Span {
        let text = self.text(node.span);
        for form in [format!("${{{name}"), format!("${name}")] {
            let found = text.match_indices(&form).find(|(at, _)| {
                let after = text[at + form.len()..].chars().next();
                !after.is_some_and(|ch| ch.is_alphanumeric() || ch == '_')
            });
            if let Some((at, _)) = found {
                let closed = form.starts_with("${") && text[at + form.len()..].starts_with('}');
                let start = node.span.start + at;
                return self.index.span(start, start + form.len() + usize::from(closed));
            }
        }
        self.first_line(node)
    }

    /// The first line of an instruction.
    pub(super) fn first_line(&self, node: &Node) -> Span {
        let line = self.index.line_text(node.start_line);
        let end = (self.index.line_start(node.start_line) + line.trim_end().len()).min(node.span.end);
        self.index.span(node.span.start, end.max(node.span.start))
    }
}
