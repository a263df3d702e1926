//! The memory that bodies may take: one budget for the whole server.
//!
//! Whoever wants a large piece and finds none left goes on with a small one, so that nobody waits for a peer that stands
//! still. Only what cannot be divided (a manifest, a page of tags) is refused, after a while, with 503.

use super::error::ApiError;
use crate::limits;
use slipway_oci::{Pool, Pooled};
use std::{sync::Arc, time::Duration};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Memory in use, until it is dropped.
pub(super) type Held = OwnedSemaphorePermit;

/// The budget.
#[derive(Clone)]
pub(super) struct Memory {
    left: Arc<Semaphore>,
    /// Of large pieces.
    pool: Pool,
}

impl Memory {
    pub(super) fn new() -> Memory {
        Memory { left: Arc::new(Semaphore::new(limits::MEMORY_BYTES)), pool: Pool::default() }
    }

    /// Memory for `length` bytes, for which there is room (`held`).
    pub(super) fn piece(&self, length: usize, held: Option<Held>) -> Piece {
        let is_large = length > limits::PIECE_SMALL_BYTES;
        Piece { bytes: if is_large { self.pool.filled(length) } else { vec![0; length].into() }, _held: held }
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

/// Some bytes of a body, which hold their room until they are sent.
pub(super) struct Piece {
    bytes: Pooled,
    _held: Option<Held>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl AsMut<[u8]> for Piece {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
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
