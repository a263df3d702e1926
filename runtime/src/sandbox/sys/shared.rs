//! Words that a child and its parent both see, whether or not they share the rest of their memory (mmap(2), `MAP_SHARED`).

use std::mem::size_of;
use std::ptr;
use std::sync::atomic::AtomicU32;

use rustix::io::Errno;

/// A mapping of words, zero at first, that children inherit as the same memory.
pub(crate) struct SharedWords {
    base: *mut AtomicU32,
    count: usize,
}

// SAFETY: the mapping belongs to the value and holds atomics only, which any thread may use.
unsafe impl Send for SharedWords {}
// SAFETY: as above.
unsafe impl Sync for SharedWords {}

impl SharedWords {
    /// Maps `count` words, at least one.
    pub(crate) fn new(count: usize) -> Result<Self, Errno> {
        let count = count.max(1);
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        let bytes = count * size_of::<AtomicU32>();
        // SAFETY: an anonymous mapping at an address of the kernel's choice touches no existing memory.
        let base =
            unsafe { libc::mmap(ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::NOMEM));
        }
        Ok(SharedWords { base: base.cast(), count })
    }

    /// The words.
    pub(crate) fn words(&self) -> &[AtomicU32] {
        // SAFETY: the mapping is page aligned, holds `count` zeroed words, for which any bits are valid, and lives as
        // long as `self`; all access is through the atomics.
        unsafe { std::slice::from_raw_parts(self.base, self.count) }
    }
}

impl Drop for SharedWords {
    fn drop(&mut self) {
        // SAFETY: base and length are those of the mapping made in `new`; `words` lends it no longer than `self` lives. A
        // child that still runs has a mapping of its own of the same memory, or keeps its parent's thread asleep.
        let unmapped = unsafe { libc::munmap(self.base.cast(), self.count * size_of::<AtomicU32>()) };
        debug_assert_eq!(unmapped, 0);
    }
}
