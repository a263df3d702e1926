//! `DELETE /v2/N/manifests/R`: a tag alone, or a manifest with every tag on it; with `If-Match`, only if it is still that.

use crate::server::{
    call::{Call, blocking},
    error::ApiError,
    precondition, reply,
    storage::Deletion,
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
    let mut deletion = Deletion::by(call.author());
    deletion.condition = precondition::read(&call.headers)?;
    let (visitor, repository) = (call.visitor.clone(), name.clone());
    deletion.immutable = Arc::new(move |tag| visitor.is_immutable(&repository, tag));
    let repository = name.clone();
    let deleted = blocking(move || storage.delete_manifest(&repository, &key, &deletion)).await;
    deleted.map_err(|error| precondition::veiled(error, &call.visitor, &name))?;
    Ok(reply::empty(StatusCode::ACCEPTED))
}
