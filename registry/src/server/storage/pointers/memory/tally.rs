//! How much counts for quotas, summed up anew whenever it is asked for: what the numbers of the other engines are held against.

use super::{Kin, Scope, Used, repository::Repository};
use crate::server::storage::pointers::namespaces;
use slipway_oci::Digest;
use std::collections::{BTreeMap, BTreeSet};

type Repositories = BTreeMap<String, Repository>;

/// Everything of a repository that counts, with its size in bytes.
fn counted(repository: &Repository) -> impl Iterator<Item = (&Digest, u64)> {
    let blobs = repository.blobs.iter().filter(|(_, blob)| blob.counted);
    let blobs = blobs.map(|(digest, blob)| (digest, blob.size));
    blobs.chain(repository.live().map(|(digest, manifest)| (digest, manifest.record.size_bytes)))
}

pub(super) fn of(repositories: &Repositories, scope: &Scope) -> Used {
    let within = |name: &str| match scope {
        Scope::Repository(own) => name == own,
        Scope::Namespace(own) if own.is_empty() => true,
        Scope::Namespace(own) => namespaces(name).any(|above| above == own),
    };
    let meant = || repositories.iter().filter(|(name, _)| within(name)).map(|(_, repository)| repository);
    let different: BTreeMap<&Digest, u64> = meant().flat_map(counted).collect();
    Used { bytes: different.values().sum(), tags: meant().map(|one| one.tags.len() as u64).sum() }
}

pub(super) fn all(repositories: &Repositories, kind: Kin, last: &str, count: u64) -> Vec<(String, Used)> {
    let names: BTreeSet<&str> = match kind {
        Kin::Repositories => repositories.keys().map(String::as_str).collect(),
        Kin::Namespaces => repositories.keys().flat_map(|name| namespaces(name)).collect(),
    };
    let page = names.into_iter().filter(|name| *name > last).take(count as usize);
    page.map(|name| {
        let scope = match kind {
            Kin::Repositories => Scope::Repository(name.to_owned()),
            Kin::Namespaces => Scope::Namespace(name.to_owned()),
        };
        (name.to_owned(), of(repositories, &scope))
    })
    .collect()
}
