//! Several builds shown as one: steps are numbered as they come, and say what they are for.

use crate::progress::Show;
use slipway_builder::{Event, Progress, StepId};
use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Counts the steps of all builds.
#[derive(Debug, Default)]
pub(crate) struct Numbers(AtomicUsize);

/// One of several builds.
pub(super) struct Named<'a> {
    inner: &'a dyn Show,
    numbers: &'a Numbers,
    /// What it is for.
    name: String,
    known: Mutex<HashMap<StepId, StepId>>,
}

impl<'a> Named<'a> {
    pub(super) fn new(inner: &'a dyn Show, numbers: &'a Numbers, name: String) -> Named<'a> {
        Named { inner, numbers, name, known: Mutex::default() }
    }

    fn number(&self, step: StepId) -> StepId {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        *known.entry(step).or_insert_with(|| self.numbers.0.fetch_add(1, Ordering::Relaxed))
    }
}

impl Progress for Named<'_> {
    fn event(&self, event: Event<'_>) {
        let event = match event {
            Event::Started { step, stage, number, total, line, text } => {
                let stage = format!("{} {stage}", self.name);
                let step = self.number(step);
                self.inner.event(Event::Started { step, stage: &stage, number, total, line, text });
                return;
            }
            Event::Explained { why } => {
                let mut why = why.clone();
                why.step = self.number(why.step.saturating_sub(1)) + 1;
                self.inner.event(Event::Explained { why: &why });
                return;
            }
            Event::Planned { steps } => {
                Event::Planned { steps: self.numbers.0.load(Ordering::Relaxed) + steps }
            }
            Event::Known { step, fact } => Event::Known { step: self.number(step), fact },
            Event::Output { step, stream, bytes } => Event::Output { step: self.number(step), stream, bytes },
            Event::Unfinished { step, bytes } => Event::Unfinished { step: self.number(step), bytes },
            Event::Paused { step, reason } => Event::Paused { step: self.number(step), reason },
            Event::Resumed { step, reason, took } => Event::Resumed { step: self.number(step), reason, took },
            Event::Finished { step, outcome, took, reason } => {
                Event::Finished { step: self.number(step), outcome, took, reason }
            }
            event @ (Event::Resolving { .. } | Event::Warning { .. } | Event::Exporting) => event,
        };
        self.inner.event(event);
    }
}
