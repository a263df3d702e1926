//! `DELETE /v2/N/blobs/D`: takes a blob out of this repository; others keep theirs.

use crate::server::{
    call::{Call, blocking},
    error::ApiError,
    reply,
    storage::Deletion,
};
use axum::{http::StatusCode, response::Response};
use slipway_oci::Digest;

pub(in crate::server) async fn delete(call: Call, name: String, digest: &str) -> Result<Response, ApiError> {
    let digest: Digest = digest.parse()?;
    let storage = call.shared.storage.clone();
    let deletion = Deletion::by(call.author());
    blocking(move || storage.delete_blob(&name, &digest, &deletion)).await?;
    Ok(reply::empty(StatusCode::ACCEPTED))
}
