//! Stops a build from outside: Ctrl-C, or another stage's failure.

use rustix::event::{EventfdFlags, eventfd};
use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::atomic::{AtomicBool, Ordering},
};

/// A switch that is thrown once; its descriptor becomes readable then, so that waiting for a process ends.
#[derive(Debug)]
pub struct Cancel {
    thrown: AtomicBool,
    event: OwnedFd,
}

impl Cancel {
    /// A switch that was not thrown.
    pub fn new() -> io::Result<Cancel> {
        Ok(Cancel {
            thrown: AtomicBool::new(false),
            event: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        })
    }

    /// Throws the switch.
    pub fn cancel(&self) {
        self.thrown.store(true, Ordering::SeqCst);
        // the counter cannot overflow by ones, and nobody ever reads it down
        let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
    }

    /// Whether it was thrown.
    pub fn is_cancelled(&self) -> bool {
        self.thrown.load(Ordering::SeqCst)
    }
}

impl AsFd for Cancel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}
