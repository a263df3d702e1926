//! `/v2/N/manifests/R`.

pub(in crate::server) mod delete;
pub(in crate::server) mod get;
pub(in crate::server) mod put;

use crate::server::{error::ApiError, storage::ManifestKey};
use slipway_oci::{Digest, reference::is_tag};

/// The last component of a manifest's path: a digest if it has a colon, which no tag may.
pub(in crate::server) fn key(text: &str) -> Result<ManifestKey, ApiError> {
    if text.contains(':') {
        return Ok(ManifestKey::Digest(text.parse::<Digest>()?));
    }
    if is_tag(text) {
        Ok(ManifestKey::Tag(text.to_owned()))
    } else {
        Err(ApiError::TagInvalid(text.to_owned()))
    }
}
