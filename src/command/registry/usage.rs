//! `slipway registry usage`.

use super::{named::repository, place::Place};
use crate::{app::Global, error::Failure, show};
use serde_json::{Value, json};
use slipway_oci::spec::rfc3339;
use slipway_registry::server::storage::Usage;

/// List how much each repository has.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    place: Place,
    /// Write JSON
    #[arg(long)]
    json: bool,
    /// Only this repository
    #[arg(value_name = "REPOSITORY", value_parser = repository)]
    repository: Option<String>,
}

/// Repositories that are listed at a time.
const PAGE: u64 = 1000;

/// Carries the command out.
pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    let (storage, _) = arguments.place.open(global)?;
    let mut names = Vec::from_iter(arguments.repository.clone());
    while arguments.repository.is_none() {
        let last = names.last().cloned().unwrap_or_default();
        let page = storage.repositories(&last, PAGE).map_err(|error| Failure::of(&error))?;
        if page.is_empty() {
            break;
        }
        names.extend(page);
    }
    let mut all = Vec::new();
    for name in names {
        let usage = storage.usage(&name).map_err(|error| Failure::of(&error))?;
        if arguments.json { all.push(as_json(&name, &usage)) } else { show::say(in_words(&name, &usage))? }
    }
    if arguments.json {
        show::say(Value::from(all))?;
    }
    Ok(0)
}

fn in_words(name: &str, usage: &Usage) -> String {
    let Usage { tags, manifests, blobs, bytes, own_bytes, trash_bytes, .. } = usage;
    let [bytes, own, trash] = [*bytes, *own_bytes, *trash_bytes].map(show::human);
    let [tags, manifests, blobs] = [(*tags, "tag"), (*manifests, "manifest"), (*blobs, "blob")]
        .map(|(count, thing)| format!("{count} {thing}{}", if count == 1 { "" } else { "s" }));
    format!("{name}: {bytes}, {own} of them its own; {tags}, {manifests}, {blobs}; in the trash {trash}")
}

fn as_json(name: &str, usage: &Usage) -> Value {
    json!({
        "repository": name,
        "tags": usage.tags,
        "manifests": usage.manifests,
        "blobs": usage.blobs,
        "bytes": usage.bytes,
        "ownBytes": usage.own_bytes,
        "trashBytes": usage.trash_bytes,
        "updated": usage.updated.map(rfc3339::format),
        "pulled": usage.pulled.map(rfc3339::format),
        "pulls": usage.pulls,
    })
}
