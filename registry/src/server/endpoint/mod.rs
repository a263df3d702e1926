//! The endpoints, one a file. Each takes a [`super::dispatch::Call`] and what its path named.

pub(super) mod base;
pub(super) mod blob_delete;
pub(super) mod blob_get;
pub(super) mod catalog;
pub(super) mod manifest_delete;
pub(super) mod manifest_get;
pub(super) mod manifest_put;
pub(super) mod referrers;
pub(super) mod tags;
pub(super) mod upload_cancel;
pub(super) mod upload_chunk;
pub(super) mod upload_finish;
pub(super) mod upload_start;
pub(super) mod upload_status;

use super::{error::ApiError, storage::ManifestKey};
use slipway_oci::{Digest, reference::is_tag};

/// The last component of a manifest's path: a digest if it has a colon, which no tag may.
fn manifest_key(text: &str) -> Result<ManifestKey, ApiError> {
    if text.contains(':') {
        return Ok(ManifestKey::Digest(text.parse::<Digest>()?));
    }
    if is_tag(text) {
        Ok(ManifestKey::Tag(text.to_owned()))
    } else {
        Err(ApiError::TagInvalid(text.to_owned()))
    }
}
