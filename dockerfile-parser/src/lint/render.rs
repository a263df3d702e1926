//! A report as text for people, as JSON, and as SARIF 2.1.0.

use super::{LintReport, RULES, Rule, Standing, Warning};
use crate::{Diagnostic, LineIndex};
use serde::Serialize;
use serde_json::{Value, json as value};

/// What a report calls itself where a format asks for a tool's name.
const TOOL: &str = "slipway";

#[derive(Serialize)]
struct Entry<'e> {
    rule: &'e str,
    line: u32,
    column: u32,
    end_line: u32,
    message: &'e str,
    hint: Option<&'e str>,
    url: Option<String>,
}

#[derive(Serialize)]
struct Report<'e> {
    warnings: Vec<Entry<'e>>,
    error: Option<Entry<'e>>,
}

/// The report as `{"warnings":[…],"error":…}` in one line. Of several errors the first is the one.
pub fn json(report: &LintReport, source: &str) -> String {
    let index = LineIndex::new(source);
    let error = report.error();
    let entry = |error| -> Entry<'_> {
        let error: &Diagnostic = error;
        Entry {
            rule: error.code,
            line: error.span.line,
            column: error.span.column,
            end_line: last_line(&index, error),
            message: &error.message,
            hint: error.hint.as_deref().or(error.expected.as_deref()),
            url: None,
        }
    };
    let whole = Report {
        warnings: report.warnings.iter().map(warning_entry).collect(),
        error: error.as_ref().map(entry),
    };
    serde_json::to_string(&whole).expect("strings and numbers are JSON")
}

fn warning_entry(warning: &Warning) -> Entry<'_> {
    Entry {
        rule: warning.rule.code,
        line: warning.line,
        column: warning.column,
        end_line: warning.end_line,
        message: &warning.message,
        hint: warning.hint.as_deref(),
        url: Some(warning.rule.url()),
    }
}

fn last_line(index: &LineIndex<'_>, error: &Diagnostic) -> u32 {
    index.position(error.span.end.saturating_sub(1).max(error.span.start)).0.max(error.span.line)
}

impl Warning {
    /// The warning as a diagnostic, for showing it.
    pub fn diagnostic(&self) -> Diagnostic {
        let name = (self.rule.name != self.rule.code).then(|| format!("{}: ", self.rule.name));
        // users of the binary have no docs/ folder, but the page is in the binary
        let url = self.rule.url();
        let place = if url.starts_with("docs/") {
            format!("slipway check --explain {}", self.rule.code)
        } else {
            url
        };
        let note = format!("{}see {place}", name.unwrap_or_default());
        let found = Diagnostic::warning(self.rule.code, self.span, &self.message).with_note(note, None);
        match &self.hint {
            Some(hint) => found.with_hint(hint),
            None => found,
        }
    }
}

/// The report as text: every error and warning with its excerpt, then a line that counts them.
pub fn text(report: &LintReport, source: &str, file_name: &str, color: bool) -> String {
    let mut found: Vec<Diagnostic> = report.warnings.iter().map(Warning::diagnostic).collect();
    found.extend(report.errors.iter().cloned());
    found.sort_by_key(|diagnostic| (diagnostic.span.start, diagnostic.code));
    let mut out = String::new();
    for diagnostic in &found {
        out.push_str(&diagnostic.render(source, file_name, color));
        out.push('\n');
    }
    let plural = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    let (errors, warnings) = (report.errors.len(), report.warnings.len());
    let fixable = report.warnings.iter().filter(|warning| warning.fix.is_some()).count();
    let summary = match (errors, warnings) {
        (0, 0) => "no warnings".to_owned(),
        (0, _) => plural(warnings, "warning"),
        (_, 0) => plural(errors, "error"),
        _ => format!("{}, {}", plural(errors, "error"), plural(warnings, "warning")),
    };
    out.push_str(&summary);
    if fixable > 0 {
        out.push_str(&format!("; {fixable} can be mended with --fix"));
    }
    if errors == 0 && report.fails() {
        out.push_str("; warnings count as errors here");
    }
    out.push('\n');
    out
}

/// The report as SARIF 2.1.0. `uri` names the recipe; `version` is the tool's.
pub fn sarif(report: &LintReport, source: &str, uri: &str, version: &str) -> String {
    let index = LineIndex::new(source);
    let rules: Vec<Value> = RULES.iter().map(|rule| sarif_rule(rule)).collect();
    let mut results: Vec<Value> = report.errors.iter().map(|error| sarif_error(error, &index, uri)).collect();
    results.extend(report.warnings.iter().map(|warning| sarif_warning(warning, report, &index, uri)));
    let whole = value!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {"name": TOOL, "version": version, "rules": rules}},
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    });
    serde_json::to_string_pretty(&whole).expect("a value is JSON")
}

fn sarif_rule(rule: &Rule) -> Value {
    let mut found = value!({
        "id": rule.code,
        "name": rule.name,
        "shortDescription": {"text": rule.description},
        "defaultConfiguration": {"level": "warning", "enabled": rule.standing == Standing::On},
    });
    // `helpUri` must be absolute; a page of this project is not.
    match rule.url() {
        url if url.starts_with("https://") => found["helpUri"] = value!(url),
        page => found["help"] = value!({"text": format!("see {page}")}),
    }
    found
}

fn region(index: &LineIndex<'_>, start: usize, end: usize) -> Value {
    let ((line, column), (end_line, end_column)) = (index.position(start), index.position(end.max(start)));
    value!({"startLine": line, "startColumn": column, "endLine": end_line, "endColumn": end_column})
}

fn location(index: &LineIndex<'_>, start: usize, end: usize, uri: &str) -> Value {
    value!([{"physicalLocation": {"artifactLocation": {"uri": uri}, "region": region(index, start, end)}}])
}

fn with_hint(message: &str, hint: Option<&str>) -> String {
    hint.map_or_else(|| message.to_owned(), |hint| format!("{message}: {hint}"))
}

fn sarif_error(error: &Diagnostic, index: &LineIndex<'_>, uri: &str) -> Value {
    let hint = error.hint.as_deref().or(error.expected.as_deref());
    value!({
        "ruleId": error.code,
        "level": "error",
        "message": {"text": with_hint(&error.message, hint)},
        "locations": location(index, error.span.start, error.span.end, uri),
    })
}

fn sarif_warning(warning: &Warning, report: &LintReport, index: &LineIndex<'_>, uri: &str) -> Value {
    let mut result = value!({
        "ruleId": warning.rule.code,
        "ruleIndex": RULES.iter().position(|rule| std::ptr::eq(*rule, warning.rule)),
        "level": if report.warnings_fail { "error" } else { "warning" },
        "message": {"text": with_hint(&warning.message, warning.hint.as_deref())},
        "locations": location(index, warning.span.start, warning.span.end, uri),
    });
    if let Some(edits) = &warning.fix {
        let replacements: Vec<Value> = edits
            .iter()
            .map(|edit| {
                value!({
                    "deletedRegion": region(index, edit.start, edit.end),
                    "insertedContent": {"text": edit.text},
                })
            })
            .collect();
        let changes = value!([{"artifactLocation": {"uri": uri}, "replacements": replacements}]);
        let hint = warning.hint.as_deref().unwrap_or("mend it");
        result["fixes"] = value!([{"description": {"text": hint}, "artifactChanges": changes}]);
    }
    result
}
