//! A lock on a file (`flock(2)`) that ends when its holder lets it go.
//!
//! The kernel's lock belongs to the open file description, and ends with the *last* descriptor of it. A program that starts
//! others from several threads has copies of each descriptor for the moment between fork and exec, `O_CLOEXEC` or not: whoever
//! only closes a file may find its own lock still held a moment later. So it is given back by name here.
//!
//! What a forked child is meant to go on holding (a lease, a container's lock) is no [`Lock`].

use rustix::fs::{FlockOperation, flock};
use std::{fs::File, io, ops::Deref};

/// A locked file; the lock ends when this is dropped, whoever else has the file open through a fork.
///
/// ```
/// let file = || std::fs::File::open(std::env::current_exe().unwrap()).unwrap();
/// let lock = slipway_oci::lock::Lock::try_alone(file()).unwrap().unwrap();
/// let copy = lock.try_clone().unwrap(); // as a fork would have one
/// drop(lock);
/// assert!(slipway_oci::lock::Lock::try_alone(file()).unwrap().is_some());
/// # drop(copy);
/// ```
#[derive(Debug)]
pub struct Lock(File);

impl Lock {
    /// The only holder; `None` where somebody has it.
    pub fn try_alone(file: File) -> io::Result<Option<Self>> {
        Self::attempt(file, FlockOperation::NonBlockingLockExclusive)
    }

    /// One of many; `None` where somebody has it alone.
    pub fn try_shared(file: File) -> io::Result<Option<Self>> {
        Self::attempt(file, FlockOperation::NonBlockingLockShared)
    }

    /// The only holder, after all others.
    pub fn alone(file: File) -> io::Result<Self> {
        rustix::io::retry_on_intr(|| flock(&file, FlockOperation::LockExclusive))?;
        Ok(Self(file))
    }

    fn attempt(file: File, operation: FlockOperation) -> io::Result<Option<Self>> {
        match rustix::io::retry_on_intr(|| flock(&file, operation)) {
            Ok(()) => Ok(Some(Self(file))),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl Deref for Lock {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // refused only where there is no lock, as on a file system that has none
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}
