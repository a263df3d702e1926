//! `DELETE /v2/N/manifests/R`: a tag alone, or a manifest with every tag on it.

use crate::server::{
    call::{Call, blocking},
    error::ApiError,
    reply,
};
use axum::{http::StatusCode, response::Response};

pub(in crate::server) async fn delete(
    call: Call,
    name: String,
    reference: &str,
) -> Result<Response, ApiError> {
    let key = super::key(reference)?;
    let storage = call.shared.storage.clone();
    blocking(move || storage.delete_manifest(&name, &key)).await?;
    Ok(reply::empty(StatusCode::ACCEPTED))
}
