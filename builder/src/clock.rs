//! Whose time it is: what a step waits for, or what is made ready for it, is not its own work.
//!
//! Every stage runs on one thread, so the steps under way on a thread are a stack: a step that needs another stage may
//! build it right there. The clock of the step on top stands still while [`aside`] runs.

use crate::{Event, Fact, Progress, StepId};
use std::{
    cell::RefCell,
    time::{Duration, Instant},
};

struct Running {
    step: StepId,
    began: Instant,
    aside: Duration,
}

thread_local! {
    static RUNNING: RefCell<Vec<Running>> = const { RefCell::new(Vec::new()) };
}

/// Runs a step; answers what it made and how long its own work took.
pub(crate) fn step<T>(step: StepId, work: impl FnOnce() -> T) -> (T, Duration) {
    RUNNING.with_borrow_mut(|all| all.push(Running { step, began: Instant::now(), aside: Duration::ZERO }));
    let result = work();
    let own = RUNNING.with_borrow_mut(|all| {
        all.pop().map_or(Duration::ZERO, |running| running.began.elapsed().saturating_sub(running.aside))
    });
    (result, own)
}

/// Tells something of the step that runs on this thread.
pub(crate) fn tell(progress: &dyn Progress, fact: Fact<'_>) {
    if let Some(step) = RUNNING.with_borrow(|all| all.last().map(|running| running.step)) {
        progress.event(Event::Known { step, fact });
    }
}

/// Does what the step on this thread has to wait for, with its clock standing still.
pub(crate) fn aside<T>(progress: &dyn Progress, reason: &str, work: impl FnOnce() -> T) -> T {
    let Some(step) = RUNNING.with_borrow(|all| all.last().map(|running| running.step)) else { return work() };
    progress.event(Event::Paused { step, reason });
    let began = Instant::now();
    let result = work();
    let took = began.elapsed();
    RUNNING.with_borrow_mut(|all| {
        if let Some(running) = all.last_mut() {
            running.aside += took;
        }
    });
    progress.event(Event::Resumed { step, reason, took });
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[derive(Default)]
    struct Notes(Mutex<Vec<String>>);

    impl Progress for Notes {
        fn event(&self, event: Event<'_>) {
            let words = match event {
                Event::Paused { step, reason } => format!("{step} waits for {reason}"),
                Event::Resumed { step, .. } => format!("{step} goes on"),
                _ => return,
            };
            self.0.lock().expect("notes").push(words);
        }
    }

    #[test]
    fn waiting_is_not_billed() {
        let (notes, pause) = (Notes::default(), Duration::from_millis(40));
        let nap = || std::thread::sleep(pause);
        let ((), outer) = step(1, || {
            aside(&notes, "a stage", || {
                // the stage is built on this thread: its steps have clocks of their own
                let ((), inner) = step(2, || aside(&notes, "a lock", nap));
                assert!(inner < pause, "{inner:?}");
                let ((), inner) = step(3, nap);
                assert!(inner >= pause, "{inner:?}");
            })
        });
        assert!(outer < pause, "{outer:?}");
        aside(&notes, "nobody", nap);
        let expected = ["1 waits for a stage", "2 waits for a lock", "2 goes on", "1 goes on"];
        assert_eq!(*notes.0.lock().expect("notes"), expected);
    }
}
