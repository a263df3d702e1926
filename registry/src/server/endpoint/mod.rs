//! The endpoints, one a file. Each takes a [`super::call::Call`] and what its path named.

pub(super) mod base;
pub(super) mod blob;
pub(super) mod catalog;
pub(super) mod device;
pub(super) mod manifest;
pub(super) mod referrers;
pub(super) mod tags;
pub(super) mod token;
pub(super) mod upload;
