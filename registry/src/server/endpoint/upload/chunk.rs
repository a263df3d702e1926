//! `PATCH` session: adds a chunk, with `Content-Range` or (docker's way) without.

use crate::server::{
    body::{self, Incoming},
    call::{Call, blocking},
    error::ApiError,
    range, reply,
    storage::{Storage, Upload, UploadId},
};
use axum::{
    http::{StatusCode, header},
    response::Response,
};
use std::sync::Arc;

pub(in crate::server) async fn patch(call: Call, name: String, id: &str) -> Result<Response, ApiError> {
    let upload = lease(call.shared.storage.clone(), &name, id).await?;
    let expected = placed(&call, &name, &upload)?;
    let mut upload = body::receive(upload, Incoming::new(&call.shared, call.body), expected).await?;
    let upload = blocking(move || {
        upload.save()?;
        Ok(upload)
    })
    .await?;
    Ok(reply::upload_progress(StatusCode::ACCEPTED, &name, upload.id(), upload.length()))
}

/// Takes the lease on a session.
pub(super) async fn lease(storage: Arc<Storage>, name: &str, id: &str) -> Result<Upload, ApiError> {
    let id: UploadId = id.parse()?;
    let name = name.to_owned();
    blocking(move || storage.open_upload(&name, &id)).await
}

/// Checks that a chunk with a `Content-Range` begins where the session ends; answers how long it has to be.
pub(super) fn placed(call: &Call, name: &str, upload: &Upload) -> Result<Option<u64>, ApiError> {
    let Some(text) = call.header(header::CONTENT_RANGE) else { return Ok(None) };
    let chunk = range::chunk(text)?;
    if let Some(actual) = call.content_length().filter(|actual| *actual != chunk.length) {
        return Err(ApiError::ChunkLength { expected: chunk.length, actual });
    }
    let length = upload.length();
    if chunk.first != length {
        let location = reply::upload_location(name, upload.id());
        return Err(ApiError::ChunkOrder { first: chunk.first, length, location });
    }
    Ok(Some(chunk.length))
}
