//! Commands on builds and their contexts.

pub(crate) mod bake;
pub(crate) mod build;
pub(crate) mod builds;
pub(crate) mod caches;
pub(crate) mod context;
pub(crate) mod debug;
pub(crate) mod rebuild;
mod together;
pub(crate) mod why;
