//! `slipway inspect`.

use crate::{
    app::{App, Global},
    error::Failure,
    nearby,
    show::{self, template},
};
use slipway_oci::{Digest, store::Store};

/// Show images in detail, as JSON.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// A template in docker's syntax, for example '{{.Digest}}', or `json`
    #[arg(short, long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// Accepted for docker's sake; images are all there is to inspect
    #[arg(long, value_name = "image", hide = true)]
    r#type: Option<String>,
    /// The images: names, ids or digests
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// Carries the command out.
pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    let app = App::open(global)?;
    let mut all = Vec::new();
    let mut status = 0;
    for image in &arguments.images {
        match app.store.find_image(image)? {
            Some(digest) => match describe(&app.store, &digest) {
                Ok(value) => all.push(value),
                // the others are shown all the same
                Err(failure) => {
                    failure.about(image.as_str()).print();
                    status = 1;
                }
            },
            None => {
                nearby::missing(&app.store, image).print();
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

/// An image in docker's words, and its digest.
fn describe(store: &Store, digest: &Digest) -> Result<serde_json::Value, Failure> {
    let record = store.read_image(digest)?;
    let names = store.names_of(digest)?;
    let tags: Vec<String> = names.iter().map(|name| name.familiar()).collect();
    let mut digests: Vec<String> =
        names.iter().map(|name| format!("{}@{digest}", name.familiar_name())).collect();
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
