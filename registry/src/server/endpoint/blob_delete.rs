//! `DELETE /v2/N/blobs/D`: takes a blob out of this repository; others keep theirs.

use super::super::{blocking, dispatch::Call, error::ApiError, reply};
use axum::{http::StatusCode, response::Response};
use slipway_oci::Digest;

pub(in super::super) async fn delete(call: Call, name: String, digest: &str) -> Result<Response, ApiError> {
    let digest: Digest = digest.parse()?;
    let storage = call.shared.storage.clone();
    blocking(move || storage.delete_blob(&name, &digest)).await?;
    Ok(reply::empty(StatusCode::ACCEPTED))
}
