//! `slipway save`.

use crate::{
    app::{App, Global},
    error::Failure,
    images::Images,
    nearby,
    service::output::Output,
};
use slipway_oci::{
    Digest, Platform, Reference,
    layout::{self, LayoutImage},
};
use std::{
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
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
    /// Of an image for several platforms, write the one for this platform alone
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
    /// File or folder to write [default: standard output]
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// The images: names, ids or digests
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// Carries the command out.
pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    let app = App::open(global)?;
    let output = output(arguments)?;
    let source = Images::new(&app.store, global)?;
    let mut images: Vec<LayoutImage> = Vec::new();
    for text in &arguments.images {
        let text = &source.named(text)?;
        let target = app.store.find_image(text)?.ok_or_else(|| source.missing(text))?;
        let names = app.store.names_of(&target)?;
        let digest = what(&app, &source, text, &target, arguments)?;
        let name =
            text.parse::<Reference>().ok().map(Reference::or_latest).filter(|name| names.contains(name));
        match images.iter_mut().find(|known| known.target == digest) {
            Some(known) => known.names.extend(name),
            None => images.push(LayoutImage::new(digest, name.into_iter().collect())),
        }
    }
    match output {
        Target::Folder(folder) => layout::write_oci_folder(&app.store, &images, folder)?,
        Target::Archive(mut output) => match write(&app, arguments.format, &images, &mut output) {
            Err(failure) if output.is_abandoned() => drop(failure),
            written => {
                written?;
                output.finish()?;
            }
        },
    }
    Ok(0)
}

/// What is written of a name, with every blob here: an index with all that it names where all of that is here, else its
/// image for one platform. Docker's older archive knows no indexes.
fn what(
    app: &App,
    source: &Images<'_>,
    text: &str,
    target: &Digest,
    arguments: &Arguments,
) -> Result<Digest, Failure> {
    if let Some(index) = app.store.read_index(target)?
        && arguments.platform.is_none()
        && arguments.format != Format::DockerArchive
        && app.store.is_whole(&index)?
    {
        for member in app.store.members(&index)? {
            source.complete(&member)?;
        }
        return Ok(target.clone());
    }
    let platform = arguments.platform.clone().unwrap_or_else(Platform::host);
    let image = Images::pick(&app.store, text, target, &platform)?;
    let record = source.complete_image(&image)?;
    if arguments.platform.is_some() && !record.config.platform.satisfies(&platform) {
        return Err(nearby::other_platform(text, &record.config.platform, &platform, &Platform::host()));
    }
    Ok(image)
}

/// Where the images go.
enum Target<'a> {
    Folder(&'a Path),
    Archive(Box<Output>),
}

/// Opens the output: what cannot be written is found before anything is fetched.
fn output(arguments: &Arguments) -> Result<Target<'_>, Failure> {
    let given = arguments.output.as_deref();
    if arguments.format == Format::OciDir {
        let folder = given.ok_or_else(|| Failure::usage("--format oci-dir needs -o FOLDER"))?;
        return Ok(Target::Folder(folder));
    }
    let to_stdout = given.is_none_or(|path| path.as_os_str() == "-");
    if to_stdout && std::io::stdout().is_terminal() {
        return Err(Failure::usage("the archive would go to the terminal: use -o FILE or redirect"));
    }
    let name = given.unwrap_or(Path::new("-"));
    if name.is_dir() {
        let words = format!("--output: cannot write `{}`: it is a folder", name.display());
        return Err(Failure::new(words).with_hint("--format oci-dir writes a layout into a folder"));
    }
    Ok(Target::Archive(Box::new(Output::prepare("--output", name)?)))
}

fn write(app: &App, format: Format, images: &[LayoutImage], output: &mut dyn Write) -> Result<(), Failure> {
    match format {
        Format::DockerArchive => layout::write_docker_archive(&app.store, images, output)?,
        Format::OciArchive | Format::OciDir => layout::write_oci_archive(&app.store, images, output)?,
    }
    Ok(output.flush()?)
}
