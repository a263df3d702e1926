//! How much room quotas leave, for who is about to use it.
//!
//! What is decided here is early and may be late to know: the transaction that adds something decides.

use super::{Bound, Kin, Measure, OverQuota, Scope, Storage, StorageError, Used};
use crate::limits;
use slipway_oci::Digest;
use std::sync::Arc;

/// What bounds a repository: its own quotas, and those of the namespaces that it lies in.
pub type Quotas = Arc<dyn Fn(&str) -> Vec<Bound> + Send + Sync>;

/// What the caller may know of what is there.
#[derive(Clone, Copy, Debug)]
pub struct Sight {
    /// What the repository has.
    pub repository: bool,
    /// What any repository has.
    pub everything: bool,
}

/// How long a blob may be that is about to come.
#[derive(Clone, Debug)]
pub struct Ceiling {
    over: OverQuota,
    most_bytes: u64,
}

impl Ceiling {
    /// Refuses what is certain not to fit.
    pub fn check(&self, size_bytes: u64) -> Result<(), StorageError> {
        if size_bytes <= self.most_bytes {
            return Ok(());
        }
        Err(StorageError::OverQuota(Box::new(OverQuota { more: size_bytes, ..self.over.clone() })))
    }
}

impl Storage {
    /// These quotas hold from now on.
    pub fn limit(&self, quotas: Quotas) {
        *self.quotas.write().expect("no panic happens while quotas are held") = quotas;
    }

    /// What bounds a repository now.
    pub(super) fn bounds(&self, repository: &str) -> Vec<Bound> {
        let quotas = Arc::clone(&self.quotas.read().expect("no panic happens while quotas are held"));
        quotas(repository)
    }

    /// What bounds a repository, and how much of each is used.
    pub fn room(&self, repository: &str) -> Result<Vec<(Bound, Used)>, StorageError> {
        let bounds = self.bounds(repository).into_iter();
        bounds.map(|bound| self.pointers.used(&bound.scope).map(|used| (bound, used))).collect()
    }

    /// How much a scope has of what counts.
    pub fn used(&self, scope: &Scope) -> Result<Used, StorageError> {
        self.pointers.used(scope)
    }

    /// Repositories, or namespaces, with how much each has of what counts, after `last`, sorted by byte, at most `count`.
    pub fn all_used(&self, of: Kin, last: &str, count: u64) -> Result<Vec<(String, Used)>, StorageError> {
        self.pointers.all_used(of, last, count)
    }

    /// How long a blob may be that is about to come. One that its scope has already adds nothing: whether it is such a one
    /// is looked up by its digest where the caller may know that, and guessed by its size otherwise, for what is no larger
    /// than all that is there may be some of it.
    pub fn ceilings(
        &self,
        repository: &str,
        digest: Option<&Digest>,
        sight: Sight,
    ) -> Result<Vec<Ceiling>, StorageError> {
        let mut all = Vec::new();
        for (bound, used) in self.room(repository)? {
            let Some(most) = bound.bytes else { continue };
            let left = most.saturating_sub(used.bytes);
            let sees = match bound.scope {
                Scope::Repository(_) => sight.repository,
                Scope::Namespace(_) => sight.everything,
            };
            let most_bytes = match digest.filter(|_| sees) {
                Some(digest) if self.may_have(&bound.scope, digest)? => continue,
                Some(_) => left,
                None => left.max(used.bytes),
            };
            let (scope, measure) = (bound.scope, Measure::Bytes);
            let over = OverQuota { scope, measure, most, used: used.bytes, more: 0 };
            all.push(Ceiling { over, most_bytes });
        }
        Ok(all)
    }

    /// Whether something of a scope points at the content, or of what is not looked at.
    fn may_have(&self, scope: &Scope, digest: &Digest) -> Result<bool, StorageError> {
        let places = self.pointers.places(digest, limits::QUOTA_PLACES)?;
        let within = |name: &String| match scope {
            Scope::Repository(own) => name == own,
            Scope::Namespace(own) => {
                own.is_empty() || name.strip_prefix(own.as_str()).is_some_and(|rest| rest.starts_with('/'))
            }
        };
        Ok(places.len() as u64 == limits::QUOTA_PLACES || places.iter().any(within))
    }
}
