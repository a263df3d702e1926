//! Commands on the machine and the whole store.

pub(crate) mod info;
pub(crate) mod reset;
pub(crate) mod version;
