//! Commands on builds and their contexts.

pub(crate) mod build;
pub(crate) mod context;
