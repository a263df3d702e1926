//! Comforts beyond the standard language, each lowered to plain Dockerfile text so that nobody is locked in.
//!
//! They are off unless the comment `# slipway: extensions` stands before the first instruction. Then [`lower`] turns
//! the recipe into a standard one:
//!
//! | Written | Becomes |
//! |---|---|
//! | `INCLUDE path` | the file's text; `path` is relative to the root of the build context |
//! | `COPY --from=${X} …` | a stage `FROM ${X} AS slipway-from-N` before this one, and `COPY --from=slipway-from-N …` |
//! | `COPY --optional a b` | `COPY [a] b`: a pattern that matches nothing is no error |
//! | `UNSET kind name…` | the standard instruction that comes nearest, see [`lower`] |
//!
//! `docs/extensions.md` has the rules. The result keeps a map of where each line came from, for messages.
//!
//! ```
//! let recipe = "# slipway: extensions\nFROM alpine\nINCLUDE tools.inc\n";
//! let lowered = slipway_dockerfile::extension::lower(recipe, &mut |_| Ok("RUN apk add git\n".to_owned())).unwrap();
//! assert!(lowered.text.ends_with("FROM alpine\nRUN apk add git\n"));
//! ```

mod from;
mod include;
mod map;
mod optional;
mod rewrite;
mod unset;

pub use map::{LineOrigin, Lowered};

use crate::diagnostic::code;
use crate::{Diagnostic, Dockerfile, Node, parse};

/// The comment that turns the extensions on.
pub const MARKER: &str = "slipway: extensions";

/// The instructions that only extensions have.
pub const KEYWORDS: [&str; 2] = ["INCLUDE", "UNSET"];

/// Deepest nesting of INCLUDE.
pub const MAX_INCLUDE_DEPTH: usize = 8;

/// Most INCLUDEs that one recipe may carry out.
pub const MAX_INCLUDES: usize = 100;

/// Longest text that INCLUDE may make.
pub const MAX_LOWERED_BYTES: usize = 16 * 1024 * 1024;

/// The extensions' diagnostics, in the manner of [`crate::diagnostic::CODES`].
pub const CODES: &[(&str, &str)] = &[
    (NOT_ENABLED, "an extension is used and the marker is missing"),
    (BAD_INCLUDE, "INCLUDE has no path, or one that leaves the context"),
    (UNREADABLE, "an included file cannot be read"),
    (TOO_MUCH, "INCLUDE goes in circles, too deep or too far"),
    (BAD_FRAGMENT, "an included file is not a piece of a recipe"),
    (BAD_FROM, "the variable in COPY --from is not one that FROM can use"),
    (BAD_OPTIONAL, "a source of COPY --optional cannot be made a pattern"),
    (BAD_UNSET, "UNSET does not name what to unset"),
    (NO_STANDARD_FORM, "no standard instruction can unset this"),
    (IN_TRIGGER, "an extension stands inside ONBUILD"),
];

const NOT_ENABLED: &str = "E0701";
const BAD_INCLUDE: &str = "E0702";
const UNREADABLE: &str = "E0703";
const TOO_MUCH: &str = "E0704";
const BAD_FRAGMENT: &str = "E0705";
const BAD_FROM: &str = "E0706";
const BAD_OPTIONAL: &str = "E0707";
const BAD_UNSET: &str = "E0708";
const NO_STANDARD_FORM: &str = "E0709";
const IN_TRIGGER: &str = "E0710";

/// Gives the text of the file at a path below the context's root. The path has been cleaned: it is relative, and no
/// component is `..`. Symbolic links are the loader's to confine.
pub type Loader<'a> = &'a mut dyn FnMut(&str) -> std::io::Result<String>;

/// Whether the marker stands before the first instruction.
pub fn is_enabled(file: &Dockerfile) -> bool {
    let first = file.nodes.first().map_or(usize::MAX, |node| node.span.start);
    file.comments
        .iter()
        .take_while(|comment| comment.span.start < first)
        .any(|comment| is_marker(&comment.text))
}

fn is_marker(text: &str) -> bool {
    text.split_whitespace().eq(MARKER.split(' '))
}

/// Whether `word` is an instruction of the extensions, in any case.
pub fn is_keyword(word: &str) -> bool {
    KEYWORDS.iter().any(|keyword| keyword.eq_ignore_ascii_case(word))
}

/// What UNSET can unset, in lower case.
pub fn unset_kinds() -> impl Iterator<Item = &'static str> {
    unset::KINDS.iter().map(|kind| kind.0)
}

/// Lowers a recipe to a standard one. Without the marker, and without anything that needs it, that is the recipe.
///
/// UNSET becomes `ENV name=`, `LABEL name=`, `ENTRYPOINT []`, `CMD []`, `HEALTHCHECK NONE`, `USER root`, `WORKDIR /`,
/// `STOPSIGNAL SIGTERM` or `SHELL ["/bin/sh", "-c"]`. For `volume`, `expose` and `onbuild` no standard form exists, and
/// lowering fails.
///
/// # Errors
/// What is wrong with the extensions, and every syntax error; places are in `source`, that of the INCLUDE for mistakes in
/// included files.
pub fn lower(source: &str, loader: Loader<'_>) -> Result<Lowered, Vec<Diagnostic>> {
    let parsed = parse(source);
    if !is_enabled(&parsed.file) {
        let found: Vec<_> = parsed.file.nodes.iter().filter_map(not_enabled).collect();
        return if found.is_empty() { Ok(Lowered::unchanged(source)) } else { Err(found) };
    }
    let errors: Vec<_> =
        parsed.diagnostics.iter().filter(|found| is_foreign(found, source)).cloned().collect();
    if !errors.is_empty() {
        return Err(errors);
    }
    let flat = include::expand(source, &parsed.file, loader)?;
    let escape = parsed.file.directives.escape;
    rewrite::rewrite(&flat, escape)
        .map_err(|found| found.iter().map(|found| flat.translate(found, source)).collect())
}

/// Whether a diagnostic is an error that the extensions do not explain.
fn is_foreign(found: &Diagnostic, source: &str) -> bool {
    let word = &source[found.span.start..found.span.end];
    found.is_error() && !(found.code == code::UNKNOWN_INSTRUCTION && is_keyword(word))
}

fn not_enabled(node: &Node) -> Option<Diagnostic> {
    if let Some(child) = &node.child {
        return not_enabled(child);
    }
    let name = node.keyword.to_uppercase();
    let (what, span) = if is_keyword(&node.keyword) {
        (format!("`{name}` is an extension"), node.keyword_span)
    } else {
        let flag = optional::flag(node)?;
        ("`--optional` is an extension".to_owned(), flag.span)
    };
    Some(
        Diagnostic::error(NOT_ENABLED, span, format!("{what} and extensions are off"))
            .with_hint(format!("to turn them on, write `# {MARKER}` above the first instruction")),
    )
}

#[cfg(test)]
mod tests;
