//! `DELETE` session: drops it with its bytes.

use super::chunk::lease;
use crate::server::{
    call::{Call, blocking},
    error::ApiError,
    reply,
};
use axum::{http::StatusCode, response::Response};

pub(in crate::server) async fn delete(call: Call, name: String, id: &str) -> Result<Response, ApiError> {
    let mut upload = lease(call.shared.storage.clone(), &name, id).await?;
    blocking(move || upload.cancel()).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}
