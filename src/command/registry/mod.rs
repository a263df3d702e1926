//! Commands on registries.

pub(crate) mod check;
pub(crate) mod explain;
pub(crate) mod group;
pub(crate) mod htpasswd;
mod journal;
pub(crate) mod login;
pub(crate) mod logout;
pub(crate) mod serve;
pub(crate) mod token;
