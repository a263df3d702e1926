//! Nobody looks into this process while a child of ours is on its way to its command.
//!
//! Until it executes, a child has our memory, shared or copied, and already fewer rights than we have: its user could
//! read what we hold through `/proc/<child>/mem`, and write it where it is shared. The kernel forbids that for memory
//! that is not dumpable (proc(5), ptrace(2) "Ptrace access mode checking"), so it is made so before the first child is
//! cloned and dumpable again after the last one has left: counted, since several threads start containers at once and
//! the attribute belongs to the memory they share.

use std::sync::{Mutex, PoisonError};

use crate::sandbox::sys;

/// How many children are on their way, and whether the process was dumpable before the first.
struct State {
    children: usize,
    was_dumpable: bool,
}

static STATE: Mutex<State> = Mutex::new(State { children: 0, was_dumpable: false });

/// The process is not dumpable as long as one of these lives.
pub(crate) struct Undumpable(());

/// Makes the process undumpable.
pub(crate) fn hold() -> Undumpable {
    let mut state = STATE.lock().unwrap_or_else(PoisonError::into_inner);
    if state.children == 0 {
        state.was_dumpable = sys::process::prctl(libc::PR_GET_DUMPABLE, 0) == Ok(1);
        // The operation cannot fail with 0 (prctl(2)).
        let _ = sys::process::prctl(libc::PR_SET_DUMPABLE, 0);
    }
    state.children += 1;
    Undumpable(())
}

impl Drop for Undumpable {
    fn drop(&mut self) {
        let mut state = STATE.lock().unwrap_or_else(PoisonError::into_inner);
        state.children -= 1;
        if state.children == 0 && state.was_dumpable {
            let _ = sys::process::prctl(libc::PR_SET_DUMPABLE, 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_to_leave_makes_the_process_dumpable_again() {
        // Other tests of this process hold it too, so only what must hold whatever they do is looked at.
        let dumpable = || sys::process::prctl(libc::PR_GET_DUMPABLE, 0);
        let first = hold();
        assert_eq!(dumpable(), Ok(0));
        let second = hold();
        drop(first);
        assert_eq!(dumpable(), Ok(0));
        drop(second);
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while dumpable() != Ok(1) {
            assert!(std::time::Instant::now() < deadline, "it stays undumpable");
            std::thread::yield_now();
        }
    }
}
