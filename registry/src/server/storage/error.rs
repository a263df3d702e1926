//! What storage answers when it cannot do what it was asked.

use super::{
    OverQuota,
    pointers::{OutboxError, rows},
};
use slipway_oci::{Digest, blobs::BlobError};
use std::{io, path::PathBuf, sync::Arc};

/// A refusal or failure of [`super::Storage`].
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The repository has never been pushed to.
    #[error("repository `{0}` is not known")]
    RepositoryUnknown(String),
    /// The repository has no such manifest or tag.
    #[error("manifest `{0}` is not known in this repository")]
    ManifestUnknown(String),
    /// The repository has no such blob.
    #[error("blob `{0}` is not known in this repository")]
    BlobUnknown(Digest),
    /// No such session, or one of another repository.
    #[error("the upload session is not known: start a new one")]
    UploadUnknown,
    /// Somebody else writes to the session right now.
    #[error("another request is writing to this upload session")]
    UploadBusy,
    /// The uploaded bytes are not what the digest says.
    #[error("the content has digest `{actual}`, not `{expected}`")]
    DigestMismatch {
        /// The digest that the client named.
        expected: Digest,
        /// The digest of the bytes on disk.
        actual: Digest,
    },
    /// A manifest names content that the repository lacks.
    #[error("the manifest refers to `{0}`, which is not in this repository: push it first")]
    ReferenceUnknown(Digest),
    /// A manifest lies about the size of what it names.
    #[error("the manifest says that `{digest}` has {claimed} bytes; it has {actual}")]
    ReferenceSize {
        /// What is named.
        digest: Digest,
        /// The size in the manifest, in bytes.
        claimed: u64,
        /// The size of the content, in bytes.
        actual: u64,
    },
    /// The bytes that are kept are not what their name says.
    #[error("the bytes of `{expected}` have digest `{actual}`: push it again")]
    Rot {
        /// The digest they lie under.
        expected: Digest,
        /// Their own.
        actual: Digest,
    },
    /// The content is being removed right now, and that does not end.
    #[error("`{0}` is being removed: push it again")]
    Condemned(Digest),
    /// A manifest of the repository needs the blob.
    #[error("blob `{digest}` is needed by manifest `{manifest}`: delete that first")]
    BlobNeeded {
        /// The blob.
        digest: Digest,
        /// The manifest's digest.
        manifest: String,
    },
    /// An index of the repository needs the manifest.
    #[error("manifest `{digest}` is needed by index `{index}`: delete that first")]
    ManifestNeeded {
        /// The manifest.
        digest: Digest,
        /// The digest of the index.
        index: String,
    },
    /// What is there is not what the caller wanted to find.
    #[error("`{what}` is {}: look at it again", current.as_ref().map_or("not what was asked for".to_owned(), |digest| format!("at `{digest}`")))]
    Moved {
        /// The tag, or the digest.
        what: String,
        /// What it is now, where there is something that may be told.
        current: Option<Digest>,
    },
    /// The same bytes are there under another type.
    #[error("manifest `{digest}` is there as `{stored}` and cannot become `{pushed}`: delete it first")]
    OtherType {
        /// Digest of the bytes.
        digest: Digest,
        /// The type they have.
        stored: String,
        /// The type they were pushed with.
        pushed: String,
    },
    /// A tag that is there and may not be moved or taken away.
    #[error("tag `{tag}` is immutable: it cannot be pushed again or deleted; push another tag")]
    TagImmutable {
        /// The tag.
        tag: String,
    },
    /// A tag that is there, for somebody who may add tags only.
    #[error("tag `{tag}` is there already and may not be overwritten: push another tag")]
    TagTaken {
        /// The tag.
        tag: String,
    },
    /// It does not fit into a quota.
    #[error("{0}")]
    OverQuota(Box<OverQuota>),
    /// A key that was just made is not there.
    #[error("the registry has no key to sign tokens with")]
    SigningKey,
    /// Too many unfinished sessions.
    #[error("too many unfinished uploads: finish or cancel some, or try again later")]
    SessionsMany,
    /// No room on the disk.
    #[error("the registry's disk is full")]
    Full,
    /// Somebody has the folder open who must not.
    #[error("`{0}` is in use: stop the server that has it first")]
    InUse(PathBuf),
    /// What is said to be a registry's folder is none.
    #[error("`{0}` is no registry's folder: it has no `registry.db`")]
    NoRegistry(PathBuf),
    /// What is said to be replicas' database has no tables of a registry.
    #[error("`{0}` has no registry: a replica that is served makes its tables")]
    NoTables(String),
    /// What is said to be a folder of distribution's is none.
    #[error("`{0}` is no folder of docker-registry: it has no `docker/registry/v2`")]
    NoDistribution(PathBuf),
    /// What is said to be a backup's archive is none, or was cut off.
    #[error("the archive is no backup of a registry: it has no `registry.db` at its end")]
    NoArchive,
    /// What would be overwritten is no backup.
    #[error("`{0}` is neither empty nor a backup: name another folder")]
    NoBackup(PathBuf),
    /// A backup within what it is of, or around it.
    #[error("`{0}` and the registry's folder lie within each other: name another folder")]
    Within(PathBuf),
    /// A replica's own folder is a registry's.
    #[error("`{0}` has a registry of its own: a replica that shares a database needs another folder")]
    OwnRegistry(PathBuf),
    /// Where something is to be brought back, there is something.
    #[error("`{0}` has a registry already: name another folder")]
    Registry(PathBuf),
    /// Somebody else makes a backup of the same folder.
    #[error("another backup of this registry is under way")]
    BackupUnderWay,
    /// There is nothing to make the database from.
    #[error("`{0}` has no journal to make the database from")]
    NoJournal(PathBuf),
    /// The folder was written by an older Slipway.
    #[error("the registry's database has schema {found}, this version knows {known}: push into a new folder")]
    Older {
        /// The schema found.
        found: i64,
        /// The schema known.
        known: i64,
    },
    /// The folder was written by a newer Slipway.
    #[error("the registry's database has schema {found}, this version knows {known}: use a newer slipway")]
    Newer {
        /// The schema found.
        found: i64,
        /// The schema known.
        known: i64,
    },
    /// It is held, or over, where it was: nothing is changed any more.
    #[error("the registry is being moved: try again in a moment, or ask its operator where it is")]
    Moving,
    /// Both ends of a move are one.
    #[error("a registry cannot be moved to where it is")]
    SamePlace,
    /// Both ends of a move keep their content in one place.
    #[error(
        "the content of `{0}` lies where that of the registry lies that is to be moved: name another bucket or prefix"
    )]
    SameContent(String),
    /// What a move that is under way goes to, in whole or in part.
    #[error("a registry is being moved here from `{0}`: the same `slipway registry migrate` goes on with it")]
    BeingFilled(String),
    /// Where a registry should go there is one.
    #[error("`{0}` has a registry already, or had one: name an empty place")]
    HasRegistry(String),
    /// It was moved before.
    #[error(
        "the registry has moved to `{0}`: `slipway registry migrate --cancel` has it take pushes here again"
    )]
    HasMoved(String),
    /// Somebody else moves the same registry.
    #[error("another `slipway registry migrate` is moving this registry")]
    OtherMove,
    /// A move stood still for too long.
    #[error(
        "the registry took pushes again before everything was carried: run the command again, it goes on"
    )]
    HoldLost,
    /// What webhooks are to be told cannot be carried.
    #[error("what webhooks are to be told could not be handed over")]
    Notices(#[source] Box<OutboxError>),
    /// SQLite failed.
    #[error("the registry's database failed")]
    Database(#[source] rusqlite::Error),
    /// The database that replicas share failed.
    #[error("the registry's database failed")]
    Postgres(#[source] postgres::Error),
    /// The database that replicas share cannot be reached, or went while something was written, which may be there or not.
    #[error("the registry's database is away")]
    Away(#[source] postgres::Error),
    /// The database that replicas share takes what it is asked and does not answer: it stands still, or the way to it carries nothing.
    #[error("the registry's database does not answer")]
    Silent,
    /// It gave up what it was asked, after [`crate::limits::DATABASE_STATEMENT`].
    #[error("the registry's database takes too long: ask again")]
    Slow,
    /// The name in its address cannot be looked up.
    #[error("the name of the registry's database has no address")]
    DatabaseName(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The object store does not answer.
    #[error("the object store does not answer")]
    StoreSilent,
    /// There is no TLS to the database that replicas share.
    #[error("there is no safe way to the registry's database")]
    DatabaseTls(#[source] Box<crate::client::ClientError>),
    /// All connections to the database are in use, and stay so.
    #[error("the registry has no connection to its database left: ask again")]
    Crowded,
    /// Nothing may be taken for old by this machine's clock.
    #[error(
        "this machine's clock is {} seconds {} that of the registry's database: set one of them",
        seconds.unsigned_abs(),
        if *seconds < 0 { "behind" } else { "ahead of" }
    )]
    Clock {
        /// How far it is ahead.
        seconds: i64,
    },
    /// The secrets in the database are another configuration's.
    #[error(
        "the registry's keys of tokens are sealed under another key: name it in `token-key`, behind the one that seals"
    )]
    Sealed,
    /// The object store failed.
    #[error(transparent)]
    Store(#[from] StoreFailure),
    /// There is no way to the object store.
    #[error("there is no way to the object store")]
    StoreClient(#[source] Box<crate::client::ClientError>),
    /// What was written is not what is read.
    #[error("`{0}` does not answer what was written to it: it cannot keep a registry's content")]
    StoreForgets(String),
    /// The transaction that several writes shared could not be committed.
    #[error("the registry's database could not commit")]
    Commit(#[source] Arc<StorageError>),
    /// The transaction failed before this write's turn came.
    #[error("the registry's database failed before it came to this write")]
    Skipped,
    /// The blob folder failed.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The folder is not its owner's alone, and cannot be made so.
    #[error(transparent)]
    Private(#[from] slipway_oci::private::PrivateError),
    /// The file system failed.
    #[error("cannot {operation} `{path}`")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The system has no randomness for an upload's id.
    #[error("no random number for an upload session")]
    Random(#[from] getrandom::Error),
    /// The thread that writes is gone; the server is stopping.
    #[error("the registry is stopping")]
    Stopped,
}

/// A request to the object store that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} `{key}` in the object store")]
pub struct StoreFailure {
    /// What was tried.
    pub(super) operation: &'static str,
    /// The object.
    pub(super) key: String,
    /// Why not.
    pub(super) source: object_store::Error,
}

impl From<rusqlite::Error> for StorageError {
    fn from(error: rusqlite::Error) -> StorageError {
        match &error {
            rusqlite::Error::SqliteFailure(_, Some(words)) if words == rows::REFUSED => StorageError::Moving,
            _ => StorageError::Database(error),
        }
    }
}

impl From<postgres::Error> for StorageError {
    fn from(error: postgres::Error) -> StorageError {
        match error.code() {
            Some(code) if code.code() == rows::REFUSED_STATE => StorageError::Moving,
            Some(code) if *code == postgres::error::SqlState::QUERY_CANCELED => StorageError::Slow,
            _ => StorageError::Postgres(error),
        }
    }
}

impl StorageError {
    /// Whether what the registry depends on is away, for now.
    pub fn is_away(&self) -> bool {
        matches!(
            self,
            StorageError::Away(_)
                | StorageError::Silent
                | StorageError::Slow
                | StorageError::DatabaseName(_)
                | StorageError::Crowded
                | StorageError::Store(_)
                | StorageError::StoreSilent
        )
    }

    /// Whether the disk is full, wherever that was noticed.
    pub fn is_full(&self) -> bool {
        match self {
            StorageError::Full => true,
            StorageError::Commit(inner) => inner.is_full(),
            other => slipway_oci::file::is_full(other),
        }
    }
}

/// Names operation and path of an I/O failure.
pub(super) fn io_error(
    operation: &'static str,
    path: &std::path::Path,
) -> impl FnOnce(io::Error) -> StorageError {
    let path = path.to_owned();
    move |source| StorageError::Io { operation, path, source }
}
