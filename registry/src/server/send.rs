//! What is large on its way to a client: bytes of a blob, read when the peer takes them and never before, and lists.

use super::{
    call::Shared,
    error::ApiError,
    memory::HeldBytes,
    reply,
    storage::{Reader, Storage, StorageError},
};
use crate::limits;
use axum::{
    body::{Body, Bytes},
    response::Response,
};
use slipway_oci::{Digest, Hasher};
use std::{io, sync::Arc};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of a blob that the repository has, with what stands between them.
pub(super) struct Content {
    pub(super) digest: Digest,
    /// What the whole blob has.
    pub(super) size: u64,
    pub(super) segments: Vec<Segment>,
}

/// A text, and bytes of the blob after it.
pub(super) struct Segment {
    pub(super) head: Bytes,
    pub(super) offset: u64,
    pub(super) end: u64,
}

/// A file that stays open between two pieces, where descriptors allow it.
pub(super) type Kept = Option<(Arc<dyn Reader>, OwnedSemaphorePermit)>;

/// Opens the file before the reply begins, while few do: a blob that is deleted at the same moment is then either sent
/// whole or not there. Blocks.
pub(super) fn open_early(
    storage: &Storage,
    early: Arc<Semaphore>,
    content: &Content,
) -> Result<Kept, StorageError> {
    let Ok(permit) = early.try_acquire_owned() else { return Ok(None) };
    Ok(Some((open(storage, content)?, permit)))
}

/// How far a body is.
#[derive(Clone, Copy, Default)]
struct Place {
    segment: usize,
    /// Whether the segment's head is sent.
    headed: bool,
    /// Of the segment's bytes.
    done: u64,
    /// Bytes of the blob in all.
    sent: u64,
}

/// What digests a blob while it is sent whole for the first time.
type Check = Option<Hasher>;

/// The body that sends it.
pub(super) fn body(shared: Arc<Shared>, content: Content, kept: Kept) -> Body {
    let whole = matches!(&content.segments[..], [only] if only.offset == 0 && only.end == content.size);
    let check = if whole { shared.storage.check(&content.digest) } else { None };
    let state = (shared, Arc::new(content), Place::default(), kept, check);
    let pieces = futures_util::stream::try_unfold(
        state,
        |(shared, content, mut place, mut kept, mut check)| async move {
            loop {
                let Some(segment) = content.segments.get(place.segment) else {
                    return Ok::<_, io::Error>(None);
                };
                if !place.headed {
                    place.headed = true;
                    if !segment.head.is_empty() {
                        let head = segment.head.clone();
                        return Ok(Some((head, (shared, Arc::clone(&content), place, kept, check))));
                    }
                }
                if segment.offset + place.done < segment.end {
                    let (piece, file, checking) = next(&shared, &content, place, kept, check).await?;
                    (kept, check) = (file, checking);
                    place.done += piece.len() as u64;
                    place.sent += piece.len() as u64;
                    return Ok(Some((piece, (shared, content, place, kept, check))));
                }
                place = Place { segment: place.segment + 1, headed: false, done: 0, sent: place.sent };
            }
        },
    );
    Body::from_stream(pieces)
}

async fn next(
    shared: &Arc<Shared>,
    content: &Arc<Content>,
    place: Place,
    kept: Kept,
    mut check: Check,
) -> io::Result<(Bytes, Kept, Check)> {
    let segment = &content.segments[place.segment];
    let offset = segment.offset + place.done;
    let left = segment.end - offset;
    let last = place.segment + 1 >= content.segments.len();
    let small = limits::PIECE_SMALL_BYTES;
    // a large piece is for a peer that has taken a small one
    let large = usize::try_from(left).unwrap_or(usize::MAX).min(limits::PIECE_BYTES);
    let held = if place.sent == 0 || large <= small { None } else { shared.memory.large(large) };
    let count = if held.is_some() { large } else { large.min(small) };
    let kept = kept.map(|(file, permit)| (file, Some(permit)));
    let (storage, files, memory) =
        (Arc::clone(&shared.storage), Arc::clone(&shared.files), shared.memory.clone());
    let content = Arc::clone(content);
    let read = move || {
        let (file, permit) = match kept {
            Some(kept) => kept,
            None => (open(&storage, &content).map_err(io::Error::other)?, None),
        };
        let mut piece = memory.piece(count, held);
        // a file that became shorter breaks the reply off: never a wrong answer that looks complete
        file.read_exact_at(piece.as_mut(), offset)?;
        check.iter_mut().for_each(|hasher| hasher.update(piece.as_ref()));
        if left == count as u64
            && let Some(hasher) = check.take()
        {
            // wrong bytes break it off as well, before the last of them
            storage.checked(&content.digest, content.size, hasher).map_err(io::Error::other)?;
        }
        // a peer that took nothing yet, and perhaps never will, keeps no descriptor
        let permit = permit.or_else(|| files.try_acquire_owned().ok().filter(|_| place.sent > 0));
        let kept = permit.filter(|_| !last || left > count as u64).map(|permit| (file, permit));
        Ok((Bytes::from_owner(piece), kept, check))
    };
    tokio::task::spawn_blocking(read).await?
}

fn open(storage: &Storage, content: &Content) -> Result<Arc<dyn Reader>, StorageError> {
    storage.open_blob(&content.digest, content.size)
}

/// A JSON reply that may be large: it takes its part of the server's memory until it is sent.
pub(super) async fn json(
    shared: &Shared,
    content_type: &'static str,
    text: String,
) -> Result<Response, ApiError> {
    let held = shared.memory.whole(text.len()).await?;
    let mut response = reply::json(content_type, String::new());
    let bytes = HeldBytes { bytes: text.into_bytes(), _held: held };
    *response.body_mut() = Body::from(Bytes::from_owner(bytes));
    Ok(response)
}
