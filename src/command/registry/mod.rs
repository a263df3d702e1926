//! Commands on registries.

pub(crate) mod serve;
