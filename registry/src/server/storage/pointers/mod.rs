//! Pointers: which repository has what, under which names. The one source of truth for membership.
//!
//! [`Pointers`] is narrow on purpose: verbs of the protocol, no statement, row or transaction of any one database. Each
//! verb that writes is one short transaction of its own and may be repeated by its caller. SQLite implements it,
//! PostgreSQL for replicas, and memory. Therefore no rule may hang on a lock that only one engine has. What keeps content and pointers in step is this alone:
//!
//! - A verb that takes away the last pointer to some content *condemns* it in the same transaction and says so. While it
//!   is condemned nobody may point at it ([`StorageError::Condemned`]). Its file is removed and then [`Pointers::forget`]
//!   lifts the sentence. Whoever dies in between leaves a condemned digest that any process finds and carries out.
//! - Whoever adds content writes the bytes first, then the pointer, and then looks whether the bytes are still there: a
//!   removal that was under way before is over by then, and a later one cannot begin while the pointer stands.

mod life;
mod memory;
mod outbox;
mod postgres;
mod quota;
pub mod rows;
pub(super) mod sqlite;

pub use life::{
    Candidate, Change, Condition, Entities, Kind, Pointer, Pulls, Reason, Removal, TagEvent, TagFacts,
    Undeleted, Usage,
};
pub use memory::MemoryPointers;
pub use outbox::{Outbox, OutboxError, Waiting};
pub use postgres::{
    DatabaseAddress, Decided, DeviceAsked, DeviceTimes, Lease, Leases, NewDevice, PostgresPointers,
    SharedDevices, SharedSecrets, Typed,
};
pub use quota::{Bound, Kin, Measure, OverQuota, Scope, Used, namespaces, written};
pub use sqlite::SqlitePointers;

use super::{Asked, StorageError, UploadId};
use slipway_oci::{Algorithm, Digest};
use std::{sync::Arc, time::Duration};

/// How a manifest is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ManifestKey {
    /// By tag.
    Tag(String),
    /// By digest.
    Digest(Digest),
}

impl std::fmt::Display for ManifestKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ManifestKey::Tag(tag) => f.write_str(tag),
            ManifestKey::Digest(digest) => write!(f, "{digest}"),
        }
    }
}

/// How much a registry holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Repositories.
    pub repositories: u64,
    /// Manifests, each once in each repository.
    pub manifests: u64,
    /// Tags.
    pub tags: u64,
    /// Different blobs.
    pub blobs: u64,
    /// Bytes of different blobs.
    pub bytes: u64,
    /// Unfinished uploads.
    pub uploads: u64,
}

/// Transactions that wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// How many.
    pub transactions: u64,
    /// How long no other could write, in sum.
    pub locked: Duration,
}

/// What a reply about a manifest says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestRecord {
    /// Its digest.
    pub digest: Digest,
    /// Its media type, as pushed.
    pub media_type: String,
    /// Its size in bytes.
    pub size_bytes: u64,
}

/// Content that a manifest needs in its repository: one edge of the graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Required {
    /// Its digest.
    pub digest: Digest,
    /// The size that the manifest claims, in bytes.
    pub size_bytes: u64,
    /// Whether it may be a manifest as well as a blob. (BuildKit's cache indexes list layer blobs as children:
    /// moby/buildkit#2251.)
    pub manifest: bool,
    /// Whether the repository may lack it (non-distributable layers, sparse indexes where the configuration takes them).
    pub optional: bool,
}

/// A manifest to be stored, already found to be well formed.
#[derive(Clone, Debug)]
pub struct NewManifest {
    /// Digest, media type and size.
    pub record: ManifestRecord,
    /// What it is attached to; need not be there.
    pub subject: Option<Digest>,
    /// The type that a referrers entry shows.
    pub artifact_type: Option<String>,
    /// Its annotations as a JSON object, where it has a subject.
    pub annotations: Option<String>,
    /// What has to be in the repository.
    pub required: Vec<Required>,
    /// The tags to point at it.
    pub tags: Vec<String>,
    /// Those of them that stay as they are where they point at something else already, with why.
    pub kept: Vec<(String, Kept)>,
    /// What each tag, or the manifest where there are no tags, has to be before.
    pub condition: Condition,
}

/// A blob of a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobRecord {
    /// Its size in bytes.
    pub size_bytes: u64,
    /// Since when no manifest holds it.
    pub loose: Option<i64>,
}

/// Why a tag that is there is not moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// The configuration says that it never changes.
    Immutable,
    /// Whoever pushes may add tags, not move them.
    Foreign,
}

/// Whether a tag of the repository in question never changes.
pub type IsImmutable = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// Told of content whose bytes may be gone.
pub type Removed = Arc<dyn Fn(&Digest) + Send + Sync>;

/// Hears what other replicas counted.
pub type Heard = Box<dyn Fn(&str) + Send + Sync>;

/// A key that signs tokens.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningKey {
    /// Its name.
    pub id: String,
    /// The secret, 32 bytes.
    pub seed: Vec<u8>,
    /// When it was made, in seconds since 1970.
    pub created: i64,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({})", self.id)
    }
}

/// One entry of a referrers reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Referrer {
    /// Digest, media type and size.
    pub record: ManifestRecord,
    /// The artifact's type.
    pub artifact_type: Option<String>,
    /// Annotations as a JSON object.
    pub annotations: Option<String>,
}

/// Which part of a referrers list is asked for.
#[derive(Clone, Debug)]
pub struct ReferrersPage {
    /// Only entries of this type.
    pub artifact_type: Option<String>,
    /// Only entries whose digest comes after this text.
    pub last: String,
}

/// What is durable of an upload session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// How many bytes it has. The truth: what content holds beyond was never acknowledged.
    pub length: u64,
    /// The hash state over exactly these bytes; none where it is not known.
    pub hash: Option<Vec<u8>>,
    /// What [`super::content::Staged::checkpoint`] wants back to go on.
    pub place: Vec<u8>,
}

/// An upload session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// What is hashed while it streams.
    pub algorithm: Algorithm,
    /// How far it is.
    pub progress: Progress,
}

/// What pointers say that cannot be so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Repository, tag and digest of tags whose manifest is not there.
    pub dangling: Vec<(String, String, String)>,
    /// Scopes of quotas, what is said of them, and what is counted.
    pub miscounted: Vec<(Scope, Used, Used)>,
    /// Repository, manifest and digest of what manifests need and their repository lacks.
    pub incomplete: Vec<(String, String, String)>,
}

/// How many sessions may be unfinished at a time.
#[derive(Clone, Copy, Debug)]
pub struct SessionCaps {
    /// In one repository.
    pub repository: u64,
    /// In all.
    pub registry: u64,
}

/// Where pointers are kept. Times are seconds since 1970, told by the caller; names and digests sort by byte.
///
/// A verb that may add something is told the quotas that hold for its repository. It refuses what does not fit with
/// [`StorageError::OverQuota`] as its last refusal, and changes nothing then; of several at once no more pass than fit.
pub trait Pointers: Send + Sync {
    /// Remembers from now on what is asked for, as far as it is told of what others change; `removed` is told of content that is
    /// condemned, or no longer right where it lies.
    fn listen(&self, _removed: Removed) -> Result<(), StorageError> {
        Ok(())
    }

    /// Tells everybody who remembers content that it is no longer right where it lies.
    fn tell_removed(&self, _digest: &Digest) -> Result<(), StorageError> {
        Ok(())
    }

    /// The key by which replicas call what they count for limits; `None` where there are none.
    fn limit_key(&self) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(None)
    }

    /// Tells other replicas what was counted.
    fn tell_counts(&self, _text: &str) -> Result<(), StorageError> {
        Ok(())
    }

    /// Hears from now on what others counted, while [`Pointers::listen`] hears anything.
    fn hear_counts(&self, _heard: Heard) {}

    /// A blob that the repository has.
    fn blob(&self, repository: &str, digest: &Digest) -> Result<Option<BlobRecord>, StorageError>;

    /// A loose blob was asked for: it counts as loose from `now` on.
    fn renew(&self, repository: &str, digest: &Digest, now: i64) -> Result<(), StorageError>;

    /// The size in bytes of a blob that `from` has, or any repository where none is named.
    fn blob_elsewhere(&self, digest: &Digest, from: Option<&str>) -> Result<Option<u64>, StorageError>;

    /// Finds a manifest by tag or digest.
    fn manifest(&self, repository: &str, key: &ManifestKey) -> Result<ManifestRecord, StorageError>;

    /// Tags of a repository after `last`, at most `count`.
    fn tags(&self, repository: &str, last: &str, count: u64) -> Result<Vec<String>, StorageError>;

    /// Names of repositories that have a manifest, after `last`, at most `count`.
    fn repositories(&self, last: &str, count: u64) -> Result<Vec<String>, StorageError>;

    /// A page of what is attached to `subject`, bounded by the caps of `limits`; and whether there is more. An unknown
    /// repository has none.
    fn referrers(
        &self,
        repository: &str,
        subject: &Digest,
        page: &ReferrersPage,
    ) -> Result<(Vec<Referrer>, bool), StorageError>;

    /// Gives the repository a blob whose bytes are in place, and ends the session that brought it. Durable.
    fn put_blob(
        &self,
        repository: &str,
        digest: &Digest,
        size_bytes: u64,
        session: Option<&UploadId>,
        bounds: &[Bound],
        now: i64,
    ) -> Result<(), StorageError>;

    /// Gives the repository a blob that `from` has, or any repository. Answers whether one has. Durable.
    fn mount(
        &self,
        repository: &str,
        digest: &Digest,
        from: Option<&str>,
        bounds: &[Bound],
        now: i64,
    ) -> Result<bool, StorageError>;

    /// Stores a manifest whose bytes are in place, writes an edge to everything that it names, points its tags at it and
    /// notes where they pointed before: all or nothing. Durable.
    fn put_manifest(
        &self,
        repository: &str,
        manifest: &NewManifest,
        bounds: &[Bound],
        change: &Change,
    ) -> Result<(), StorageError>;

    /// Takes a blob out of one repository, unless a manifest of that repository needs it. Answers whether that was the
    /// last pointer to its content, which is then condemned. Durable.
    fn delete_blob(&self, repository: &str, digest: &Digest, removal: &Removal)
    -> Result<bool, StorageError>;

    /// Removes a tag, or a manifest with every tag on it, unless one of these is immutable or an index needs it. Answers
    /// what is condemned by that. Durable.
    fn delete_manifest(
        &self,
        repository: &str,
        key: &ManifestKey,
        removal: &Removal,
    ) -> Result<Option<Digest>, StorageError>;

    /// Pointers that may go, since before `before`, the oldest first, at most `count`; only of `repository` where one is
    /// named.
    fn candidates(
        &self,
        reason: Reason,
        repository: Option<&str>,
        before: i64,
        count: u64,
    ) -> Result<Vec<Candidate>, StorageError>;

    /// Takes away those of `pointers` that may still go for `reason` since before `before`, all in one transaction: manifests
    /// that were not in the trash into it, where `trash` says so. Answers how many went, and what is condemned. One that is
    /// not `durable` is so once a durable one after it was answered; until then nothing that it condemned may be removed.
    fn collect(
        &self,
        pointers: &[Pointer],
        reason: Reason,
        before: i64,
        trash: bool,
        now: i64,
        durable: bool,
    ) -> Result<(u64, Vec<Digest>), StorageError>;

    /// Takes a manifest out of the trash with all that it needs. Durable.
    fn undelete(
        &self,
        repository: &str,
        digest: &Digest,
        bounds: &[Bound],
        now: i64,
    ) -> Result<Undeleted, StorageError>;

    /// Points a tag at a manifest that is there. Durable.
    fn set_tag(
        &self,
        repository: &str,
        tag: &str,
        digest: &Digest,
        condition: &Condition,
        bounds: &[Bound],
        change: &Change,
    ) -> Result<(), StorageError>;

    /// Moves of a repository's tags, of one where it is named, the newest first, before number `before`, at most `count`.
    fn tag_history(
        &self,
        repository: &str,
        tag: Option<&str>,
        before: i64,
        count: u64,
    ) -> Result<Vec<TagEvent>, StorageError>;

    /// Tags with what retention looks at, after `last`, at most `count`.
    fn tag_facts(&self, repository: &str, last: &str, count: u64) -> Result<Vec<TagFacts>, StorageError>;

    /// How much a repository has; an unknown one has nothing.
    fn usage(&self, repository: &str) -> Result<Usage, StorageError>;

    /// How much a scope has of what counts; an unknown one has nothing. Cheap, however much that is.
    fn used(&self, scope: &Scope) -> Result<Used, StorageError>;

    /// Repositories, or namespaces, with how much each has, after `last`, at most `count`; those of everything apart.
    fn all_used(&self, of: Kin, last: &str, count: u64) -> Result<Vec<(String, Used)>, StorageError>;

    /// Writes pulls down.
    fn record_pulls(&self, pulls: &[Pulls]) -> Result<(), StorageError>;

    /// All content that is pointed at, with its size in bytes, after `last` in the order of text, at most `count`.
    fn contents(&self, last: &str, count: u64) -> Result<Vec<(Digest, u64)>, StorageError>;

    /// Bytes of all content that is pointed at. Each row is looked at.
    fn content_bytes(&self) -> Result<u64, StorageError>;

    /// What cannot be so in all that there is, at one moment. Each row is looked at.
    fn survey(&self) -> Result<Survey, StorageError>;

    /// Whether anything points at the content.
    fn is_needed(&self, digest: &Digest) -> Result<bool, StorageError>;

    /// Condemns content that nothing points at. Answers whether it did: what is condemned already is left to who did that.
    fn condemn(&self, digest: &Digest, now: i64) -> Result<bool, StorageError>;

    /// Content condemned before `before` that was not forgotten since, at most `count`.
    fn condemned(&self, before: i64, count: u64) -> Result<Vec<Digest>, StorageError>;

    /// Condemned contents are gone from where they lay.
    fn forget(&self, digests: &[Digest]) -> Result<(), StorageError>;

    /// Starts an upload session, unless there are too many.
    fn start_session(
        &self,
        repository: &str,
        id: &UploadId,
        session: &Session,
        caps: SessionCaps,
        now: i64,
    ) -> Result<(), StorageError>;

    /// An upload session of this repository.
    fn session(&self, repository: &str, id: &UploadId) -> Result<Session, StorageError>;

    /// Moves a session on, if it still has `from` bytes: of two writers one wins.
    fn advance_session(
        &self,
        id: &UploadId,
        from: u64,
        progress: &Progress,
        now: i64,
    ) -> Result<(), StorageError>;

    /// Ends a session; one that is gone is fine.
    fn end_session(&self, id: &UploadId) -> Result<(), StorageError>;

    /// Sessions that nobody moved on since `before`, the oldest first, at most `count`; only of `repository` where one
    /// is named.
    fn idle_sessions(
        &self,
        repository: Option<&str>,
        before: i64,
        count: u64,
    ) -> Result<Vec<UploadId>, StorageError>;

    /// Whether there is such a session in any repository.
    fn has_session(&self, id: &UploadId) -> Result<bool, StorageError>;

    /// Repositories that have the blob, after `last`, at most `count`.
    fn holders(&self, digest: &Digest, last: &str, count: u64) -> Result<Vec<String>, StorageError>;

    /// Repositories in which something points at the content, the trash too, at most `count`, sorted by byte.
    fn places(&self, digest: &Digest, count: u64) -> Result<Vec<String>, StorageError>;

    /// The keys that sign tokens.
    fn signing_keys(&self) -> Result<Vec<SigningKey>, StorageError>;

    /// Puts another form of a key's secret in the place of `from`, where that still is there.
    fn reseal_key(&self, _id: &str, _from: &[u8], _to: &[u8]) -> Result<(), StorageError> {
        Ok(())
    }

    /// How much there is; `None` where it is not counted.
    fn counts(&self) -> Result<Option<Counts>, StorageError> {
        Ok(None)
    }

    /// Writes down what it takes to make the pointers again where they are lost, if that is due; `began`: for the first time since
    /// the process started.
    fn write_down(&self, _began: bool) -> Result<(), StorageError> {
        Ok(())
    }

    /// How many transactions wrote since the process started, and how long they held others up.
    fn written(&self) -> Written {
        Written::default()
    }

    /// Whether a look is most often one into this machine's memory.
    fn is_near(&self) -> bool {
        true
    }

    /// What replicas do one at a time; `None` where one folder's locks say who does it.
    fn leases(&self) -> Option<Leases> {
        None
    }

    /// The same as rows, for who carries all of them elsewhere; `None` where there are none.
    fn rows(&self) -> Option<&dyn rows::Rows> {
        None
    }

    /// Devices that wait to be let in at any replica; `None` where the process knows of its own.
    fn devices(&self) -> Option<SharedDevices> {
        None
    }

    /// Secrets that replicas share; `None` where nobody else has any.
    fn secrets(&self) -> Option<SharedSecrets> {
        None
    }

    /// Where notices wait that any replica sends; `None` where the process has its own.
    fn outbox(&self) -> Option<Arc<dyn Outbox>> {
        None
    }

    /// How much was asked of a database elsewhere; `None` where there is none.
    fn asked(&self) -> Option<Asked> {
        None
    }

    /// Writes that wait for their transaction.
    fn queue(&self) -> usize {
        0
    }

    /// Adds a key, unless there is one made after `young`, and drops those made before `old`. Durable.
    fn add_signing_key(&self, key: &SigningKey, young: i64, old: i64) -> Result<(), StorageError>;
}
