//! Commands on the machine and the whole store.

pub(crate) mod completion;
pub(crate) mod df;
pub(crate) mod du;
pub(crate) mod info;
pub(crate) mod man;
pub(crate) mod prune;
pub(crate) mod reset;
pub(crate) mod scrub;
pub(crate) mod version;
