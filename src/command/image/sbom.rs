//! `slipway sbom`.

use crate::{
    app::{App, Global},
    error::Failure,
    images::Images,
    packages,
    request::attest::Format,
    service::output::Output,
    show,
};
use slipway_oci::{Platform, spec::rfc3339};
use std::path::PathBuf;

/// List the packages in an image: those of its package managers, and what its programs say of themselves.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The words in which the list is written
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: Format,
    /// Of an image for several platforms, the one for this platform
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
    /// The file that is written [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The image: a name, id or digest
    #[arg(value_name = "IMAGE")]
    image: String,
}

/// Carries the command out.
pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    let app = App::open_for_containers(global)?;
    let output = arguments.output.as_ref().map(|path| Output::prepare("--output", path)).transpose()?;
    let images = Images::new(&app.store, global)?;
    let text = images.named(&arguments.image)?;
    let target = app.store.find_image(&text)?.ok_or_else(|| images.missing(&arguments.image))?;
    let platform = arguments.platform.clone().unwrap_or_else(Platform::host);
    let digest = Images::pick(&app.store, &text, &target, &platform)?;
    let record = app.store.read_image(&digest)?;
    let found = packages::list(&images, &record)?;
    let created = rfc3339::format(record.config.created_seconds().unwrap_or(0));
    let document = packages::document(&found, arguments.format, &record, Some(&arguments.image), &created);
    let text = format!("{document:#}\n");
    match output {
        Some(output) => output.finish_with(text.as_bytes())?,
        None => show::say(text.trim_end())?,
    }
    Ok(0)
}
