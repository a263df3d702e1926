//! Replies: the headers that several endpoints share.

use crate::protocol;
use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::Response,
};
use slipway_oci::Digest;

/// Starts a reply without a body.
pub(super) fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// A JSON reply.
pub(super) fn json(content_type: &'static str, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Adds a header whose value was made from checked parts (digests, names, numbers, tags).
pub(super) fn set(response: &mut Response, name: impl Into<Name>, value: &str) {
    let value = HeaderValue::from_str(value).expect("checked names, digests and numbers are visible ASCII");
    response.headers_mut().insert(name.into().0, value);
}

/// A header's name, standard or the protocol's own.
pub(super) struct Name(HeaderName);

impl From<HeaderName> for Name {
    fn from(name: HeaderName) -> Name {
        Name(name)
    }
}

impl From<&'static str> for Name {
    fn from(name: &'static str) -> Name {
        Name(HeaderName::from_static(name))
    }
}

/// `Range` of an upload session: `0-last`. An empty one says `0-0` too, which every client lives with.
pub(super) fn upload_range(length: u64) -> String {
    format!("0-{}", length.saturating_sub(1))
}

/// Path of an upload session. Relative to the host: behind a proxy an absolute one would be wrong.
pub(super) fn upload_location(name: &str, id: &impl std::fmt::Display) -> String {
    format!("/v2/{name}/blobs/uploads/{id}")
}

/// The reply that says how far a session is.
pub(super) fn upload_progress(
    status: StatusCode,
    name: &str,
    id: &impl std::fmt::Display,
    length: u64,
) -> Response {
    let mut response = empty(status);
    set(&mut response, header::LOCATION, &upload_location(name, id));
    set(&mut response, header::RANGE, &upload_range(length));
    set(&mut response, protocol::UPLOAD_UUID_HEADER, &id.to_string());
    set(&mut response, header::CONTENT_LENGTH, "0");
    response
}

/// The reply that says where content now lies; `kind` is `blobs` or `manifests`.
pub(super) fn created(name: &str, kind: &str, digest: &Digest) -> Response {
    let mut response = empty(StatusCode::CREATED);
    set(&mut response, header::LOCATION, &format!("/v2/{name}/{kind}/{digest}"));
    set(&mut response, protocol::CONTENT_DIGEST_HEADER, &digest.to_string());
    set(&mut response, header::CONTENT_LENGTH, "0");
    response
}

/// The validators of content: digest and entity tag.
pub(super) fn set_validators(response: &mut Response, digest: &Digest) {
    set(response, protocol::CONTENT_DIGEST_HEADER, &digest.to_string());
    set(response, header::ETAG, &format!("\"{digest}\""));
}

/// Whether `If-None-Match` names this content. (RFC 9110, section 13.1.2: weak comparison.)
pub(super) fn not_modified(headers: &HeaderMap, digest: &Digest) -> bool {
    let tag = format!("\"{digest}\"");
    headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|entry| entry.trim() == "*" || entry.trim().trim_start_matches("W/") == tag)
}

/// What lies under a digest never changes.
pub(super) const IMMUTABLE: &str = "max-age=31536000, immutable";
/// What lies under a tag may.
pub(super) const REVALIDATE: &str = "no-cache";
