//! `slipway images`.

use crate::{
    app::{App, Global},
    error::Failure,
    show::{self, template},
};
use slipway_oci::{
    Reference,
    spec::rfc3339,
    store::{NamedImage, StoreError},
};

/// List images.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Show digests
    #[arg(long)]
    digests: bool,
    /// Show whole ids
    #[arg(long)]
    no_trunc: bool,
    /// Show ids only
    #[arg(short, long)]
    quiet: bool,
    /// A template for each line, or `json`
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// Only this repository, or this image
    name: Option<String>,
}

/// Carries the command out.
pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    let app = App::open(global)?;
    let wanted = arguments.name.as_deref().map(str::parse::<Reference>).transpose()?;
    let matches = |image: &NamedImage| match (&wanted, &image.name) {
        (None, _) => true,
        (Some(wanted), Some(name)) => {
            wanted.name() == name.name() && (wanted.tag().is_none() || wanted.tag() == name.tag())
        }
        (Some(_), None) => false,
    };
    let mut rows = Vec::new();
    for image in app.store.list_images()?.into_iter().filter(matches) {
        let (size, created) = match app.store.read_image(&image.digest) {
            Ok(record) => {
                let size = record.manifest.layers.iter().map(|layer| layer.size_bytes).sum();
                (size, record.config.created_seconds())
            }
            // it is listed all the same, or nobody could take it away; the others are none the worse for it
            Err(error @ StoreError::Unreadable { .. }) => {
                let words = crate::error::chain(&error);
                show::note(format_args!("warning: `{}`: {words}", shown_name(&image)));
                (app.store.layer_bytes(&image.digest)?, None)
            }
            Err(error) => return Err(error.into()),
        };
        rows.push((image, size, created));
    }
    match arguments.format.as_deref() {
        Some(format) => {
            for (image, size, created) in &rows {
                let value = row(image, *size, *created, arguments.no_trunc);
                let line =
                    if format == "json" { value.to_string() } else { template::render(format, &value)? };
                show::say(line)?;
            }
        }
        None if arguments.quiet => {
            for (image, ..) in &rows {
                let id = if arguments.no_trunc { image.id.to_string() } else { image.id.short().to_owned() };
                show::say(id)?;
            }
        }
        None => print_table(arguments, &rows)?,
    }
    Ok(0)
}

fn shown_name(image: &NamedImage) -> String {
    image.name.as_ref().map_or_else(|| image.id.short().to_owned(), Reference::familiar)
}

fn repository_and_tag(image: &NamedImage) -> (String, String) {
    let none = || "<none>".to_owned();
    match &image.name {
        Some(name) => (name.familiar_name(), name.tag().map_or_else(none, str::to_owned)),
        None => (none(), none()),
    }
}

fn row(image: &NamedImage, size: u64, created: Option<i64>, whole: bool) -> serde_json::Value {
    let (repository, tag) = repository_and_tag(image);
    serde_json::json!({
        "Repository": repository,
        "Tag": tag,
        "Digest": image.digest,
        "ID": if whole { image.id.to_string() } else { image.id.short().to_owned() },
        "CreatedAt": created.map(rfc3339::format).unwrap_or_default(),
        "CreatedSince": show::since(created),
        "Size": show::human(size),
    })
}

type Row = (NamedImage, u64, Option<i64>);

fn print_table(arguments: &Arguments, rows: &[Row]) -> Result<(), Failure> {
    let mut table: Vec<Vec<String>> = Vec::new();
    let mut head = vec!["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"];
    if arguments.digests {
        head.insert(2, "DIGEST");
    }
    table.push(head.into_iter().map(str::to_owned).collect());
    for (image, size, created) in rows {
        let (repository, tag) = repository_and_tag(image);
        let id = if arguments.no_trunc { image.id.to_string() } else { image.id.short().to_owned() };
        let mut line = vec![repository, tag, id, show::since(*created), show::human(*size)];
        if arguments.digests {
            line.insert(2, image.digest.to_string());
        }
        table.push(line);
    }
    let widths: Vec<usize> = (0..table[0].len())
        .map(|column| table.iter().map(|line| line[column].len()).max().unwrap_or(0))
        .collect();
    for line in table {
        let cells: Vec<String> =
            line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        show::say(cells.join("   ").trim_end())?;
    }
    Ok(())
}
