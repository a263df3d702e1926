//! `slipway load`.

use crate::{
    app::{App, Global},
    error::Failure,
    service::input,
    show,
};
use slipway_oci::{Platform, layout};
use std::path::PathBuf;

/// Read images from an archive or OCI layout.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// An archive or a layout's folder [default: standard input]
    #[arg(short, long, value_name = "PATH")]
    input: Option<PathBuf>,
    /// Print ids only
    #[arg(short, long)]
    quiet: bool,
}

/// Carries the command out.
pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    let app = App::open(global)?;
    let loaded = match &arguments.input {
        None => layout::load_archive(&app.store, std::io::stdin())?,
        Some(path) => {
            let loaded = match path.is_dir() {
                true => layout::load_folder(&app.store, path, None, &Platform::host()),
                false => layout::load_archive(&app.store, input::open("--input", path)?),
            };
            loaded
                .map_err(|error| Failure::of(&error)
                        .or_hint("what `slipway save` and `docker save` write can be loaded, and a folder with an OCI layout")
                        .about(format_args!("--input: `{}`", path.display())))?
        }
    };
    for image in loaded {
        let id = app.store.read_image(&image.digest)?.manifest.config.digest;
        if arguments.quiet || image.names.is_empty() {
            show::say(if arguments.quiet { id.to_string() } else { format!("Loaded image ID: {id}") })?;
            continue;
        }
        for name in image.names {
            show::say(format!("Loaded image: {}", name.familiar()))?;
        }
    }
    Ok(0)
}
