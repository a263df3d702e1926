//! `slipway registry undelete`.

use super::{
    named::{self, Named},
    place::Place,
};
use crate::{app::Global, error::Failure, show};
use slipway_registry::server::storage::{ManifestKey, Revived};

/// Bring a deleted tag or manifest back out of the trash, with all that it needs.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    place: Place,
    /// Give the manifest this tag, which nothing else may have
    #[arg(long, value_name = "TAG", value_parser = named::tag)]
    tag: Option<String>,
    /// What was deleted: REPOSITORY:TAG or REPOSITORY@DIGEST
    #[arg(value_name = "NAME", value_parser = named::named)]
    name: Named,
}

/// Carries the command out. Status 1 says that something that it needs is gone for good.
pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    let (storage, _) = arguments.place.open(global)?;
    let Named { repository, key } = &arguments.name;
    let author = named::author("undelete");
    let revived = match key {
        ManifestKey::Digest(digest) => storage.revive(repository, digest, &author),
        ManifestKey::Tag(tag) => storage.revive_tag(repository, tag, &author),
    };
    let Revived { digest, back, missing, mut tags } = revived.map_err(|error| Failure::of(&error))?;
    if let Some(tag) = &arguments.tag {
        storage.add_tag(repository, tag, &digest, &author).map_err(|error| Failure::of(&error))?;
        tags.push(tag.clone());
    }
    let tags = if tags.is_empty() { String::new() } else { format!(", with the tags {}", tags.join(", ")) };
    show::say(format!("{repository}@{digest} is back{tags}; {} in all", back.len()))?;
    for lacks in &missing {
        show::note(format_args!("warning: it needs {lacks}, which is gone for good; a push brings it back"));
    }
    Ok(u8::from(!missing.is_empty()))
}
