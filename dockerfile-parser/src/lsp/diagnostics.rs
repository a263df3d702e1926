//! What is wrong with a document, for the editor to mark.

use super::position::Places;
use crate::diagnostic::code;
use crate::lint::{self, LintOptions};
use crate::{Diagnostic, Severity, extension, lower, parse};
use serde_json::{Value, json};

/// Most marks sent for one document.
const MAX_MARKS: usize = 500;

/// The protocol's severities.
const ERROR: u32 = 1;
const WARNING: u32 = 2;

/// The diagnostics of parsing, judging and linting. Extensions are lowered first; what INCLUDE names is taken as empty,
/// for nothing is read here.
pub(super) fn of(text: &str, uri: &str) -> Value {
    let places = Places::new(text);
    let (found, warnings) = match extension::lower(text, &mut |_| Ok(String::new())) {
        Err(found) => (found, Vec::new()),
        Ok(plain) => {
            let parsed = parse(&plain.text);
            let judged = lower(&parsed.file).diagnostics;
            let found = parsed.diagnostics.into_iter().chain(judged);
            // The linter says this one too, under the name that can be skipped.
            let found = found.filter(|found| found.code != code::EMPTY_CONTINUATION);
            // A recipe without extensions is what it was; translating each of its diagnostics would only take time.
            let place =
                |found: Diagnostic| if plain.text == text { found } else { plain.translate(&found, text) };
            let found = found.take(MAX_MARKS).map(place).collect();
            let report = lint::check(&plain.text, &LintOptions::default());
            let warnings = report.warnings.into_iter().take(MAX_MARKS).map(|warning| {
                let mut found = Diagnostic::warning(warning.rule.code, warning.span, warning.message);
                found.hint = warning.hint;
                place(found)
            });
            (found, warnings.collect())
        }
    };
    let marks = found.iter().chain(&warnings).take(MAX_MARKS);
    marks.map(|found| mark(found, &places, uri)).collect()
}

fn mark(found: &Diagnostic, places: &Places<'_>, uri: &str) -> Value {
    let mut message = found.message.clone();
    if let Some(expected) = &found.expected {
        message += &format!("\nexpected {expected}");
    }
    if let Some(hint) = &found.hint {
        message += &format!("\nhint: {hint}");
    }
    let related: Vec<_> = found
        .notes
        .iter()
        .filter_map(|note| {
            let span = note.span?;
            let location = json!({"uri": uri, "range": places.range(span.start, span.end)});
            Some(json!({"location": location, "message": note.message}))
        })
        .collect();
    json!({
        "range": places.range(found.span.start, found.span.end),
        "severity": if found.severity == Severity::Error { ERROR } else { WARNING },
        "code": found.code,
        "source": "slipway",
        "message": message,
        "relatedInformation": related,
    })
}
