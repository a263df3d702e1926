//! `slipway inspect`.

use crate::{
    app::{App, Global},
    command::container,
    error::Failure,
    images::Images,
    nearby,
    show::{self, template},
};
use slipway_oci::{
    Digest, Platform,
    store::{Store, StoreError},
};

/// What is to be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    /// An image
    Image,
    /// A container
    Container,
}

/// Show images and containers in detail, as JSON; where both have a name, the container.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// A template in docker's syntax, for example '{{.Digest}}', or `json`
    #[arg(short, long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// Of an image for several platforms, show the one for this platform
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
    /// Only an image, or only a container
    #[arg(long, value_enum, value_name = "KIND")]
    r#type: Option<Kind>,
    /// The images or containers: names, ids or digests
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// Carries the command out.
pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    let app = App::open(global)?;
    let images = Images::new(&app.store, global)?;
    let mut all = Vec::new();
    let mut status = 0;
    for image in &arguments.images {
        let container = match arguments.r#type {
            Some(Kind::Image) => None,
            _ => container::inspect::describe(&app, image)?,
        };
        if let Some(container) = container {
            all.push(container);
            continue;
        }
        if arguments.r#type == Some(Kind::Container) {
            Failure::from(StoreError::NoContainer(image.clone())).print();
            status = 1;
            continue;
        }
        match images.local(image)? {
            Some(target) => match pick(&app.store, image, &target, arguments.platform.as_ref())
                .and_then(|digest| describe(&app.store, &target, &digest))
            {
                Ok(value) => all.push(value),
                // the others are shown all the same
                Err(failure) => {
                    let named = failure.words().contains(image.as_str());
                    if named { failure } else { failure.about(image.as_str()) }.print();
                    status = 1;
                }
            },
            None => {
                images.missing(image).print();
                status = 1;
            }
        }
    }
    match arguments.format.as_deref() {
        None => show::say(format!("{:#}", serde_json::Value::Array(all)))?,
        Some("json") => show::say(serde_json::Value::Array(all))?,
        Some(format) => {
            for value in &all {
                show::say(template::render(format, value)?)?;
            }
        }
    }
    Ok(status)
}

/// The image that is shown of what a name stands for: for the platform that was asked for, else for this machine, else the
/// first one that is here.
fn pick(store: &Store, name: &str, target: &Digest, asked: Option<&Platform>) -> Result<Digest, Failure> {
    let host = Platform::host();
    let platform = asked.unwrap_or(&host);
    let picked = Images::pick(store, name, target, platform);
    if asked.is_none() {
        if picked.is_ok() {
            return picked;
        }
        let members = store.read_index(target)?.map(|index| store.members(&index)).transpose()?;
        let first = members.into_iter().flatten().find(|member| store.read_image(member).is_ok());
        return first.map_or(picked, Ok);
    }
    let image = picked?;
    let found = store.read_image(&image)?.config.platform;
    if found.satisfies(platform) {
        return Ok(image);
    }
    Err(nearby::other_platform(name, &found, platform, &host))
}

/// An image in docker's words, and its digest; `target` is what its names stand for.
fn describe(store: &Store, target: &Digest, digest: &Digest) -> Result<serde_json::Value, Failure> {
    let record = store.read_image(digest)?;
    let names = store.names_of(target)?;
    let tags: Vec<String> = names.iter().map(|name| name.familiar()).collect();
    let mut digests: Vec<String> =
        names.iter().map(|name| format!("{}@{target}", name.familiar_name())).collect();
    digests.dedup();
    let size: u64 = record.manifest.layers.iter().map(|layer| layer.size_bytes).sum();
    // what the configuration has, with docker's empty values for what it has not
    let config = &record.config.config;
    let mut shown = serde_json::to_value(config).map_err(|error| Failure::of(&error))?;
    if let Some(fields) = shown.as_object_mut() {
        for (name, empty) in [
            ("User", serde_json::json!("")),
            ("ExposedPorts", serde_json::Value::Null),
            ("Env", serde_json::json!([])),
            ("Cmd", serde_json::Value::Null),
            ("Entrypoint", serde_json::Value::Null),
            ("Volumes", serde_json::Value::Null),
            ("WorkingDir", serde_json::json!("")),
            ("OnBuild", serde_json::Value::Null),
            ("Labels", serde_json::Value::Null),
            ("StopSignal", serde_json::json!("")),
            ("Shell", serde_json::Value::Null),
            ("Healthcheck", serde_json::Value::Null),
        ] {
            fields.entry(name).or_insert(empty);
        }
    }
    Ok(serde_json::json!({
        "Id": record.manifest.config.digest,
        "Digest": digest,
        "Target": target,
        "RepoTags": tags,
        "RepoDigests": digests,
        "MediaType": record.descriptor.media_type,
        "Created": record.config.created.clone().unwrap_or_default(),
        "Author": record.config.author.clone().unwrap_or_default(),
        "Architecture": record.config.platform.architecture,
        "Variant": record.config.platform.variant.clone().unwrap_or_default(),
        "Os": record.config.platform.os,
        "Size": size,
        "Config": shown,
        "RootFS": { "Type": "layers", "Layers": record.config.rootfs.diff_ids },
        "Layers": record.manifest.layers,
        "History": record.config.history,
        "Comment": record.config.history.last().and_then(|entry| entry.comment.clone()).unwrap_or_default(),
    }))
}
