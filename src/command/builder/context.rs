//! `slipway context`.

use crate::{app::Global, error::Failure, show::say};
use slipway_builder::{context_paths, read_ignore_file};
use std::path::PathBuf;

/// Look into build contexts.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// List the paths that a build could see, sorted, one a line
    ///
    /// Paths are relative to the context; folders are listed like files. A folder that the ignore file excludes is
    /// listed if something in it is not excluded.
    Ls(LsArguments),
}

#[derive(clap::Args)]
struct LsArguments {
    /// The recipe, beside which an ignore file of its own may stand [default: DIR/Dockerfile]
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// How they are printed
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// The context's folder
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// The value of `--format`.
#[derive(Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// A path a line
    #[default]
    Text,
    /// A list of paths
    Json,
}

/// Carries the command out.
pub(crate) fn run(_: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    let Command::Ls(arguments) = &arguments.command;
    let folder = &arguments.folder;
    if !folder.is_dir() {
        return Err(Failure::new(format!("the context `{}` is not a folder", folder.display())));
    }
    let recipe =
        arguments.file.clone().unwrap_or_else(|| crate::command::dockerfile::fmt::default_recipe(folder));
    let ignore = read_ignore_file(Some(&recipe), folder).map_err(|error| Failure::of(&error))?;
    let text = ignore.map(|(_, text)| text);
    let paths = context_paths(folder, text.as_deref()).map_err(|error| Failure::of(&error))?;
    match arguments.format {
        Format::Text => paths.into_iter().try_for_each(say)?,
        Format::Json => say(serde_json::json!(paths))?,
    }
    Ok(0)
}
