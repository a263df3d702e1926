//! `slipway registry usage`.

use super::{named::repository, place::Place};
use crate::{app::Global, error::Failure, show};
use serde_json::{Value, json};
use slipway_oci::spec::rfc3339;
use slipway_registry::server::{
    filled, share,
    storage::{Bound, Measure, Scope, Usage, Used, written},
};

/// List how much each repository has, and how much of quotas is used.
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
    let (storage, settings) = arguments.place.open(global)?;
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
    let filled = match &arguments.repository {
        Some(name) => storage.room(name),
        None => filled(&settings.quotas, &storage),
    };
    let filled = filled.map_err(|error| Failure::of(&error))?;
    if arguments.json {
        all.extend(filled.iter().map(|(bound, used)| quota_as_json(bound, *used)));
        show::say(Value::from(all))?;
        return Ok(0);
    }
    for (bound, used) in &filled {
        show::say(quota_in_words(bound, *used))?;
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

/// How much of a quota is used.
fn quota_in_words(bound: &Bound, used: Used) -> String {
    let one = |(measure, most): (Measure, u64)| {
        let words = |count: u64| match measure {
            Measure::Bytes => written(count, most),
            Measure::Tags => format!("{count} tag{}", if count == 1 { "" } else { "s" }),
        };
        let used = used.of(measure);
        format!("{} of {} ({:.0} %)", words(used), words(most), (share(used, most) * 100.0).floor())
    };
    let all: Vec<String> = bound.measures().map(one).collect();
    format!("quota of {}: {}", bound.scope, all.join(", "))
}

/// What kind of thing a scope is, and its name.
pub(super) fn of_scope(scope: &Scope) -> (&'static str, &str) {
    match scope {
        Scope::Repository(name) => ("repository", name),
        Scope::Namespace(name) => ("namespace", name),
    }
}

fn quota_as_json(bound: &Bound, used: Used) -> Value {
    let (kind, name) = of_scope(&bound.scope);
    json!({
        "quotaOf": kind,
        "name": name,
        "bytes": used.bytes,
        "tags": used.tags,
        "mostBytes": bound.bytes,
        "mostTags": bound.tags,
    })
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
