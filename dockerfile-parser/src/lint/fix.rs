//! Mechanical fixes: edits of the source, and how they are applied.

use super::limits::MAX_FIX_ROUNDS;
use super::{LintOptions, LintReport, Warning, check};

/// A replacement of bytes of the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// First byte replaced.
    pub start: usize,
    /// One past the last byte replaced.
    pub end: usize,
    /// What stands there afterwards.
    pub text: String,
}

impl Edit {
    /// Puts `text` in front of byte `at`.
    pub(super) fn insert(at: usize, text: impl Into<String>) -> Self {
        Self { start: at, end: at, text: text.into() }
    }

    /// Puts `text` in place of the bytes `start..end`.
    pub(super) fn replace(start: usize, end: usize, text: impl Into<String>) -> Self {
        Self { start, end, text: text.into() }
    }
}

/// A fix that was applied, for telling people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppliedFix {
    /// The rule's code.
    pub rule: &'static str,
    /// The line it was about, in the text of its round.
    pub line: u32,
    /// The warning's message.
    pub message: String,
}

/// The source with every fix applied, and what was done.
///
/// Fixes that overlap wait for the next round, so that the result needs no further fix of these rules. A round must
/// leave fewer warnings of every rule that it mends and no new error; where it does not, as may be in a script with an
/// open quote, it is taken back and the rule left to people.
pub fn fix(source: &str, options: &LintOptions) -> (String, Vec<AppliedFix>) {
    let mut text = source.to_owned();
    let mut applied = Vec::new();
    let mut given_up: Vec<&'static str> = Vec::new();
    let mut report = check(&text, options);
    let mut progressed = false;
    for _ in 0..MAX_FIX_ROUNDS {
        let chosen = choose(&report, &given_up);
        let mut edits: Vec<&Edit> =
            chosen.iter().filter_map(|warning| warning.fix.as_ref()).flatten().collect();
        if edits.is_empty() {
            // What was taken back may go well in the text as it has become.
            if !std::mem::take(&mut progressed) || given_up.is_empty() {
                break;
            }
            given_up.clear();
            continue;
        }
        edits.sort_by_key(|edit| (edit.start, edit.end));
        let mended = apply(&text, &edits);
        let after = check(&mended, options);
        let stuck = stuck(&chosen, &report, &after);
        if !stuck.is_empty() {
            given_up.extend(stuck);
            continue;
        }
        let done = |warning: &&Warning| AppliedFix {
            rule: warning.rule.code,
            line: warning.line,
            message: warning.message.clone(),
        };
        applied.extend(chosen.iter().map(done));
        (text, report) = (mended, after);
        progressed = true;
    }
    (text, applied)
}

/// The warnings whose fixes do not overlap.
fn choose<'r>(report: &'r LintReport, given_up: &[&str]) -> Vec<&'r Warning> {
    let mut chosen: Vec<&Warning> = Vec::new();
    for warning in &report.warnings {
        let Some(own) = warning.fix.as_ref().filter(|_| !given_up.contains(&warning.rule.code)) else {
            continue;
        };
        let mut taken = chosen.iter().filter_map(|warning| warning.fix.as_ref()).flatten();
        if !taken.any(|taken| own.iter().any(|edit| overlap(edit, taken))) {
            chosen.push(warning);
        }
    }
    chosen
}

/// The rules among the mended ones that a round did not help; all of them when it broke something.
fn stuck(chosen: &[&Warning], before: &LintReport, after: &LintReport) -> Vec<&'static str> {
    let count = |report: &LintReport, code: &str| {
        report.warnings.iter().filter(|warning| warning.rule.code == code).count()
    };
    let breaks = after.errors.len() > before.errors.len();
    let codes = chosen.iter().map(|warning| warning.rule.code);
    codes.filter(|code| breaks || count(after, code) >= count(before, code)).collect()
}

/// Whether two edits touch: insertions at one place do, for their order would be a guess.
fn overlap(a: &Edit, b: &Edit) -> bool {
    a.start <= b.end && b.start <= a.end
}

fn apply(source: &str, edits: &[&Edit]) -> String {
    let mut out = String::with_capacity(source.len());
    let mut at = 0;
    for edit in edits {
        out.push_str(source.get(at..edit.start).unwrap_or_default());
        out.push_str(&edit.text);
        at = edit.end.max(at);
    }
    out.push_str(source.get(at..).unwrap_or_default());
    out
}
