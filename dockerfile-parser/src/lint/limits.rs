//! Caps on what a recipe may drive in the linter.

/// Warnings kept from one file; past this more lines help nobody.
pub(super) const MAX_WARNINGS: usize = 500;

/// Deepest nesting of quotes and substitutions that the shell splitter follows.
pub(super) const MAX_SHELL_DEPTH: usize = 32;

/// Commands split out of one script; the rest is not looked at.
pub(super) const MAX_COMMANDS: usize = 2_000;

/// Rounds of fixing: one fix may uncover another, and none does so for ever.
pub(super) const MAX_FIX_ROUNDS: usize = 32;

/// Variables and paths that stages may inherit from each other, all stages together. Past this a stage begins as one
/// from an unknown image: a chain of stages that each add one would otherwise cost quadratic memory.
pub(super) const MAX_INHERITED: usize = 500_000;

/// Longest value of a variable that is followed; a longer one counts as set to something unknown, so that a recipe
/// cannot fill the memory with copies of it.
pub(super) const MAX_VALUE_BYTES: usize = 16 * 1024;
