//! Bodies of uploads: a part of a local blob as a stream, read off the async threads.

use super::push::BlobReader;
use crate::limits;
use bytes::Bytes;
use futures_util::stream;
use slipway_oci::Pool;
use std::io::{self, Read, Seek, SeekFrom};
use tokio::sync::mpsc;

/// What became of a piece.
pub(super) enum Sent {
    /// So many bytes were handed to the network.
    Bytes(u64),
    /// The blob cannot be read.
    Failed(io::Error),
}

struct State {
    reader: Box<dyn BlobReader>,
    /// Set until the first piece was read.
    seek: Option<u64>,
    left: u64,
    sent: mpsc::UnboundedSender<Sent>,
    pool: Pool,
}

/// A body of exactly `length` bytes from `offset`, and news of its way.
pub(super) fn body(
    reader: Box<dyn BlobReader>,
    offset: u64,
    length: u64,
) -> (reqwest::Body, mpsc::UnboundedReceiver<Sent>) {
    let (sent, news) = mpsc::unbounded_channel();
    let state = State { reader, seek: Some(offset), left: length, sent, pool: Pool::default() };
    let pieces = stream::try_unfold(state, |mut state| async move {
        if state.left == 0 {
            return Ok::<_, io::Error>(None);
        }
        let (result, mut state) =
            tokio::task::spawn_blocking(move || (read_piece(&mut state), state)).await?;
        // nobody listens once the request is over
        match result {
            Ok(piece) => {
                state.left -= piece.len() as u64;
                let _ = state.sent.send(Sent::Bytes(piece.len() as u64));
                Ok(Some((piece, state)))
            }
            Err(error) => {
                let copy = io::Error::new(error.kind(), error.to_string());
                let _ = state.sent.send(Sent::Failed(error));
                Err(copy)
            }
        }
    });
    (reqwest::Body::wrap_stream(pieces), news)
}

fn read_piece(state: &mut State) -> io::Result<Bytes> {
    if let Some(offset) = state.seek.take() {
        state.reader.seek(SeekFrom::Start(offset))?;
    }
    let mut piece = state.pool.filled(state.left.min(limits::PIECE_BYTES as u64) as usize);
    // a blob shorter than its descriptor says ends here, not in the registry
    state.reader.read_exact(&mut piece)?;
    Ok(Bytes::from_owner(piece))
}
