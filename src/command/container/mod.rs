//! Commands on containers.

pub(crate) mod run;
