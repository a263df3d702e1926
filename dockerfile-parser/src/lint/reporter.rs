//! Collects what the rules find, and drops what directives skip.

use super::fix::Edit;
use super::limits::MAX_WARNINGS;
use super::rules::{Rule, Standing};
use super::{LintOptions, Warning};
use crate::diagnostic::code;
use crate::{CheckDirective, Diagnostic, LineIndex, Node, RuleSelection, Span};

/// What the options, the build argument and the file's own directive ask for together.
#[derive(Debug, Default)]
struct Settings {
    skip: RuleSelection,
    experimental: RuleSelection,
    error: bool,
}

impl Settings {
    fn merge(&mut self, skip: &RuleSelection, experimental: &RuleSelection) {
        for (own, other) in [(&mut self.skip, skip), (&mut self.experimental, experimental)] {
            own.all |= other.all;
            own.names.extend(other.names.iter().cloned());
        }
    }
}

pub(super) struct Reporter<'a> {
    index: &'a LineIndex<'a>,
    settings: Settings,
    pub(super) warnings: Vec<Warning>,
    pub(super) errors: Vec<Diagnostic>,
}

impl<'a> Reporter<'a> {
    pub(super) fn new(
        index: &'a LineIndex<'a>,
        options: &LintOptions,
        directive: Option<&CheckDirective>,
    ) -> Self {
        let mut reporter =
            Self { index, settings: Settings::default(), warnings: Vec::new(), errors: Vec::new() };
        // The build argument stands in the directive's place; it does not add to it.
        let given = options.build_args.get(CHECK_ARGUMENT).map(|text| CheckDirective::parse(text));
        let directive = match &given {
            Some(Ok(given)) => Some(given),
            Some(Err(problem)) => {
                let message = format!("invalid build argument `{CHECK_ARGUMENT}`: {problem}");
                reporter.error(
                    Diagnostic::error(code::BAD_CHECK_DIRECTIVE, index.span(0, 0), message)
                        .with_expected("`skip=`, `error=` and `experimental=` parts, separated by `;`"),
                );
                None
            }
            None => directive,
        };
        if let Some(directive) = directive {
            reporter.settings.merge(&directive.skip, &directive.experimental);
            reporter.settings.error = directive.error;
        }
        reporter.settings.merge(&options.skip, &options.experimental);
        reporter.settings.error = options.error.unwrap_or(reporter.settings.error);
        reporter
    }

    /// Whether warnings fail the check.
    pub(super) fn warnings_fail(&self) -> bool {
        self.settings.error
    }

    fn is_wanted(&self, rule: &Rule, node: Option<&Node>) -> bool {
        let own = node.and_then(|node| node.check.as_ref());
        let named = |selection: &RuleSelection| selection.names.iter().any(|name| rule.is_called(name));
        if named(&self.settings.skip) || own.is_some_and(|own| named(&own.skip)) {
            return false;
        }
        match rule.standing {
            Standing::On => !self.settings.skip.all && !own.is_some_and(|own| own.skip.all),
            // As in BuildKit, `skip=all` does not reach what was asked for by name.
            Standing::Experimental => {
                let wanted = |selection: &RuleSelection| selection.all || named(selection);
                wanted(&self.settings.experimental) || own.is_some_and(|own| wanted(&own.experimental))
            }
        }
    }

    /// Reports a rule about an instruction; `mark` is the part to point at.
    ///
    /// The line is the instruction's first, as BuildKit reports it, for its rules; for others it is the mark's.
    pub(super) fn warn<'r>(
        &'r mut self,
        node: &Node,
        rule: &'static Rule,
        mark: Span,
        message: impl Into<String>,
    ) -> Found<'r> {
        if !self.is_wanted(rule, Some(node)) || self.warnings.len() >= MAX_WARNINGS {
            return Found(None);
        }
        let own = rule.code.starts_with("SW");
        let line = if own { mark.line } else { node.start_line };
        let column = if mark.line == line { mark.column } else { node.span.column };
        let end_line = if own { self.last_line(mark) } else { node.end_line };
        let message = message.into();
        if self
            .warnings
            .iter()
            .any(|known| std::ptr::eq(known.rule, rule) && known.message == message && known.span == mark)
        {
            return Found(None);
        }
        self.warnings.push(Warning {
            rule,
            message,
            span: mark,
            line,
            column,
            end_line,
            hint: None,
            fix: None,
        });
        Found(self.warnings.last_mut())
    }

    pub(super) fn error(&mut self, diagnostic: Diagnostic) {
        if self.errors.len() < MAX_WARNINGS && !self.errors.contains(&diagnostic) {
            self.errors.push(diagnostic);
        }
    }

    /// The line of the last byte of a span.
    fn last_line(&self, span: Span) -> u32 {
        self.index.position(span.end.saturating_sub(1).max(span.start)).0
    }
}

/// The build argument that replaces a file's `check` directive.
const CHECK_ARGUMENT: &str = "BUILDKIT_DOCKERFILE_CHECK";

/// A warning just reported, or nothing when it was skipped; what is added to nothing is dropped.
pub(super) struct Found<'r>(Option<&'r mut Warning>);

impl Found<'_> {
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        if let Some(warning) = &mut self.0 {
            warning.hint = Some(hint.into());
        }
        self
    }

    pub(super) fn at_line(mut self, line: u32) -> Self {
        if let Some(warning) = &mut self.0 {
            (warning.line, warning.end_line) = (line, line);
        }
        self
    }

    pub(super) fn fix(self, edit: Edit) -> Self {
        self.fix_all(Some(vec![edit]))
    }

    pub(super) fn fix_all(mut self, edits: Option<Vec<Edit>>) -> Self {
        if let Some(warning) = &mut self.0 {
            warning.fix = edits;
        }
        self
    }
}
