//! `slipway import`.

use crate::{
    app::{App, Global},
    error::Failure,
    service::input::{self, is_stdin},
    show,
};
use slipway_dockerfile::{Located, Stage};
use slipway_oci::{
    Descriptor, Platform, Reference,
    compression::Compression,
    layer::{import_archive, import_folder},
    spec::{History, ImageConfig, Manifest, media_type, rfc3339, to_json},
    store::Adopted,
};
use std::{io::BufReader, path::PathBuf};

/// Make a base image from a root file system's tar or folder.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// What the image runs on
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
    /// Instructions for the image's configuration: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL,
    /// USER, VOLUME, WORKDIR
    #[arg(short, long = "change", value_name = "INSTRUCTION")]
    changes: Vec<String>,
    /// A comment for the image's history
    #[arg(short, long, default_value = "")]
    message: String,
    /// A tar, compressed or not, a folder, or `-` for a tar on standard input
    source: PathBuf,
    /// Name of the image
    #[arg(value_name = "NAME[:TAG]")]
    name: Option<Reference>,
}

/// Carries the command out.
pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    let mut config = ImageConfig::empty(arguments.platform.clone().unwrap_or_else(Platform::host));
    slipway_builder::apply_changes(&mut config, &changes(&arguments.changes)?)
        .map_err(|error| Failure::usage(format!("--change: {}", slipway_oci::error::chain(&error))))?;
    let app = App::open(global)?;
    let (blobs, compression) = (app.store.blobs(), Compression::default());
    let shown = arguments.source.display();
    let (file, image) = app.store.new_import()?.unzip();
    let layer = if !is_stdin(&arguments.source) && arguments.source.is_dir() {
        import_folder(blobs, &arguments.source, compression, image)?
    } else {
        let source = input::open("SOURCE", &arguments.source)?;
        let imported = import_archive(blobs, BufReader::with_capacity(1 << 18, source), compression, image);
        imported.map_err(|error| {
            Failure::of(&error)
                .or_hint("the root file system is a tar archive, compressed or not, or a folder")
                .about(format_args!("cannot import `{shown}`"))
        })?
    };
    // the newest file decides the time: the same file system is the same image whenever it is imported
    let newest = layer.toc.entries().iter().map(|entry| entry.mtime).max().unwrap_or(0).max(0);
    let created = rfc3339::format(newest);
    config.created = Some(created.clone());
    config.rootfs.diff_ids = vec![layer.diff_id.clone()];
    config.history.push(History {
        created: Some(created),
        created_by: Some("slipway import".to_owned()),
        comment: Some(arguments.message.clone()).filter(|message| !message.is_empty()),
        ..History::default()
    });
    app.store.adopt_layer(&layer, file.as_ref().map_or(Adopted::Nothing, Adopted::File))?;
    let config = to_json(&config);
    blobs.put(&config)?;
    let manifest = to_json(&Manifest {
        schema_version: 2,
        media_type: Some(media_type::OCI_MANIFEST.to_owned()),
        artifact_type: None,
        config: Descriptor::of(media_type::OCI_CONFIG, &config),
        layers: vec![layer.descriptor.clone()],
        subject: None,
        annotations: Default::default(),
    });
    let digest = blobs.put(&manifest)?;
    let names: Vec<Reference> = arguments.name.iter().cloned().collect();
    let record = app.store.put_image(&digest, &names)?;
    show::say(record.manifest.config.digest)?;
    Ok(0)
}

/// The changes as instructions; one text may hold several lines, as docker takes them.
fn changes(texts: &[String]) -> Result<Vec<Located>, Failure> {
    let mut instructions = Vec::new();
    for text in texts {
        let refused = |message: &str| Failure::usage(format!("--change: `{text}`: {message}"));
        let parsed = slipway_dockerfile::parse_recipe(&format!("FROM scratch\n{text}\n"));
        let recipe = parsed.map_err(|diagnostics| {
            let error = diagnostics.iter().find(|diagnostic| diagnostic.is_error());
            refused(error.map_or("no instruction", |diagnostic| &diagnostic.message))
        })?;
        match <[Stage; 1]>::try_from(recipe.stages) {
            Ok([stage]) if !stage.instructions.is_empty() => instructions.extend(stage.instructions),
            Ok(_) => return Err(refused("no instruction")),
            Err(_) => return Err(refused("`FROM` is no change of a configuration")),
        }
    }
    Ok(instructions)
}
