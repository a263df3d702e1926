//! `slipway dockerfile parse`.

use crate::{error::Failure, show::say};
use slipway_dockerfile::json;
use std::path::PathBuf;

/// Print a recipe's syntax tree.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// How it is printed
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// The recipe; `-` reads standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

#[derive(Clone, Copy, Default, clap::ValueEnum)]
enum Format {
    #[default]
    Json,
}

/// Carries the command out: the tree, or the diagnostics of a broken recipe and status 1.
pub(super) fn run(arguments: &Arguments) -> Result<u8, Failure> {
    let Format::Json = arguments.format;
    let recipe = super::read(&arguments.file)?;
    let parsed = slipway_dockerfile::parse(&recipe.text);
    if parsed.has_errors() {
        say(json::diagnostics(&parsed.diagnostics, &recipe.text))?;
        return Ok(1);
    }
    say(json::tree(&parsed.file))?;
    Ok(0)
}
