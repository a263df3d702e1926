//! Bodies of requests: into memory with a cap, or into an upload piece by piece.

use super::{
    call::{Shared, blocking},
    connection::Budgets,
    error::ApiError,
    memory::{Held, HeldBytes, Memory},
    storage::{Ceiling, StorageError, Upload},
};
use crate::limits;
use axum::body::{Body, BodyDataStream, Bytes, HttpBody};
use futures_util::StreamExt;
use std::time::Instant;
use tokio::{task::JoinHandle, time::timeout};

/// A request's body as it comes in, with its time: a client that falls silent, or dribbles, loses the connection and not
/// the server a task.
pub(super) struct Incoming {
    stream: BodyDataStream,
    budgets: Budgets,
    memory: Memory,
    begun: Instant,
    received: u64,
    /// What its headers say of its length, at least.
    announced: u64,
    /// Most bytes of a blob.
    max_blob: Option<u64>,
    /// Most bytes of a blob by quotas.
    ceilings: Vec<Ceiling>,
}

/// What came in at a time, and the room that it takes.
#[derive(Default)]
struct Gathered {
    pieces: Vec<Bytes>,
    _held: Option<Held>,
}

impl Incoming {
    pub(super) fn new(shared: &Shared, body: Body) -> Incoming {
        Incoming {
            announced: body.size_hint().lower(),
            max_blob: shared.policy.current().max_blob,
            ceilings: Vec::new(),
            stream: body.into_data_stream(),
            budgets: shared.budgets,
            memory: shared.memory.clone(),
            begun: Instant::now(),
            received: 0,
        }
    }

    /// The same, for a blob for which there is so much room.
    pub(super) fn below(self, ceilings: Vec<Ceiling>) -> Incoming {
        Incoming { ceilings, ..self }
    }

    /// Refuses a blob that is too long.
    fn fits(&self, size_bytes: u64) -> Result<(), ApiError> {
        match self.max_blob {
            Some(most) if size_bytes > most => Err(ApiError::BlobLarge { most }),
            _ => Ok(self.ceilings.iter().try_for_each(|ceiling| ceiling.check(size_bytes))?),
        }
    }

    async fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
        // the whole in the mean, and no pause by itself
        let mean =
            (self.begun + self.budgets.time_for(self.received)).saturating_duration_since(Instant::now());
        let time = mean.min(self.budgets.pause);
        let piece = timeout(time, self.stream.next()).await.map_err(|_| ApiError::BodyPause)?;
        let piece = piece.transpose().map_err(ApiError::Body)?;
        self.received += piece.as_ref().map_or(0, |piece| piece.len() as u64);
        Ok(piece)
    }

    /// Gathers a piece of a size that the memory allows, or what there is until the body ends (`true`) or breaks off.
    async fn gather(&mut self) -> (Gathered, Result<bool, ApiError>) {
        let held = self.memory.large(limits::PIECE_BYTES);
        let most = if held.is_some() { limits::PIECE_BYTES } else { limits::PIECE_SMALL_BYTES };
        let (mut pieces, mut size, mut tail) = (Vec::new(), 0, Vec::new());
        let end = loop {
            match self.next().await {
                Ok(Some(piece)) => {
                    size += piece.len();
                    if piece.len() < limits::COPY_BYTES {
                        tail.extend_from_slice(&piece);
                    } else {
                        flush(&mut pieces, &mut tail);
                        pieces.push(piece);
                    }
                    if size >= most {
                        break Ok(false);
                    }
                }
                Ok(None) => break Ok(true),
                Err(error) => break Err(error),
            }
        };
        flush(&mut pieces, &mut tail);
        (Gathered { pieces, _held: held }, end)
    }
}

fn flush(pieces: &mut Vec<Bytes>, tail: &mut Vec<u8>) {
    if !tail.is_empty() {
        pieces.push(std::mem::take(tail).into());
    }
}

/// Reads a manifest's body; the cap holds whatever its headers say.
pub(super) async fn manifest(mut incoming: Incoming, announced: Option<u64>) -> Result<HeldBytes, ApiError> {
    let most = slipway_oci::limits::MANIFEST_BYTES;
    if announced.is_some_and(|announced| announced > most) {
        return Err(ApiError::ManifestLarge);
    }
    let memory = incoming.memory.clone();
    let mut held = memory.whole(announced.unwrap_or(0) as usize).await?;
    let mut bytes = Vec::new();
    while let Some(piece) = incoming.next().await? {
        if (bytes.len() + piece.len()) as u64 > most {
            return Err(ApiError::ManifestLarge);
        }
        if held.is_none() && bytes.len() + piece.len() > limits::PIECE_SMALL_BYTES {
            held = memory.whole(most as usize).await?;
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(HeldBytes { bytes, _held: held })
}

/// Reads a body of at most `most` bytes.
pub(super) async fn small(
    mut incoming: Incoming,
    announced: Option<u64>,
    most: usize,
) -> Result<Vec<u8>, ApiError> {
    let mut bytes = Vec::new();
    let long = || ApiError::TokenRequest("the request's body is too long");
    if announced.is_some_and(|announced| announced > most as u64) {
        return Err(long());
    }
    while let Some(piece) = incoming.next().await? {
        if bytes.len() + piece.len() > most {
            return Err(long());
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

/// Adds a body to an upload: while one piece is hashed and written off the async threads, the next one is gathered.
///
/// A body that breaks off leaves what arrived (the session says how much); one that is not of the `expected` length
/// leaves the upload as it was.
pub(super) async fn receive(
    upload: Upload,
    mut incoming: Incoming,
    expected: Option<u64>,
) -> Result<Upload, ApiError> {
    let start = upload.length();
    if let Err(refused) = incoming.fits(start.saturating_add(incoming.announced)) {
        // its lease ends off the async threads
        drop(Lease(Some(upload)));
        return Err(refused);
    }
    let mut writing: JoinHandle<Result<Lease, StorageError>> =
        tokio::task::spawn_blocking(move || Ok(Lease(Some(upload))));
    let mut received = 0;
    loop {
        let (gathered, end) = incoming.gather().await;
        received += gathered.pieces.iter().map(|piece| piece.len() as u64).sum::<u64>();
        let mut lease = writing.await??;
        let finished = matches!(end, Ok(true));
        if let Some(expected) = expected
            && (received > expected || finished && received != expected)
        {
            blocking(move || lease.upload().truncate(start)).await?;
            return Err(ApiError::ChunkLength { expected, actual: received });
        }
        if let Err(refused) = incoming.fits(start.saturating_add(received)) {
            blocking(move || lease.upload().truncate(start)).await?;
            return Err(refused);
        }
        writing = tokio::task::spawn_blocking(move || {
            for piece in &gathered.pieces {
                lease.upload().append(piece)?;
            }
            Ok(lease)
        });
        match end {
            Ok(false) => {}
            Ok(true) => return Ok(writing.await??.take()),
            Err(error) => {
                // what arrived stays, written down before the lease ends
                let mut lease = writing.await??;
                blocking(move || lease.upload().save()).await?;
                return Err(error);
            }
        }
    }
}

/// An upload whose lease ends off the async threads, whoever lets go of it: then the session is written down.
struct Lease(Option<Upload>);

impl Lease {
    fn upload(&mut self) -> &mut Upload {
        self.0.as_mut().expect("taken only at the end")
    }

    fn take(mut self) -> Upload {
        self.0.take().expect("taken once")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(upload) = self.0.take() else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn_blocking(move || drop(upload));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn small_pieces_are_copied_together() {
        for (piece_bytes, count) in
            [(1, 300_000), (700, 3000), (limits::COPY_BYTES - 1, 40), (limits::COPY_BYTES, 40)]
        {
            let piece = Bytes::from(vec![7; piece_bytes]);
            let stream =
                futures_util::stream::iter((0..count).map(move |_| Ok::<_, axum::Error>(piece.clone())));
            let mut incoming = Incoming {
                stream: Body::from_stream(stream).into_data_stream(),
                budgets: Budgets::default(),
                memory: Memory::new(),
                begun: Instant::now(),
                received: 0,
                announced: 0,
                max_blob: None,
                ceilings: Vec::new(),
            };
            let mut total = 0;
            loop {
                let (gathered, end) = incoming.gather().await;
                let most = limits::PIECE_BYTES / limits::COPY_BYTES + 1;
                assert!(gathered.pieces.len() <= most, "{piece_bytes}: {} pieces", gathered.pieces.len());
                total += gathered.pieces.iter().map(Bytes::len).sum::<usize>();
                if end.expect("no failure") {
                    break;
                }
            }
            assert_eq!(total, piece_bytes * count);
        }
    }
}
