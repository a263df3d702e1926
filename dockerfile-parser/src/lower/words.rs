//! The instructions that are a word or a list of words: EXPOSE, VOLUME, USER, WORKDIR, STOPSIGNAL, MAINTAINER.

use super::Judge;
use crate::diagnostic::code;
use crate::{Diagnostic, Node};

impl Judge {
    /// The one argument of USER, WORKDIR, STOPSIGNAL and MAINTAINER: the whole rest of the line.
    pub(super) fn one_word(&mut self, node: &Node, expected: &str) -> Option<String> {
        self.flags(node);
        let Some(word) = node.args.first() else {
            self.missing_arguments(node, expected);
            return None;
        };
        Some(word.text.clone())
    }

    pub(super) fn expose(&mut self, node: &Node) -> Option<Vec<String>> {
        self.flags(node);
        if node.args.is_empty() {
            self.missing_arguments(node, "ports such as `80`, `53/udp` or `8000-8010`");
            return None;
        }
        Some(node.args.iter().map(|word| word.text.clone()).collect())
    }

    pub(super) fn volume(&mut self, node: &Node) -> Option<Vec<String>> {
        self.flags(node);
        if node.args.is_empty() {
            self.missing_arguments(node, "paths, as words or as a JSON array");
            return None;
        }
        if let Some(empty) = node.args.iter().find(|word| word.text.trim().is_empty()) {
            self.report(Diagnostic::error(code::EMPTY_VOLUME, empty.span, "a volume's path is empty"));
            return None;
        }
        Some(node.args.iter().map(|word| word.text.trim().to_owned()).collect())
    }
}
