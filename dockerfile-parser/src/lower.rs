//! Syntax tree to recipe: what parsing let pass is judged here, one instruction a file.

mod command;
mod flags;
mod healthcheck;
mod onbuild;
mod pairs;
mod run;
mod stage;
mod transfer;
mod words;

use crate::diagnostic::code;
use crate::limits::MAX_DIAGNOSTICS;
use crate::parse::{parse, parse_trigger};
use crate::{Diagnostic, Dockerfile, Heredoc, Instruction, Keyword, Located, Node, Origin, Recipe, Span};

/// A recipe and what was wrong with the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lowered {
    /// The recipe, without the instructions that could not be understood.
    pub recipe: Recipe,
    /// Errors and warnings in the order of their places.
    pub diagnostics: Vec<Diagnostic>,
}

/// Judges a syntax tree and gives the typed recipe. Nodes that parsing reported are left out without a further word.
pub fn lower(file: &Dockerfile) -> Lowered {
    let mut judge = Judge { diagnostics: Vec::new(), escape: file.directives.escape };
    let mut recipe = Recipe { directives: file.directives.clone(), ..Recipe::default() };
    let mut complained = false;
    for node in &file.nodes {
        match Keyword::from_word(&node.keyword) {
            Some(Keyword::From) => {
                let stage = judge.stage(node, recipe.stages.len());
                recipe.stages.extend(stage);
            }
            Some(keyword) => {
                let located = judge.located(node, &node.heredocs);
                match (recipe.stages.last_mut(), keyword) {
                    (Some(stage), _) => stage.instructions.extend(located),
                    (None, Keyword::Arg) => recipe.global_args.extend(located),
                    // Without a stage every further instruction would say the same.
                    (None, _) if !std::mem::replace(&mut complained, true) => judge.before_from(node),
                    (None, _) => {}
                }
            }
            // Parsing has reported the keyword.
            None => {}
        }
    }
    judge.require_stage(file, &recipe, complained);
    judge.diagnostics.sort_by_key(|diagnostic| (diagnostic.span.start, diagnostic.code));
    Lowered { recipe, diagnostics: judge.diagnostics }
}

/// Parses and lowers in one go.
///
/// # Errors
/// Every diagnostic, warnings among them, when at least one is an error.
pub fn parse_recipe(source: &str) -> Result<Recipe, Vec<Diagnostic>> {
    let parsed = parse(source);
    let lowered = lower(&parsed.file);
    let mut diagnostics = parsed.diagnostics;
    diagnostics.extend(lowered.diagnostics);
    diagnostics.sort_by_key(|diagnostic| (diagnostic.span.start, diagnostic.code));
    if diagnostics.iter().any(Diagnostic::is_error) { Err(diagnostics) } else { Ok(lowered.recipe) }
}

/// Parses the instruction of a trigger that a base image carries. Spans are places in `text`.
///
/// # Errors
/// Every diagnostic, when the text is not exactly one instruction that may be a trigger.
pub fn parse_onbuild(text: &str, escape: char) -> Result<Located, Vec<Diagnostic>> {
    let parsed = parse_trigger(text, escape);
    let mut judge = Judge { diagnostics: parsed.diagnostics, escape };
    let mut located = None;
    if let [node] = parsed.file.nodes.as_slice() {
        if judge.may_be_trigger(node) {
            located = judge.located(node, &node.heredocs);
        }
    } else if let Some(second) = parsed.file.nodes.get(1) {
        judge.report(Diagnostic::error(
            code::NOT_ONE_TRIGGER,
            second.span,
            "a trigger is a single instruction",
        ));
    }
    match located {
        Some(located) if !judge.diagnostics.iter().any(Diagnostic::is_error) => Ok(located),
        _ => Err(judge.diagnostics),
    }
}

/// Collects what is wrong while nodes are turned into instructions.
struct Judge {
    diagnostics: Vec<Diagnostic>,
    escape: char,
}

impl Judge {
    fn report(&mut self, diagnostic: Diagnostic) {
        if self.diagnostics.len() < MAX_DIAGNOSTICS {
            self.diagnostics.push(diagnostic);
        }
    }

    fn error(&mut self, code: &'static str, span: Span, message: impl Into<String>) {
        self.report(Diagnostic::error(code, span, message));
    }

    fn located(&mut self, node: &Node, heredocs: &[Heredoc]) -> Option<Located> {
        let instruction = self.instruction(node, heredocs)?;
        Some(Located { instruction, origin: origin(node) })
    }

    /// The instruction of a node; nothing when it is wrong, which has then been reported.
    fn instruction(&mut self, node: &Node, heredocs: &[Heredoc]) -> Option<Instruction> {
        if node.broken {
            return None;
        }
        match Keyword::from_word(&node.keyword)? {
            Keyword::Add => self.add(node, heredocs).map(Instruction::Add),
            Keyword::Arg => self.arg(node).map(Instruction::Arg),
            Keyword::Cmd => self.command(node).map(Instruction::Cmd),
            Keyword::Copy => self.copy(node, heredocs).map(Instruction::Copy),
            Keyword::Entrypoint => self.command(node).map(Instruction::Entrypoint),
            Keyword::Env => self.pairs(node).map(Instruction::Env),
            Keyword::Expose => self.expose(node).map(Instruction::Expose),
            Keyword::Healthcheck => self.healthcheck(node).map(Instruction::Healthcheck),
            Keyword::Label => self.pairs(node).map(Instruction::Label),
            Keyword::Maintainer => self.one_word(node, "a name").map(Instruction::Maintainer),
            Keyword::Onbuild => self.onbuild(node, heredocs).map(Instruction::Onbuild),
            Keyword::Run => self.run(node, heredocs).map(Instruction::Run),
            Keyword::Shell => self.shell(node).map(Instruction::Shell),
            Keyword::Stopsignal => {
                self.one_word(node, "a signal's name or number").map(Instruction::Stopsignal)
            }
            Keyword::User => self.one_word(node, "`user[:group]`").map(Instruction::User),
            Keyword::Volume => self.volume(node).map(Instruction::Volume),
            Keyword::Workdir => self.one_word(node, "a path").map(Instruction::Workdir),
            // FROM opens a stage and is never an instruction of one; triggers refuse it before they come here.
            Keyword::From => None,
        }
    }

    fn missing_arguments(&mut self, node: &Node, expected: &str) {
        let name = node.keyword.to_uppercase();
        self.report(
            Diagnostic::error(
                code::MISSING_ARGUMENTS,
                node.keyword_span,
                format!("{name} needs an argument"),
            )
            .with_expected(expected),
        );
    }

    fn before_from(&mut self, node: &Node) {
        let name = node.keyword.to_uppercase();
        self.report(
            Diagnostic::error(
                code::BEFORE_FROM,
                node.keyword_span,
                format!("{name} stands before the first FROM"),
            )
            .with_expected("`FROM`, or `ARG` for the FROM lines' variables"),
        );
    }

    fn require_stage(&mut self, file: &Dockerfile, recipe: &Recipe, complained: bool) {
        let Some(last) = file.nodes.last() else { return };
        let has_from = file.nodes.iter().any(|node| node.keyword == "from");
        if recipe.stages.is_empty() && !has_from && !complained && file.nodes.iter().all(|node| !node.broken)
        {
            self.report(
                Diagnostic::error(code::NO_STAGE, last.keyword_span, "the file has no FROM")
                    .with_expected("`FROM` and a base image"),
            );
        }
    }
}

fn origin(node: &Node) -> Origin {
    Origin {
        span: node.span,
        start_line: node.start_line,
        end_line: node.end_line,
        original: node.original.trim().to_owned(),
    }
}

#[cfg(test)]
mod tests;
