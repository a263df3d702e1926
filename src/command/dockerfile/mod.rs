//! `slipway dockerfile`: the language's plumbing, for people, editors and other programs.

pub(crate) mod check;
mod expand;
pub(crate) mod fmt;
mod lower;
mod lsp;
mod parse;

use crate::{
    app::Global,
    error::Failure,
    service::input::{self, is_stdin},
};
use slipway_oci::limits;
use std::path::{Path, PathBuf};

/// Look into recipes.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Expand variables, quotes and escapes as in a value of ENV
    Expand(expand::Arguments),
    /// Turn a recipe with extensions into a standard one
    Lower(lower::Arguments),
    /// Speak the Language Server Protocol over standard streams
    Lsp(lsp::Arguments),
    /// Print a recipe's syntax tree
    Parse(parse::Arguments),
}

/// Carries the command out.
pub(crate) fn run(_: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    match &arguments.command {
        Command::Expand(arguments) => expand::run(arguments),
        Command::Lower(arguments) => lower::run(arguments),
        Command::Lsp(arguments) => lsp::run(arguments),
        Command::Parse(arguments) => parse::run(arguments),
    }
}

/// A recipe's text and its name for messages.
pub(super) struct RecipeText {
    pub(super) name: String,
    pub(super) text: String,
}

/// Reads a recipe; `-` is standard input.
pub(super) fn read(path: &Path) -> Result<RecipeText, Failure> {
    let name = if is_stdin(path) { "standard input".to_owned() } else { path.display().to_string() };
    let bytes = input::read("FILE", path, limits::RECIPE_BYTES)?;
    let text = String::from_utf8(bytes).map_err(|_| Failure::new(format!("`{name}` is not UTF-8 text")))?;
    Ok(RecipeText { name, text })
}

/// The folder that a recipe stands in, as a context to guess.
fn folder_of(path: &Path) -> PathBuf {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty() && !is_stdin(path));
    parent.map_or_else(|| PathBuf::from("."), Path::to_owned)
}
