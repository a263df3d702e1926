//! `slipway dockerfile lower`.

use crate::error::{self, Failure};
use slipway_dockerfile::extension;
use slipway_oci::{Root, limits};
use std::{
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};

/// Turn a recipe with extensions into a standard one.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The build context, where INCLUDE finds files [default: the recipe's folder]
    #[arg(long, value_name = "DIR")]
    context: Option<PathBuf>,
    /// The recipe; `-` reads standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Carries the command out.
pub(super) fn run(arguments: &Arguments) -> Result<u8, Failure> {
    let recipe = super::read(&arguments.file)?;
    let folder = arguments.context.clone().unwrap_or_else(|| super::folder_of(&arguments.file));
    // The root confines the paths: neither `..` nor links lead out of the context.
    let mut load = |path: &str| {
        let bytes = Root::open(&folder)?.read(Path::new(path), limits::RECIPE_BYTES)?;
        String::from_utf8(bytes).map_err(std::io::Error::other)
    };
    let lowered = extension::lower(&recipe.text, &mut load)
        .map_err(|found| error::of_diagnostics(&found, &recipe.text, &recipe.name))?;
    match std::io::stdout().lock().write_all(lowered.text.as_bytes()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(0),
        other => Ok(other.map(|()| 0)?),
    }
}
