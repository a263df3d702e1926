//! `GET` and `HEAD /v2/N/manifests/R`. HEAD by tag is what every poller sends: one look-up, no file.

use crate::server::{
    call::{Call, blocking},
    error::ApiError,
    reply,
    storage::ManifestKey,
};
use axum::{
    body::Body,
    http::{Method, StatusCode, header},
    response::Response,
};

pub(in crate::server) async fn get(call: Call, name: String, reference: &str) -> Result<Response, ApiError> {
    let key = super::key(reference)?;
    let head = call.method == Method::HEAD;
    let cache = if matches!(key, ManifestKey::Tag(_)) { reply::REVALIDATE } else { reply::IMMUTABLE };
    let (storage, headers) = (call.shared.storage.clone(), call.headers);
    let (record, unchanged, bytes) = blocking(move || {
        let record = storage.manifest(&name, &key)?;
        let unchanged = reply::not_modified(&headers, &record.digest);
        let bytes = if head || unchanged { Vec::new() } else { storage.manifest_bytes(&record)? };
        Ok((record, unchanged, bytes))
    })
    .await?;
    let mut response = reply::empty(if unchanged { StatusCode::NOT_MODIFIED } else { StatusCode::OK });
    reply::set_validators(&mut response, &record.digest);
    reply::set(&mut response, header::CACHE_CONTROL, cache);
    if !unchanged {
        // what is stored is what is answered, whatever `Accept` says: all clients cope, 404 helps none
        reply::set(&mut response, header::CONTENT_TYPE, &record.media_type);
        reply::set(&mut response, header::CONTENT_LENGTH, &record.size_bytes.to_string());
        if !head {
            *response.body_mut() = Body::from(bytes);
        }
    }
    Ok(response)
}
