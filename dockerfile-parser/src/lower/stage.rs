//! FROM.

use super::{Judge, origin};
use crate::diagnostic::code;
use crate::{Diagnostic, Node, Stage, Word};

impl Judge {
    /// The stage that a FROM opens.
    pub(super) fn stage(&mut self, node: &Node, index: usize) -> Option<Stage> {
        let flags = self.flags(node);
        let (base, name) = match node.args.as_slice() {
            [] => {
                self.missing_arguments(node, "`FROM image`, `FROM stage` or `FROM scratch`");
                return None;
            }
            [base] => (base, None),
            [base, word, name] if word.text.eq_ignore_ascii_case("as") => (base, Some(name)),
            [base, rest @ ..] => {
                self.bad_from(rest);
                // The stage is opened all the same, so that what follows is judged as its instructions.
                (base, None)
            }
        };
        let name = name.filter(|name| self.is_stage_name(name));
        Some(Stage {
            index,
            name: name.map(|name| name.text.to_lowercase()),
            name_as_written: name.map(|name| name.text.clone()),
            base: base.text.clone(),
            platform: flags.value("platform"),
            origin: origin(node),
            instructions: Vec::new(),
        })
    }

    fn bad_from(&mut self, rest: &[Word]) {
        let Some((first, more)) = rest.split_first() else { return };
        let mut diagnostic =
            Diagnostic::error(code::BAD_FROM, first.span, "FROM has neither one nor three arguments")
                .with_expected("`FROM base` or `FROM base AS name`");
        let word = &first.text;
        diagnostic = if word.starts_with('#') {
            diagnostic.with_hint("comments have lines of their own; `#` later in a line is ordinary text")
        } else if word.starts_with("--") {
            diagnostic.with_hint(format!("flags come before the base: `FROM {word} …`"))
        } else if word.eq_ignore_ascii_case("as") && more.is_empty() {
            diagnostic.with_hint("a stage name must follow `AS`")
        } else if more.is_empty() {
            diagnostic.with_hint(format!("to name the stage, write `AS {word}`"))
        } else {
            diagnostic.with_nearest(word, ["AS"])
        };
        self.report(diagnostic);
    }

    /// A letter, then letters, digits, dots, dashes and underscores, whatever the case.
    fn is_stage_name(&mut self, name: &Word) -> bool {
        let text = name.text.to_lowercase();
        let valid = text.starts_with(|ch: char| ch.is_ascii_lowercase())
            && text.chars().all(|ch| ch.is_ascii_lowercase() || ch.is_ascii_digit() || "-_.".contains(ch));
        if !valid {
            self.report(
                Diagnostic::error(
                    code::BAD_STAGE_NAME,
                    name.span,
                    format!("invalid stage name `{}`", name.text),
                )
                .with_expected("a letter, then letters, digits, `-`, `_` and `.`"),
            );
        }
        valid
    }
}
