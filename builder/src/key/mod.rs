//! Step keys: a digest over what a step does and what it starts from.
//!
//! A [`StepDescription`] says all of it in words that are kept with the result; its digest is the key. Lists that may be
//! long (the files that a COPY selects) enter it as a digest of their own, made by [`Fields`].

mod description;
mod digest;

pub(crate) use description::latest_time;
pub use description::{CopyStep, InlineFile, MountStep, Operation, RunStep, StepDescription, WorkdirStep};
pub(crate) use digest::{Fields, chain_id};
