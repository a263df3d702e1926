//! Rules that look at the text alone: casing, names, comments, blank lines.

use super::fix::Edit;
use super::reporter::Reporter;
use super::rules::{self, Rule};
use super::view::{StageView, View};
use crate::diagnostic::code;
use crate::{Diagnostic, Keyword, Node, Parsed};

/// Warnings of the parser, and the rules that they are reported as.
const PARSER_WARNINGS: [(&str, &Rule); 5] = [
    (code::LOOKS_LIKE_JSON, &rules::LOOKS_LIKE_JSON),
    (code::EMPTY_FLAG_VALUE, &rules::EMPTY_FLAG),
    (code::LATE_DIRECTIVE, &rules::LATE_DIRECTIVE),
    (code::EMPTY_COMMAND, &rules::EMPTY_COMMAND),
    (code::REFUSED_TRIGGER, &rules::REFUSED_TRIGGER),
];

/// Reports what parsing and lowering only warn of.
pub(super) fn parser_warnings<'d>(
    nodes: &[Node],
    diagnostics: impl Iterator<Item = &'d Diagnostic>,
    reporter: &mut Reporter<'_>,
) {
    for diagnostic in diagnostics {
        let Some((_, rule)) = PARSER_WARNINGS.iter().find(|(code, _)| *code == diagnostic.code) else {
            continue;
        };
        // A comment belongs to the instruction after it.
        let at = diagnostic.span.start;
        let Some(node) = nodes.iter().find(|node| node.span.end > at).or(nodes.last()) else { continue };
        let found = reporter.warn(node, rule, diagnostic.span, diagnostic.message.clone());
        if let Some(hint) = diagnostic.hint.as_ref().or(diagnostic.expected.as_ref()) {
            found.hint(hint.clone());
        }
    }
}

pub(super) fn check(view: &View<'_>, parsed: &Parsed, reporter: &mut Reporter<'_>) {
    empty_continuations(view, parsed, reporter);
    instruction_casing(view, reporter);
    let mut names = Vec::new();
    for stage in &view.stages {
        as_casing(view, stage, reporter);
        stage_name(stage, &mut names, reporter);
        description(view, stage.node, reporter);
    }
    let units = view.globals.iter().chain(view.stages.iter().flat_map(|stage| &stage.units));
    for unit in units {
        match unit.node.keyword.as_str() {
            "arg" => description(view, unit.node, reporter),
            "maintainer" => maintainer(view, unit.node, reporter),
            _ => {}
        }
    }
}

/// Rule NoEmptyContinuation. BuildKit reports the line on which the instruction's text ends; the mark is the blank line.
fn empty_continuations(view: &View<'_>, parsed: &Parsed, reporter: &mut Reporter<'_>) {
    let found = parsed.diagnostics.iter().filter(|diagnostic| diagnostic.code == code::EMPTY_CONTINUATION);
    for diagnostic in found {
        let at = diagnostic.span.start;
        let holds = |node: &&Node| node.span.start <= at && at <= node.span.end;
        let Some(node) = parsed.file.nodes.iter().find(holds) else { continue };
        let last = match node.heredocs.first() {
            Some(heredoc) => heredoc.span.line.saturating_sub(1).max(node.start_line),
            None => node.end_line,
        };
        let mut after = diagnostic.span.line + 1;
        while after < node.end_line && view.index.line_text(after).trim().is_empty() {
            after += 1;
        }
        let (start, end) = (view.index.line_start(diagnostic.span.line), view.index.line_start(after));
        reporter
            .warn(node, &rules::NO_EMPTY_CONTINUATION, diagnostic.span, "Empty continuation line")
            .at_line(last)
            .hint("remove the blank line, or put a comment there")
            .fix(Edit::replace(start, end, ""));
    }
}

/// Rule ConsistentInstructionCasing: every keyword in the case that most have; upper case when they are even.
fn instruction_casing(view: &View<'_>, reporter: &mut Reporter<'_>) {
    let nodes = || {
        view.stages
            .iter()
            .flat_map(|stage| std::iter::once(stage.node).chain(stage.units.iter().map(|unit| unit.node)))
            .filter(|node| Keyword::from_word(&node.keyword).is_some())
            .filter(|node| view.keyword(node).eq_ignore_ascii_case(&node.keyword))
    };
    let lower = nodes().filter(|node| view.keyword(node) == node.keyword).count();
    let upper = nodes().filter(|node| view.keyword(node) == node.keyword.to_uppercase()).count();
    for node in nodes() {
        let written = view.keyword(node);
        let (right, word) = match lower > upper {
            true => (written.to_lowercase(), "lowercase"),
            false => (written.to_uppercase(), "uppercase"),
        };
        if written == right {
            continue;
        }
        let message = format!("Command '{written}' should match the case of the command majority ({word})");
        let span = node.keyword_span;
        reporter
            .warn(node, &rules::CONSISTENT_INSTRUCTION_CASING, span, message)
            .hint(format!("write `{right}`"))
            .fix(Edit::replace(span.start, span.end, right));
    }
}

/// Rule FromAsCasing. A FROM of mixed case is another rule's business.
fn as_casing(view: &View<'_>, stage: &StageView<'_>, reporter: &mut Reporter<'_>) {
    let [_, word, _] = stage.node.args.as_slice() else { return };
    let from = view.keyword(stage.node);
    let right = match from {
        _ if from == from.to_lowercase() => "as",
        _ if from == from.to_uppercase() => "AS",
        _ => return,
    };
    if word.text != right && word.text.eq_ignore_ascii_case("as") {
        let message = format!("'{}' and '{from}' keywords' casing do not match", word.text);
        reporter
            .warn(stage.node, &rules::FROM_AS_CASING, word.span, message)
            .hint(format!("write `{right}`"))
            .fix(Edit::replace(word.span.start, word.span.end, right));
    }
}

/// Rules StageNameCasing, ReservedStageName and DuplicateStageName.
fn stage_name(stage: &StageView<'_>, names: &mut Vec<String>, reporter: &mut Reporter<'_>) {
    let node = stage.node;
    let Some((name, written)) =
        stage.stage.and_then(|found| Some((found.name.as_ref()?, found.name_as_written.as_ref()?)))
    else {
        return;
    };
    let span = node.args.last().map_or(node.keyword_span, |word| word.span);
    if written != name {
        reporter
            .warn(
                node,
                &rules::STAGE_NAME_CASING,
                span,
                format!("Stage name '{written}' should be lowercase"),
            )
            .hint(format!("write `{name}`; names are compared without case"))
            .fix(Edit::replace(span.start, span.end, name.clone()));
    }
    if name == "scratch" || name == "context" {
        let message = format!("Stage name should not use the same name as reserved stage {name:?}");
        reporter.warn(node, &rules::RESERVED_STAGE_NAME, span, message).hint("choose another name");
    }
    if names.contains(name) {
        let message = format!("Duplicate stage name {name:?}, stage names should be unique");
        reporter
            .warn(node, &rules::DUPLICATE_STAGE_NAME, span, message)
            .hint("choose another name; instructions after this line mean this stage");
    }
    names.push(name.clone());
}

/// Rule InvalidDefinitionDescription, about FROM and ARG.
fn description(view: &View<'_>, node: &Node, reporter: &mut Reporter<'_>) {
    let is_check = |comment: &&String| {
        comment.split_once('=').is_some_and(|(key, _)| key.trim().eq_ignore_ascii_case("check"))
    };
    let Some(comment) = node.comments.iter().rfind(|comment| !is_check(comment)) else { return };
    let keys: Vec<String> = match node.keyword.as_str() {
        "from" if node.args.len() == 3 => vec![node.args[2].text.to_lowercase()],
        "arg" => {
            let name = |text: &str| text.split('=').next().unwrap_or_default().to_owned();
            node.args.iter().map(|word| name(&word.text)).collect()
        }
        _ => return,
    };
    let first = comment.split(' ').next().unwrap_or_default();
    if keys.is_empty() || keys.iter().any(|key| key == first) {
        return;
    }
    let example = if keys.len() > 1 { "<arg_key>" } else { &keys[0] };
    let instruction = node.keyword.to_uppercase();
    let message = format!("Comment for {instruction} should follow the format: `# {example} <description>`");
    reporter
        .warn(node, &rules::INVALID_DEFINITION_DESCRIPTION, view.first_line(node), message)
        .hint("put a line with `#` alone between a comment that is no description and the instruction");
}

/// Rule MaintainerDeprecated.
fn maintainer(view: &View<'_>, node: &Node, reporter: &mut Reporter<'_>) {
    let name = node.args.first().map(|word| word.text.as_str()).unwrap_or_default();
    let label = format!("LABEL org.opencontainers.image.authors=\"{name}\"");
    let is_plain = !name.is_empty()
        && !name.contains(['"', '\'', '\\', '$', '\n', view.escape])
        && node.start_line == node.end_line;
    let edit = Edit::replace(node.span.start, node.span.end, label.clone());
    let message = "Maintainer instruction is deprecated in favor of using label";
    reporter
        .warn(node, &rules::MAINTAINER_DEPRECATED, view.first_line(node), message)
        .hint(format!("write `{label}`"))
        .fix_all(is_plain.then(|| vec![edit]));
}
