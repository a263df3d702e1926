//! Stops a build: from outside by Ctrl-C, from inside by a stage's failure.

use rustix::event::{EventfdFlags, epoll, eventfd};
use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// A switch that is thrown once; its descriptor becomes readable then, so that waiting for a process ends. Copies are the
/// same switch.
#[derive(Clone, Debug)]
pub struct Cancel(Arc<Switch>);

#[derive(Debug)]
struct Switch {
    thrown: AtomicBool,
    event: OwnedFd,
    /// What throws this one too, and a descriptor that is readable once either was thrown.
    above: Option<(Cancel, OwnedFd)>,
}

impl Cancel {
    /// A switch that was not thrown.
    pub fn new() -> io::Result<Cancel> {
        Ok(Cancel(Arc::new(Switch { thrown: AtomicBool::new(false), event: event()?, above: None })))
    }

    /// A switch that is thrown with this one, and alone without it: a build's own failure is not its caller's.
    pub fn below(&self) -> io::Result<Cancel> {
        let (event, either) = (event()?, epoll::create(epoll::CreateFlags::CLOEXEC)?);
        for (number, one) in [event.as_fd(), self.as_fd()].into_iter().enumerate() {
            epoll::add(&either, one, epoll::EventData::new_u64(number as u64), epoll::EventFlags::IN)?;
        }
        let above = Some((self.clone(), either));
        Ok(Cancel(Arc::new(Switch { thrown: AtomicBool::new(false), event, above })))
    }

    /// Throws the switch.
    pub fn cancel(&self) {
        self.0.thrown.store(true, Ordering::SeqCst);
        // the counter cannot overflow by ones, and nobody ever reads it down
        let _ = rustix::io::write(&self.0.event, &1u64.to_ne_bytes());
    }

    /// Whether it was thrown.
    pub fn is_cancelled(&self) -> bool {
        self.0.thrown.load(Ordering::SeqCst)
            || self.0.above.as_ref().is_some_and(|(above, _)| above.is_cancelled())
    }
}

fn event() -> io::Result<OwnedFd> {
    Ok(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
}

impl AsFd for Cancel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.0.above {
            Some((_, either)) => either.as_fd(),
            None => self.0.event.as_fd(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    fn is_readable(cancel: &Cancel) -> bool {
        let mut polled = [PollFd::new(cancel, PollFlags::IN)];
        poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).expect("poll") == 1
    }

    #[test]
    fn what_is_thrown_below_is_not_thrown_above() {
        for above_is_thrown in [false, true] {
            let above = Cancel::new().expect("switch");
            let below = above.below().expect("switch");
            let lowest = below.below().expect("switch");
            assert!(!lowest.is_cancelled() && !is_readable(&lowest));
            if above_is_thrown {
                above.cancel()
            } else {
                below.cancel()
            }
            assert_eq!((above.is_cancelled(), is_readable(&above)), (above_is_thrown, above_is_thrown));
            for thrown in [&below, &lowest] {
                assert!(thrown.is_cancelled() && is_readable(thrown));
            }
        }
    }
}
