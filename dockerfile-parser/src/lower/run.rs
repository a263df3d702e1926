//! RUN.

use super::flags::{Given, has_variable};
use super::transfer::stripped;
use super::{Judge, command};
use crate::diagnostic::code;
use crate::expand::Expander;
use crate::mount::{MountError, RunMount};
use crate::parse::heredoc_opening;
use crate::{CommandLine, Diagnostic, Heredoc, Node, Run, Span, Word};

impl Judge {
    pub(super) fn run(&mut self, node: &Node, heredocs: &[Heredoc]) -> Option<Run> {
        let flags = self.flags(node);
        self.run_flags(node, &flags);
        // BuildKit gives the shell an empty command for `RUN` alone, and has nothing to execute for `RUN []`
        // (client/llb/exec.go: "arguments are required")
        match (node.args.is_empty(), node.json) {
            (true, true) => {
                self.missing_arguments(node, "a command, a heredoc or a JSON array of words");
                return None;
            }
            (true, false) => self.empty_command(node, "it runs the shell with an empty command"),
            _ => {}
        }
        let (command, script) = command_and_script(node, heredocs);
        Some(Run {
            command,
            heredocs: heredocs.to_vec(),
            script,
            mounts: flags.values("mount"),
            network: flags.value("network"),
            security: flags.value("security"),
            devices: flags.values("device"),
        })
    }

    fn run_flags(&mut self, node: &Node, flags: &Given) {
        if let Some((network, span)) = flags.located("network") {
            self.choice("network", network, span, &["default", "none", "host"]);
        }
        if let Some((security, span)) = flags.located("security") {
            self.choice("security", security, span, &["sandbox", "insecure"]);
        }
        for (mount, span) in flags.all("mount") {
            self.check_mount(node, mount, span);
        }
    }

    /// Mounts without variables are judged now, the others when their values are known.
    fn check_mount(&mut self, node: &Node, mount: &str, span: Span) {
        let expander = Expander::new(self.escape);
        let result = if has_variable(mount) {
            RunMount::check(mount)
        } else {
            let mut expand = |text: &str| expander.expand(text, &|_| None).map(|expansion| expansion.value);
            RunMount::parse(mount, &mut expand).map(drop)
        };
        let Err(error) = result else { return };
        let code = match error {
            MountError::VariableInFrom { .. } => code::VARIABLE_NOT_ALLOWED,
            _ => code::BAD_MOUNT,
        };
        // The mark goes to the wrong field alone, if the flag stands in the source as its text does.
        let span = match (error.part(), node_flag(node, span)) {
            (Some(part), Some(flag)) => flag.part(&part).unwrap_or(span),
            _ => span,
        };
        let mut diagnostic = Diagnostic::error(code, span, error.to_string());
        diagnostic.hint = error.hint();
        diagnostic.expected = error.expected();
        self.report(diagnostic);
    }
}

fn node_flag(node: &Node, span: Span) -> Option<&Word> {
    node.flags.iter().find(|flag| flag.span == span)
}

/// What is run, and the heredoc when it is all there is.
///
/// A heredoc beside other words is the shell's business: its body is put back behind the text, as written.
fn command_and_script(node: &Node, heredocs: &[Heredoc]) -> (CommandLine, Option<Heredoc>) {
    let command = command::line(node);
    let (CommandLine::Shell(text), Some(first)) = (&command, heredocs.first()) else {
        return (command, None);
    };
    if heredoc_opening(text).is_some() {
        let script = stripped(first);
        return (CommandLine::Shell(script.content.clone()), Some(script));
    }
    let mut rebuilt = text.clone();
    for heredoc in heredocs {
        rebuilt.push('\n');
        rebuilt.push_str(&heredoc.content);
        rebuilt.push_str(&heredoc.name);
    }
    (CommandLine::Shell(rebuilt), None)
}
