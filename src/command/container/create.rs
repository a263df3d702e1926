//! `slipway create`: a new container that waits to be started.

use super::{
    flags::{Flags, Pull},
    kept::Kept,
    run::not_started,
    spec::Image,
    wanted,
};
use crate::{
    app::{App, Global},
    error::Failure,
    images::{Images, Wanted},
    nearby,
    progress::{self, Style},
    service::output::Output,
    show,
};
use slipway_oci::{Platform, Reference, store::ImageRecord};
use slipway_runtime::container::config::Config;
use std::fs::File;

/// Make a container without starting it.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Arguments {
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    #[command(flatten)]
    flags: Flags,
}

/// Carries the command out.
pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    wanted::check(&arguments.flags).map_err(not_started)?;
    let app = App::open(global)?;
    let (kept, ..) = create(&app, global, &arguments.flags, false).map_err(not_started)?;
    show::say(&kept.row.id)?;
    Ok(0)
}

/// Makes a container; its lock is held by the caller, who says whether it is about to start it.
pub(super) fn create(
    app: &App,
    global: &Global,
    flags: &Flags,
    starting: bool,
) -> Result<(Kept, File, Config, Image), Failure> {
    Kept::clear(app)?;
    let cidfile = flags.cidfile.as_deref().map(|path| Output::prepare("--cidfile", path)).transpose()?;
    let show = progress::of(Style::Auto);
    let images = Images::new(&app.store, global)?.shown(&*show);
    let record = find(app, &images, flags)?;
    let config = wanted::config(global, &record.config.config, flags)?;
    // whatever it has to fetch is fetched now
    let (layers, tree) = images.runnable(&record)?;
    let (kept, lock) = Kept::new(app, flags, &record.descriptor.digest, &config, starting)?;
    if let Some(output) = cidfile
        && let Err(error) = output.finish_with(kept.row.id.as_bytes())
    {
        app.store.remove_container(&kept.row.id, Some(lock))?;
        return Err(error.into());
    }
    Ok((kept, lock, config, Image { layers, tree }))
}

pub(super) fn find(app: &App, images: &Images<'_>, flags: &Flags) -> Result<ImageRecord, Failure> {
    let platform = flags.platform.clone().unwrap_or_else(Platform::host);
    let pull = || {
        let reference = flags.image.parse::<Reference>()?.or_latest();
        images.pull(&reference, &Wanted::One(&platform)).map(|(_, target)| target)
    };
    let target = match flags.pull {
        Pull::Always => pull()?,
        Pull::Missing => match images.local(&flags.image)? {
            // an index may be here without the image that is asked for
            Some(target) if app.store.image_of(&target, &platform)?.is_some() => target,
            _ => pull()?,
        },
        Pull::Never => images.local(&flags.image)?.ok_or_else(|| images.missing(&flags.image))?,
    };
    let digest = Images::pick(&app.store, &flags.image, &target, &platform)?;
    images.allow_called(&images.named(&flags.image)?, &target, &digest)?;
    let record = app.store.read_image(&digest)?;
    // a use that cannot be noted keeps nothing from running
    let _ = app.store.touch_image(&target);
    if !record.config.platform.satisfies(&platform) {
        let (image, machine) = (&record.config.platform, Platform::host());
        return Err(nearby::other_platform(&flags.image, image, &platform, &machine));
    }
    Ok(record)
}
