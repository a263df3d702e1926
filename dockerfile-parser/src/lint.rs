//! Checks a recipe without building it: what would fail, and what is likely not meant.
//!
//! [`check`] is pure: no file, no network, no clock. It reports BuildKit's 22 rules under their names and Slipway's own
//! (`SWnnnn`) on shell and package managers, for every stage. What only a base image could tell, such as its environment,
//! is taken as harmless. `# check=skip=…;error=true;experimental=…` at the top, or above one instruction, is honoured.
//!
//! The way through the module: `view` joins syntax tree and typed recipe; `style` judges the tree alone; `stages` FROM
//! lines and how stages fit together; `walk` follows each stage with its `environment`; `run` splits the text of RUN into
//! commands (`shell`, `script`) and gives them to one file of rules a family. `reporter` collects and drops what is
//! skipped; `render` writes text, JSON and SARIF; `fix` applies the mechanical fixes.
//!
//! ```
//! use slipway_dockerfile::lint;
//! let report = lint::check("FROM scratch AS App\n", &lint::LintOptions::default());
//! assert_eq!(report.warnings[0].rule.code, "StageNameCasing");
//! assert!(!report.fails());
//! ```

mod codes;
mod environment;
mod fix;
mod limits;
mod reference;
mod render;
mod reporter;
mod rules;
mod run;
mod script;
mod secrets;
mod shell;
mod stages;
mod style;
mod view;
mod walk;

pub use fix::{AppliedFix, Edit, fix};
pub use render::{json, sarif, text};
pub use rules::{RULES, Rule, Standing};

use crate::{Diagnostic, LineIndex, RuleSelection, Span};
use reporter::Reporter;
use std::collections::BTreeMap;
use view::View;

/// What a check should know besides the recipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LintOptions {
    /// `--build-arg` values; `BUILDKIT_DOCKERFILE_CHECK` among them replaces the file's `check` directive.
    pub build_args: BTreeMap<String, String>,
    /// `--target`: errors of stages that it does not need do not count.
    pub target: Option<String>,
    /// The platform that is built for, `os/architecture[/variant]`.
    pub target_platform: String,
    /// The platform of this machine.
    pub build_platform: String,
    /// The text of the context's ignore file, if it has one.
    pub ignore_file: Option<String>,
    /// Names of contexts given with `--build-context`; each stands in for a stage or image of that name.
    pub named_contexts: Vec<String>,
    /// Rules to skip besides those that the file skips.
    pub skip: RuleSelection,
    /// Experimental rules to report besides those that the file asks for.
    pub experimental: RuleSelection,
    /// Whether warnings fail the check, whatever the file says.
    pub error: Option<bool>,
}

impl Default for LintOptions {
    fn default() -> Self {
        Self {
            build_args: BTreeMap::new(),
            target: None,
            target_platform: "linux/amd64".to_owned(),
            build_platform: "linux/amd64".to_owned(),
            ignore_file: None,
            named_contexts: Vec::new(),
            skip: RuleSelection::default(),
            experimental: RuleSelection::default(),
            error: None,
        }
    }
}

/// Something that is likely not meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The rule that it breaks.
    pub rule: &'static Rule,
    /// What is wrong, in one line. For BuildKit's rules these are BuildKit's words.
    pub message: String,
    /// The part to point at.
    pub span: Span,
    /// The line to report: for BuildKit's rules that of the instruction, as BuildKit has it; else that of the mark.
    pub line: u32,
    /// The column to report.
    pub column: u32,
    /// The last line.
    pub end_line: u32,
    /// How to mend it.
    pub hint: Option<String>,
    /// The edits that mend it, if that is mechanical.
    pub fix: Option<Vec<Edit>>,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LintReport {
    /// What is likely not meant, in the order of its places.
    pub warnings: Vec<Warning>,
    /// What would make the build fail, in the order of its places.
    pub errors: Vec<Diagnostic>,
    /// Whether warnings fail the check.
    pub warnings_fail: bool,
}

impl LintReport {
    /// Whether the check fails: the recipe would not build, or a warning counts as an error.
    pub fn fails(&self) -> bool {
        !self.errors.is_empty() || (self.warnings_fail && !self.warnings.is_empty())
    }

    /// The first reason why the check fails.
    pub fn error(&self) -> Option<Diagnostic> {
        if let Some(first) = self.errors.first() {
            return Some(first.clone());
        }
        let first = self.warnings.first().filter(|_| self.warnings_fail)?;
        let mut rules: Vec<&str> = Vec::new();
        for warning in &self.warnings {
            if !rules.contains(&warning.rule.code) {
                rules.push(warning.rule.code);
            }
        }
        let message = format!("lint violation found for rules: {}", rules.join(", "));
        Some(Diagnostic::error(codes::LINT_VIOLATION, first.span, message))
    }
}

/// Checks the text of a recipe. It never fails and never panics; whatever is wrong is in the report.
pub fn check(source: &str, options: &LintOptions) -> LintReport {
    let parsed = crate::parse(source);
    let lowered = crate::lower(&parsed.file);
    let index = LineIndex::new(source);
    let mut reporter = Reporter::new(&index, options, parsed.file.directives.check.as_ref());
    let view = View::new(&index, &parsed.file, &lowered.recipe);
    style::check(&view, &parsed, &mut reporter);
    let all = parsed.diagnostics.iter().chain(&lowered.diagnostics);
    style::parser_warnings(&parsed.file.nodes, all, &mut reporter);
    let found = parsed.diagnostics.into_iter().chain(lowered.diagnostics);
    found.filter(Diagnostic::is_error).for_each(|diagnostic| reporter.error(diagnostic));
    let has_stages = !view.stages.is_empty();
    if has_stages {
        let graph = stages::check(&view, options, &mut reporter);
        walk::check(&view, &graph, options, &mut reporter);
    }
    let warnings_fail = reporter.warnings_fail();
    let Reporter { mut warnings, mut errors, .. } = reporter;
    warnings.sort_by_key(|warning| (warning.line, warning.span.start, warning.rule.code));
    errors.sort_by_key(|error| (error.span.start, error.code));
    LintReport { warnings, errors, warnings_fail }
}

#[cfg(test)]
mod tests;
