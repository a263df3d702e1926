//! How a step that failed in the child reaches the parent.

use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

use rustix::io::Errno;

use crate::error::Step;
use crate::sandbox::child::Failure;

/// What the child leaves for its parent in shared memory when it fails.
#[derive(Default)]
pub(crate) struct Report {
    failed: AtomicU32,
    step: AtomicU32,
    place: AtomicU32,
    errno: AtomicI32,
}

impl Report {
    /// Written by the child.
    pub(crate) fn set(&self, failure: &Failure) {
        self.step.store(failure.step as u32, Ordering::Relaxed);
        self.place.store(failure.place, Ordering::Relaxed);
        self.errno.store(failure.errno.raw_os_error(), Ordering::Relaxed);
        self.failed.store(1, Ordering::Release);
    }

    /// Read by the parent once the child is gone.
    pub(super) fn get(&self) -> Option<(Step, usize, Errno)> {
        if self.failed.load(Ordering::Acquire) == 0 {
            return None;
        }
        let step = Step::from_number(self.step.load(Ordering::Relaxed))?;
        let errno = Errno::from_raw_os_error(self.errno.load(Ordering::Relaxed));
        Some((step, self.place.load(Ordering::Relaxed) as usize, errno))
    }
}
