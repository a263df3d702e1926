//! Commands on registries.

pub(crate) mod adopt;
pub(crate) mod backup;
pub(crate) mod check;
pub(crate) mod explain;
pub(crate) mod group;
pub(crate) mod htpasswd;
mod journal;
pub(crate) mod login;
pub(crate) mod logout;
mod place;
pub(crate) mod reindex;
pub(crate) mod serve;
pub(crate) mod token;
pub(crate) mod verify;
