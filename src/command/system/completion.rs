//! `slipway completion`.

use crate::{
    error::Failure,
    manual::complete::{self, Shell},
    show,
};
use std::path::Path;

/// Write what a shell needs to complete commands, flags, images and stages.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Carries the command out.
pub(crate) fn run(arguments: &Arguments) -> Result<u8, Failure> {
    // called by a path, it is asked by that path: it may not be among the programs that the shell finds
    let called = std::env::args_os().next().unwrap_or_default();
    let program = match called.to_str() {
        Some(path) if path.contains('/') => std::path::absolute(Path::new(path))?.display().to_string(),
        _ => "slipway".to_owned(),
    };
    show::say(complete::script(arguments.shell, &program)?.trim_end())?;
    Ok(0)
}
