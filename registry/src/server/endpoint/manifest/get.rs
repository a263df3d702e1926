//! `GET` and `HEAD /v2/N/manifests/R`. HEAD by tag is what every poller sends: one look-up, no file.

use crate::limits;
use crate::server::{
    call::{Call, blocking},
    error::ApiError,
    memory::HeldBytes,
    reply,
    storage::{ManifestKey, ManifestRecord},
};
use axum::{
    body::{Body, Bytes},
    http::{Method, StatusCode, header},
    response::Response,
};
use std::sync::Arc;

pub(in crate::server) async fn get(call: Call, name: String, reference: &str) -> Result<Response, ApiError> {
    let key = super::key(reference)?;
    let head = call.method == Method::HEAD;
    let cache = cached(&key);
    let (shared, headers) = (Arc::clone(&call.shared), call.headers);
    let look = move || {
        let record = shared.storage.manifest(&name, &key)?;
        if !head {
            shared.pulls.count(&name, &key);
        }
        let unchanged = reply::not_modified(&headers, &record.digest);
        // most are small and read at once
        let small = record.size_bytes <= limits::PIECE_SMALL_BYTES as u64;
        let read = small && !head && !unchanged;
        let bytes = if read { Some(shared.storage.manifest_bytes(&record)?) } else { None };
        Ok((record, unchanged, bytes))
    };
    let (record, unchanged, bytes) = call.shared.quick.look(look).await?;
    let bytes = match bytes {
        Some(bytes) => HeldBytes { bytes, _held: None },
        None if head || unchanged => HeldBytes { bytes: Vec::new(), _held: None },
        None => {
            let held = call.shared.memory.whole(record.size_bytes as usize).await?;
            let (storage, wanted) = (call.shared.storage.clone(), record.clone());
            HeldBytes { bytes: blocking(move || storage.manifest_bytes(&wanted)).await?, _held: held }
        }
    };
    Ok(respond(&record, cache, unchanged, (!head).then(|| Bytes::from_owner(bytes))))
}

/// How long an answer may be kept.
pub(in crate::server) fn cached(key: &ManifestKey) -> &'static str {
    if matches!(key, ManifestKey::Tag(_)) { reply::REVALIDATE } else { reply::IMMUTABLE }
}

/// The answer to who asked for a manifest; to `HEAD` without its bytes.
pub(in crate::server) fn respond(
    record: &ManifestRecord,
    cache: &'static str,
    unchanged: bool,
    bytes: Option<Bytes>,
) -> Response {
    let mut response = reply::empty(if unchanged { StatusCode::NOT_MODIFIED } else { StatusCode::OK });
    reply::set_validators(&mut response, &record.digest);
    reply::set(&mut response, header::CACHE_CONTROL, cache);
    if !unchanged {
        // what is stored is what is answered, whatever `Accept` says: all clients cope, 404 helps none
        reply::set(&mut response, header::CONTENT_TYPE, &record.media_type);
        reply::set(&mut response, header::CONTENT_LENGTH, &record.size_bytes.to_string());
        if let Some(bytes) = bytes {
            *response.body_mut() = Body::from(bytes);
        }
    }
    response
}
