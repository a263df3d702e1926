//! `/v2/N/blobs/uploads/`: sessions, from their start to their end.

pub(in crate::server) mod cancel;
pub(in crate::server) mod chunk;
pub(in crate::server) mod finish;
pub(in crate::server) mod start;
pub(in crate::server) mod status;
