//! The bytes of a blob that is still coming, for one of those who wait for it.

use crate::{
    limits,
    server::{
        call::Shared,
        memory::HeldBytes,
        upstreams::{Fetch, Progress},
    },
};
use axum::body::{Body, Bytes};
use std::{io, sync::Arc};

struct Following {
    shared: Arc<Shared>,
    fetch: Fetch,
    offset: u64,
    /// The byte after the last one that is wanted; all where it is not known.
    end: Option<u64>,
    sent: u64,
}

/// Sends the bytes from `first` to before `end` as they come. The last one comes when the blob is verified and stored.
pub(super) fn body(shared: Arc<Shared>, fetch: Fetch, first: u64, end: Option<u64>) -> Body {
    let state = Following { shared, fetch, offset: first, end, sent: 0 };
    Body::from_stream(futures_util::stream::try_unfold(state, |mut state| async move {
        let piece = state.next().await?;
        Ok::<_, io::Error>(piece.map(|piece| (piece, state)))
    }))
}

impl Following {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            let Progress { written, end } = self.fetch.progress.borrow_and_update().clone();
            let wanted = self.end.unwrap_or(u64::MAX);
            let available = match end {
                Some(Err(trouble)) => return Err(io::Error::other(trouble)),
                Some(Ok(())) => written.min(wanted),
                // the last byte is what makes it whole
                None => written.min(wanted).saturating_sub(1),
            };
            if self.offset < available {
                return self.read(available - self.offset).await.map(Some);
            }
            if end.is_some() {
                return Ok(None);
            }
            // a task that died says nothing more
            self.fetch.progress.changed().await.map_err(io::Error::other)?;
        }
    }

    async fn read(&mut self, left: u64) -> io::Result<Bytes> {
        let small = limits::PIECE_SMALL_BYTES;
        let large = usize::try_from(left).unwrap_or(usize::MAX).min(limits::PIECE_BYTES);
        // a large piece is for a peer that has taken a small one
        let held = if self.sent == 0 || large <= small { None } else { self.shared.memory.large(large) };
        let count = if held.is_some() { large } else { large.min(small) };
        let (reader, offset) = (Arc::clone(&self.fetch.reader), self.offset);
        let read = move || {
            let mut bytes = vec![0; count];
            reader.read_exact_at(&mut bytes, offset)?;
            Ok::<_, io::Error>(Bytes::from_owner(HeldBytes { bytes, _held: held }))
        };
        let bytes = tokio::task::spawn_blocking(read).await??;
        self.offset += bytes.len() as u64;
        self.sent += bytes.len() as u64;
        Ok(bytes)
    }
}
