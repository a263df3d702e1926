//! `PUT` session`?digest=D`: closes a session, perhaps with a last chunk.

use super::chunk::{lease, placed};
use crate::server::{
    body::{self, Incoming},
    call::{Call, blocking},
    error::ApiError,
    reply,
    storage::{Storage, StorageError},
};
use axum::response::Response;
use slipway_oci::Digest;
use std::sync::Arc;

pub(in crate::server) async fn put(call: Call, name: String, id: &str) -> Result<Response, ApiError> {
    let digest: Digest = call.query.get("digest").ok_or(ApiError::DigestMissing)?.parse()?;
    let storage = call.shared.storage.clone();
    let sight = call.sight(&name);
    let (upload, ceilings) = match lease(Arc::clone(&storage), &name, id, Some(&digest), sight).await {
        Err(ApiError::Storage(StorageError::UploadUnknown)) => return repeated(storage, name, digest).await,
        other => other?,
    };
    let expected = placed(&call, &name, &upload)?;
    let incoming = Incoming::new(&call.shared, call.body).below(ceilings);
    let upload = body::receive(upload, incoming, expected).await?;
    let wanted = digest.clone();
    blocking(move || upload.finish(&wanted)).await?;
    Ok(reply::created(&name, "blobs", &digest))
}

/// The first answer may have been lost: where the repository has the blob, the session did what it was for.
async fn repeated(storage: Arc<Storage>, name: String, digest: Digest) -> Result<Response, ApiError> {
    let (repository, wanted) = (name.clone(), digest.clone());
    match blocking(move || storage.blob_size(&repository, &wanted)).await {
        Ok(_) => Ok(reply::created(&name, "blobs", &digest)),
        Err(ApiError::Storage(StorageError::BlobUnknown(_))) => Err(StorageError::UploadUnknown.into()),
        Err(error) => Err(error),
    }
}
