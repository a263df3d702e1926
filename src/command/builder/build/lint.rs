//! What a build says of its recipe: BuildKit's rules, once, short, as buildx says them.

use super::{Arguments, Context, Parsed, pipeline};
use crate::{error::Failure, progress::Style, show};
use slipway_builder::history::Advice;
use slipway_dockerfile::lint::{self, LintOptions, LintReport};

/// What the check of a build knows besides the recipe.
pub(super) fn options(arguments: &Arguments, parsed: &Parsed, context: &Context) -> LintOptions {
    let mut options = LintOptions {
        build_args: parsed.build_args.clone(),
        target: arguments.target(),
        ignore_file: context.ignore.clone(),
        named_contexts: parsed.contexts.keys().cloned().collect(),
        ..LintOptions::default()
    };
    if let Some(platform) = arguments.platforms.first() {
        options.target_platform = platform.to_string();
    }
    options
}

/// A recipe's warnings.
pub(super) struct Warnings {
    report: LintReport,
    recipe_name: String,
    style: Style,
    /// All that the check says, rules of our own too.
    advice: Vec<Advice>,
}

impl Warnings {
    /// Checks the recipe. The rules that are only ours are `slipway check`'s to tell: a recipe with `error=true` that
    /// BuildKit builds is built. What makes a recipe no recipe is the build's own to tell.
    pub(super) fn of(context: &Context, options: &LintOptions, style: Style) -> Warnings {
        let mut report = lint::check(&context.recipe, options);
        let advice = report.warnings.iter().map(|warning| Advice {
            line: warning.line,
            rule: warning.rule.code.to_string(),
            message: warning.message.clone(),
        });
        let advice = advice.collect();
        report.warnings.retain(|warning| !warning.rule.is_own());
        report.errors.clear();
        Warnings { report, recipe_name: context.recipe_name.clone(), style, advice }
    }

    /// All that the check says, for the history.
    pub(super) fn advice(&self) -> Vec<Advice> {
        self.advice.clone()
    }

    /// Fails where the recipe or the caller says that warnings do.
    pub(super) fn fail(&self) -> Result<(), Failure> {
        match self.report.error() {
            Some(violation) => {
                self.show();
                Err(Failure::new(violation.message)
                    .with_hint("`# check=error=true` or its argument asks for this"))
            }
            None => Ok(()),
        }
    }

    /// Says them.
    pub(super) fn show(&self) {
        let warnings = &self.report.warnings;
        match self.style {
            _ if warnings.is_empty() => {}
            // what is asked for in so few words fails in as few
            Style::Quiet => {}
            Style::Github => pipeline::warned(&self.report, &self.recipe_name),
            Style::Json => {
                for warning in warnings {
                    show::note(serde_json::json!({
                        "event": "lint", "rule": warning.rule.code, "message": warning.message,
                        "line": warning.line, "url": warning.rule.url(),
                    }));
                }
            }
            _ => {
                let plural = if warnings.len() == 1 { "" } else { "s" };
                let count = warnings.len();
                show::note(format_args!("{count} warning{plural} found (`slipway check` tells more):"));
                for warning in warnings {
                    let (code, message, line) = (warning.rule.code, &warning.message, warning.line);
                    show::note(format_args!(" - {code}: {message} (line {line})"));
                }
            }
        }
    }
}
