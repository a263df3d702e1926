//! Histories about quotas.

use super::*;

/// What quotas may be about.
pub(super) fn scope(which: u8) -> Scope {
    match which {
        0 => Scope::Namespace(String::new()),
        1 => Scope::Namespace("n".to_owned()),
        2 => Scope::Repository(name(0)),
        _ => Scope::Repository(name(1)),
    }
}

/// The quotas that hold, by what they are about.
pub(super) fn quotas(all: &[Bound]) -> room::Quotas {
    let all = all.to_vec();
    Arc::new(move |repository| {
        let meant = |bound: &&Bound| match &bound.scope {
            Scope::Repository(own) => repository == own,
            Scope::Namespace(own) => own.is_empty() || namespaces(repository).any(|above| above == own),
        };
        all.iter().filter(meant).cloned().collect()
    })
}

/// What quotas are about, of so few names that what is pushed is named, deleted, wanted back and pushed again.
pub(super) fn growing() -> impl Strategy<Value = Operation> {
    use Operation as O;
    let (repository, content, manifest) = (0..3_u8, 0..2_u8, prop_oneof![4 => 0..2_u8, 1 => Just(4_u8)]);
    let (docker, wanted, force) = (false, Wanted::Anything, false);
    prop_oneof![
        4 => (repository.clone(), content.clone()).prop_map(|(repository, content)| O::Push { repository, content }),
        2 => (repository.clone(), content.clone(), proptest::option::of(0..3_u8))
            .prop_map(|(repository, content, from)| O::Mount { repository, content, from }),
        1 => (repository.clone(), content).prop_map(|(repository, content)| O::DeleteBlob { repository, content }),
        6 => (repository.clone(), manifest.clone(), proptest::option::of(0..3_u8)).prop_map(
            move |(repository, manifest, tag)| O::PutManifest { repository, manifest, tag, docker, wanted }),
        4 => (repository.clone(), manifest.clone()).prop_map(
            move |(repository, manifest)| O::DeleteManifest { repository, manifest, force, wanted }),
        1 => (repository.clone(), 1..3_u8).prop_map(move |(repository, tag)| O::DeleteTag { repository, tag, wanted }),
        2 => (repository.clone(), 0..3_u8, manifest.clone())
            .prop_map(|(repository, tag, manifest)| O::SetTag { repository, tag, manifest }),
        1 => (0..2_u8).prop_map(|days| O::Trash { days }),
        2 => (0..4_u8, proptest::option::of(0..60_u64), proptest::option::of(0..4_u64))
            .prop_map(|(which, bytes, tags)| O::Limit { which, bytes, tags }),
        2 => (reason(), any::<bool>()).prop_map(|(reason, trash)| O::Collect { reason, trash }),
        3 => (repository, manifest).prop_map(|(repository, manifest)| O::Undelete { repository, manifest }),
        1 => Just(O::Reopen),
    ]
}
