//! What is no image: files with their kinds, and readable what is known: SBOMs, provenance, signatures.

use super::{document, read, words};
use crate::server::storage::{Storage, StorageError};
use maud::{Markup, html};
use slipway_oci::{Descriptor, spec::Manifest};
use std::borrow::Cow;

/// Most parts of an artifact that are looked into.
const READ: usize = 8;

/// Names for kinds of artifacts that people know.
const KINDS: [(&str, &str); 17] = [
    ("application/spdx+json", "SBOM (SPDX)"),
    ("text/spdx+json", "SBOM (SPDX)"),
    ("text/spdx", "SBOM (SPDX)"),
    ("application/vnd.cyclonedx+json", "SBOM (CycloneDX)"),
    ("application/vnd.cyclonedx", "SBOM (CycloneDX)"),
    ("application/vnd.in-toto+json", "Attestation (in-toto)"),
    ("application/vnd.in-toto.provenance+json", "Provenance"),
    ("application/vnd.dsse.envelope.v1+json", "Attestation (signed)"),
    ("application/vnd.dev.cosign.artifact.sig.v1+json", "Signature (cosign)"),
    ("application/vnd.dev.cosign.simplesigning.v1+json", "Signature (cosign)"),
    ("application/vnd.dev.sigstore.bundle.v0.3+json", "Signature (sigstore)"),
    ("application/vnd.cncf.notary.signature", "Signature (notation)"),
    ("application/vnd.cncf.helm.config.v1+json", "Helm chart"),
    ("application/vnd.cncf.openpolicyagent.config.v1+json", "Policy"),
    ("application/vnd.wasm.config.v0+json", "WebAssembly module"),
    ("application/vnd.oci.empty.v1+json", "Artifact"),
    ("application/vnd.buildkit.cacheconfig.v0", "Build cache"),
];

/// A kind in words, where it is known.
pub(super) fn kind_words(kind: &str) -> Cow<'_, str> {
    match KINDS.iter().find(|(media_type, _)| *media_type == kind) {
        Some((_, words)) => Cow::Borrowed(words),
        None => words::text(kind),
    }
}

/// A file of an artifact.
pub(super) struct Part {
    descriptor: Descriptor,
    shown: Option<document::Shown>,
}

/// The files of an artifact, those that are known read.
pub(super) fn parts(
    storage: &Storage,
    repository: &str,
    manifest: &Manifest,
) -> Result<Vec<Part>, StorageError> {
    let mut parts = Vec::new();
    for (at, descriptor) in manifest.layers.iter().take(200).enumerate() {
        let is_read = at < READ && may_be_known(manifest, descriptor);
        let shown = match is_read {
            true => {
                read::document(storage, repository, descriptor)?.map(|document| document::read(&document))
            }
            false => None,
        };
        parts.push(Part { descriptor: descriptor.clone(), shown: shown.flatten() });
    }
    Ok(parts)
}

/// Whether a file may be a document that this page reads, by whatever says so.
fn may_be_known(manifest: &Manifest, file: &Descriptor) -> bool {
    let title = file.annotations.get("org.opencontainers.image.title").map_or("", String::as_str);
    [file.media_type.as_str(), super::facts::kind(manifest), title].iter().any(|text| text.ends_with("json"))
}

/// The files, and what they say.
pub(super) fn show(name: &str, manifest: &Manifest, parts: &[Part]) -> Markup {
    html! {
        section {
            h2 { "Files" }
            table.rows {
                thead { tr { th scope="col" { "Name" } th scope="col" { "Kind" } th scope="col" { "Size" } th scope="col" { "Digest" } } }
                tbody {
                    @for part in parts {
                        @let one = &part.descriptor;
                        tr {
                            th scope="row" {
                                a href={ "/v2/" (name) "/blobs/" (one.digest) } download {
                                    @match one.annotations.get("org.opencontainers.image.title") {
                                        Some(title) => { (words::text(title)) }
                                        None => { (words::short(&one.digest)) }
                                    }
                                }
                            }
                            td data-label="Kind" { (words::text(&one.media_type)) }
                            td.number data-label="Size" { (words::size(one.size_bytes)) }
                            td data-label="Digest" { (words::digest(&one.digest)) }
                        }
                    }
                }
            }
            @if manifest.layers.len() > parts.len() { p.note { "The first " (parts.len()) " are shown." } }
        }
        @for part in parts {
            @let title = "org.opencontainers.image.title";
            @let others = || part.descriptor.annotations.iter().filter(move |(name, _)| *name != title);
            @if others().next().is_some() {
                section {
                    h2 { "Of " (words::short(&part.descriptor.digest)) }
                    (super::image::pairs(others().map(|(name, value)| (name.as_str(), value.as_str()))))
                }
            }
        }
        @for shown in parts.iter().filter_map(|part| part.shown.as_ref()) { (document::show(shown)) }
        @if let Some(subject) = &manifest.subject {
            section {
                h2 { "Attached to" }
                p { a href=(super::route::image(name, &subject.digest.to_string())) { code { (subject.digest) } } }
            }
        }
    }
}
