//! `/r/NAME/_image/REFERENCE`: an index with its platforms, an image with its layers and configuration, or an artifact.

use super::{
    artifact, config,
    facts::{self, Facts},
    frame::{self, Frame},
    read, referrers,
    repositories::host,
    route, usage,
    visit::Visit,
    words,
};
use crate::server::{
    error::ApiError,
    storage::{ManifestRecord, Storage, StorageError},
};
use axum::response::Response;
use maud::{Markup, html};
use slipway_oci::{
    Descriptor,
    spec::{History, ImageConfig, Index, Manifest, Parsed},
};
use std::{collections::BTreeMap, sync::Arc};

/// Most annotations, variables or labels that one list shows.
const MOST_PAIRS: usize = 500;

/// What a manifest turned out to be.
enum Found {
    Index(Box<Index>, Vec<Arc<Facts>>),
    Image(Box<Manifest>, Option<Box<ImageConfig>>),
    Artifact(Box<Manifest>, Vec<artifact::Part>),
    /// Stored, and not understood.
    Other,
}

pub(super) async fn get(visit: &Visit, name: String, reference: &str) -> Result<Response, ApiError> {
    let key = read::key(reference);
    let (shared, repository) = (Arc::clone(&visit.shared), name.clone());
    let permit = super::layers::readers(visit).await?;
    let (record, found, attached) = visit
        .look(move |storage| {
            let (record, parsed) = read::manifest(storage, &repository, &key)?;
            let found = match parsed {
                None => Found::Other,
                Some(Parsed::Index(index)) => {
                    let facts =
                        |child: &Descriptor| match shared.pages.facts.of(storage, &repository, &child.digest)
                        {
                            Err(StorageError::ManifestUnknown(_)) => Ok(Arc::default()),
                            other => other,
                        };
                    let facts = index.manifests.iter().take(100).map(facts).collect::<Result<_, _>>()?;
                    Found::Index(index, facts)
                }
                Some(Parsed::Manifest(manifest)) if facts::is_image(&manifest) => {
                    let config = configuration(storage, &repository, &manifest)?;
                    Found::Image(manifest, config.map(Box::new))
                }
                Some(Parsed::Manifest(manifest)) => {
                    let parts = artifact::parts(storage, &repository, &manifest)?;
                    Found::Artifact(manifest, parts)
                }
            };
            let attached = referrers::of(storage, &repository, &record.digest)?;
            drop(permit);
            Ok((record, found, attached))
        })
        .await?;
    let body = page(visit, &name, reference, &record, &found, &attached);
    let shown = shown_reference(reference);
    let trail = [(shown.as_str(), route::image(&name, reference))];
    Ok(frame::show(visit, Frame::within(&name, &trail, body)))
}

/// A tag, or the beginning of a digest.
pub(super) fn shown_reference(reference: &str) -> String {
    reference
        .split_once(':')
        .map_or(reference.to_owned(), |(kind, hex)| format!("{kind}:{}", &hex[..12.min(hex.len())]))
}

/// The configuration of an image, if it is here and one.
pub(super) fn configuration(
    storage: &Storage,
    repository: &str,
    manifest: &Manifest,
) -> Result<Option<ImageConfig>, StorageError> {
    let bytes = read::blob(storage, repository, &manifest.config.digest, slipway_oci::limits::CONFIG_BYTES)?;
    Ok(bytes.and_then(|bytes| ImageConfig::from_bytes(&bytes).ok()))
}

fn page(
    visit: &Visit,
    name: &str,
    reference: &str,
    record: &ManifestRecord,
    found: &Found,
    attached: &referrers::Attached,
) -> Markup {
    let home = visit.visitor.home().map(|home| host(&home)).unwrap_or_default();
    let joint = if reference.contains(':') { "@" } else { ":" };
    let whole = format!("{home}/{name}{joint}{reference}");
    let command = match found {
        Found::Artifact(..) | Found::Other => format!("slipway artifact pull {whole}"),
        _ => format!("slipway pull {whole}"),
    };
    let raw = format!("/v2/{name}/manifests/{}", record.digest);
    html! {
        div.head { h1 { span.dim { (name) (joint) } (shown_reference(reference)) } }
        p.facts {
            span { (summary(found)) }
            span { "digest " (words::digest(&record.digest)) }
            @if !reference.contains(':') { span { a href=(route::with_query(&format!("{}/_history", route::tags(name)), &[("tag", reference)])) { "moves of this tag" } } }
            span { a href=(raw) download { "manifest" } " (" (words::size(record.size_bytes)) ")" }
        }
        div.command { code { (command) } (words::copy(&command, "command")) }
        @match found {
            Found::Index(index, facts) => { (platforms(name, index, facts)) (annotations("Annotations", &index.annotations)) }
            Found::Image(manifest, config) => { (image(name, reference, manifest, config.as_deref())) }
            Found::Artifact(manifest, parts) => { (artifact::show(name, manifest, parts)) (annotations("Annotations", &manifest.annotations)) }
            Found::Other => { p.note { "It is stored as it was pushed, as " code { (record.media_type) } ", which this page cannot read." } }
        }
        (referrers::show(name, attached))
    }
}

fn summary(found: &Found) -> String {
    match found {
        Found::Index(index, _) => {
            let images = index.manifests.iter().filter(|one| !facts::is_attestation(one)).count();
            format!("index of {}", words::things(images as u64, "image", "images"))
        }
        Found::Image(manifest, config) => {
            let bytes = manifest.layers.iter().map(|layer| layer.size_bytes).fold(0, u64::saturating_add);
            let platform =
                config.as_ref().map_or_else(String::new, |config| format!("{} · ", config.platform));
            format!(
                "{platform}{} in {}",
                words::size(bytes),
                words::things(manifest.layers.len() as u64, "layer", "layers")
            )
        }
        Found::Artifact(manifest, _) => artifact::kind_words(facts::kind(manifest)).into_owned(),
        Found::Other => "a manifest".to_owned(),
    }
}

fn platforms(name: &str, index: &Index, facts: &[Arc<Facts>]) -> Markup {
    html! {
        section {
            h2 { "Platforms" }
            table.rows {
                thead { tr { th scope="col" { "Platform" } th scope="col" { "Size" } th scope="col" { "Digest" } } }
                tbody {
                    @for (child, facts) in index.manifests.iter().zip(facts) {
                        @let link = route::image(name, &child.digest.to_string());
                        @let attests = facts::is_attestation(child);
                        @let platform = child.platform.as_ref().map(ToString::to_string).filter(|_| !attests);
                        @let kind = child.artifact_type.as_ref().or(facts.kind.as_ref());
                        tr {
                            th scope="row" {
                                a href=(link) {
                                    @if attests { "Attestation" }
                                    @else if let Some(platform) = platform.or_else(|| facts.platforms.first().cloned()) { (platform) }
                                    @else if let Some(kind) = kind { (artifact::kind_words(kind)) }
                                    @else { (words::short(&child.digest)) }
                                }
                            }
                            td.number data-label="Size" { @if let Some(size) = facts.size_bytes { (words::size(size)) } @else { span.dim { "not here" } } }
                            td data-label="Digest" { (words::digest(&child.digest)) }
                        }
                    }
                }
            }
            @if index.manifests.len() > facts.len() { p.note { "The first " (facts.len()) " of " (index.manifests.len()) " are shown." } }
        }
    }
}

fn image(name: &str, reference: &str, manifest: &Manifest, config: Option<&ImageConfig>) -> Markup {
    html! {
        (layers(name, reference, manifest, config))
        @match config {
            Some(config) => { (config::show(config)) }
            None => { section { h2 { "Configuration" } p.note { "It is not here, or it cannot be read." } } }
        }
        (annotations("Annotations", &manifest.annotations))
    }
}

/// What one layer or one instruction without a layer is.
struct Step<'a> {
    history: Option<&'a History>,
    layer: Option<(usize, &'a Descriptor)>,
}

/// Instructions beside the layers that they made (image-spec `config.md`, "history").
fn steps<'a>(manifest: &'a Manifest, config: Option<&'a ImageConfig>) -> Vec<Step<'a>> {
    let mut layers = manifest.layers.iter().enumerate();
    let mut steps = Vec::new();
    for history in config.map(|config| config.history.as_slice()).unwrap_or_default().iter().take(2000) {
        let layer = if history.empty_layer { None } else { layers.next() };
        steps.push(Step { history: Some(history), layer });
    }
    // more layers than their history tells of
    steps.extend(layers.map(|layer| Step { history: None, layer: Some(layer) }));
    steps
}

fn layers(name: &str, reference: &str, manifest: &Manifest, config: Option<&ImageConfig>) -> Markup {
    let most = manifest.layers.iter().map(|layer| layer.size_bytes).max().unwrap_or(0);
    let files = route::files(name, reference);
    html! {
        section {
            div.head {
                h2 { "Layers" }
                @if !manifest.layers.is_empty() { a.button href=(files) { "Files of the image" } }
            }
            ol.steps {
                @for step in steps(manifest, config) {
                    li.empty[step.layer.is_none()] {
                        div.what {
                            code { (instruction(step.history)) }
                            @if let Some(comment) = step.history.and_then(|history| history.comment.as_deref()).filter(|text| !text.contains(".dockerfile.v")) {
                                span.dim { " " (words::text(comment)) }
                            }
                        }
                        @if let Some((at, layer)) = step.layer {
                            div.layer {
                                span.number { (at + 1) }
                                (usage::bar(layer.size_bytes, most))
                                span.number { (words::size(layer.size_bytes)) }
                                a href=(route::with_query(&files, &[("layer", &layer.digest.to_string())])) { "files" }
                                (words::digest(&layer.digest))
                                span.dim { (words::text(&layer.media_type)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// What made a layer, in the words of a recipe.
fn instruction(history: Option<&History>) -> String {
    let Some(text) = history.and_then(|history| history.created_by.as_deref()) else {
        return "(its history is not told)".to_owned();
    };
    let text = text.trim();
    let text = text.strip_suffix("# buildkit").unwrap_or(text).trim_end();
    // docker's old builder writes what it did with the shell that did it
    let text = match text.strip_prefix("/bin/sh -c ") {
        Some(rest) => rest
            .trim_start()
            .strip_prefix("#(nop)")
            .map_or_else(|| format!("RUN {rest}"), |word| word.trim_start().to_owned()),
        None => text.to_owned(),
    };
    words::text(&text).into_owned()
}

/// Names with values, of others.
pub(super) fn annotations(title: &str, all: &BTreeMap<String, String>) -> Markup {
    html! {
        @if !all.is_empty() {
            section {
                h2 { (title) }
                (pairs(all.iter().map(|(name, value)| (name.as_str(), value.as_str()))))
            }
        }
    }
}

/// A list of names with values; links to the web are links.
pub(super) fn pairs<'a>(all: impl Iterator<Item = (&'a str, &'a str)>) -> Markup {
    let mut all: Vec<_> = all.take(MOST_PAIRS + 1).collect();
    let more = all.len() > MOST_PAIRS;
    all.truncate(MOST_PAIRS);
    html! {
        dl.pairs {
            @for (name, value) in all { div { dt { (words::text(name)) } dd { (words::value(value)) } } }
        }
        @if more { p.note { "There are more than " (MOST_PAIRS) "." } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_read_as_in_a_recipe() {
        let of = |text: &str| {
            let history = History { created_by: Some(text.to_owned()), ..History::default() };
            instruction(Some(&history))
        };
        for (text, expected) in [
            ("RUN /bin/sh -c make # buildkit", "RUN /bin/sh -c make"),
            ("/bin/sh -c #(nop)  CMD [\"sh\"]", "CMD [\"sh\"]"),
            ("/bin/sh -c apt-get update", "RUN apt-get update"),
            ("COPY . /src # buildkit", "COPY . /src"),
            ("", ""),
        ] {
            assert_eq!(of(text), expected);
        }
        assert_eq!(instruction(None), "(its history is not told)");
    }
}
