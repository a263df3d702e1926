//! What a build tells while it runs.

use crate::{StepDescription, why::Why};
use slipway_oci::{Digest, store::LayerForm};
use slipway_runtime::Used;
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

/// What is known of a step, for the history.
#[derive(Clone, Debug)]
pub enum Fact<'a> {
    /// What decides its result.
    Key {
        /// The key.
        key: &'a Digest,
        /// What that is a digest of.
        description: &'a StepDescription,
        /// Length of that as JSON.
        json_bytes: usize,
    },
    /// FROM: what the stage begins with.
    Base {
        /// The image or stage as written.
        name: &'a str,
        /// Chain id of its layers.
        chain: &'a str,
    },
    /// No result was there: the step is carried out.
    Making,
    /// COPY and ADD that are carried out: what was selected, a line a path.
    Selected {
        /// The lines.
        listing: &'a [u8],
    },
    /// RUN: the command has ended.
    Command {
        /// Its exit status, 128+N for signal N.
        status: i32,
        /// What it used.
        used: Option<Used>,
        /// How much memory has to be for it to be the command's and not this program's.
        above_bytes: u64,
    },
    /// The layer that it led to.
    Layer(&'a LayerForm),
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
        /// First line of the instruction in the recipe, from 1.
        line: u32,
        /// The instruction as written, on one line.
        text: &'a str,
    },
    /// Something about a step came to light.
    Known {
        /// Which.
        step: StepId,
        /// What.
        fact: Fact<'a>,
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
    /// Why a step was carried out, told before it ends where that was asked for.
    Explained {
        /// The step, and what differs from an earlier one.
        why: &'a Why,
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
