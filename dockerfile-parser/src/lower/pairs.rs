//! ENV, LABEL and ARG.

use super::Judge;
use crate::diagnostic::code;
use crate::{ArgDeclaration, Diagnostic, KeyValue, Node, Span};

impl Judge {
    /// The pairs of ENV and LABEL.
    pub(super) fn pairs(&mut self, node: &Node) -> Option<Vec<KeyValue>> {
        self.flags(node);
        if node.pairs.is_empty() {
            self.missing_arguments(node, "`key=value`");
            return None;
        }
        let mut pairs = Vec::with_capacity(node.pairs.len());
        for pair in &node.pairs {
            if pair.key.is_empty() {
                self.blank_name(node, pair.span);
                return None;
            }
            pairs.push(KeyValue {
                key: pair.key.clone(),
                value: pair.value.clone(),
                legacy: pair.separator.is_empty(),
            });
        }
        Some(pairs)
    }

    pub(super) fn arg(&mut self, node: &Node) -> Option<Vec<ArgDeclaration>> {
        self.flags(node);
        if node.args.is_empty() {
            self.missing_arguments(node, "`name` or `name=default`");
            return None;
        }
        let mut declarations = Vec::with_capacity(node.args.len());
        for word in &node.args {
            let (name, default) = match word.text.split_once('=') {
                Some((name, default)) => (name, Some(default.to_owned())),
                None => (word.text.as_str(), None),
            };
            if name.is_empty() {
                self.blank_name(node, word.span);
                return None;
            }
            declarations.push(ArgDeclaration { name: name.to_owned(), default });
        }
        Some(declarations)
    }

    fn blank_name(&mut self, node: &Node, span: Span) {
        let name = node.keyword.to_uppercase();
        self.report(
            Diagnostic::error(code::BLANK_NAME, span, format!("a name in {name} is empty"))
                .with_expected("a name before the `=`"),
        );
    }
}
