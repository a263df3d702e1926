//! `slipway fmt`.

mod diff;

use super::{RecipeText, read};
use crate::{
    app::Global,
    error::{self, Failure},
    service::{input::is_stdin, output},
    show::say,
};
use slipway_dockerfile::format::{Style, format_with};
use std::{
    io::Write,
    path::{Path, PathBuf},
};

/// Names of recipes in a folder, the first one that is there counts.
const RECIPE_NAMES: [&str; 3] = ["Dockerfile", "dockerfile", "Containerfile"];

/// Format recipes.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Change nothing: show what would change, and exit with 1 if anything would
    #[arg(long)]
    check: bool,
    /// Indent the continued lines of shell commands too, which changes their text in history and cache keys
    #[arg(long)]
    indent_shell: bool,
    /// The recipes [default: Dockerfile]; `-` formats standard input to standard output
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// Carries the command out. A recipe with mistakes is left alone and does not keep the others from being formatted.
pub(crate) fn run(_: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    let files = match arguments.files.as_slice() {
        [] => vec![default_recipe(Path::new(""))],
        files => files.to_vec(),
    };
    let mut status = 0;
    for file in files {
        match one(&file, arguments) {
            Ok(changed) => status = status.max(u8::from(changed && arguments.check)),
            Err(failure) => {
                failure.print();
                status = status.max(failure.status());
            }
        }
    }
    Ok(status)
}

/// The recipe in `folder` that is taken unless one is named.
pub(crate) fn default_recipe(folder: &Path) -> PathBuf {
    let mut present = RECIPE_NAMES.iter().map(|name| folder.join(name)).filter(|path| path.is_file());
    present.next().unwrap_or_else(|| folder.join(RECIPE_NAMES[0]))
}

/// Formats or checks one recipe; says whether it was not formatted.
fn one(path: &Path, arguments: &Arguments) -> Result<bool, Failure> {
    let recipe = read(path)?;
    let style = Style { indent_shell: arguments.indent_shell };
    let tidy = format_with(&recipe.text, style)
        .map_err(|found| error::of_diagnostics(&found, &recipe.text, &recipe.name))?;
    let changed = tidy != recipe.text;
    if arguments.check {
        if changed {
            show(&recipe, &tidy)?;
        }
    } else if is_stdin(path) {
        std::io::stdout().lock().write_all(tidy.as_bytes())?;
    } else if changed {
        output::write("FILE", path, tidy.as_bytes())?;
    }
    Ok(changed)
}

fn show(recipe: &RecipeText, tidy: &str) -> Result<(), Failure> {
    say(format_args!("--- {}\n+++ {} (formatted)", recipe.name, recipe.name))?;
    say(diff::unified(&recipe.text, tidy).trim_end_matches('\n'))
}
