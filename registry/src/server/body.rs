//! Bodies of requests: into memory with a cap, or into an upload piece by piece.

use super::{
    call::blocking,
    error::ApiError,
    storage::{StorageError, Upload},
};
use crate::limits;
use axum::body::{Body, BodyDataStream, Bytes};
use futures_util::StreamExt;
use tokio::{task::JoinHandle, time::timeout};

/// The next piece of a body; a client that falls silent loses the connection, not the server a task.
async fn next(stream: &mut BodyDataStream) -> Result<Option<Bytes>, ApiError> {
    let piece = timeout(limits::BODY_PAUSE, stream.next()).await.map_err(|_| ApiError::BodyPause)?;
    piece.transpose().map_err(ApiError::Body)
}

/// Reads a manifest's body; the cap holds whatever its headers say.
pub(super) async fn manifest(body: Body, announced: Option<u64>) -> Result<Vec<u8>, ApiError> {
    let most = slipway_oci::limits::MANIFEST_BYTES;
    if announced.is_some_and(|announced| announced > most) {
        return Err(ApiError::ManifestLarge);
    }
    let mut stream = body.into_data_stream();
    let mut bytes = Vec::new();
    while let Some(piece) = next(&mut stream).await? {
        if (bytes.len() + piece.len()) as u64 > most {
            return Err(ApiError::ManifestLarge);
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

/// Gathers about [`limits::PIECE_BYTES`], or what there is until the body ends (`true`) or breaks off.
async fn gather(stream: &mut BodyDataStream) -> (Vec<Bytes>, Result<bool, ApiError>) {
    let (mut pieces, mut size) = (Vec::new(), 0);
    while size < limits::PIECE_BYTES {
        match next(stream).await {
            Ok(Some(piece)) => {
                size += piece.len();
                pieces.push(piece);
            }
            Ok(None) => return (pieces, Ok(true)),
            Err(error) => return (pieces, Err(error)),
        }
    }
    (pieces, Ok(false))
}

/// Adds a body to an upload: while one piece is hashed and written off the async threads, the next one is gathered.
///
/// A body that breaks off leaves what arrived (the session says how much); one that is not of the `expected` length
/// leaves the upload as it was.
pub(super) async fn receive(upload: Upload, body: Body, expected: Option<u64>) -> Result<Upload, ApiError> {
    let start = upload.length();
    let mut stream = body.into_data_stream();
    let mut writing: JoinHandle<Result<Upload, StorageError>> =
        tokio::task::spawn_blocking(move || Ok(upload));
    let mut received = 0;
    loop {
        let (pieces, end) = gather(&mut stream).await;
        received += pieces.iter().map(|piece| piece.len() as u64).sum::<u64>();
        let mut upload: Upload = writing.await??;
        let finished = matches!(end, Ok(true));
        if let Some(expected) = expected
            && (received > expected || finished && received != expected)
        {
            blocking(move || upload.truncate(start)).await?;
            return Err(ApiError::ChunkLength { expected, actual: received });
        }
        writing = tokio::task::spawn_blocking(move || {
            for piece in &pieces {
                upload.append(piece)?;
            }
            Ok(upload)
        });
        match end {
            Ok(false) => {}
            Ok(true) => return Ok(writing.await??),
            Err(error) => {
                // what arrived stays, on disk before the lease ends
                writing.await??;
                return Err(error);
            }
        }
    }
}
