//! What is large on its way to a client: bytes of a blob, read when the peer takes them and never before, and lists.

use super::{
    call::Shared,
    direct::{OpenFile, Outbox},
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
use tokio::sync::Semaphore;

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
pub(super) type Kept = Option<Arc<OpenFile>>;

/// Opens the file before the reply begins, while few do: a blob that is deleted at the same moment is then either sent
/// whole or not there. Blocks.
pub(super) fn open_early(
    storage: &Storage,
    early: Arc<Semaphore>,
    content: &Content,
) -> Result<Kept, StorageError> {
    let Ok(permit) = early.try_acquire_owned() else { return Ok(None) };
    Ok(Some(Arc::new(OpenFile { reader: open(storage, content)?, _permit: permit })))
}

/// A body on its way.
struct Sending {
    shared: Arc<Shared>,
    content: Arc<Content>,
    /// Where ranges of files are put that the kernel sends.
    outbox: Option<Arc<Outbox>>,
    place: Place,
    kept: Kept,
    /// What digests a blob while it is sent whole for the first time.
    check: Option<Hasher>,
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

/// The body that sends it.
pub(super) fn body(shared: Arc<Shared>, content: Content, kept: Kept, outbox: Option<Arc<Outbox>>) -> Body {
    let whole = matches!(&content.segments[..], [only] if only.offset == 0 && only.end == content.size);
    let check = if whole { shared.storage.check(&content.digest) } else { None };
    let sending =
        Sending { shared, content: Arc::new(content), outbox, place: Place::default(), kept, check };
    Body::from_stream(futures_util::stream::try_unfold(sending, Sending::next))
}

impl Sending {
    /// What comes next, and the rest.
    async fn next(mut self) -> io::Result<Option<(Bytes, Sending)>> {
        let content = Arc::clone(&self.content);
        while let Some(segment) = content.segments.get(self.place.segment) {
            if !self.place.headed {
                self.place.headed = true;
                if !segment.head.is_empty() {
                    return Ok(Some((segment.head.clone(), self)));
                }
            }
            let offset = segment.offset + self.place.done;
            if offset < segment.end {
                let piece = match self.put(offset, segment.end - offset) {
                    Some(stand_in) => stand_in,
                    None => self.read(offset, segment.end - offset).await?,
                };
                self.place.done += piece.len() as u64;
                self.place.sent += piece.len() as u64;
                return Ok(Some((piece, self)));
            }
            self.place.segment += 1;
            (self.place.headed, self.place.done) = (false, 0);
        }
        Ok(None)
    }

    /// Lets the kernel send what it has in its cache, where nothing here has to look at it.
    fn put(&self, offset: u64, left: u64) -> Option<Bytes> {
        let (outbox, file) = (self.outbox.as_ref()?, self.kept.as_ref()?);
        if self.check.is_none() { outbox.put(file, offset, left) } else { None }
    }

    /// Reads a piece of the `left` bytes at `offset`.
    async fn read(&mut self, offset: u64, left: u64) -> io::Result<Bytes> {
        let (sent, small) = (self.place.sent, limits::PIECE_SMALL_BYTES);
        let last = self.place.segment + 1 >= self.content.segments.len();
        // a large piece is for a peer that has taken a small one
        let large = usize::try_from(left).unwrap_or(usize::MAX).min(limits::PIECE_BYTES);
        let held = if sent == 0 || large <= small { None } else { self.shared.memory.large(large) };
        let count = if held.is_some() { large } else { large.min(small) };
        let (shared, content) = (Arc::clone(&self.shared), Arc::clone(&self.content));
        let (kept, mut check) = (self.kept.take(), self.check.take());
        let read = move || {
            let reader = match &kept {
                Some(kept) => Arc::clone(&kept.reader),
                None => open(&shared.storage, &content).map_err(io::Error::other)?,
            };
            let mut piece = shared.memory.piece(count, held);
            // a file that became shorter breaks the reply off: never a wrong answer that looks complete
            reader.read_exact_at(piece.as_mut(), offset)?;
            check.iter_mut().for_each(|hasher| hasher.update(piece.as_ref()));
            if left == count as u64
                && let Some(hasher) = check.take()
            {
                // wrong bytes break it off as well, before the last of them
                let checked = shared.storage.checked(&content.digest, content.size, hasher);
                checked.map_err(io::Error::other)?;
            }
            // a peer that took nothing yet, and perhaps never will, keeps no descriptor
            let permit = || Arc::clone(&shared.files).try_acquire_owned().ok().filter(|_| sent > 0);
            let kept = kept
                .or_else(|| permit().map(|permit| Arc::new(OpenFile { reader, _permit: permit })))
                .filter(|_| !last || left > count as u64);
            Ok::<_, io::Error>((Bytes::from_owner(piece), kept, check))
        };
        let (piece, kept, check) = tokio::task::spawn_blocking(read).await??;
        (self.kept, self.check) = (kept, check);
        Ok(piece)
    }
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
