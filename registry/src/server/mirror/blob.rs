//! `GET` and `HEAD /v2/N/blobs/D` in a mirror.

use super::{At, body, fetch};
use crate::protocol;
use crate::server::{
    call::{Call, Shared, blocking},
    endpoint::blob::get as local,
    error::ApiError,
    range::{self, Part, Window},
    reply,
    storage::StorageError,
    upstreams::{Begun, Fetch},
};
use axum::{
    http::{Method, StatusCode, header},
    response::Response,
};
use slipway_oci::Digest;
use std::sync::Arc;

pub(in crate::server) async fn get(call: Call, at: At, digest: &str) -> Result<Response, ApiError> {
    let wanted: Digest = digest.parse()?;
    let (storage, name, own) = (Arc::clone(&call.shared.storage), at.local.clone(), wanted.clone());
    let there = blocking(move || match storage.blob_size(&name, &own) {
        Err(StorageError::BlobUnknown(_) | StorageError::RepositoryUnknown(_)) => Ok(false),
        other => other.map(|_| true),
    });
    if there.await? {
        call.shared.metrics.mirror(true);
        return local::get(call, at.local, digest).await;
    }
    if call.method == Method::HEAD {
        return head(&call.shared, &at, &wanted).await;
    }
    call.shared.metrics.mirror(false);
    match fetch::begin(&call.shared, &at, &wanted).await.map_err(|trouble| at.blob_error(trouble, &wanted))? {
        Begun::Stored => local::get(call, at.local, digest).await,
        Begun::Going(fetch) => Ok(respond(&call, &wanted, fetch)),
    }
}

/// Whether it is there, and how large: nothing is fetched for that.
async fn head(shared: &Shared, at: &At, digest: &Digest) -> Result<Response, ApiError> {
    let source = &at.source;
    let asked = async {
        let _turn = source.turn(&shared.fetches).await?;
        let what = ("look for blob", &*digest.to_string());
        at.ask(what, async |upstream| upstream.blob_size(&at.remote, digest).await).await
    };
    let size = asked.await.map_err(|trouble| at.blob_error(trouble, digest))?;
    Ok(headed(StatusCode::OK, digest, size))
}

fn headed(status: StatusCode, digest: &Digest, length: Option<u64>) -> Response {
    let mut response = reply::empty(status);
    reply::set_validators(&mut response, digest);
    reply::set(&mut response, header::ACCEPT_RANGES, "bytes");
    reply::set(&mut response, header::CACHE_CONTROL, reply::IMMUTABLE);
    reply::set(&mut response, header::CONTENT_TYPE, protocol::OCTET_STREAM);
    if let Some(length) = length {
        reply::set(&mut response, header::CONTENT_LENGTH, &length.to_string());
    }
    response
}

/// The bytes as they come: all of them, or one part. Who asks for several gets all, which RFC 9110, section 14.2, allows.
fn respond(call: &Call, digest: &Digest, fetch: Fetch) -> Response {
    let shared = Arc::clone(&call.shared);
    if let (Some(size), Some(text)) = (fetch.size_bytes, range::asked(&call.headers, digest))
        && let Window::Part(Part { first, last }) = range::window(Some(text), size)
    {
        let mut response = headed(StatusCode::PARTIAL_CONTENT, digest, Some(last + 1 - first));
        reply::set(&mut response, header::CONTENT_RANGE, &format!("bytes {first}-{last}/{size}"));
        *response.body_mut() = body::body(shared, fetch, first, Some(last + 1));
        return response;
    }
    let mut response = headed(StatusCode::OK, digest, fetch.size_bytes);
    let end = fetch.size_bytes;
    *response.body_mut() = body::body(shared, fetch, 0, end);
    response
}
