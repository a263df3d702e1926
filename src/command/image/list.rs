//! `slipway images`.

mod filter;

use crate::{
    app::{App, Global},
    error::Failure,
    show::{self, listing::Listing},
};
use filter::{Candidate, Filters};
use serde_json::Value;
use slipway_oci::{
    Reference,
    store::{NamedImage, StoreError},
};

/// List images.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Accepted for docker's sake: images of steps are not kept, so that all are listed anyway
    #[arg(short, long)]
    all: bool,
    /// Show digests
    #[arg(long)]
    digests: bool,
    /// Show whole ids
    #[arg(long)]
    no_trunc: bool,
    /// Show ids only
    #[arg(short, long)]
    quiet: bool,
    /// Only images with dangling=BOOLEAN, label=NAME[=VALUE], reference=PATTERN, before=IMAGE or since=IMAGE
    #[arg(short, long = "filter", value_name = "NAME=VALUE")]
    filters: Vec<String>,
    /// `json`, `table`, a template for each line, or `table TEMPLATE`
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// Only this repository, or this image
    #[arg(value_name = "IMAGE")]
    name: Option<String>,
}

/// Carries the command out.
pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    let wanted = arguments.name.as_deref().map(str::parse::<Reference>).transpose()?;
    let filters = Filters::parse(&arguments.filters)?;
    let app = App::open(global)?;
    let filters = filters.resolved(&app.store)?;
    let mut rows = Vec::new();
    for image in app.store.list_images()? {
        let named = |wanted: &Reference| match &image.name {
            Some(name) => {
                wanted.name() == name.name() && (wanted.tag().is_none() || wanted.tag() == name.tag())
            }
            None => false,
        };
        if !wanted.as_ref().is_none_or(named) {
            continue;
        }
        let labels;
        let (size_bytes, created) = match app.store.read_image(&image.digest) {
            Ok(record) => {
                let size_bytes = record.manifest.layers.iter().map(|layer| layer.size_bytes).sum();
                let created = record.config.created_seconds();
                labels = record.config.config.labels;
                (size_bytes, created)
            }
            // it is listed all the same, or nobody could take it away; the others are none the worse for it
            Err(error @ StoreError::Unreadable { .. }) => {
                let words = crate::error::chain(&error);
                show::note(format_args!("warning: `{}`: {words}", shown_name(&image)));
                labels = None;
                (app.store.layer_bytes(&image.digest)?, None)
            }
            Err(error) => return Err(error.into()),
        };
        let labels = labels.as_ref();
        if !filters.take(&Candidate { name: image.name.as_ref(), labels, created })? {
            continue;
        }
        let id = if arguments.no_trunc { image.id.to_string() } else { image.id.short() };
        rows.push(row(image.name.as_ref(), image.target.to_string(), id, size_bytes, created));
    }
    if arguments.quiet {
        // an image with several names is listed once a name
        rows.iter().filter_map(|row| row["ID"].as_str()).try_for_each(show::say)?;
        return Ok(0);
    }
    let mut columns = vec![
        ("Repository", "REPOSITORY"),
        ("Tag", "TAG"),
        ("ID", "IMAGE ID"),
        ("CreatedSince", "CREATED"),
        ("Size", "SIZE"),
    ];
    let digest = ("Digest", "DIGEST");
    if arguments.digests {
        columns.insert(2, digest);
    }
    let more = [
        digest,
        ("CreatedAt", "CREATED AT"),
        ("Containers", "CONTAINERS"),
        ("SharedSize", "SHARED SIZE"),
        ("UniqueSize", "UNIQUE SIZE"),
        ("VirtualSize", "SIZE"),
    ];
    Listing { columns: &columns, more: &more, rows: &rows }.write(arguments.format.as_deref())?;
    Ok(0)
}

/// What an image is called in a warning.
fn shown_name(image: &NamedImage) -> String {
    image.name.as_ref().map_or_else(|| image.id.short(), Reference::familiar)
}

/// An image in docker's words: the keys of `docker images --format json`.
fn row(name: Option<&Reference>, digest: String, id: String, size_bytes: u64, created: Option<i64>) -> Value {
    let none = || "<none>".to_owned();
    let repository = name.map_or_else(none, Reference::familiar_name);
    let tag = name.and_then(Reference::tag).map_or_else(none, str::to_owned);
    let size = show::human(size_bytes);
    serde_json::json!({
        "Containers": "N/A",
        "CreatedAt": show::time(created),
        "CreatedSince": show::since(created),
        "Digest": digest,
        "ID": id,
        "Repository": repository,
        "SharedSize": "N/A",
        "Size": size,
        "Tag": tag,
        "UniqueSize": "N/A",
        "VirtualSize": size,
    })
}
