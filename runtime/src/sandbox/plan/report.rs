//! What the child leaves for its parent: how a step failed, and what had to be made in the root.

use std::sync::atomic::{AtomicU32, Ordering};

use rustix::io::Errno;

use crate::error::Step;
use crate::sandbox::child::Failure;
use crate::sandbox::sys::shared::SharedWords;

/// Words before those of the mounts: whether a step failed, which, at which place, why; what was made of the standard
/// folders.
const FAILED: usize = 0;
const STEP: usize = 1;
const PLACE: usize = 2;
const ERRNO: usize = 3;
const STANDARD_MADE: usize = 4;
const FIRST_MOUNT: usize = 5;

/// Memory that child and parent share in any case.
pub(crate) struct Report(SharedWords);

impl Report {
    /// An empty report with a word for each of the mounts.
    pub(super) fn new(mounts: usize) -> Result<Self, Errno> {
        Ok(Report(SharedWords::new(FIRST_MOUNT + mounts)?))
    }

    fn store(&self, word: usize, value: u32) {
        if let Some(word) = self.0.words().get(word) {
            word.store(value, Ordering::Relaxed);
        }
    }

    fn load(&self, word: usize) -> u32 {
        self.0.words().get(word).map_or(0, |word| word.load(Ordering::Relaxed))
    }

    /// Written by the child.
    pub(crate) fn set(&self, failure: &Failure) {
        self.store(STEP, failure.step as u32);
        self.store(PLACE, failure.place);
        self.store(ERRNO, failure.errno.raw_os_error() as u32);
        // The parent reads once the child has executed or ended, which orders the rest.
        self.store(FAILED, 1);
    }

    /// Read by the parent once the child is gone.
    pub(super) fn get(&self) -> Option<(Step, usize, Errno)> {
        if self.load(FAILED) == 0 {
            return None;
        }
        let step = Step::from_number(self.load(STEP))?;
        let errno = Errno::from_raw_os_error(self.load(ERRNO) as i32);
        Some((step, self.load(PLACE) as usize, errno))
    }

    /// Bit n: the child had to make [`STANDARD`](super::STANDARD) place n.
    pub(crate) fn standard_made(&self) -> Option<&AtomicU32> {
        self.0.words().get(STANDARD_MADE)
    }

    /// Bit n: the child had to make step n of this mount's target.
    pub(crate) fn mount_made(&self, place: usize) -> Option<&AtomicU32> {
        self.0.words().get(FIRST_MOUNT + place)
    }
}
