//! `slipway push`.

use crate::{
    app::{App, Global},
    error::Failure,
    images::Images,
    nearby,
    progress::Choice,
    service::output::Output,
    show,
};
use slipway_oci::{Digest, Platform, Reference, digest::DigestError};
use slipway_registry::client::Condition;
use std::path::PathBuf;

/// Send an image to a registry.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Of an image for several platforms, send the one for this platform alone
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
    #[command(flatten)]
    shown: Choice,
    /// Move the tag only if it stands for this, or, with `none`, only if it is not there
    #[arg(long, value_name = "DIGEST|none", value_parser = condition)]
    if_match: Option<Condition>,
    /// Write the digest of what was sent to a file
    #[arg(long, value_name = "FILE")]
    digestfile: Option<PathBuf>,
    /// The image
    image: Reference,
    /// Where to, if not under its own name
    #[arg(value_name = "NAME[:TAG]")]
    destination: Option<Reference>,
}

fn condition(text: &str) -> Result<Condition, String> {
    match text {
        "none" => Ok(Condition::Absent),
        _ => text.parse().map(Condition::Is).map_err(|error: DigestError| error.to_string()),
    }
}

/// Carries the command out.
pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    let app = App::open(global)?;
    let file = arguments.digestfile.as_ref().map(|path| Output::prepare("--digestfile", path)).transpose()?;
    let show = arguments.shown.show();
    let images = Images::new(&app.store, global)?.shown(&*show);
    let source: Reference = images.named(&arguments.image.clone().or_latest().familiar())?.parse()?;
    let digest = app.store.find_reference(&source)?.ok_or_else(|| images.missing(&source.familiar()))?;
    let destination = arguments.destination.clone().unwrap_or_else(|| source.clone()).or_latest();
    let digest = what(&app, &source, &digest, arguments.platform.as_ref())?;
    images.push(&destination, &digest, arguments.if_match.as_ref())?;
    if let Some(file) = file {
        // as podman: the digest alone
        file.finish_with(digest.to_string().as_bytes())?;
    }
    show::say(format!("{}@{digest}", destination.familiar_name()))?;
    Ok(0)
}

/// What is sent: of an index that is not here whole, its image for this machine, for a registry takes no parts.
fn what(
    app: &App,
    source: &Reference,
    target: &Digest,
    platform: Option<&Platform>,
) -> Result<Digest, Failure> {
    let name = source.familiar();
    let host = Platform::host();
    match (platform, app.store.read_index(target)?) {
        (Some(platform), _) => {
            let image = Images::pick(&app.store, &name, target, platform)?;
            let found = app.store.read_image(&image)?.config.platform;
            if !found.satisfies(platform) {
                return Err(nearby::other_platform(&name, &found, platform, &host));
            }
            Ok(image)
        }
        (None, None) => Ok(target.clone()),
        (None, Some(index)) if app.store.is_whole(&index)? => Ok(target.clone()),
        (None, Some(_)) => {
            let image = Images::pick(&app.store, &name, target, &host)?;
            show::note(format_args!(
                "note: `{name}` is for several platforms and not here for all of them: the image for {host} goes alone; \
                 `slipway pull --all-platforms {name}` fetches the others"
            ));
            Ok(image)
        }
    }
}
