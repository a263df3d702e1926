//! `slipway registry trash`.

use super::{gc::kind, named::repository, place::Place};
use crate::{app::Global, error::Failure, show};
use serde_json::{Value, json};
use slipway_oci::spec::rfc3339;

/// List what was deleted and is still there.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    place: Place,
    /// Write JSON
    #[arg(long)]
    json: bool,
    /// Only of this repository
    #[arg(value_name = "REPOSITORY", value_parser = repository)]
    repository: Option<String>,
}

/// Carries the command out.
pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    let (storage, settings) = arguments.place.open(global)?;
    let found = storage.trash(arguments.repository.as_deref(), i64::MAX as u64);
    let found = found.map_err(|error| Failure::of(&error))?;
    let age = i64::try_from(settings.trash.unwrap_or_default().0.as_secs()).unwrap_or(i64::MAX);
    let goes = |since: i64| rfc3339::format(since.saturating_add(age));
    if arguments.json {
        let of = |one: &slipway_registry::server::storage::Candidate| {
            json!({
                "repository": one.pointer.repository,
                "kind": kind(one),
                "digest": one.pointer.digest.to_string(),
                "size": one.size_bytes,
                "deleted": rfc3339::format(one.since),
                "goes": goes(one.since),
            })
        };
        show::say(Value::from(found.iter().map(of).collect::<Vec<_>>()))?;
        return Ok(0);
    }
    for one in &found {
        let (name, size) = (format!("{}@{}", one.pointer.repository, one.pointer.digest), one.size_bytes);
        let (deleted, goes) = (rfc3339::format(one.since), goes(one.since));
        show::say(format!("{} {name} ({}), deleted {deleted}, goes {goes}", kind(one), show::human(size)))?;
    }
    Ok(0)
}
