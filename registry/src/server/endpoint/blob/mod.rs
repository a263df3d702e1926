//! `/v2/N/blobs/D`.

pub(in crate::server) mod delete;
pub(in crate::server) mod get;
