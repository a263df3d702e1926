//! The Dockerfile language, from text to a typed recipe, with no I/O.
//!
//! The way through the crate, each step pure and usable alone:
//!
//! 1. [`parse`] turns text into a syntax tree ([`Dockerfile`]) whose every node carries its [`Span`]. It never fails:
//!    what is wrong becomes a [`Diagnostic`] and parsing goes on, so that one run reports all mistakes.
//! 2. [`lower`] judges the tree (flag names, argument counts, stage names) and gives the typed [`Recipe`].
//! 3. [`expand`] replaces variables, [`mount`] reads `RUN --mount`, [`chmod`] reads `--chmod`, [`glob`] and [`ignore`]
//!    match paths. The builder calls these when it knows the environment of a step.
//!
//! The grammar is built from nom parsers (`parse/`); what to accept follows BuildKit's code, whose rules are written
//! beside the functions that keep them. Hostile text is expected: every nesting and size that text could drive has a
//! cap in `limits.rs`.
//!
//! ```
//! let recipe = slipway_dockerfile::parse_recipe("FROM alpine AS base\nRUN echo hello\n").unwrap();
//! assert_eq!(recipe.stages[0].name.as_deref(), Some("base"));
//!
//! let mistakes = slipway_dockerfile::parse_recipe("FROM alpine\nRUM echo hello\n").unwrap_err();
//! assert_eq!(mistakes[0].hint.as_deref(), Some("did you mean `RUN`?"));
//! ```
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::too_many_lines))] // tables of cases are as long as they are

pub mod chmod;
pub mod diagnostic;
pub mod duration;
pub mod expand;
pub mod extension;
pub mod format;
pub mod glob;
pub mod ignore;
pub mod json;
mod keyword;
mod limits;
pub mod lint;
mod lower;
pub mod lsp;
pub mod mount;
mod parse;
mod recipe;
mod span;
mod suggest;
mod syntax;

pub use diagnostic::{Diagnostic, Note, Severity};
pub use expand::{ExpandError, Expander, Expansion};
pub use keyword::Keyword;
pub use lower::{Lowered, lower, parse_onbuild, parse_recipe};
pub use parse::{Parsed, detect_syntax, parse};
pub use recipe::{
    ArgDeclaration, CommandLine, Healthcheck, Instruction, KeyValue, Located, Onbuild, Origin, Recipe, Run,
    Source, Stage, Transfer,
};
pub use span::{LineIndex, Span};
pub use suggest::nearest;
pub use syntax::{
    CheckDirective, Comment, Directive, Directives, Dockerfile, Heredoc, Node, Pair, RuleSelection, Word,
};
