//! Commands that ask or change registries, without the local store.

pub(crate) mod delete;
pub(crate) mod digest;
pub(crate) mod referrers;
pub(crate) mod tags;
