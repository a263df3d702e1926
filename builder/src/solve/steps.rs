//! The steps of a build: each key carried out once, whoever needs it.
//!
//! A step's cell is held while the step is made, so an equal step of another stage waits and takes the result. The same
//! holds between processes on one store, by the step's turn there ([`slipway_oci::store::Turn`]).

use crate::{
    Cancel, Environment, Fact, Outcome, Progress, StepError,
    cache::{Caches, StepResult},
    clock,
    key::StepDescription,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use slipway_oci::{
    Digest,
    store::{LayerForm, Store, Turn},
};
use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use super::locked;

/// How long a build waits before it looks again whether another one is done with a step, at first and at most.
const TURN_PAUSE: Duration = Duration::from_millis(2);
const TURN_LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// Filled once the step's result is known: its layer, or nothing where it changed nothing.
type StepCell = Arc<Mutex<Option<Option<LayerForm>>>>;

/// What is known of the steps of one build.
pub(crate) struct Steps<'a> {
    store: &'a Store,
    caches: Caches<'a>,
    cancel: &'a Cancel,
    progress: &'a dyn Progress,
    cells: Mutex<HashMap<Digest, StepCell>>,
    counts: Mutex<Counts>,
    /// Keys whose result was known.
    hits: Mutex<Vec<Digest>>,
}

/// What the build's report tells.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    /// Steps whose result was there.
    pub(crate) cached: usize,
    /// Steps that were carried out.
    pub(crate) executed: usize,
    /// Build arguments that had a use.
    pub(crate) used_arguments: BTreeSet<String>,
}

impl<'a> Steps<'a> {
    pub(crate) fn new(environment: &'a Environment<'a>) -> Steps<'a> {
        Steps {
            store: environment.store,
            caches: environment.caches(),
            cancel: environment.cancel,
            progress: environment.progress,
            cells: Mutex::default(),
            counts: Mutex::default(),
            hits: Mutex::default(),
        }
    }

    /// The result of the step that `description` tells: from this build, from a cache, or made now.
    ///
    /// `make` answers the layer, or nothing where the step changed nothing.
    pub(crate) fn step(
        &self,
        description: &StepDescription,
        step: &str,
        use_cache: bool,
        make: impl FnOnce() -> Result<Option<LayerForm>, StepError>,
    ) -> Result<(Option<LayerForm>, Outcome), StepError> {
        let json = description.to_json();
        let key = &Digest::sha256(json.as_bytes());
        clock::tell(self.progress, Fact::Key { key, description, json_bytes: json.len() });
        let cell = locked(&self.cells).entry(key.clone()).or_default().clone();
        let mut slot = match cell.try_lock() {
            Ok(slot) => slot,
            Err(_) => clock::aside(self.progress, "the same step of another stage", || locked(&cell)),
        };
        let told = |result: Option<LayerForm>, outcome| {
            if let Some(form) = &result {
                clock::tell(self.progress, Fact::Layer(form));
            }
            Ok((result, outcome))
        };
        if let Some(result) = slot.as_ref() {
            self.count(Outcome::Cached);
            return told(result.clone(), Outcome::Cached);
        }
        if self.cancel.is_cancelled() {
            return Err(StepError::Cancelled);
        }
        let look = || self.caches.find(key, step, Some(&json));
        let mut found = if use_cache { look()? } else { None };
        let mut turn = None;
        if use_cache && found.is_none() {
            turn = self.turn(key)?;
            // another build may have made it since
            found = look()?;
        }
        if let Some(result) = found {
            *slot = Some(result.clone());
            locked(&self.hits).push(key.clone());
            self.count(Outcome::Cached);
            return told(result, Outcome::Cached);
        }
        clock::tell(self.progress, Fact::Making);
        let result = make()?;
        self.caches.put(&StepResult { key, layer: result.as_ref(), step, description: Some(&json) })?;
        // after the result is written: who waits for the turn looks for it then
        drop(turn);
        *slot = Some(result.clone());
        self.count(Outcome::Done);
        told(result, Outcome::Done)
    }

    /// Waits until no other build carries the step out. A store that cannot say so costs time only: then the step is
    /// carried out beside others.
    fn turn(&self, key: &Digest) -> Result<Option<Turn>, StepError> {
        match self.store.try_turn(key) {
            Ok(Some(turn)) => return Ok(Some(turn)),
            Ok(None) => {}
            Err(_) => return Ok(None),
        }
        clock::aside(self.progress, "the same step of another build", || {
            let mut pause = TURN_PAUSE;
            loop {
                let wait = Timespec { tv_sec: 0, tv_nsec: i64::from(pause.subsec_nanos()) };
                // ends early when the build is cancelled; an interrupted wait is a short one
                let _ = poll(&mut [PollFd::new(self.cancel, PollFlags::IN)], Some(&wait));
                if self.cancel.is_cancelled() {
                    return Err(StepError::Cancelled);
                }
                match self.store.try_turn(key) {
                    Ok(None) => pause = (pause * 2).min(TURN_LONGEST_PAUSE),
                    other => return Ok(other.unwrap_or(None)),
                }
            }
        })
    }

    /// Writes down what was used, which pruning by age asks for.
    pub(crate) fn finish(&self) {
        // a use that cannot be noted makes a result look older than it is, and no build fails for that
        let _ = self.store.touch_cached(&*locked(&self.hits));
    }

    /// Notes that a build argument had a use.
    pub(crate) fn used_argument(&self, name: &str) {
        locked(&self.counts).used_arguments.insert(name.to_owned());
    }

    /// What was counted so far.
    pub(crate) fn counts(&self) -> Counts {
        locked(&self.counts).clone()
    }

    fn count(&self, outcome: Outcome) {
        let mut counts = locked(&self.counts);
        match outcome {
            Outcome::Cached => counts.cached += 1,
            _ => counts.executed += 1,
        }
    }
}
