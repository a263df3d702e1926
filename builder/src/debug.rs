//! Looking into a step: a process in the exact state that its command has, had, or failed in.
//!
//! What it sees is what the step sees: layers, mounts, secrets, agents, variables, user, working folder. What it changes is
//! nobody's: the folder that takes changes goes with it, no result is written, and a cache that the step mounts is shown as a
//! copy, so that the caches of the store stay what builds made of them.

use crate::StepId;
use slipway_runtime::SandboxSpec;
use std::io;

/// When a step is looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Before it is carried out.
    Before,
    /// After it was.
    After,
    /// Where its command failed, with what that has changed.
    Failed,
}

/// A step that can be looked into.
pub struct Look<'a> {
    /// Its number in the build, from 1, as progress shows it.
    pub number: usize,
    /// When.
    pub when: When,
    /// Its command as the recipe has it.
    pub shown: &'a str,
    /// The shell of its stage, without its flags.
    pub shell: &'a str,
    /// The sandbox, with the step's command and without streams.
    pub spec: &'a mut SandboxSpec,
}

/// Who looks into steps.
pub trait Debugger: Sync {
    /// Whether a step is looked into then; `step` counts from 0. A build that was looked into before or after a step goes no
    /// further.
    fn wants(&self, step: StepId, when: When) -> bool;

    /// Runs something in the state, to its end.
    ///
    /// # Errors
    /// When it cannot be run; its own exit is no error.
    fn enter(&self, look: Look<'_>) -> io::Result<()>;
}
