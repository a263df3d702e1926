//! `slipway registry delete`.

use super::{
    named::{self, Named},
    place::Place,
};
use crate::{app::Global, error::Failure, show};
use slipway_registry::server::storage::{Deletion, ManifestKey};
use std::{sync::Arc, time::Duration};

/// Delete tags, manifests and blobs of a registry, by its folder; it may be served meanwhile.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    place: Place,
    /// Delete what never changes or is needed, too: what needs it can no longer be pulled
    #[arg(long)]
    force: bool,
    /// Delete for good, not into the trash
    #[arg(long)]
    now: bool,
    /// The digests are of blobs
    #[arg(long)]
    blob: bool,
    /// What: REPOSITORY:TAG or REPOSITORY@DIGEST
    #[arg(value_name = "NAME", value_parser = named::named, required = true)]
    names: Vec<Named>,
}

/// Carries the command out, up to the first that cannot go.
pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    let (storage, settings) = arguments.place.open(global)?;
    let trash = if arguments.now { Duration::ZERO } else { settings.trash.unwrap_or_default().0 };
    storage.keep_trash(trash);
    let access = settings.access()?;
    for Named { repository, key } in &arguments.names {
        let mut deletion = Deletion::by(named::author("delete"));
        deletion.force = arguments.force;
        if !arguments.force {
            let (access, repository) = (Arc::clone(&access), repository.clone());
            deletion.immutable = Arc::new(move |tag| access.is_immutable(&repository, tag));
        }
        let deleted = match key {
            ManifestKey::Digest(digest) if arguments.blob => {
                storage.delete_blob(repository, digest, &deletion)
            }
            ManifestKey::Tag(_) if arguments.blob => {
                return Err(Failure::new("a blob has a digest, and no tag"));
            }
            key => storage.delete_manifest(repository, key, &deletion),
        };
        deleted.map_err(|error| Failure::of(&error))?;
        let mark = if matches!(key, ManifestKey::Tag(_)) { ':' } else { '@' };
        show::say(format!("{repository}{mark}{key}"))?;
    }
    Ok(0)
}
