//! `slipway tag`.

use crate::{
    app::{App, Global},
    error::Failure,
    images::Images,
};
use slipway_oci::Reference;

/// Give an image another name.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The image: a name, id or digest
    #[arg(value_name = "IMAGE")]
    source: String,
    /// The new name
    #[arg(value_name = "NAME[:TAG]")]
    target: Reference,
}

/// Carries the command out.
pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    if arguments.target.digest().is_some() {
        return Err(Failure::usage("the new name must not have a digest"));
    }
    let app = App::open(global)?;
    let images = Images::new(&app.store, global)?;
    let digest = images.local(&arguments.source)?.ok_or_else(|| images.missing(&arguments.source))?;
    app.store.name_manifest(&digest, std::slice::from_ref(&arguments.target))?;
    Ok(0)
}
