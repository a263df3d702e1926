//! How much a repository has.

use super::{Usage, repository::Repository};
use slipway_oci::Digest;
use std::collections::BTreeMap;

pub(super) fn of(repositories: &BTreeMap<String, Repository>, name: &str) -> Usage {
    let Some(own) = repositories.get(name) else { return Usage::default() };
    let blobs = || own.blobs.iter().map(|(digest, blob)| (digest, blob.size, blob.deleted.is_some()));
    let manifests =
        || own.manifests.values().map(|one| (one.manifest.record.size_bytes, one.deleted.is_some()));
    let elsewhere = |digest: &Digest| {
        let mut others = repositories.iter().filter(|(other, _)| other.as_str() != name);
        others.any(|(_, other)| other.blobs.contains_key(digest))
    };
    let both = || blobs().map(|(_, size, gone)| (size, gone)).chain(manifests());
    Usage {
        tags: own.tags.len() as u64,
        manifests: manifests().filter(|(_, gone)| !gone).count() as u64,
        blobs: blobs().filter(|(.., gone)| !gone).count() as u64,
        bytes: both().filter(|(_, gone)| !gone).map(|(size, _)| size).sum(),
        own_bytes: blobs()
            .filter(|(digest, _, gone)| !gone && !elsewhere(digest))
            .map(|(_, size, _)| size)
            .sum(),
        trash_bytes: both().filter(|(_, gone)| *gone).map(|(size, _)| size).sum(),
        updated: own.tags.values().map(|tag| tag.updated).max(),
        pulled: own.tags.values().filter_map(|tag| tag.pulled).max(),
        pulls: own.tags.values().map(|tag| tag.pulls).sum(),
    }
}
