//! `slipway pull`.

use crate::{
    app::{App, Global},
    error::Failure,
    images::{Images, Wanted},
    nearby,
    progress::Choice,
    show,
};
use slipway_oci::{Digest, Platform, Reference};

/// Fetch images from a registry.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// What the image must run on
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
    /// Fetch the images for all platforms that there are
    #[arg(long, conflicts_with = "platform")]
    all_platforms: bool,
    /// Fetch what is attached to them too: signatures, SBOMs, attestations
    #[arg(long)]
    referrers: bool,
    #[command(flatten)]
    shown: Choice,
    /// The images
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<Reference>,
}

/// Carries the command out.
pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    let app = App::open(global)?;
    let show = arguments.shown.show();
    let images = Images::new(&app.store, global)?.shown(&*show);
    let platform = arguments.platform.clone().unwrap_or_else(Platform::host);
    let wanted = if arguments.all_platforms { Wanted::All } else { Wanted::One(&platform) };
    for reference in &arguments.images {
        let reference = reference.clone().or_latest();
        let (reference, digest) = images.pull(&reference, &wanted)?;
        if let Wanted::One(platform) = &wanted {
            warn_of_another(&app, &reference, &digest, platform)?;
        }
        if arguments.referrers {
            let mut members = match app.store.read_index(&digest)? {
                Some(index) => app.store.members(&index)?,
                None => Vec::new(),
            };
            members.push(digest.clone());
            images.fetch_attached(&reference, &members, None)?;
        }
        show::say(format!("{}@{digest}", reference.familiar_name()))?;
    }
    app.store.maintain()?;
    Ok(0)
}

/// An image that names one platform alone is fetched whatever that is; who asked for another one, or runs it, is told.
fn warn_of_another(app: &App, name: &Reference, target: &Digest, asked: &Platform) -> Result<(), Failure> {
    if app.store.read_index(target)?.is_some() {
        return Ok(());
    }
    let found = app.store.read_image(target)?.config.platform;
    if !found.satisfies(asked) {
        let words = nearby::other_platform(&name.familiar(), &found, asked, &Platform::host()).words();
        show::note(format_args!("warning: {words}"));
    }
    Ok(())
}
