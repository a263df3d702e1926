//! `slipway tags`.

use crate::{app::Global, error::Failure, remote::Remote, show};
use serde_json::json;
use slipway_oci::Reference;

/// List the tags of a repository in its registry.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Write JSON, as skopeo's `list-tags` does
    #[arg(long)]
    json: bool,
    /// The repository
    #[arg(value_name = "REPOSITORY")]
    repository: Reference,
}

/// Carries the command out.
pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    let given = &arguments.repository;
    if given.tag().is_some() || given.digest().is_some() {
        let name = given.familiar_name();
        return Err(Failure::usage(format!("`{given}` is one image, tags are of a repository"))
            .with_hint(format!("`slipway tags {name}`")));
    }
    let remote = Remote::open(global)?;
    let repository = remote.meant(given);
    let tags = remote.client.tags(&repository).map_err(|error| Failure::of(&error))?;
    if arguments.json {
        show::say(json!({ "Repository": repository.name(), "Tags": tags }))?;
    } else {
        tags.iter().try_for_each(show::say)?;
    }
    Ok(0)
}
