//! `slipway digest`.

use crate::{app::Global, error::Failure, remote::Remote, show};
use serde_json::json;
use slipway_oci::{Platform, Reference};

/// Show what a name stands for in its registry, without fetching it.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Of an image for several platforms, the digest of the one for this platform
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
    /// Write JSON: digest, media type, size
    #[arg(long)]
    json: bool,
    /// The image or artifact
    #[arg(value_name = "NAME[:TAG]")]
    reference: Reference,
}

/// Carries the command out.
pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    let remote = Remote::open(global)?;
    let reference = remote.meant(&arguments.reference.clone().or_latest());
    let descriptor = remote.resolve(&reference, arguments.platform.as_ref())?;
    if arguments.json {
        show::say(json!({
            "name": reference.name(),
            "digest": descriptor.digest,
            "mediaType": descriptor.media_type,
            "size": descriptor.size_bytes,
        }))?;
    } else {
        show::say(&descriptor.digest)?;
    }
    Ok(0)
}
