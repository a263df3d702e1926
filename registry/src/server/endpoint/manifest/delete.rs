//! `DELETE /v2/N/manifests/R`: a tag alone, or a manifest with every tag on it.

use crate::server::{
    call::{Call, blocking},
    error::ApiError,
    reply,
    storage::IsImmutable,
};
use axum::{http::StatusCode, response::Response};
use std::sync::Arc;

pub(in crate::server) async fn delete(
    call: Call,
    name: String,
    reference: &str,
) -> Result<Response, ApiError> {
    let key = super::key(reference)?;
    let storage = call.shared.storage.clone();
    let (visitor, repository) = (call.visitor, name.clone());
    let immutable: IsImmutable = Arc::new(move |tag| visitor.is_immutable(&repository, tag));
    blocking(move || storage.delete_manifest(&name, &key, &immutable)).await?;
    Ok(reply::empty(StatusCode::ACCEPTED))
}
