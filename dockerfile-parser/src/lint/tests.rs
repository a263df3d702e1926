//! Every rule, fired and not.

mod buildkit;
mod errors;
mod own;
mod report;

use super::{LintOptions, LintReport, check};

/// A case: the recipe, and the codes of its warnings in their order, each with its line: `Rule:line`.
type Case = (&'static str, &'static [&'static str]);

fn options() -> LintOptions {
    LintOptions::default()
}

fn lint(source: &str) -> LintReport {
    check(source, &options())
}

/// The warnings of some rules, as `Rule:line`.
fn found(report: &LintReport, wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let warnings = report.warnings.iter().filter(|warning| wanted(warning.rule.code));
    warnings.map(|warning| format!("{}:{}", warning.rule.code, warning.line)).collect()
}

/// Runs cases, looking only at rules whose code begins so, and not at BaseNotPinned unless that is asked for.
fn run(prefix: &str, cases: &[Case]) {
    for (source, expected) in cases {
        let report = lint(source);
        let wanted = |code: &str| code.starts_with(prefix) && (code != "SW3005" || prefix == "SW3005");
        assert_eq!(found(&report, wanted), *expected, "{source}\n{:?}", report.errors);
    }
}

/// The messages of one rule.
fn messages(source: &str, options: &LintOptions, rule: &str) -> Vec<String> {
    let report = check(source, options);
    report.warnings.into_iter().filter(|found| found.rule.code == rule).map(|found| found.message).collect()
}
