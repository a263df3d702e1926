//! Commands on registries.

pub(crate) mod adopt;
pub(crate) mod backup;
pub(crate) mod check;
pub(crate) mod delete;
pub(crate) mod explain;
pub(crate) mod gc;
pub(crate) mod group;
pub(crate) mod htpasswd;
mod journal;
pub(crate) mod login;
pub(crate) mod logout;
pub(crate) mod migrate;
mod named;
mod place;
pub(crate) mod reindex;
pub(crate) mod retain;
pub(crate) mod serve;
pub(crate) mod tag_history;
pub(crate) mod token;
pub(crate) mod trash;
pub(crate) mod undelete;
pub(crate) mod usage;
pub(crate) mod verify;
