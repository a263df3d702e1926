//! `slipway rebuild`: whether an image comes out again as it did.

use super::{build, builds, debug};
use crate::{
    app::{self, Global},
    error::Failure,
    show,
};
use slipway_oci::Digest;
use std::{path::Path, process::Command};

/// Build again what made an image, without cached results, and say whether it came out the same
///
/// The line of the kept build that made the image is read again in its folder. The image and its names stay; exit status 1 says
/// that something differs, and what the first of it is.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Compare what comes out with the image; it always does
    #[arg(long)]
    verify: bool,
    /// The image by the name that its build gave it, or the build's id
    #[arg(value_name = "IMAGE")]
    image: String,
}

/// Carries the command out.
pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    let _ = arguments.verify;
    let (program, root) = (app::program(), app::store_folder(global.root.as_deref())?);
    let kept = builds::history(global)?.find(Some(&arguments.image))?;
    let image = kept.end.as_ref().and_then(|end| end.image.clone());
    let image = image.ok_or_else(|| Failure::new(format!("build {} made no image", kept.id)))?;
    let made = build::again(global, debug::line(&kept)?, &kept)?;
    if made == image {
        show::say(format_args!("the same: {image}"))?;
        return Ok(0);
    }
    Err(Failure::new(format!("it came out as {made}, and not as {image}{}", first((&program, &root), &image, &made))).with_hint(
        "`slipway diff` shows all of it; what a command makes of the time, of chance or of the network differs each time",
    ))
}

/// What differs first; a process of its own, for this one has had the store open.
fn first((program, root): (&Path, &Path), image: &Digest, made: &Digest) -> String {
    let digests = [image.to_string(), made.to_string()];
    let told = Command::new(program).arg("diff").arg("--root").arg(root).args(digests).output().ok();
    let told = told.map(|told| String::from_utf8_lossy(&told.stdout).into_owned()).unwrap_or_default();
    let path = told
        .lines()
        .find_map(|line| line.strip_prefix(['~', '+', '-'])?.trim().split(": ").next().map(str::to_owned));
    path.map_or_else(String::new, |path| {
        format!("; `{}` is the first path that differs", show::text::line(&path))
    })
}
