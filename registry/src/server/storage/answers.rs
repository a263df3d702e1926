//! Whether what a replica depends on answers at all. Who waited for it in vain is not followed by a crowd that waits as long: while it is
//! silent one at a time finds out whether it answers again, and others are told at once.

use crate::limits;
use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

#[derive(Default)]
struct State {
    is_silent: bool,
    /// Somebody finds out.
    asked: bool,
}

#[derive(Default)]
pub(super) struct Answers {
    state: Mutex<State>,
    found: Condvar,
}

/// One that asks it.
pub(super) struct Asking<'a> {
    answers: &'a Answers,
    finds_out: bool,
}

impl Answers {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nobody had an answer lately.
    pub(super) fn is_silent(&self) -> bool {
        self.state().is_silent
    }

    /// A turn at asking; `None` where it is silent, and another one is finding out whether it answers again.
    pub(super) fn ask(&self) -> Option<Asking<'_>> {
        let until = Instant::now() + limits::SILENCE_LOOK;
        let mut state = self.state();
        while state.is_silent && state.asked {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            state = self.found.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let finds_out = state.is_silent;
        state.asked |= finds_out;
        Some(Asking { answers: self, finds_out })
    }
}

impl Asking<'_> {
    /// It answered, or did not.
    pub(super) fn ended(&self, is_silent: bool) {
        self.answers.state().is_silent = is_silent;
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if self.finds_out {
            self.answers.state().asked = false;
            self.answers.found.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_finds_out_and_others_are_told() {
        let answers = Answers::default();
        let (one, other) = (answers.ask().expect("a turn"), answers.ask().expect("a turn"));
        one.ended(true);
        drop((one, other));
        let finder = answers.ask().expect("a turn");
        assert!(answers.ask().is_none(), "it is silent");
        drop(finder);
        let next = answers.ask().expect("the next one finds out");
        next.ended(false);
        assert!(answers.ask().is_some() && answers.ask().is_some(), "it answers again");
        drop(next);
        assert!(!answers.is_silent());
    }
}
