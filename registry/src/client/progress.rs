//! What a caller hears while transfers run.

use slipway_oci::Digest;
use std::time::Duration;

/// Listens to transfers. Calls come from one thread, between network events: an implementation has to be quick.
pub trait Progress: Sync {
    /// Something happened.
    fn event(&self, event: &Event<'_>);
}

/// Listens to nothing.
impl Progress for () {
    fn event(&self, _: &Event<'_>) {}
}

/// A step of a transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// Bytes begin to move.
    Started {
        /// Of which blob.
        digest: &'a Digest,
        /// Its size in bytes.
        size_bytes: u64,
    },
    /// So many bytes are there; after a restart it may be fewer than before.
    Advanced {
        /// Of which blob.
        digest: &'a Digest,
        /// Bytes so far.
        done_bytes: u64,
        /// Its size in bytes.
        size_bytes: u64,
    },
    /// The other side has it already.
    Present {
        /// Which blob.
        digest: &'a Digest,
    },
    /// The registry took it from another of its repositories.
    Mounted {
        /// Which blob.
        digest: &'a Digest,
        /// From which repository.
        from: &'a str,
    },
    /// All of it has arrived and is verified.
    Finished {
        /// Which blob or manifest.
        digest: &'a Digest,
    },
    /// An attempt failed; there will be another.
    Retrying {
        /// At what.
        what: &'a str,
        /// Which attempt failed, from 1.
        attempt: u32,
        /// Why, in one line.
        reason: &'a str,
        /// Pause before the next attempt.
        pause: Duration,
    },
    /// A mirror has nothing, or cannot be asked; another place is.
    PassedOver {
        /// The mirror, with the repository's name there.
        place: &'a str,
        /// Why, in one line.
        reason: &'a str,
    },
}
