//! `slipway artifact pull`.

use crate::{
    app::{App, Global},
    error::Failure,
    progress::{self, Choice, Transfers},
    remote::Remote,
    show,
};
use serde_json::{Value, json};
use slipway_oci::{
    Descriptor, Digest, Platform, Reference, Root,
    artifact::{self, ANNOTATION_DIGEST, ANNOTATION_TITLE, ANNOTATION_UNPACK},
    blobs::Blobs,
    digest::HashingReader,
    spec::Parsed,
};
use std::{fs, io, path::PathBuf};

/// Fetch the files of an artifact.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Where the files go; the folder is made
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    output: PathBuf,
    /// Of an artifact for several platforms, the one for this platform
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
    /// Leave files that are there as they are, and fail
    #[arg(short, long)]
    keep_old_files: bool,
    /// Write JSON: digest, type, files
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    shown: Choice,
    /// The artifact
    #[arg(value_name = "NAME[:TAG]")]
    reference: Reference,
}

/// Carries the command out.
pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    let app = App::open(global)?;
    let remote = Remote::open(global)?;
    let reference = remote.meant(&arguments.reference.clone().or_latest());
    let top = remote.resolve(&reference, arguments.platform.as_ref())?;
    let (descriptor, parsed) = remote.manifest(&reference.with_digest(top.digest))?.parsed()?;
    let Parsed::Manifest(manifest) = parsed else {
        return Err(Failure::new(format!("`{}` is for several platforms", reference.familiar()))
            .with_hint("--platform OS/ARCH chooses"));
    };
    let files = named(&manifest.layers)?;
    if files.is_empty() {
        return Err(Failure::new(format!("`{}` has no files with names", reference.familiar()))
            .with_hint(format!("an image is fetched with `slipway pull {}`", reference.familiar())));
    }
    let failed = |error: &io::Error| {
        Failure::new(format!("cannot make the folder `{}`: {error}", arguments.output.display()))
    };
    fs::create_dir_all(&arguments.output).map_err(|error| failed(&error))?;
    let into = Root::open(&arguments.output).map_err(|error| failed(&error))?;
    if arguments.keep_old_files {
        absent(&into, &files)?;
    }
    let scratch = app.store.temporary_folder("artifact")?;
    let blobs = Blobs::open(&scratch.join("blobs"), &scratch.join("tmp"))?;
    let layers: Vec<Descriptor> = files.iter().map(|(_, layer)| (*layer).clone()).collect();
    let show = arguments.shown.show();
    show.begin(&format!("Pulling {}", reference.familiar()), layers.len());
    let transfers = Transfers { show: &*show, doing: "pulling" };
    let fetched = remote.client.fetch_blobs(&reference, &layers, &blobs, &transfers);
    progress::ended(&*show, fetched).map_err(|error| Failure::of(&error))?;
    for (name, layer) in &files {
        place(&into, name, layer, &blobs)?;
    }
    let _ = slipway_oci::file::remove_tree(&scratch);
    said(arguments, &reference, &descriptor, manifest.artifact_type.as_deref(), &files)
}

fn said(
    arguments: &Arguments,
    reference: &Reference,
    descriptor: &Descriptor,
    kind: Option<&str>,
    files: &[(String, &Descriptor)],
) -> Result<u8, Failure> {
    if !arguments.json {
        files.iter().try_for_each(|(name, _)| show::say(arguments.output.join(name).display()))?;
        return Ok(0);
    }
    let files: Vec<Value> = files
        .iter()
        .map(|(name, layer)| {
            json!({
                "path": arguments.output.join(name),
                "mediaType": layer.media_type,
                "digest": layer.digest,
                "size": layer.size_bytes,
            })
        })
        .collect();
    show::say(json!({
        "name": reference.name(),
        "digest": descriptor.digest,
        "artifactType": kind,
        "files": files,
    }))?;
    Ok(0)
}

/// Layers with names, which lie within the folder; the others are no files.
fn named(layers: &[Descriptor]) -> Result<Vec<(String, &Descriptor)>, Failure> {
    let mut all = Vec::new();
    for layer in layers {
        let Some(title) = layer.annotations.get(ANNOTATION_TITLE).filter(|title| !title.is_empty()) else {
            continue;
        };
        let name = artifact::safe_name(title)
            .ok_or_else(|| Failure::of(&artifact::ArtifactError::Outside(title.clone())))?;
        all.push((name, layer));
    }
    Ok(all)
}

fn absent(into: &Root, files: &[(String, &Descriptor)]) -> Result<(), Failure> {
    match files.iter().find(|(name, _)| into.metadata(name.as_ref()).is_ok()) {
        Some((name, _)) => Err(Failure::new(format!("`{name}` is there already: nothing was written"))),
        None => Ok(()),
    }
}

/// Puts a file or folder in its place.
fn place(into: &Root, name: &str, layer: &Descriptor, blobs: &Blobs) -> Result<(), Failure> {
    let failed = |error: artifact::ArtifactError| Failure::of(&error);
    let mut file = blobs.open_blob(&layer.digest)?;
    if layer.annotations.get(ANNOTATION_UNPACK).is_some_and(|text| text == "true") {
        if let Some(expected) = layer.annotations.get(ANNOTATION_DIGEST) {
            same(&blobs.open_blob(&layer.digest)?, expected, name)?;
        }
        return artifact::unpack(file, into, name).map_err(failed);
    }
    let mut output = artifact::create(into, name, 0o644).map_err(failed)?;
    let copied = io::copy(&mut file, &mut output).and_then(|_| output.sync_all());
    copied.map_err(|error| Failure::new(format!("cannot write `{name}`: {error}")))
}

/// What the folder's archive is said to be, uncompressed.
fn same(file: &fs::File, expected: &str, name: &str) -> Result<(), Failure> {
    let expected: Digest =
        expected.parse().map_err(|error: slipway_oci::digest::DigestError| Failure::of(&error))?;
    let unread = |error: io::Error| Failure::new(format!("cannot read the archive of `{name}`: {error}"));
    let decoder = slipway_oci::compression::decoder(io::BufReader::new(file)).map_err(unread)?;
    let mut reader = HashingReader::new(decoder, expected.algorithm());
    io::copy(&mut reader, &mut io::sink()).map_err(unread)?;
    let (_, actual, _) = reader.finish();
    if actual != expected {
        let words = format!("the archive of `{name}` has digest {actual}, and not {expected}");
        return Err(Failure::new(words));
    }
    Ok(())
}
