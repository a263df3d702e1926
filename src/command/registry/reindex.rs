//! `slipway registry reindex`.

use super::place::Place;
use crate::{app::Global, error::Failure, show};
use slipway_oci::reference::is_repository_name;
use slipway_registry::server::storage::keep::{Lost, Reindexed, reindex};

/// Make a registry's database again from what lies beside it, where it is lost or damaged; nobody may serve it meanwhile.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    place: Place,
    /// Put manifests that no journal names into this repository, by digest
    #[arg(long, value_name = "REPOSITORY", value_parser = repository)]
    found_in: Option<String>,
}

fn repository(text: &str) -> Result<String, String> {
    if is_repository_name(text) {
        Ok(text.to_owned())
    } else {
        Err("it is no name of a repository".to_owned())
    }
}

/// What is done with what replicas share.
const INSTEAD: &str =
    "no journal lies beside that database: `pg_restore` of its last dump, or a standby of it, brings it back";

/// Carries the command out. Status 1 says that not everything came back whole.
pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    let folder = arguments.place.folder(global, INSTEAD)?;
    let whole = std::cell::Cell::new(true);
    let lost = |lost: &Lost| {
        // the last line of a journal is torn by any crash
        whole.set(whole.get() && matches!(lost, Lost::Lines(_)));
        show::note(format_args!("warning: {}", in_words(lost)));
    };
    let done = reindex(&folder, arguments.found_in.as_deref(), &lost).map_err(|error| Failure::of(&error))?;
    let Reindexed { repositories, blobs, manifests, tags, found, former } = done;
    if let Some(former) = former {
        show::note(format_args!("the former database is `{}`", former.display()));
    }
    let found = if found > 0 { format!(", {found} of them found") } else { String::new() };
    show::say(format!(
        "repositories: {repositories}, tags: {tags}, manifests: {manifests}{found}, blobs: {blobs}"
    ))?;
    Ok(u8::from(!whole.get()))
}

fn in_words(lost: &Lost) -> String {
    match lost {
        Lost::Lines(count) => format!("{count} lines of the journal are damaged"),
        Lost::Content { repository, digest } => {
            format!("{digest} of {repository} is missing or damaged; a push brings it back")
        }
        Lost::Tag { repository, tag, digest } => {
            format!("{repository}:{tag} is lost: {digest} is not in its repository")
        }
    }
}
