//! `slipway builds ls`.

use super::{duration, history, name};
use crate::{
    app::Global,
    error::Failure,
    show::{self, listing::Listing},
};
use serde_json::{Value, json};
use slipway_builder::history::BuildRecord;
use slipway_oci::spec::rfc3339;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// `json`, `table`, a template for each line, or `table TEMPLATE`
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// Show ids only
    #[arg(short, long)]
    quiet: bool,
}

/// Carries the command out.
pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    let builds = history(global)?.builds()?;
    if arguments.quiet {
        builds.iter().try_for_each(|build| show::say(&build.id))?;
        return Ok(0);
    }
    let rows: Vec<Value> = builds.iter().map(row).collect();
    let columns = [
        ("ID", "BUILD ID"),
        ("Name", "NAME"),
        ("Status", "STATUS"),
        ("CreatedSince", "CREATED"),
        ("Duration", "DURATION"),
        ("Ran", "RAN"),
        ("Cached", "CACHED"),
    ];
    let more = [
        ("CreatedAt", "CREATED AT"),
        ("Recipe", "RECIPE"),
        ("Context", "CONTEXT"),
        ("Target", "TARGET"),
        ("Digest", "DIGEST"),
    ];
    Listing { columns: &columns, more: &more, rows: &rows }.write(arguments.format.as_deref())?;
    Ok(0)
}

fn row(build: &BuildRecord) -> Value {
    let (cached, ran) = build.counts();
    let began = (build.began_ms / 1000) as i64;
    let image = build.end.as_ref().and_then(|end| end.image.as_ref());
    let line = |text: &Option<String>| show::text::line(text.as_deref().unwrap_or_default());
    json!({
        "ID": build.id,
        "Name": name(build),
        "Status": build.state().word(),
        "CreatedSince": show::since(Some(began)),
        "CreatedAt": rfc3339::format(began),
        "Duration": build.end.as_ref().map_or_else(String::new, |end| duration(end.took_us)),
        "Ran": ran.to_string(),
        "Cached": cached.to_string(),
        "Recipe": show::text::line(&build.recipe),
        "Context": line(&build.context),
        "Target": line(&build.target),
        "Digest": image.map_or_else(String::new, ToString::to_string),
    })
}
