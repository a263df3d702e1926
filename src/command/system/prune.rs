//! `slipway prune`.

use crate::{
    app::{App, Global},
    command,
    error::Failure,
    request::{
        prune::{self, Asked, Part},
        size,
    },
    show,
};
use slipway_oci::store::{Prune, Pruned};
use std::io::IsTerminal;

/// Give back what nothing needs: images without a name, and what builds have kept to be quick.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Also images that have a name, all results of build steps, caches of RUN
    #[arg(short, long)]
    all: bool,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// How much builds may keep; the longest unused goes first
    #[arg(long, value_name = "SIZE", value_parser = size::from_nothing, aliases = ["max-used-space", "reserved-space"])]
    keep_storage: Option<u64>,
    /// Keep what was used within this time: 72h
    #[arg(long, value_name = "TIME")]
    keep_duration: Option<String>,
    /// Only what is so: `until=24h`, `until=2026-01-31`, `type=image|step|cache|context`, `id=BEGINNING`
    #[arg(long = "filter", value_name = "NAME=VALUE")]
    filters: Vec<String>,
    /// What is meant
    #[arg(long, value_enum, default_value_t)]
    only: Part,
}

/// Carries the command out.
pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    let asked = Asked {
        part: arguments.only,
        all: arguments.all,
        keep_bytes: arguments.keep_storage,
        keep_duration: arguments.keep_duration.as_deref(),
        filters: &arguments.filters,
    };
    let rules = prune::rules(&asked, show::now())?;
    if !arguments.force && !agreed(&rules)? {
        return Ok(1);
    }
    let app = App::open(global)?;
    command::container::clear(&app)?;
    report(&app.store.prune(&rules)?)?;
    Ok(0)
}

/// Asks the person.
fn agreed(rules: &Prune) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::new("nobody is there to be asked").with_hint("give --force"));
    }
    let mut goes = Vec::new();
    match (rules.named_images, rules.unnamed_images) {
        (true, _) => goes.push("all images"),
        (false, true) => goes.push("images without a name"),
        _ => {}
    }
    match (rules.shared_cache, rules.cache) {
        (true, _) => goes.push("all results of build steps"),
        (false, true) => goes.push("results of build steps that no image has"),
        _ => {}
    }
    if rules.mounts {
        goes.push("caches of RUN");
    }
    if goes.is_empty() {
        goes.push("what nothing names");
    }
    let which = if rules.used_before.is_some() { ", as far as they were not used since" } else { "" };
    show::ask(&format!("This removes {}{which}. Go on? [y/N] ", goes.join(" and ")))
}

fn report(pruned: &Pruned) -> Result<(), Failure> {
    for name in &pruned.names {
        let familiar = name.parse::<slipway_oci::Reference>().map(|name| name.familiar());
        show::say(format!("untagged: {}", familiar.unwrap_or_else(|_| name.clone())))?;
    }
    for digest in &pruned.images {
        show::say(format!("deleted: {digest}"))?;
    }
    if pruned.results > 0 {
        show::say(format!("forgotten: {} results of build steps", pruned.results))?;
    }
    for id in &pruned.mounts {
        show::say(format!("forgotten: the cache {}", show::text::line(id)))?;
    }
    if pruned.in_use > 0 {
        show::note(format_args!("note: {} of what was meant is in use, and stays", pruned.in_use));
    }
    if pruned.collected.is_none() {
        show::note(
            "note: another command is using the store; what it does not need goes with the next `slipway prune`",
        );
    }
    show::say(format!("Total reclaimed space: {}", show::human(pruned.freed_bytes())))
}
