//! ONBUILD.

use super::Judge;
use crate::diagnostic::code;
use crate::{Diagnostic, Heredoc, Node, Onbuild};

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
        let instruction = self.instruction(child, heredocs)?;
        let mut text = child.original.clone();
        for heredoc in heredocs {
            text.push('\n');
            text.push_str(&heredoc.content);
            text.push_str(&heredoc.name);
        }
        Some(Onbuild { text, instruction: Box::new(instruction) })
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
