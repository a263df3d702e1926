//! `slipway save`.

use crate::{
    app::{App, Global},
    error::Failure,
    images::Images,
};
use slipway_oci::{Digest, Reference, layout, store::StoreError};
use std::{
    fs::File,
    io::{BufWriter, IsTerminal, Write},
    path::PathBuf,
};

/// The value of `--format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// An OCI layout as a tar, with docker's manifest.json
    OciArchive,
    /// An OCI layout as a folder
    OciDir,
    /// Docker's archive with uncompressed layers
    DockerArchive,
}

/// Write images to an archive or OCI layout.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The form
    #[arg(long, value_enum, default_value = "oci-archive")]
    format: Format,
    /// File or folder to write [default: standard output]
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// The images: names, ids or digests
    #[arg(required = true)]
    images: Vec<String>,
}

/// Carries the command out.
pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    let app = App::open(global)?;
    let source = Images::new(&app.store, global)?;
    let mut images: Vec<(Digest, Vec<Reference>)> = Vec::new();
    for text in &arguments.images {
        let digest = app.store.find_image(text)?.ok_or_else(|| StoreError::NoImage(text.clone()))?;
        source.complete(&digest)?;
        let names = app.store.names_of(&digest)?;
        let name =
            text.parse::<Reference>().ok().map(Reference::or_latest).filter(|name| names.contains(name));
        match images.iter_mut().find(|(known, _)| *known == digest) {
            Some((_, known)) => known.extend(name),
            None => images.push((digest, name.into_iter().collect())),
        }
    }
    if arguments.format == Format::OciDir {
        let folder =
            arguments.output.as_ref().ok_or_else(|| Failure::usage("--format oci-dir needs -o FOLDER"))?;
        layout::write_oci_folder(&app.store, &images, folder)?;
        return Ok(0);
    }
    match &arguments.output {
        None if std::io::stdout().is_terminal() => {
            Err(Failure::usage("the archive would go to the terminal: use -o FILE or redirect"))
        }
        None => write(
            &app,
            arguments.format,
            &images,
            &mut BufWriter::with_capacity(1 << 18, std::io::stdout().lock()),
        ),
        Some(path) => {
            // beside its place first: a failure leaves no half archive under the name that was asked for
            let temporary = path.with_file_name(slipway_oci::file::temporary_name(".slipway-save"));
            let result = File::create_new(&temporary)
                .map_err(|error| Failure::new(format!("cannot write `{}`: {error}", path.display())))
                .and_then(|file| {
                    let mut output = BufWriter::with_capacity(1 << 18, file);
                    write(&app, arguments.format, &images, &mut output)?;
                    output.get_ref().sync_data()?;
                    Ok(std::fs::rename(&temporary, path)?)
                });
            if result.is_err() {
                let _ = std::fs::remove_file(&temporary);
            }
            result
        }
    }?;
    Ok(0)
}

fn write(
    app: &App,
    format: Format,
    images: &[(Digest, Vec<Reference>)],
    output: &mut dyn Write,
) -> Result<(), Failure> {
    match format {
        Format::DockerArchive => layout::write_docker_archive(&app.store, images, output)?,
        Format::OciArchive | Format::OciDir => layout::write_oci_archive(&app.store, images, output)?,
    }
    Ok(output.flush()?)
}
