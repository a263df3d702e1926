//! Buffers that are used again.
//!
//! The kernel clears each page that it gives anew, and an allocator gives large buffers back as soon as they are free: for a long
//! stream that goes from thread to thread in pieces that is a sixth to a third of all work.

use std::{
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, PoisonError},
};

/// How many buffers are kept for later.
const MOST_KEPT: usize = 8;

/// Buffers of one stream, or of several of the same kind.
#[derive(Clone, Debug, Default)]
pub struct Pool(Arc<Mutex<Vec<Vec<u8>>>>);

impl Pool {
    /// An empty buffer with room for so many bytes.
    pub fn take(&self, capacity: usize) -> Pooled {
        let mut buffer = self.any();
        buffer.bytes.clear();
        buffer.bytes.reserve(capacity);
        buffer
    }

    /// A buffer of so many bytes, whatever they are: to be read into.
    pub fn filled(&self, length: usize) -> Pooled {
        let mut buffer = self.any();
        buffer.bytes.resize(length, 0);
        buffer
    }

    fn any(&self) -> Pooled {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Pooled { bytes: kept.unwrap_or_default(), pool: Some(self.clone()) }
    }
}

/// A buffer that goes back to where it is from.
#[derive(Debug, Default)]
pub struct Pooled {
    bytes: Vec<u8>,
    pool: Option<Pool>,
}

impl From<Vec<u8>> for Pooled {
    /// One that is from nowhere.
    fn from(bytes: Vec<u8>) -> Pooled {
        Pooled { bytes, pool: None }
    }
}

impl Deref for Pooled {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.bytes
    }
}

impl DerefMut for Pooled {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

impl AsRef<[u8]> for Pooled {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        let Some(pool) = &self.pool else { return };
        let mut kept = pool.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < MOST_KEPT {
            kept.push(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_as_it_was_asked_for_whoever_had_it_before() {
        let pool = Pool::default();
        for length in [5, 0, 3, 100, 7] {
            let mut buffer = pool.filled(length);
            assert_eq!(buffer.len(), length);
            buffer.fill(7);
        }
        let mut empty = pool.take(1000);
        assert!(empty.is_empty() && empty.capacity() >= 1000);
        empty.extend_from_slice(b"text");
        assert_eq!(empty.as_ref(), b"text");
        drop(empty);
        drop(Pooled::from(b"of nowhere".to_vec()));
        assert_eq!(pool.0.lock().expect("pool").len(), 1, "one was enough for all of these");
        let many: Vec<Pooled> = (0..3 * MOST_KEPT).map(|_| pool.take(10)).collect();
        drop(many);
        assert_eq!(pool.0.lock().expect("pool").len(), MOST_KEPT);
    }
}
