//! `slipway artifact push` and `attach`.

use super::files::{Files, Named, is_type};
use crate::{
    app::{App, Global},
    error::Failure,
    nearby,
    progress::{self, Choice, Transfers},
    remote::{self, Remote},
    show,
};
use serde_json::json;
use slipway_oci::{
    Descriptor, Platform, Reference,
    artifact::{EMPTY, EMPTY_TYPE, UNKNOWN_TYPE},
    spec::{Manifest, media_type, to_json},
};
use slipway_registry::client::{self, ManifestBytes};

/// What `push` and `attach` have in common.
#[derive(clap::Args)]
struct Content {
    /// An annotation of the artifact
    #[arg(short, long = "annotation", value_name = "NAME=VALUE", value_parser = annotation)]
    annotations: Vec<(String, String)>,
    /// Write JSON: digest, type, files
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    shown: Choice,
}

/// Send files to a registry as an artifact.
#[derive(clap::Args)]
pub(super) struct Push {
    /// What the artifact is, as a media type [default: application/vnd.unknown.artifact.v1]
    #[arg(long, value_name = "TYPE", value_parser = kind)]
    artifact_type: Option<String>,
    /// A file of its configuration, with its type
    #[arg(long, value_name = "FILE[:TYPE]")]
    config_file: Option<Named>,
    #[command(flatten)]
    content: Content,
    /// The artifact
    #[arg(value_name = "NAME[:TAG]")]
    reference: Reference,
    /// Files and folders, each with its type, if that is another than usual
    #[arg(value_name = "FILE[:TYPE]")]
    files: Vec<Named>,
}

/// Attach files to an image or artifact.
#[derive(clap::Args)]
pub(super) struct Attach {
    /// What the files are, as a media type
    #[arg(long, value_name = "TYPE", value_parser = kind, required = true)]
    artifact_type: String,
    /// Of an image for several platforms, attach them to the one for this platform
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
    #[command(flatten)]
    content: Content,
    /// What they are attached to
    #[arg(value_name = "NAME[:TAG]")]
    reference: Reference,
    /// Files and folders, each with its type, if that is another than usual
    #[arg(value_name = "FILE[:TYPE]")]
    files: Vec<Named>,
}

fn kind(text: &str) -> Result<String, String> {
    if is_type(text) {
        Ok(text.to_owned())
    } else {
        Err("it is no media type, such as application/spdx+json".to_owned())
    }
}

fn annotation(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("it is NAME=VALUE".to_owned()),
    }
}

/// Carries `push` out.
pub(super) fn push(global: &Global, arguments: &Push) -> Result<u8, Failure> {
    let app = App::open(global)?;
    let remote = Remote::open(global)?;
    let target = remote.meant(&arguments.reference.clone().or_latest());
    let kind = match &arguments.artifact_type {
        Some(kind) => Some(kind.clone()),
        // a configuration with a type of its own says what it is (image-spec `manifest.md`)
        None if arguments.config_file.as_ref().is_some_and(|file| file.media_type.is_some()) => None,
        None => Some(UNKNOWN_TYPE.to_owned()),
    };
    send(
        &app,
        &remote,
        &target,
        &arguments.files,
        arguments.config_file.as_ref(),
        kind,
        None,
        &arguments.content,
    )
}

/// Carries `attach` out.
pub(super) fn attach(global: &Global, arguments: &Attach) -> Result<u8, Failure> {
    if arguments.files.is_empty() && arguments.content.annotations.is_empty() {
        return Err(Failure::usage(
            "nothing to attach: name files, or annotations with --annotation NAME=VALUE",
        ));
    }
    let app = App::open(global)?;
    let remote = Remote::open(global)?;
    let reference = remote.meant(&arguments.reference.clone().or_latest());
    let subject = remote.resolve(&reference, arguments.platform.as_ref())?;
    let kind = Some(arguments.artifact_type.clone());
    send(&app, &remote, &reference, &arguments.files, None, kind, Some(subject), &arguments.content)
}

#[expect(clippy::too_many_arguments, reason = "what an artifact is made of, each once")]
fn send(
    app: &App,
    remote: &Remote,
    target: &Reference,
    files: &[Named],
    config: Option<&Named>,
    artifact_type: Option<String>,
    subject: Option<Descriptor>,
    content: &Content,
) -> Result<u8, Failure> {
    let mut source = Files::new(app.store.temporary_folder("artifact")?);
    let empty = Descriptor::of(EMPTY_TYPE, EMPTY);
    let config = match config {
        Some(named) => {
            let kind = named
                .media_type
                .clone()
                .unwrap_or_else(|| "application/vnd.unknown.config.v1+json".to_owned());
            source.file(&named.path, kind)?
        }
        None => empty.clone(),
    };
    let mut layers = files.iter().map(|named| source.layer(named)).collect::<Result<Vec<_>, _>>()?;
    if layers.is_empty() {
        // the specification has no artifact without a layer
        layers.push(empty);
    }
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media_type::OCI_MANIFEST.to_owned()),
        artifact_type: artifact_type.clone(),
        config: config.clone(),
        layers: layers.clone(),
        subject: subject.clone(),
        annotations: content.annotations.iter().cloned().collect(),
    };
    let bytes = to_json(&manifest);
    let descriptor = Descriptor::of(media_type::OCI_MANIFEST, &bytes);
    // what is attached has no tag of its own
    let target = match subject {
        Some(_) => remote::by_digest(target, &descriptor.digest),
        None => target.clone(),
    };
    let blobs: Vec<Descriptor> = std::iter::once(config).chain(layers.iter().cloned()).collect();
    let push = client::Push {
        blobs: &blobs,
        children: &[],
        manifest: ManifestBytes { descriptor: &descriptor, bytes: &bytes },
    };
    let show = content.shown.show();
    show.begin(&format!("Pushing {}", target.familiar()), blobs.len());
    let transfers = Transfers { show: &*show, doing: "pushing" };
    let pushed = remote.client.push(&target, &push, &source, &transfers);
    progress::ended(&*show, pushed).map_err(|error| nearby::unsent(&target, &error))?;
    let name = target.familiar_name();
    if content.json {
        show::say(json!({
            "name": target.name(),
            "tag": target.tag(),
            "digest": descriptor.digest,
            "mediaType": descriptor.media_type,
            "size": descriptor.size_bytes,
            "artifactType": artifact_type,
            "subject": subject,
            "files": layers,
        }))?;
    } else {
        show::say(format!("{name}@{}", descriptor.digest))?;
    }
    Ok(0)
}
