//! What a build tells while it runs.

use std::time::Duration;

/// Numbers the steps of a build in the order of the recipe.
pub type StepId = usize;

/// Which of a command's streams a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its result was there.
    Cached,
    /// It was carried out.
    Done,
    /// It failed.
    Failed,
    /// It was given up because something else failed or the person said so.
    Cancelled,
}

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// The graph is known: so many steps will be looked at.
    Planned {
        /// How many.
        steps: usize,
    },
    /// A base image is looked up.
    Resolving {
        /// Its reference.
        reference: &'a str,
    },
    /// A step begins.
    Started {
        /// Which.
        step: StepId,
        /// `stage 2/5` in words: the stage's name or number, the step's number in it, and how many it has.
        stage: &'a str,
        /// Number of the step in its stage, from 1.
        number: usize,
        /// Steps of the stage.
        total: usize,
        /// The instruction as written, on one line.
        text: &'a str,
    },
    /// A command wrote.
    Output {
        /// Which step.
        step: StepId,
        /// Where to.
        stream: Stream,
        /// What, a line or a part of one.
        bytes: &'a [u8],
    },
    /// A command wrote a piece of a line, which will come whole as [`Event::Output`]: progress bars live on such pieces.
    Unfinished {
        /// Which step.
        step: StepId,
        /// The line so far, from where it was last begun anew, or the beginning of that.
        bytes: &'a [u8],
    },
    /// A step's clock stands still: it waits, or something is made ready for it.
    Paused {
        /// Which.
        step: StepId,
        /// For what, in words.
        reason: &'a str,
    },
    /// A step's clock runs again.
    Resumed {
        /// Which.
        step: StepId,
        /// What it waited for.
        reason: &'a str,
        /// How long.
        took: Duration,
    },
    /// A step ended.
    Finished {
        /// Which.
        step: StepId,
        /// How.
        outcome: Outcome,
        /// How long its own work took.
        took: Duration,
        /// Why it was or was not cached, or why it failed, in words.
        reason: &'a str,
    },
    /// Something that deserves a word but stops nothing.
    Warning {
        /// What.
        message: &'a str,
    },
    /// The image is being put together.
    Exporting,
}

/// Receives events, from several threads.
pub trait Progress: Sync {
    /// Takes one event.
    fn event(&self, event: Event<'_>);
}
