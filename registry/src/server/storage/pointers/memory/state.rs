//! What is kept, and what each verb does with it.

use super::{Bound, Session, SigningKey, Used, repository::Repository, tally};
use crate::server::storage::{StorageError, UploadId};
use slipway_oci::Digest;
use std::collections::{BTreeMap, HashMap};

#[derive(Default)]
pub(super) struct State {
    pub(super) repositories: BTreeMap<String, Repository>,
    pub(super) condemned: BTreeMap<Digest, i64>,
    pub(super) sessions: HashMap<UploadId, Held>,
    pub(super) keys: Vec<SigningKey>,
    /// Of the last move of a tag.
    pub(super) number: i64,
}

pub(super) struct Held {
    pub(super) repository: String,
    pub(super) session: Session,
    pub(super) touched: i64,
}

impl State {
    pub(super) fn known(&self, name: &str) -> Result<&Repository, StorageError> {
        self.repositories.get(name).ok_or_else(|| StorageError::RepositoryUnknown(name.to_owned()))
    }

    /// A repository, and the number of the last move of a tag.
    pub(super) fn known_mut(&mut self, name: &str) -> Result<(&mut Repository, &mut i64), StorageError> {
        let found = self.repositories.get_mut(name);
        let found = found.ok_or_else(|| StorageError::RepositoryUnknown(name.to_owned()))?;
        Ok((found, &mut self.number))
    }

    pub(super) fn not_condemned(&self, digest: &Digest) -> Result<(), StorageError> {
        if self.condemned.contains_key(digest) {
            Err(StorageError::Condemned(digest.clone()))
        } else {
            Ok(())
        }
    }

    pub(super) fn is_needed(&self, digest: &Digest) -> bool {
        let has = |repository: &Repository| {
            repository.blobs.contains_key(digest) || repository.manifests.contains_key(digest)
        };
        self.repositories.values().any(has)
    }

    pub(super) fn condemn(&mut self, digest: &Digest, now: i64) -> bool {
        let condemned = !self.is_needed(digest) && !self.condemned.contains_key(digest);
        if condemned {
            self.condemned.insert(digest.clone(), now);
        }
        condemned
    }

    /// Does something to a repository that may grow by it, and nothing where that is more than the bounds allow.
    pub(super) fn within<T>(
        &mut self,
        repository: &str,
        bounds: &[Bound],
        work: impl FnOnce(&mut State) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let sums = |state: &State| -> Vec<Used> {
            bounds.iter().map(|bound| tally::of(&state.repositories, &bound.scope)).collect()
        };
        let (own, number) = (self.repositories.get(repository).cloned(), self.number);
        let before = sums(self);
        let done = work(self);
        let fits = bounds
            .iter()
            .zip(before.into_iter().zip(sums(self)))
            .try_for_each(|(bound, (before, after))| bound.check(before, after));
        if let (Ok(_), Err(over)) = (&done, fits) {
            match own {
                Some(own) => drop(self.repositories.insert(repository.to_owned(), own)),
                None => drop(self.repositories.remove(repository)),
            }
            self.number = number;
            return Err(over);
        }
        done
    }

    pub(super) fn blob(&self, digest: &Digest, from: Option<&str>) -> Option<u64> {
        let mut found = self.repositories.iter().filter(|(name, _)| from.is_none_or(|from| *name == from));
        found.find_map(|(_, repository)| repository.blob(digest).map(|blob| blob.size))
    }
}
