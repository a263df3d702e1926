//! The words of what is stored over time: who changes what, what has to hold for it, what is loose, what lies in the trash.
//!
//! A manifest is *held* by a tag, by an index of its repository that names it, or by its subject where that is there. A blob
//! is held by any manifest of its repository, one in the trash too. What nothing holds is *loose* since a moment, which is
//! noted in the transaction that made it so. A loose manifest is an *orphan* when what held it was taken away; one that was
//! pushed by digest, or whose tag was moved on, is not. Collection takes loose blobs and orphans; retention, what it is told to.

use super::{IsImmutable, ManifestKey, StorageError};
use slipway_oci::Digest;

/// Who changes something, when, and from where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Seconds since 1970.
    pub at: i64,
    /// The user, where one is known.
    pub who: Option<String>,
    /// The client's address, or the command.
    pub origin: Option<String>,
}

/// Entity tags of a precondition (RFC 9110, section 13.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entities {
    /// `*`: whatever is there.
    Any,
    /// One of these.
    These(Vec<Digest>),
}

impl Entities {
    fn have(&self, found: Option<&Digest>) -> bool {
        match self {
            Entities::Any => found.is_some(),
            Entities::These(all) => found.is_some_and(|found| all.contains(found)),
        }
    }
}

/// What has to be there for a change, so that of two writers one wins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Condition {
    /// `If-Match`: the tag, or the manifest, is this.
    pub is: Option<Entities>,
    /// `If-None-Match`: it is not this.
    pub is_not: Option<Entities>,
}

impl Condition {
    /// The tag points at this digest.
    pub fn is(digest: &Digest) -> Condition {
        Condition { is: Some(Entities::These(vec![digest.clone()])), is_not: None }
    }

    /// Refuses the change where `found` is not what was asked for.
    pub fn check(&self, what: &str, found: Option<&Digest>) -> Result<(), StorageError> {
        let fits = self.is.as_ref().is_none_or(|entities| entities.have(found))
            && !self.is_not.as_ref().is_some_and(|entities| entities.have(found));
        let moved = || StorageError::Moved { what: what.to_owned(), current: found.cloned() };
        if fits { Ok(()) } else { Err(moved()) }
    }

    /// Whether anything is asked for.
    pub fn is_some(&self) -> bool {
        self.is.is_some() || self.is_not.is_some()
    }
}

/// How something is taken away.
#[derive(Clone)]
pub struct Removal {
    /// Who does it.
    pub change: Change,
    /// Tags that never change.
    pub immutable: IsImmutable,
    /// What has to be there.
    pub condition: Condition,
    /// Whether it goes although something needs it.
    pub force: bool,
    /// Whether it stays in the trash for a while.
    pub trash: bool,
    /// A tag as it was seen, and has to be still; then what it points at is an orphan, unless something else holds that.
    pub seen: Option<TagFacts>,
}

/// One move of a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagEvent {
    /// Grows with every move.
    pub number: i64,
    /// The tag.
    pub tag: String,
    /// What it pointed at before.
    pub former: Option<Digest>,
    /// What it points at since; `None`: it was deleted.
    pub digest: Option<Digest>,
    /// Who did it.
    pub change: Change,
}

/// What kind of pointer something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A blob's.
    Blob,
    /// A manifest's.
    Manifest,
}

/// A pointer of a repository that may go.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pointer {
    /// The repository.
    pub repository: String,
    /// Its kind.
    pub kind: Kind,
    /// Its digest.
    pub digest: Digest,
}

/// Why a pointer may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Nothing holds it; of manifests, orphans alone.
    Loose,
    /// It is a manifest that nothing holds, orphan or not.
    Untagged,
    /// It lies in the trash.
    Trashed,
}

impl TagFacts {
    /// Refuses what was pushed, moved or pulled since it was seen.
    pub fn check(&self, found: Option<(Digest, i64, Option<i64>)>) -> Result<(), StorageError> {
        let own = (self.digest.clone(), self.updated, self.pulled);
        match found {
            Some(found) if found == own => Ok(()),
            found => Err(StorageError::Moved { what: self.tag.clone(), current: found.map(|found| found.0) }),
        }
    }
}

/// Something in the trash, or about to get there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The pointer.
    pub pointer: Pointer,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// Since when it is loose or in the trash.
    pub since: i64,
}

/// What a retention rule looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagFacts {
    /// The tag.
    pub tag: String,
    /// What it points at.
    pub digest: Digest,
    /// When it was pushed last.
    pub updated: i64,
    /// When it was pulled last, as far as that is known.
    pub pulled: Option<i64>,
    /// How often it was pulled.
    pub pulls: u64,
}

/// How much a repository has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tags.
    pub tags: u64,
    /// Manifests.
    pub manifests: u64,
    /// Blobs.
    pub blobs: u64,
    /// Bytes of its blobs and manifests.
    pub bytes: u64,
    /// Bytes of those blobs that no other repository has.
    pub own_bytes: u64,
    /// Bytes of what lies in its trash.
    pub trash_bytes: u64,
    /// When a tag was moved last.
    pub updated: Option<i64>,
    /// When something was pulled last, as far as that is known.
    pub pulled: Option<i64>,
    /// How often its tags were pulled.
    pub pulls: u64,
}

/// Pulls of one manifest that were not written down yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulls {
    /// The repository.
    pub repository: String,
    /// The tag, or the digest, which counts for every tag on it.
    pub key: ManifestKey,
    /// The last one, in seconds since 1970.
    pub at: i64,
    /// How many.
    pub count: u64,
}

/// What came back from the trash.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Undeleted {
    /// What is there again.
    pub back: Vec<Pointer>,
    /// What is needed and not there: it was deleted for good, or never here.
    pub missing: Vec<Digest>,
}
