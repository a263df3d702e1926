//! `slipway artifact`: files in registries, in ORAS's form.

mod files;
mod pull;
mod push;

use crate::{app::Global, error::Failure};

/// Keep files in registries, as ORAS does.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Attach files to an image or artifact: an SBOM, a signature, a report
    Attach(push::Attach),
    /// Fetch the files of an artifact
    Pull(pull::Arguments),
    /// Send files to a registry as an artifact
    Push(push::Push),
}

/// Carries the command out.
pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    match &arguments.command {
        Command::Attach(arguments) => push::attach(global, arguments),
        Command::Pull(arguments) => pull::run(global, arguments),
        Command::Push(arguments) => push::push(global, arguments),
    }
}
