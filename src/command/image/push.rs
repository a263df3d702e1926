//! `slipway push`.

use crate::{
    app::{App, Global},
    error::Failure,
    images::Images,
    nearby,
    progress::{self, Style},
    show,
};
use slipway_oci::Reference;

/// Send an image to a registry.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
    /// How progress is shown
    #[arg(long, value_enum, default_value_t, env = "SLIPWAY_PROGRESS")]
    progress: Style,
    /// The image
    image: Reference,
    /// Where to, if not under its own name
    #[arg(value_name = "NAME[:TAG]")]
    destination: Option<Reference>,
}

/// Carries the command out.
pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    let app = App::open(global)?;
    let show = progress::of(if arguments.quiet { Style::Quiet } else { arguments.progress });
    let images = Images::new(&app.store, global)?.shown(&*show);
    let source = arguments.image.clone().or_latest();
    let digest =
        app.store.find_reference(&source)?.ok_or_else(|| nearby::missing(&app.store, &source.familiar()))?;
    let destination = arguments.destination.clone().unwrap_or(source).or_latest();
    images.push(&destination, &digest)?;
    show::say(format!("{}@{digest}", destination.familiar_name()))?;
    Ok(0)
}
