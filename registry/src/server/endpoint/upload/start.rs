//! `POST /v2/N/blobs/uploads/`: starts a session, takes a whole blob, or mounts one of another repository.

use crate::server::{
    body::{self, Incoming},
    call::{Call, blocking},
    error::ApiError,
    reply,
    storage::Storage,
};
use axum::{http::StatusCode, response::Response};
use slipway_oci::{Algorithm, Digest, digest::DigestError, reference::is_repository_name};
use std::sync::Arc;

pub(in crate::server) async fn post(call: Call, name: String) -> Result<Response, ApiError> {
    let storage = call.shared.storage.clone();
    if let Some(digest) = call.query.get("mount") {
        let digest: Digest = match digest.parse() {
            Err(DigestError::Algorithm(_)) => return start(&storage, &name, Algorithm::Sha256).await,
            other => other?,
        };
        let from = call.query.get("from").map(str::to_owned);
        if mount(&storage, &name, &digest, from).await? {
            return Ok(reply::created(&name, "blobs", &digest));
        }
        // not there, or not to be told: an ordinary session
        return start(&storage, &name, Algorithm::Sha256).await;
    }
    if let Some(digest) = call.query.get("digest") {
        let digest: Digest = digest.parse()?;
        let incoming = Incoming::new(&call.shared, call.body);
        return whole(&storage, name, digest, incoming).await;
    }
    let algorithm = match call.query.get("digest-algorithm") {
        None | Some("sha256") => Algorithm::Sha256,
        Some("sha512") => Algorithm::Sha512,
        Some(other) => return Err(ApiError::Algorithm(other.chars().take(40).collect())),
    };
    start(&storage, &name, algorithm).await
}

async fn mount(
    storage: &Arc<Storage>,
    name: &str,
    digest: &Digest,
    from: Option<String>,
) -> Result<bool, ApiError> {
    if from.as_deref().is_some_and(|from| !is_repository_name(from)) {
        return Ok(false);
    }
    let (storage, name, digest) = (Arc::clone(storage), name.to_owned(), digest.clone());
    blocking(move || storage.mount(&name, &digest, from.as_deref())).await
}

async fn start(storage: &Arc<Storage>, name: &str, algorithm: Algorithm) -> Result<Response, ApiError> {
    let (storage, repository) = (Arc::clone(storage), name.to_owned());
    let id = blocking(move || storage.start_upload(&repository, algorithm)).await?;
    Ok(reply::upload_progress(StatusCode::ACCEPTED, name, &id, 0))
}

async fn whole(
    storage: &Arc<Storage>,
    name: String,
    digest: Digest,
    content: Incoming,
) -> Result<Response, ApiError> {
    let (storage, repository, algorithm) = (Arc::clone(storage), name.clone(), digest.algorithm());
    let upload = blocking(move || storage.stage(&repository, algorithm)).await?;
    let upload = body::receive(upload, content, None).await?;
    let expected = digest.clone();
    blocking(move || upload.finish(&expected)).await?;
    Ok(reply::created(&name, "blobs", &digest))
}
