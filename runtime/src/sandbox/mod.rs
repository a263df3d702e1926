//! One sandbox, from its description to a running process.
//!
//! [`spec`] is what a caller asks for, [`plan`] what the kernel takes, [`launch`] makes the process, and `child` is what
//! that does before the command.

pub mod capability;
pub(crate) mod child;
mod console;
pub(crate) mod detached;
mod devices;
pub(crate) mod gate;
pub(crate) mod guard;
pub(crate) mod handle;
pub(crate) mod launch;
pub(crate) mod owners;
pub(crate) mod plan;
pub mod seccomp;
pub(crate) mod spec;
#[allow(unsafe_code)] // The one place for it; see its head.
pub(crate) mod sys;
mod target;
pub(crate) mod undumpable;
