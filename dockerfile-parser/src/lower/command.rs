//! CMD, ENTRYPOINT and SHELL.

use super::Judge;
use crate::diagnostic::code;
use crate::{CommandLine, Diagnostic, Node};

/// The arguments of a node as a command.
pub(super) fn line(node: &Node) -> CommandLine {
    let mut words = node.args.iter().map(|word| word.text.clone());
    if node.json {
        CommandLine::Exec(words.collect())
    } else {
        CommandLine::Shell(words.next().unwrap_or_default())
    }
}

impl Judge {
    pub(super) fn command(&mut self, node: &Node) -> Option<CommandLine> {
        self.flags(node);
        if node.args.is_empty() && !node.json {
            let name = node.keyword.to_uppercase();
            self.empty_command(node, &format!("to clear an inherited one, write `{name} []`"));
        }
        Some(line(node))
    }

    /// Warns of CMD, ENTRYPOINT and RUN alone. Peers build them: an empty command for the shell. It is never what was meant.
    pub(super) fn empty_command(&mut self, node: &Node, hint: &str) {
        let name = node.keyword.to_uppercase();
        let message = format!("{name} has no command");
        self.report(Diagnostic::warning(code::EMPTY_COMMAND, node.keyword_span, message).with_hint(hint));
    }

    pub(super) fn shell(&mut self, node: &Node) -> Option<Vec<String>> {
        self.flags(node);
        let example = "a JSON array, such as `SHELL [\"/bin/sh\", \"-c\"]`";
        if node.args.is_empty() {
            self.missing_arguments(node, example);
            return None;
        }
        if !node.json {
            let span = node.args.first().map_or(node.span, |word| word.span);
            self.report(
                Diagnostic::error(code::SHELL_NOT_JSON, span, "SHELL must be a JSON array")
                    .with_expected(example),
            );
            return None;
        }
        Some(node.args.iter().map(|word| word.text.clone()).collect())
    }
}
