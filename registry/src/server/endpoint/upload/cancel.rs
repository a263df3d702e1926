//! `DELETE` session: drops it with its bytes.

use crate::server::{
    call::{Call, blocking},
    error::ApiError,
    reply,
    storage::UploadId,
};
use axum::{http::StatusCode, response::Response};

pub(in crate::server) async fn delete(call: Call, name: String, id: &str) -> Result<Response, ApiError> {
    let (storage, id): (_, UploadId) = (call.shared.storage.clone(), id.parse()?);
    blocking(move || storage.open_upload(&name, &id)?.cancel()).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}
