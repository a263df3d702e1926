//! How much is asked of what a replica depends on: its database, and the store of its content.

use super::{Storage, StorageError};
use slipway_oci::Digest;
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// What is counted of one of them.
#[derive(Default)]
pub(super) struct Traffic {
    requests: AtomicU64,
    errors: AtomicU64,
    micros: AtomicU64,
}

/// A moment's numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// How often it was asked.
    pub requests: u64,
    /// How often it did not answer, or refused.
    pub errors: u64,
    /// How long all of that took.
    pub time: Duration,
}

impl Traffic {
    /// Counts what was asked at `begun` and is over now.
    pub(super) fn count(&self, begun: Instant, failed: bool) {
        let took = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.errors.fetch_add(u64::from(failed), Ordering::Relaxed);
        self.micros.fetch_add(took, Ordering::Relaxed);
    }

    pub(super) fn asked(&self) -> Asked {
        Asked {
            requests: self.requests.load(Ordering::Relaxed),
            errors: self.errors.load(Ordering::Relaxed),
            time: Duration::from_micros(self.micros.load(Ordering::Relaxed)),
        }
    }
}

/// What a replica depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dependency {
    /// Pointers.
    Database,
    /// Bytes.
    Content,
}

impl Dependency {
    /// Both.
    pub const ALL: [Dependency; 2] = [Dependency::Database, Dependency::Content];

    /// As it is called in the settings.
    pub fn name(self) -> &'static str {
        match self {
            Dependency::Database => "database",
            Dependency::Content => "content",
        }
    }
}

impl Storage {
    /// What was asked of a dependency so far; `None` where it is none of its own.
    pub fn asked(&self, of: Dependency) -> Option<Asked> {
        match of {
            Dependency::Database => self.pointers.asked(),
            Dependency::Content => self.content.asked(),
        }
    }

    /// Asks it for something small. Nothing that is at hand answers.
    pub fn probe(&self, of: Dependency) -> Result<(), StorageError> {
        match of {
            Dependency::Database => self.pointers.repositories("", 1).map(drop),
            // it need not be there
            Dependency::Content => self.content.size(&Digest::sha256(b"probe")).map(drop),
        }
    }
}
