//! `slipway registry tag-history` and `rollback`.

use super::{
    named::{self, TagName},
    place::Place,
};
use crate::{app::Global, error::Failure, show};
use serde_json::{Value, json};
use slipway_oci::{Digest, spec::rfc3339};
use slipway_registry::server::storage::TagEvent;

/// List where a tag pointed, the newest first: when, who moved it, from where.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    place: Place,
    /// Write JSON
    #[arg(long)]
    json: bool,
    /// The tag: REPOSITORY:TAG
    #[arg(value_name = "TAG", value_parser = named::tag_name)]
    tag: TagName,
}

/// Point a tag at what it pointed at before.
#[derive(clap::Args)]
pub(crate) struct RollbackArguments {
    #[command(flatten)]
    place: Place,
    /// At this manifest, wherever it pointed [default: what it pointed at before its last move]
    #[arg(long, value_name = "DIGEST", value_parser = |text: &str| text.parse::<Digest>())]
    to: Option<Digest>,
    /// Move a tag that never changes, too
    #[arg(long)]
    force: bool,
    /// The tag: REPOSITORY:TAG
    #[arg(value_name = "TAG", value_parser = named::tag_name)]
    tag: TagName,
}

/// Most moves that are listed; no more are remembered.
const MOVES: u64 = 1000;

/// Carries `tag-history` out.
pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    let (storage, _) = arguments.place.open(global)?;
    let TagName { repository, tag } = &arguments.tag;
    let events = storage.tag_history(repository, Some(tag), i64::MAX, MOVES);
    let events = events.map_err(|error| Failure::of(&error))?;
    if arguments.json {
        show::say(Value::from(events.iter().map(as_json).collect::<Vec<_>>()))?;
    } else {
        events.iter().try_for_each(|event| show::say(in_words(event)))?;
    }
    Ok(0)
}

fn in_words(event: &TagEvent) -> String {
    let digest = event.digest.as_ref().map_or("deleted".to_owned(), Digest::to_string);
    let who = event.change.who.as_ref().map(|who| format!(" by {who}")).unwrap_or_default();
    let origin = event.change.origin.as_ref().map(|origin| format!(" from {origin}")).unwrap_or_default();
    format!("{} {digest}{who}{origin}", rfc3339::format(event.change.at))
}

fn as_json(event: &TagEvent) -> Value {
    json!({
        "time": rfc3339::format(event.change.at),
        "digest": event.digest.as_ref().map(Digest::to_string),
        "former": event.former.as_ref().map(Digest::to_string),
        "user": event.change.who,
        "origin": event.change.origin,
    })
}

/// Carries `rollback` out.
pub(crate) fn rollback(global: &Global, arguments: &RollbackArguments) -> Result<u8, Failure> {
    let (storage, settings) = arguments.place.open(global)?;
    let TagName { repository, tag } = &arguments.tag;
    if !arguments.force && settings.access()?.is_immutable(repository, tag) {
        return Err(Failure::new(format!("the tag `{tag}` never changes; --force moves it all the same")));
    }
    let done = storage.roll_back(repository, tag, arguments.to.as_ref(), &named::author("rollback"));
    let (digest, missing) = done.map_err(|error| Failure::of(&error))?;
    show::say(format!("{repository}:{tag} is {digest}"))?;
    for lacks in &missing {
        show::note(format_args!("warning: it needs {lacks}, which is gone for good; a push brings it back"));
    }
    Ok(u8::from(!missing.is_empty()))
}
