//! `slipway registry retain`.

use super::{
    named,
    place::{self, Place},
};
use crate::{app::Global, error::Failure, show};
use serde_json::{Value, json};
use slipway_registry::server::{
    retire,
    storage::{Retired, Work},
};

/// Take away the tags and untagged manifests that `retention` no longer keeps, as the server does by itself.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    place: Place,
    /// Say what would go, and take nothing
    #[arg(long)]
    dry_run: bool,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

/// Carries the command out.
pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    let (storage, settings) = arguments.place.open(global)?;
    if settings.retention.is_empty() {
        show::note("note: `retention` of the settings says nothing, so that everything is kept");
    }
    storage.keep_trash(settings.trash.unwrap_or_default().0);
    let (access, rules) = (settings.access()?, &settings.retention);
    let turn = if arguments.dry_run { None } else { Some(place::turn(&storage, Work::Collect)?) };
    let holds = || turn.as_ref().is_none_or(|turn| turn.holds());
    let mut gone = Vec::new();
    let mut note = |one: &Retired| {
        gone.push(one.clone());
        holds()
    };
    retire(&storage, (rules, &access), &named::author("retain"), arguments.dry_run, &mut note)
        .map_err(|error| Failure::of(&error))?;
    if arguments.json {
        let all: Vec<Value> = gone.iter().map(as_json).collect();
        show::say(json!({ "dryRun": arguments.dry_run, "entries": all }))?;
        return Ok(0);
    }
    for Retired { repository, tag, digest } in &gone {
        match tag {
            Some(tag) => show::say(format!("{repository}:{tag} {digest}"))?,
            None => show::say(format!("{repository}@{digest}"))?,
        }
    }
    if let Some(turn) = &turn {
        place::held(turn)?;
    }
    let word = if arguments.dry_run { "would go" } else { "went" };
    show::say(format!("{} {word}", gone.len()))?;
    Ok(0)
}

fn as_json(one: &Retired) -> Value {
    json!({ "repository": one.repository, "tag": one.tag, "digest": one.digest.to_string() })
}
