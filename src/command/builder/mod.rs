//! Commands on builds and their contexts.

pub(crate) mod bake;
pub(crate) mod build;
pub(crate) mod builds;
pub(crate) mod context;
pub(crate) mod why;
