//! `slipway referrers`.

use crate::{
    app::Global,
    error::Failure,
    remote::Remote,
    show::{self, listing::Listing},
};
use serde_json::{Value, json};
use slipway_oci::{Platform, Reference};

/// List what is attached to an image or artifact in its registry: signatures, SBOMs, attestations.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only those of this type
    #[arg(long, value_name = "TYPE")]
    artifact_type: Option<String>,
    /// Of an image for several platforms, what is attached to the one for this platform
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
    /// Write JSON: a list of descriptors
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
    let subject = remote.resolve(&reference, arguments.platform.as_ref())?;
    let found = remote
        .client
        .referrers(&reference.with_digest(subject.digest), arguments.artifact_type.as_deref())
        .map_err(|error| Failure::of(&error))?;
    if arguments.json {
        let all = serde_json::to_value(&found).map_err(|error| Failure::of(&error))?;
        show::say(all)?;
        return Ok(0);
    }
    let rows: Vec<Value> = found
        .iter()
        .map(|one| {
            json!({
                "Digest": one.digest,
                "ArtifactType": one.artifact_type.as_deref().unwrap_or(&one.media_type),
                "Size": one.size_bytes.to_string(),
            })
        })
        .collect();
    let columns = [("Digest", "DIGEST"), ("ArtifactType", "TYPE"), ("Size", "SIZE")];
    Listing { columns: &columns, more: &[], rows: &rows }.write(None)?;
    Ok(0)
}
