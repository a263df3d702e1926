//! `slipway history`.

use crate::{
    app::{App, Global},
    error::Failure,
    images::Images,
    show::{self, listing::Listing},
};
use serde_json::{Value, json};
use slipway_oci::{spec::rfc3339, store::ImageRecord};

/// Show what an image was made by, the last step first.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// `json`, `table`, a template for each line, or `table TEMPLATE`
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// Show sizes in bytes and times as dates, as docker's `--human=false` does
    #[arg(long)]
    bytes: bool,
    /// Show whole ids and instructions
    #[arg(long)]
    no_trunc: bool,
    /// Show ids only
    #[arg(short, long)]
    quiet: bool,
    /// The image: a name, id or digest
    image: String,
}

/// Longest instruction that is shown unless all is asked for, as docker's.
const INSTRUCTION: usize = 45;

/// Carries the command out.
pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    let app = App::open(global)?;
    let images = Images::new(&app.store, global)?;
    let digest = images.local(&arguments.image)?.ok_or_else(|| images.missing(&arguments.image))?;
    let rows = rows(&app.store.read_image(&digest)?, arguments);
    if arguments.quiet {
        rows.iter().filter_map(|row| row["ID"].as_str()).try_for_each(show::say)?;
        return Ok(0);
    }
    let created = if arguments.bytes { "CreatedAt" } else { "CreatedSince" };
    let columns = [
        ("ID", "IMAGE"),
        (created, "CREATED"),
        ("CreatedBy", "CREATED BY"),
        ("Size", "SIZE"),
        ("Comment", "COMMENT"),
    ];
    let more = [("CreatedSince", "CREATED"), ("CreatedAt", "CREATED AT")];
    Listing { columns: &columns, more: &more, rows: &rows }.write(arguments.format.as_deref())?;
    Ok(0)
}

/// The steps with the keys of `docker history --format json`. Images of single steps are not kept: only the last has an id.
fn rows(record: &ImageRecord, arguments: &Arguments) -> Vec<Value> {
    let mut layers = record.manifest.layers.iter();
    let mut rows: Vec<Value> = record
        .config
        .history
        .iter()
        .map(|entry| {
            let size =
                if entry.empty_layer { None } else { layers.next() }.map_or(0, |layer| layer.size_bytes);
            let created = entry.created.as_deref().and_then(rfc3339::parse);
            let by = entry.created_by.as_deref().unwrap_or_default();
            json!({
                "Comment": entry.comment.as_deref().unwrap_or_default(),
                "CreatedAt": created.map_or_else(|| "N/A".to_owned(), rfc3339::format),
                "CreatedBy": if arguments.no_trunc { by.to_owned() } else { shortened(by) },
                "CreatedSince": show::since(created),
                "ID": "<missing>",
                "Size": if arguments.bytes { size.to_string() } else { show::human(size) },
            })
        })
        .collect();
    let id = &record.manifest.config.digest;
    if let Some(last) = rows.last_mut() {
        last["ID"] = if arguments.no_trunc { id.to_string() } else { id.short() }.into();
    }
    rows.reverse();
    rows
}

fn shortened(text: &str) -> String {
    let line = show::text::line(text);
    match line.chars().count() > INSTRUCTION {
        true => line.chars().take(INSTRUCTION - 1).chain(['…']).collect(),
        false => line,
    }
}
