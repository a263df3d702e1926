//! `DELETE /v2/N/manifests/R`: a tag alone, or a manifest with every tag on it.

use super::super::{blocking, dispatch::Call, error::ApiError, reply};
use axum::{http::StatusCode, response::Response};

pub(in super::super) async fn delete(
    call: Call,
    name: String,
    reference: &str,
) -> Result<Response, ApiError> {
    let key = super::manifest_key(reference)?;
    let storage = call.shared.storage.clone();
    blocking(move || storage.delete_manifest(&name, &key)).await?;
    Ok(reply::empty(StatusCode::ACCEPTED))
}
