//! `slipway registry gc`.

use super::place::{self, Place};
use crate::{app::Global, error::Failure, show};
use serde_json::{Value, json};
use slipway_oci::spec::rfc3339;
use slipway_registry::server::{
    period,
    storage::{Candidate, Collected, Kind, Reason, Storage, Work},
};
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

/// Take away what nothing needs, as the server does by itself; it may be served meanwhile.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    place: Place,
    /// Say what would go, and take nothing
    #[arg(long)]
    dry_run: bool,
    /// How long something has been needed by nothing before it goes; what is being pushed needs its time [default: that of
    /// `collect`, else 1d]
    #[arg(long, value_name = "TIME", value_parser = period)]
    grace: Option<Duration>,
    /// How long deleted things stay in the trash; 0 empties it [default: that of `trash`, else 7d]
    #[arg(long, value_name = "TIME", value_parser = period)]
    trash: Option<Duration>,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

/// Carries the command out.
pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    let (storage, settings) = arguments.place.open(global)?;
    let trash = arguments.trash.unwrap_or(settings.trash.unwrap_or_default().0);
    let grace = arguments.grace.unwrap_or(settings.collect.unwrap_or_default().grace);
    storage.keep_trash(trash);
    if arguments.dry_run {
        return would(&storage, grace, !trash.is_zero(), arguments.json);
    }
    let turn = place::turn(&storage, Work::Collect)?;
    let collected = storage.collect(grace, &mut |_| turn.holds()).map_err(|error| Failure::of(&error))?;
    place::held(&turn)?;
    drop(turn);
    let turn = place::turn(&storage, Work::Sweep)?;
    storage.sweep_uploads(SystemTime::now()).map_err(|error| Failure::of(&error))?;
    drop(turn);
    if arguments.json {
        show::say(as_json(&collected))?
    } else {
        show::say(in_words(&collected))?
    }
    Ok(0)
}

/// What was taken, as a line.
pub(super) fn in_words(collected: &Collected) -> String {
    let Collected { trashed, manifests, blobs, contents, bytes } = collected;
    let bytes = show::human(*bytes);
    format!(
        "into the trash: {trashed} manifests; for good: {manifests} manifests, {blobs} blobs; freed: {contents} contents, {bytes}"
    )
}

fn as_json(collected: &Collected) -> Value {
    let Collected { trashed, manifests, blobs, contents, bytes } = collected;
    json!({ "trashed": trashed, "manifests": manifests, "blobs": blobs, "contents": contents, "bytes": bytes })
}

fn would(storage: &Arc<Storage>, grace: Duration, trash: bool, as_json: bool) -> Result<u8, Failure> {
    let found = storage.collectable(grace, i64::MAX as u64).map_err(|error| Failure::of(&error))?;
    if as_json {
        let entries: Vec<Value> = found.iter().map(|(reason, one)| entry(*reason, one, trash)).collect();
        show::say(json!({ "dryRun": true, "entries": entries }))?;
        return Ok(0);
    }
    for (reason, one) in &found {
        let Candidate { pointer, size_bytes, since } = one;
        let why = if *reason == Reason::Trashed { "deleted" } else { "needed by nothing" };
        let (size, since) = (show::human(*size_bytes), rfc3339::format(*since));
        let place = if is_trashed(*reason, one, trash) { "into the trash" } else { "for good" };
        let kind = kind(one);
        let name = format!("{}@{}", pointer.repository, pointer.digest);
        show::say(format!("{kind} {name} ({size}), {why} since {since}, goes {place}"))?;
    }
    show::say(format!("{} would go", found.len()))?;
    Ok(0)
}

fn is_trashed(reason: Reason, one: &Candidate, trash: bool) -> bool {
    trash && reason != Reason::Trashed && one.pointer.kind == Kind::Manifest
}

/// What it is.
pub(super) fn kind(one: &Candidate) -> &'static str {
    if one.pointer.kind == Kind::Manifest { "manifest" } else { "blob" }
}

fn entry(reason: Reason, one: &Candidate, trash: bool) -> Value {
    json!({
        "repository": one.pointer.repository,
        "kind": kind(one),
        "digest": one.pointer.digest.to_string(),
        "size": one.size_bytes,
        "since": rfc3339::format(one.since),
        "deleted": reason == Reason::Trashed,
        "toTrash": is_trashed(reason, one, trash),
    })
}
