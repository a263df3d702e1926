//! The memory that bodies may take: one budget for the whole server.
//!
//! Whoever wants a large piece and finds none left goes on with a small one, so that nobody waits for a peer that stands
//! still. Only what cannot be divided (a manifest, a page of tags) is refused, after a while, with 503.

use super::error::ApiError;
use crate::limits;
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Memory in use, until it is dropped.
pub(super) type Held = OwnedSemaphorePermit;

/// The budget.
#[derive(Clone)]
pub(super) struct Memory {
    left: Arc<Semaphore>,
    used: Arc<Used>,
}

/// Buffers of large pieces that were sent: the kernel clears each page that it gives anew, which takes a third as long as
/// reading and sending what is put there.
type Used = Mutex<Vec<Vec<u8>>>;

/// How many of them are kept for the next pieces.
const MOST_USED: usize = 8;

impl Memory {
    pub(super) fn new() -> Memory {
        Memory { left: Arc::new(Semaphore::new(limits::MEMORY_BYTES)), used: Arc::default() }
    }

    /// Memory for `length` bytes, for which there is room (`held`).
    pub(super) fn piece(&self, length: usize, held: Option<Held>) -> Piece {
        let is_large = length > limits::PIECE_SMALL_BYTES && length <= limits::PIECE_BYTES;
        let used = is_large.then(|| Arc::clone(&self.used));
        let again = used.as_ref().and_then(|used| locked(used).pop());
        let bytes = again.unwrap_or_else(|| vec![0; if is_large { limits::PIECE_BYTES } else { length }]);
        Piece { bytes, length, used, _held: held }
    }

    /// Room for a large piece of at most `bytes`, if there is some now.
    pub(super) fn large(&self, bytes: usize) -> Option<Held> {
        Arc::clone(&self.left).try_acquire_many_owned(u32::try_from(bytes).ok()?).ok()
    }

    /// Room for something that is needed whole.
    pub(super) async fn whole(&self, bytes: usize) -> Result<Option<Held>, ApiError> {
        if bytes <= limits::PIECE_SMALL_BYTES {
            return Ok(None);
        }
        let bytes = u32::try_from(bytes.min(limits::MEMORY_BYTES)).expect("the budget is below 4 GiB");
        let wait = Arc::clone(&self.left).acquire_many_owned(bytes);
        match tokio::time::timeout(WAIT, wait).await {
            Ok(held) => Ok(Some(held.expect("the semaphore is never closed"))),
            Err(_) => Err(ApiError::Busy),
        }
    }
}

/// Longest wait for memory.
const WAIT: Duration = Duration::from_secs(10);

fn locked(used: &Used) -> MutexGuard<'_, Vec<Vec<u8>>> {
    used.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Some bytes of a body, which hold their room until they are sent.
pub(super) struct Piece {
    /// At least `length`.
    bytes: Vec<u8>,
    length: usize,
    /// Where they go then.
    used: Option<Arc<Used>>,
    _held: Option<Held>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl AsMut<[u8]> for Piece {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.length]
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let Some(used) = &self.used else { return };
        let mut used = locked(used);
        if used.len() < MOST_USED {
            used.push(std::mem::take(&mut self.bytes));
        }
    }
}

/// Bytes that hold their room until they are sent.
pub(super) struct HeldBytes {
    pub(super) bytes: Vec<u8>,
    pub(super) _held: Option<Held>,
}

impl AsRef<[u8]> for HeldBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_as_long_as_it_was_asked_for_whoever_had_its_memory_before() {
        let memory = Memory::new();
        let mut first = memory.piece(limits::PIECE_BYTES, None);
        first.as_mut().fill(7);
        drop(first);
        for length in [0, 1, limits::PIECE_SMALL_BYTES, limits::PIECE_SMALL_BYTES + 1, limits::PIECE_BYTES] {
            let piece = memory.piece(length, None);
            assert_eq!(piece.as_ref().len(), length);
        }
        let many: Vec<Piece> = (0..3 * MOST_USED).map(|_| memory.piece(limits::PIECE_BYTES, None)).collect();
        drop(many);
        assert_eq!(locked(&memory.used).len(), MOST_USED);
    }
}
