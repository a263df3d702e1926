//! The stages of a build: each made once, on demand, on threads.
//!
//! A stage is a cell that is filled by whoever needs it first; others wait. The target's needs are started together,
//! so independent stages run side by side. References go to earlier stages only, so the waiting has no cycle. Where the
//! number of stages at a time has a bound, a stage takes its place once all that it needs is there, so that nobody who has
//! a place waits for one.

use super::{Workshop, locked};
use crate::{
    BuildError, ErrorAt, StepError, clock,
    stage::{self, StageResult},
};
use std::{
    num::NonZeroUsize,
    sync::{Arc, Condvar, Mutex, OnceLock, PoisonError},
};

/// A finished stage, or why it failed.
pub(crate) type StageOutcome = Result<Arc<StageResult>, Arc<ErrorAt>>;

/// How a stage asks for an earlier one.
pub(crate) type AskStage<'s> = dyn Fn(usize) -> StageOutcome + Sync + 's;

/// The stages of one build.
pub(crate) struct Stages<'s, 'a> {
    workshop: &'s Workshop<'a>,
    cells: Vec<OnceLock<StageOutcome>>,
    places: Option<Places>,
}

/// The right of so many to work at a time.
struct Places {
    free: Mutex<usize>,
    returned: Condvar,
}

impl Places {
    fn new(count: NonZeroUsize) -> Places {
        Places { free: Mutex::new(count.get()), returned: Condvar::new() }
    }

    fn within<T>(&self, work: impl FnOnce() -> T) -> T {
        let mut free = locked(&self.free);
        while *free == 0 {
            free = self.returned.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
        *free -= 1;
        drop(free);
        // the process ends with a panic (Cargo.toml), so every place comes back
        let result = work();
        *locked(&self.free) += 1;
        self.returned.notify_one();
        result
    }
}

impl<'s, 'a> Stages<'s, 'a> {
    /// No stage is made yet.
    pub(crate) fn new(workshop: &'s Workshop<'a>) -> Stages<'s, 'a> {
        let cells = workshop.recipe.stages.iter().map(|_| OnceLock::new()).collect();
        Stages { workshop, cells, places: workshop.request.jobs.map(Places::new) }
    }

    /// The result of a stage; built now if nobody has.
    pub(crate) fn stage(&self, index: usize) -> StageOutcome {
        self.cells[index]
            .get_or_init(|| {
                let outcome = self.build(index);
                if outcome.is_err() {
                    self.workshop.environment.cancel.cancel();
                }
                outcome
            })
            .clone()
    }

    /// The result of a stage for a step that needs it now, whose clock stands still until it is there.
    fn wait_for(&self, index: usize) -> StageOutcome {
        if let Some(outcome) = self.cells[index].get() {
            return outcome.clone();
        }
        let reason = format!("stage `{}`", self.workshop.graph.stages[index].label);
        clock::aside(self.workshop.environment.progress, &reason, || self.stage(index))
    }

    fn build(&self, index: usize) -> StageOutcome {
        let needs = &self.workshop.graph.stages[index].needs;
        std::thread::scope(|scope| {
            // this thread builds the first need, or the stage itself, so one need starts no thread
            for need in needs.iter().skip(1) {
                std::thread::Builder::new()
                    .name(format!("stage {need}"))
                    .spawn_scoped(scope, move || self.stage(*need).map(|_| ()))
                    .ok();
            }
            if needs.len() > 1 {
                let _ = self.stage(needs[0]);
            }
            let run = || stage::run(self.workshop, &|index| self.wait_for(index), index);
            let result = match &self.places {
                None => run(),
                Some(places) => {
                    for need in needs {
                        let _ = self.stage(*need);
                    }
                    places.within(run)
                }
            };
            result.map(Arc::new).map_err(Arc::new)
        })
    }

    /// The failure that people want to see: the first cause, and interruption only where nothing else was wrong.
    pub(crate) fn failure(&self, failure: Arc<ErrorAt>) -> BuildError {
        let mut cause = failure;
        while let StepError::Dependency(deeper) = &cause.error {
            cause = deeper.clone();
        }
        if matches!(cause.error, StepError::Cancelled) {
            let first = self.cells.iter().filter_map(|cell| cell.get()).find_map(|outcome| match outcome {
                Err(at) if !matches!(at.error, StepError::Cancelled | StepError::Dependency(_)) => {
                    Some(at.clone())
                }
                _ => None,
            });
            return first.map_or(BuildError::Cancelled, BuildError::Step);
        }
        BuildError::Step(cause)
    }
}
