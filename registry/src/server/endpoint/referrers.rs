//! `GET /v2/N/referrers/D`: what is attached to a digest, as an index; empty for what is not known.

use crate::protocol;
use crate::server::{
    call::{Call, blocking},
    error::ApiError,
    query::{Query, next_link},
    reply, send,
    storage::{Referrer, ReferrersPage},
};
use axum::{http::header, response::Response};
use serde::Serialize;
use serde_json::value::RawValue;
use slipway_oci::{Descriptor, Digest, spec::media_type};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    schema_version: u32,
    media_type: &'static str,
    manifests: Vec<Entry>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::server) struct Entry {
    media_type: String,
    digest: Digest,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<Box<RawValue>>,
}

impl From<Referrer> for Entry {
    fn from(referrer: Referrer) -> Entry {
        Entry {
            media_type: referrer.record.media_type,
            digest: referrer.record.digest,
            size: referrer.record.size_bytes,
            artifact_type: referrer.artifact_type,
            annotations: referrer.annotations.and_then(|text| RawValue::from_string(text).ok()),
        }
    }
}

impl From<Descriptor> for Entry {
    fn from(descriptor: Descriptor) -> Entry {
        let annotations = Some(descriptor.annotations).filter(|all| !all.is_empty());
        let annotations = annotations.and_then(|all| serde_json::value::to_raw_value(&all).ok());
        Entry {
            media_type: descriptor.media_type,
            digest: descriptor.digest,
            size: descriptor.size_bytes,
            artifact_type: descriptor.artifact_type,
            annotations,
        }
    }
}

/// The index that lists them.
pub(in crate::server) fn index(manifests: Vec<Entry>) -> String {
    let page = Page { schema_version: 2, media_type: media_type::OCI_INDEX, manifests };
    serde_json::to_string(&page).expect("entries have string keys and no failing serialisers")
}

/// The one type that is asked for. A `+` that a client left as it is has become a space, which no type has. Of several nothing is
/// said in the specification: all are listed then, and the reply does not say that it is filtered.
pub(in crate::server) fn filter(query: &Query) -> Option<String> {
    let mut kinds = query.all("artifactType").filter(|kind| !kind.is_empty());
    let first = kinds.next()?.replace(' ', "+");
    kinds.next().is_none().then_some(first)
}

pub(in crate::server) async fn get(call: Call, name: String, digest: &str) -> Result<Response, ApiError> {
    let subject: Digest = digest.parse()?;
    let filter = filter(&call.query);
    let last = call.query.get("last").unwrap_or_default().to_owned();
    let (storage, repository, of) = (call.shared.storage.clone(), name.clone(), subject.clone());
    let page = ReferrersPage { artifact_type: filter.clone(), last };
    let (referrers, more) = blocking(move || storage.referrers(&repository, &of, &page)).await?;
    let manifests: Vec<Entry> = referrers.into_iter().map(Entry::from).collect();
    let last = manifests.last().filter(|_| more).map(|entry| entry.digest.to_string());
    let mut response = send::json(&call.shared, media_type::OCI_INDEX, index(manifests)).await?;
    if filter.is_some() {
        reply::set(&mut response, protocol::FILTERS_APPLIED_HEADER, "artifactType");
    }
    if let Some(last) = last {
        let mut parameters = vec![("last", last.as_str())];
        parameters.extend(filter.as_deref().map(|filter| ("artifactType", filter)));
        let link = next_link(&format!("/v2/{name}/referrers/{subject}"), &parameters);
        reply::set(&mut response, header::LINK, &link);
    }
    Ok(response)
}
