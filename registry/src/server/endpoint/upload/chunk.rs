//! `PATCH` session: adds a chunk, with `Content-Range` or (docker's way) without.

use crate::server::{
    body::{self, Incoming},
    call::{Call, blocking},
    error::ApiError,
    range, reply,
    storage::{Ceiling, Sight, Storage, Upload, UploadId},
};
use axum::{http::StatusCode, response::Response};
use slipway_oci::Digest;
use std::sync::Arc;

pub(in crate::server) async fn patch(call: Call, name: String, id: &str) -> Result<Response, ApiError> {
    let sight = call.sight(&name);
    let (upload, ceilings) = lease(Arc::clone(&call.shared.storage), &name, id, None, sight).await?;
    let expected = placed(&call, &name, &upload)?;
    let incoming = Incoming::new(&call.shared, call.body).below(ceilings);
    let mut upload = body::receive(upload, incoming, expected).await?;
    let upload = blocking(move || {
        upload.save()?;
        Ok(upload)
    })
    .await?;
    Ok(reply::upload_progress(StatusCode::ACCEPTED, &name, upload.id(), upload.length()))
}

/// Takes the lease on a session; answers how long it may become too, for a closing digest where that is known.
pub(super) async fn lease(
    storage: Arc<Storage>,
    name: &str,
    id: &str,
    digest: Option<&Digest>,
    sight: Sight,
) -> Result<(Upload, Vec<Ceiling>), ApiError> {
    let id: UploadId = id.parse()?;
    let (name, digest) = (name.to_owned(), digest.cloned());
    blocking(move || {
        let upload = storage.open_upload(&name, &id)?;
        Ok((upload, storage.ceilings(&name, digest.as_ref(), sight)?))
    })
    .await
}

/// Checks that a chunk with a `Content-Range` begins where the session ends; answers how long it has to be.
pub(super) fn placed(call: &Call, name: &str, upload: &Upload) -> Result<Option<u64>, ApiError> {
    let Some(chunk) = range::placed(&call.headers)? else { return Ok(None) };
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
