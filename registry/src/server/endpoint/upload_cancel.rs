//! `DELETE` session: drops it with its bytes.

use super::{
    super::{blocking, dispatch::Call, error::ApiError, reply},
    upload_chunk::lease,
};
use axum::{http::StatusCode, response::Response};

pub(in super::super) async fn delete(call: Call, name: String, id: &str) -> Result<Response, ApiError> {
    let mut upload = lease(call.shared.storage.clone(), &name, id).await?;
    blocking(move || upload.cancel()).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}
