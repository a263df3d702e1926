//! Commands that ask or change registries, without the local store.

pub(crate) mod artifact;
pub(crate) mod copy;
pub(crate) mod delete;
pub(crate) mod digest;
pub(crate) mod keys;
pub(crate) mod promote;
pub(crate) mod referrers;
pub(crate) mod sign;
pub(crate) mod tags;
pub(crate) mod verify;
