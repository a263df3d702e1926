//! What is said of a build that came to an end: on the screen, and in files for scripts.

use super::{Arguments, attest::Attached, exports::Results};
use crate::{error::Failure, progress::Style, service::output::Output, show};
use slipway_builder::BuildOutput;
use slipway_oci::{Digest, Reference};
use std::{path::PathBuf, time::Duration};

/// Files that the build's results go to.
pub(super) struct Files {
    id: Option<Output>,
    metadata: Option<Output>,
    digest: Option<Output>,
    name_digest: Option<Output>,
    tag_digest: Option<Output>,
}

impl Files {
    /// Opens them: a name that cannot be written is found before the build.
    pub(super) fn prepare(arguments: &Arguments) -> Result<Files, Failure> {
        let open =
            |flag, path: &Option<PathBuf>| path.as_ref().map(|path| Output::prepare(flag, path)).transpose();
        Ok(Files {
            id: open("--iidfile", &arguments.iidfile)?,
            metadata: open("--metadata-file", &arguments.metadata_file)?,
            digest: open("--digest-file", &arguments.digest_file)?,
            name_digest: open("--image-name-with-digest-file", &arguments.image_name_with_digest_file)?,
            tag_digest: open(
                "--image-name-tag-with-digest-file",
                &arguments.image_name_tag_with_digest_file,
            )?,
        })
    }

    pub(super) fn write(self, results: &Results, metadata: &serde_json::Value) -> Result<(), Failure> {
        if let Some(file) = self.id {
            file.finish_with(results.id().as_bytes())?;
        }
        if let Some(file) = self.metadata {
            file.finish_with(format!("{metadata:#}\n").as_bytes())?;
        }
        let digest = &results.target.digest;
        if let Some(file) = self.digest {
            file.finish_with(digest.to_string().as_bytes())?;
        }
        let lines = |name: fn(&Reference) -> String| {
            let lines = results.names.iter().map(|reference| format!("{}@{digest}\n", name(reference)));
            lines.collect::<String>()
        };
        if let Some(file) = self.name_digest {
            file.finish_with(lines(Reference::familiar_name).as_bytes())?;
        }
        if let Some(file) = self.tag_digest {
            file.finish_with(lines(Reference::familiar).as_bytes())?;
        }
        Ok(())
    }
}

impl Results {
    /// The digest of the image, or of the index of several.
    pub(crate) fn digest(&self) -> &Digest {
        &self.target.digest
    }

    /// Docker's image id; of several images their index.
    fn id(&self) -> String {
        self.config.as_ref().unwrap_or(&self.target.digest).to_string()
    }

    fn familiar(&self) -> Vec<String> {
        self.names.iter().map(Reference::familiar).collect()
    }
}

/// Buildx' keys, and ours.
pub(super) fn metadata(results: &Results, outputs: &[BuildOutput], attached: &Attached) -> serde_json::Value {
    let mut metadata = serde_json::Map::new();
    if let Some(build) = outputs.iter().find_map(|output| output.build.as_ref()) {
        metadata.insert("buildx.build.ref".to_owned(), format!("slipway/slipway/{build}").into());
    }
    for (platform, provenance) in attached.provenance() {
        let of = if outputs.len() > 1 { format!("/{platform}") } else { String::new() };
        metadata.insert(format!("buildx.build.provenance{of}"), provenance.clone());
    }
    if let Some(config) = &results.config {
        metadata.insert("containerimage.config.digest".to_owned(), config.to_string().into());
    }
    let count = |of: fn(&BuildOutput) -> usize| outputs.iter().map(of).sum::<usize>();
    let rest = serde_json::json!({
        "containerimage.descriptor": results.target,
        "containerimage.digest": results.target.digest,
        "image.name": results.familiar().join(","),
        "slipway.steps.cached": count(|output| output.cached_steps),
        "slipway.steps.executed": count(|output| output.executed_steps),
    });
    metadata.extend(rest.as_object().into_iter().flatten().map(|(key, value)| (key.clone(), value.clone())));
    metadata.into()
}

/// How it is said what was built.
pub(super) struct Report<'a> {
    /// What it is called among several.
    pub(super) name: Option<&'a str>,
    pub(super) took: Duration,
    pub(super) style: Style,
}

impl Report<'_> {
    pub(super) fn say(&self, results: &Results, outputs: &[BuildOutput]) -> Result<(), Failure> {
        let (id, digest, names) = (results.id(), &results.target.digest, results.familiar());
        let cached: usize = outputs.iter().map(|output| output.cached_steps).sum();
        let executed: usize = outputs.iter().map(|output| output.executed_steps).sum();
        match self.style {
            Style::Quiet => match self.name {
                Some(name) => show::say(format_args!("{name} {id}")),
                None => show::say(id),
            },
            Style::Json => {
                let mut built = serde_json::json!({
                    "event": "built", "id": id, "digest": digest, "names": names,
                    "cached": cached, "executed": executed,
                    "milliseconds": self.took.as_secs_f64() * 1000.0,
                });
                if let Some(name) = self.name {
                    built["target"] = name.into();
                }
                show::note(built);
                Ok(())
            }
            _ => {
                let called = self.name.map(|name| format!(" of `{name}`")).unwrap_or_default();
                let named =
                    if names.is_empty() { String::new() } else { format!(" as {}", names.join(", ")) };
                let of = if outputs.len() > 1 {
                    format!(" for {} platforms", outputs.len())
                } else {
                    String::new()
                };
                let short = results.config.as_ref().unwrap_or(digest).short();
                show::note(format_args!(
                    "built {short}{called}{named}{of} in {:.2}s: {executed} steps done, {cached} cached; digest {digest}",
                    self.took.as_secs_f64(),
                ));
                Ok(())
            }
        }
    }
}
