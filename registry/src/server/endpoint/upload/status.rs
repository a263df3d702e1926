//! `GET` session: how far it is, the way back after a lost connection.

use crate::server::{
    call::{Call, blocking},
    error::ApiError,
    reply,
    storage::UploadId,
};
use axum::{http::StatusCode, response::Response};

pub(in crate::server) async fn get(call: Call, name: String, id: &str) -> Result<Response, ApiError> {
    let id: UploadId = id.parse()?;
    let (storage, repository, session) = (call.shared.storage.clone(), name.clone(), id.clone());
    let length = blocking(move || storage.upload_length(&repository, &session)).await?;
    let mut response = reply::upload_progress(StatusCode::NO_CONTENT, &name, &id, length);
    // RFC 9110, section 8.6: none with 204
    response.headers_mut().remove(axum::http::header::CONTENT_LENGTH);
    Ok(response)
}
