//! `slipway pull`.

use crate::{
    app::{App, Global},
    error::Failure,
    images::{Images, Wanted},
    progress::{self, Style},
    show,
};
use slipway_oci::{Platform, Reference};

/// Fetch images from a registry.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// What the image must run on
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
    /// Fetch the images for all platforms that there are
    #[arg(long, conflicts_with = "platform")]
    all_platforms: bool,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
    /// How progress is shown
    #[arg(long, value_enum, default_value_t, env = "SLIPWAY_PROGRESS")]
    progress: Style,
    /// The images
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<Reference>,
}

/// Carries the command out.
pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    let app = App::open(global)?;
    let show = progress::of(if arguments.quiet { Style::Quiet } else { arguments.progress });
    let images = Images::new(&app.store, global)?.shown(&*show);
    let platform = arguments.platform.clone().unwrap_or_else(Platform::host);
    let wanted = if arguments.all_platforms { Wanted::All } else { Wanted::One(&platform) };
    for reference in &arguments.images {
        let reference = reference.clone().or_latest();
        let (reference, digest) = images.pull(&reference, &wanted)?;
        show::say(format!("{}@{digest}", reference.familiar_name()))?;
    }
    app.store.maintain()?;
    Ok(0)
}
