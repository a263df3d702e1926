//! What is attached to a manifest: referrers, and what cosign and older clients keep under tags made of its digest.

use super::{artifact::kind_words, image::pairs, route, words};
use crate::server::storage::{ManifestKey, Referrer, ReferrersPage, Storage, StorageError};
use maud::{Markup, html};
use slipway_oci::Digest;
use std::collections::BTreeMap;

/// What was found.
#[derive(Default)]
pub(super) struct Attached {
    referrers: Vec<Referrer>,
    more: bool,
    /// Tags that are made of the digest, with what they hold.
    tags: Vec<(String, &'static str)>,
}

/// Endings of tags beside a digest (cosign's tag scheme; distribution specification, "Referrers Tag Schema").
const TAGS: [(&str, &str); 4] = [
    (".sig", "Signature (cosign)"),
    (".att", "Attestation (cosign)"),
    (".sbom", "SBOM (cosign)"),
    ("", "Referrers of old clients"),
];

/// Looks for it.
pub(super) fn of(storage: &Storage, repository: &str, digest: &Digest) -> Result<Attached, StorageError> {
    let page = ReferrersPage { artifact_type: None, last: String::new() };
    let (mut referrers, mut more) = storage.referrers(repository, digest, &page)?;
    more |= referrers.len() > 100;
    referrers.truncate(100);
    let mut tags = Vec::new();
    for (ending, words) in TAGS {
        let tag = format!("{}{ending}", digest.to_string().replace(':', "-"));
        match storage.manifest(repository, &ManifestKey::Tag(tag.clone())) {
            Ok(_) => tags.push((tag, words)),
            Err(StorageError::ManifestUnknown(_) | StorageError::RepositoryUnknown(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Attached { referrers, more, tags })
}

pub(super) fn show(name: &str, attached: &Attached) -> Markup {
    html! {
        @if !attached.referrers.is_empty() || !attached.tags.is_empty() {
            section {
                h2 { "Attached" }
                p.note { "What others attached to this. It is shown as it says; no signature is verified here." }
                ul.cards.attached {
                    @for one in &attached.referrers { (card(name, one)) }
                    @for (tag, what) in &attached.tags {
                        li.card { h3 { a href=(route::image(name, tag)) { (what) } } p.facts { span { "by its tag" } } }
                    }
                }
                @if attached.more { p.note { "There are more." } }
            }
        }
    }
}

fn card(name: &str, one: &Referrer) -> Markup {
    let annotations: BTreeMap<String, String> =
        one.annotations.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let kind = one.artifact_type.as_deref().unwrap_or(&one.record.media_type);
    html! {
        li.card {
            h3 { a href=(route::image(name, &one.record.digest.to_string())) { (kind_words(kind)) } }
            p.facts {
                span { code { (words::text(kind)) } }
                span { (words::digest(&one.record.digest)) }
            }
            @if !annotations.is_empty() { (pairs(annotations.iter().take(20).map(|(name, value)| (name.as_str(), value.as_str())))) }
        }
    }
}
