//! What a transaction holds while it decides: advisory locks of PostgreSQL, taken all at once, before anything is looked at.
//!
//! SQLite has one lock for everything. Here a rule is held by the lock of what it is about:
//!
//! - *A repository.* Who adds a blob or writes down a pull shares it: such changes touch one row each, which has its own lock,
//!   and what they depend on (edges, tags) changes only under the exclusive one, which all other changes of a repository take.
//! - *A digest.* Who points at content shares it and looks whether it is condemned; who condemns has it alone and looks whether
//!   anything points at it. So one sees what the other did, whichever repository it was in.
//! - *The scope of a quota* that holds for what is added: alone, so that what is used stays what it was when it was summed up.
//!   Where no quota is set, nobody takes any.
//!
//! Every statement after that sees what was committed before (READ COMMITTED), and nobody who holds less can change what it
//! depends on. The locks are taken in the order of their numbers, scopes before repositories before digests, and end with the
//! transaction. Two names may have the same number: then they wait for each other without need.

use super::connect::Database;
use crate::server::storage::{StorageError, pointers::Bound};
use slipway_oci::Digest;
use std::collections::BTreeMap;

/// Locks that a transaction takes.
#[derive(Clone, Debug, Default)]
pub(super) struct Locks(BTreeMap<i64, bool>);

/// What a lock is about; the numbers are the highest bits of its key. [`super::schema`] has the next one.
#[derive(Clone, Copy)]
enum Kind {
    Scope = 0,
    Repository = 1,
    Digest = 2,
}

fn key(kind: Kind, name: &str) -> i64 {
    let digest = Digest::sha256(name.as_bytes());
    let hash = i64::from_str_radix(&digest.hex()[..15], 16).expect("a digest is hexadecimal");
    (kind as i64) << 60 | hash
}

impl Locks {
    fn with(mut self, key: i64, shared: bool) -> Locks {
        let held = self.0.entry(key).or_insert(shared);
        *held &= shared;
        self
    }

    /// A repository, to add to it beside others.
    pub(super) fn share(self, repository: &str) -> Locks {
        self.with(key(Kind::Repository, repository), true)
    }

    /// A repository, to change it alone.
    pub(super) fn own(self, repository: &str) -> Locks {
        self.with(key(Kind::Repository, repository), false)
    }

    /// Content, to point at it.
    pub(super) fn point(self, digest: &Digest) -> Locks {
        self.with(key(Kind::Digest, &digest.to_string()), true)
    }

    /// Content, to condemn it.
    pub(super) fn condemn(self, digest: &Digest) -> Locks {
        self.with(key(Kind::Digest, &digest.to_string()), false)
    }

    /// The scopes of quotas.
    pub(super) fn within(self, bounds: &[Bound]) -> Locks {
        bounds.iter().fold(self, |locks, bound| locks.with(key(Kind::Scope, &bound.scope.to_string()), false))
    }

    /// Waits for all of them.
    pub(super) fn take(&self, database: &mut Database) -> Result<(), StorageError> {
        let (keys, shared): (Vec<i64>, Vec<bool>) =
            self.0.iter().map(|(key, shared)| (*key, *shared)).unzip();
        database.rows(
            "SELECT CASE WHEN shared THEN pg_advisory_xact_lock_shared(key)::text ELSE pg_advisory_xact_lock(key)::text END
             FROM unnest($1::bigint[], $2::boolean[]) AS wanted (key, shared)",
            &[&keys, &shared],
        )?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_lie_in_one_order_and_the_stronger_one_counts() {
        let digest = Digest::sha256(b"content");
        let locks = Locks::default().point(&digest).own("b").share("b").share("a").condemn(&digest);
        let kinds: Vec<_> = locks.0.iter().map(|(key, shared)| (key >> 60, *shared)).collect();
        assert_eq!(kinds.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), [1, 1, 2]);
        assert_eq!(kinds.iter().filter(|(_, shared)| *shared).count(), 1, "{kinds:?}");
        assert!(!kinds[2].1);
    }
}
