//! ONBUILD.

use super::Judge;
use crate::diagnostic::code;
use crate::{Diagnostic, Heredoc, Instruction, Keyword, Node, Onbuild};

impl Judge {
    pub(super) fn onbuild(&mut self, node: &Node, heredocs: &[Heredoc]) -> Option<Onbuild> {
        self.flags(node);
        let Some(child) = &node.child else {
            self.missing_arguments(node, "an instruction, such as `ONBUILD RUN make`");
            return None;
        };
        if !self.may_be_trigger(child) {
            return None;
        }
        let instruction = self.trigger(child, heredocs)?;
        let mut text = child.original.clone();
        for heredoc in heredocs {
            text.push('\n');
            text.push_str(&heredoc.content);
            text.push_str(&heredoc.name);
        }
        Some(Onbuild { text, instruction: instruction.map(Box::new) })
    }

    /// The trigger's instruction; `Some(None)` where only its firing will refuse it. BuildKit splits the words of a trigger
    /// and no more (instructions/parse.go `parseOnBuild`): what is wrong is told, and refused by the build that fires it.
    fn trigger(&mut self, child: &Node, heredocs: &[Heredoc]) -> Option<Option<Instruction>> {
        if Keyword::from_word(&child.keyword).is_none() {
            return Some(None);
        }
        if child.broken {
            return None;
        }
        let mut inner = Judge { diagnostics: Vec::new(), escape: self.escape };
        let instruction = inner.instruction(child, heredocs);
        let refused = inner.diagnostics.iter().any(Diagnostic::is_error);
        for diagnostic in inner.diagnostics {
            self.report(if diagnostic.is_error() { diagnostic.of_trigger() } else { diagnostic });
        }
        Some(instruction.filter(|_| !refused))
    }

    /// Whether the instruction may be a trigger; reports it if not.
    pub(super) fn may_be_trigger(&mut self, node: &Node) -> bool {
        let refused = matches!(node.keyword.as_str(), "onbuild" | "from" | "maintainer");
        if refused {
            let name = node.keyword.to_uppercase();
            self.report(
                Diagnostic::error(
                    code::ONBUILD_NOT_ALLOWED,
                    node.keyword_span,
                    format!("{name} cannot be a trigger"),
                )
                .with_expected("any instruction but FROM, MAINTAINER and ONBUILD"),
            );
        }
        !refused
    }
}
