//! `POST /v2/N/blobs/uploads/`: starts a session, takes a whole blob, or mounts one of another repository.

use crate::limits;
use crate::server::{
    access::{Action, Visitor},
    body::{self, Incoming},
    call::{Call, blocking},
    error::ApiError,
    reply,
    storage::{Sight, Storage},
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
        if mount(&call.visitor, &storage, &name, &digest, from).await? {
            return Ok(reply::created(&name, "blobs", &digest));
        }
        // not there, or not to be told: an ordinary session
        return start(&storage, &name, Algorithm::Sha256).await;
    }
    if let Some(digest) = call.query.get("digest") {
        let digest: Digest = digest.parse()?;
        let sight = call.sight(&name);
        let incoming = Incoming::new(&call.shared, call.body);
        return whole(&storage, name, digest, sight, incoming).await;
    }
    let algorithm = match call.query.get("digest-algorithm") {
        None | Some("sha256") => Algorithm::Sha256,
        Some("sha512") => Algorithm::Sha512,
        Some(other) => return Err(ApiError::Algorithm(other.chars().take(40).collect())),
    };
    start(&storage, &name, algorithm).await
}

/// Mounts what the caller may read; what it may not read is not there.
async fn mount(
    visitor: &Visitor,
    storage: &Arc<Storage>,
    name: &str,
    digest: &Digest,
    from: Option<String>,
) -> Result<bool, ApiError> {
    let readable = |from: &str| is_repository_name(from) && visitor.may(Action::Pull, from);
    if from.as_deref().is_some_and(|from| !readable(from)) {
        return Ok(false);
    }
    let (storage, name, digest) = (Arc::clone(storage), name.to_owned(), digest.clone());
    let from = match from {
        None if !visitor.sees_all() => {
            let (storage, wanted) = (Arc::clone(&storage), digest.clone());
            let holders = blocking(move || storage.holders(&wanted, "", limits::MOUNT_SOURCES)).await?;
            let Some(holder) = holders.into_iter().find(|holder| readable(holder)) else { return Ok(false) };
            Some(holder)
        }
        from => from,
    };
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
    sight: Sight,
    content: Incoming,
) -> Result<Response, ApiError> {
    let (storage, repository, wanted) = (Arc::clone(storage), name.clone(), digest.clone());
    let (upload, ceilings) = blocking(move || {
        let ceilings = storage.ceilings(&repository, Some(&wanted), sight)?;
        Ok((storage.stage(&repository, wanted.algorithm())?, ceilings))
    })
    .await?;
    let upload = body::receive(upload, content.below(ceilings), None).await?;
    let expected = digest.clone();
    blocking(move || upload.finish(&expected)).await?;
    Ok(reply::created(&name, "blobs", &digest))
}
