//! What a registry keeps: content under its digest, and pointers that say which repository has it.
//!
//! ```text
//! blobs/<algorithm>/<hex>   content, manifests included, under its digest; shared by all repositories
//! uploads/<uuid>            content that comes in
//! quarantine/<alg>-<hex>    what was found to be damaged, for its operator to look at
//! registry.db               SQLite, WAL: repositories, who has which blob, manifests, edges, tags, upload sessions
//! reserve                   room for deletes on a full disk
//! ```
//!
//! [`Content`] and [`Pointers`] are the two seams; this module holds what is true of every pair of them:
//!
//! - A pointer to content is written only after that content was verified, durable and under its digest. A crash leaves
//!   content without pointers, never pointers without content.
//! - Whether a repository has something is decided by its pointer alone, at every request (CVE-2026-35172); that the
//!   bytes are there in their whole length is looked at besides.
//! - Content goes only after it was condemned, which its pointers decide in one transaction (`collect`).
//!
//! Everything here blocks: the server calls it off the async threads.

mod answers;
mod collect;
pub mod content;
mod described;
mod error;
mod examine;
pub mod keep;
mod look;
mod open;
pub mod pointers;
mod recent;
mod retire;
mod room;
mod round;
mod seal;
mod secrets;
mod seen;
mod traffic;
mod turn;
mod undo;
mod upload;

#[cfg(test)]
mod full;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

pub use collect::Collected;
pub use content::Reader;
pub use error::StorageError;
pub use examine::{Damage, Examined, Fault, Pace, Watcher};
pub use pointers::{
    Bound, Candidate, Change, Condition, Counts, Entities, IsImmutable, Kept, Kin, Kind, ManifestKey,
    ManifestRecord, Measure, NewManifest, OverQuota, Pointer, Pulls, Reason, Referrer, ReferrersPage,
    Removal, Required, Scope, SigningKey, TagEvent, TagFacts, Undeleted, Usage, Used, Written, namespaces,
    written,
};
pub use retire::{Expired, Keeping, Retired};
pub use room::{Ceiling, Quotas, Sight};
pub use round::{Round, Scrubbed, Scrubbing};
pub use seal::Seals;
pub use secrets::Secrets;
pub use traffic::{Asked, Dependency};
pub use turn::{Errand, Turn, Work};
pub use undo::Revived;
pub use upload::{Upload, UploadId};

use crate::limits;
use content::Content;
use described::described_from;
use pointers::{Leases, Outbox, Pointers, SessionCaps};
use slipway_oci::{Digest, Hasher};
use std::sync::{
    Arc, OnceLock, RwLock,
    atomic::{AtomicI64, Ordering},
};

/// An open storage. Several processes may have one folder open at the same time.
pub struct Storage {
    content: Box<dyn Content>,
    pointers: Box<dyn Pointers>,
    /// What replicas do one at a time, where they share this.
    leases: Option<Leases>,
    caps: SessionCaps,
    /// How long deleted things stay, in seconds.
    trash: AtomicI64,
    /// How much of what a repository lies in there may be.
    quotas: RwLock<Quotas>,
    /// Told of damage.
    watcher: OnceLock<Watcher>,
    /// What was right when it was last looked at.
    seen: seen::Seen,
    /// What seals the keys of tokens.
    seals: Seals,
    /// Held while the folder is open.
    used: OnceLock<slipway_oci::lock::Lock>,
    /// What bytes pass through on their way, where that is this process's alone.
    scratch: OnceLock<tempfile::TempDir>,
}

/// Who changes something, and from where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Author {
    /// The user, where one is known.
    pub who: Option<String>,
    /// The client's address, or the command.
    pub origin: Option<String>,
}

impl Author {
    /// The change that it makes now.
    pub fn now(&self) -> Change {
        Change { at: now_seconds(), who: self.who.clone(), origin: self.origin.clone() }
    }
}

/// How something is asked to go.
#[derive(Clone)]
pub struct Deletion {
    /// Who asks.
    pub author: Author,
    /// Tags that never change.
    pub immutable: IsImmutable,
    /// What has to be there.
    pub condition: Condition,
    /// Whether it goes although something needs it.
    pub force: bool,
}

impl Deletion {
    /// Asked for by `author`; everything that is not needed may go.
    pub fn by(author: Author) -> Deletion {
        Deletion { author, immutable: Arc::new(|_| false), condition: Condition::default(), force: false }
    }
}

impl Storage {
    /// Whether a look is most often one into this machine's memory.
    pub fn is_near(&self) -> bool {
        self.pointers.is_near()
    }

    /// Deleted things stay in the trash for this long, from now on; none at all where it is zero.
    pub fn keep_trash(&self, time: std::time::Duration) {
        let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        self.trash.store(seconds, Ordering::Relaxed);
    }

    fn removal(&self, deletion: &Deletion) -> Removal {
        Removal {
            change: deletion.author.now(),
            immutable: IsImmutable::clone(&deletion.immutable),
            condition: deletion.condition.clone(),
            force: deletion.force,
            trash: self.trash.load(Ordering::Relaxed) > 0,
            seen: None,
        }
    }

    /// The size in bytes of a blob that the repository has. Bytes that are gone, or have another length, are not there:
    /// who pushes sends them again.
    pub fn blob_size(&self, repository: &str, digest: &Digest) -> Result<u64, StorageError> {
        let record = self.pointers.blob(repository, digest)?;
        let unknown = || StorageError::BlobUnknown(digest.clone());
        let record = record.ok_or_else(unknown)?;
        if self.content.size_lately(digest)? != Some(record.size_bytes) {
            return Err(unknown());
        }
        let now = now_seconds();
        if record.loose.is_some_and(|since| since + limits::LOOSE_RENEWED.as_secs() as i64 <= now) {
            // whoever is told that it is here may name it in a manifest next; on a full disk it is still read
            match self.pointers.renew(repository, digest, now) {
                Err(error) if error.is_full() || matches!(error, StorageError::Moving) => {}
                renewed => renewed?,
            }
        }
        Ok(record.size_bytes)
    }

    /// Opens a blob whose membership and size were checked.
    pub fn open_blob(&self, digest: &Digest, size_bytes: u64) -> Result<Arc<dyn Reader>, StorageError> {
        self.content.open(digest, size_bytes)?.ok_or_else(|| StorageError::BlobUnknown(digest.clone()))
    }

    /// All bytes of a small blob. Wrong ones are never answered.
    pub fn blob_bytes(&self, digest: &Digest, size_bytes: u64) -> Result<Vec<u8>, StorageError> {
        match self.read_blob(digest, size_bytes) {
            // taken out of service by now, unless the disk has them right, or somebody has just pushed them again
            Err(StorageError::Rot { .. }) => {
                self.read_blob(digest, size_bytes).map_err(|error| match error {
                    StorageError::Rot { .. } => StorageError::BlobUnknown(digest.clone()),
                    error => error,
                })
            }
            read => read,
        }
    }

    fn read_blob(&self, digest: &Digest, size_bytes: u64) -> Result<Vec<u8>, StorageError> {
        let reader = self.open_blob(digest, size_bytes)?;
        let mut bytes = vec![0; size_bytes as usize];
        reader.read_exact_at(&mut bytes, 0).map_err(|source| StorageError::Io {
            operation: "read",
            path: digest.to_string().into(),
            source,
        })?;
        if let Some(mut hasher) = self.check(digest) {
            hasher.update(&bytes);
            self.checked(digest, size_bytes, hasher)?;
        }
        Ok(bytes)
    }

    /// What has to digest a blob that is read to its end, where this process has not yet seen it to be right.
    pub(super) fn check(&self, digest: &Digest) -> Option<Hasher> {
        (!self.seen.has(digest)).then(|| Hasher::new(digest.algorithm()))
    }

    /// A blob that was read to its end for the first time.
    pub(super) fn checked(
        &self,
        digest: &Digest,
        size_bytes: u64,
        hasher: Hasher,
    ) -> Result<(), StorageError> {
        let actual = hasher.finish();
        if actual == *digest {
            self.seen.add(digest);
            return Ok(());
        }
        self.suspect(digest, size_bytes)?;
        Err(StorageError::Rot { expected: digest.clone(), actual })
    }

    /// Gives a repository a blob that another one has: `from`, or any where none is named. Answers whether it did.
    pub fn mount(&self, repository: &str, digest: &Digest, from: Option<&str>) -> Result<bool, StorageError> {
        let Some(size) = self.pointers.blob_elsewhere(digest, from)? else { return Ok(false) };
        // damage is not handed on
        if self.content.size(digest)? != Some(size) {
            return Ok(false);
        }
        self.pointers.mount(repository, digest, from, &self.bounds(repository), now_seconds())
    }

    /// Repositories that have the blob, sorted by byte, after `last`, at most `count`.
    pub fn holders(&self, digest: &Digest, last: &str, count: u64) -> Result<Vec<String>, StorageError> {
        self.pointers.holders(digest, last, count)
    }

    /// How much there is; `None` where it is not counted.
    pub fn counts(&self) -> Result<Option<Counts>, StorageError> {
        self.pointers.counts()
    }

    /// Writes down what it takes to make the database again, if that is due; `began`: for the first time since the process started.
    pub fn write_down(&self, began: bool) -> Result<(), StorageError> {
        self.pointers.write_down(began)
    }

    /// Writes pulls down.
    pub fn record_pulls(&self, pulls: &[Pulls]) -> Result<(), StorageError> {
        self.pointers.record_pulls(pulls)
    }

    /// The key by which replicas call what they count for limits; `None` where there are none.
    pub fn limit_key(&self) -> Result<Option<Vec<u8>>, StorageError> {
        self.pointers.limit_key()
    }

    /// Tells other replicas what was counted.
    pub fn tell_counts(&self, text: &str) -> Result<(), StorageError> {
        self.pointers.tell_counts(text)
    }

    /// Hears from now on what others counted.
    pub fn hear_counts(&self, heard: pointers::Heard) {
        self.pointers.hear_counts(heard);
    }

    /// Devices that wait to be let in at any replica; `None` where this process knows of its own.
    pub fn devices(&self) -> Option<pointers::SharedDevices> {
        self.pointers.devices()
    }

    /// Where notices wait that any replica sends; `None` where this process has its own.
    pub fn outbox(&self) -> Option<Arc<dyn Outbox>> {
        self.pointers.outbox()
    }

    /// Writes that wait for the database.
    pub fn queue(&self) -> usize {
        self.pointers.queue()
    }

    /// Transactions of this process that wrote.
    pub fn written(&self) -> Written {
        self.pointers.written()
    }

    /// Takes a blob out of one repository, unless a manifest there needs it; its bytes go when no other has it.
    pub fn delete_blob(
        &self,
        repository: &str,
        digest: &Digest,
        deletion: &Deletion,
    ) -> Result<(), StorageError> {
        self.with_reserve(|| {
            let removal = self.removal(deletion);
            if self.pointers.delete_blob(repository, digest, &removal)? {
                self.carry_out(std::slice::from_ref(digest), removal.change.at)?;
            }
            Ok(())
        })
    }

    /// Names of repositories that have a manifest, sorted by byte, after `last`, at most `count`.
    pub fn repositories(&self, last: &str, count: u64) -> Result<Vec<String>, StorageError> {
        self.pointers.repositories(last, count)
    }

    /// Tags of a repository, sorted by byte, after `last`, at most `count`.
    pub fn tags(&self, repository: &str, last: &str, count: u64) -> Result<Vec<String>, StorageError> {
        self.pointers.tags(repository, last, count)
    }

    /// A page of what is attached to `subject`; and whether there is more. An unknown repository has none.
    pub fn referrers(
        &self,
        repository: &str,
        subject: &Digest,
        page: &ReferrersPage,
    ) -> Result<(Vec<Referrer>, bool), StorageError> {
        self.pointers.referrers(repository, subject, page)
    }

    /// Finds a manifest by tag or digest, if its bytes are there.
    pub fn manifest(&self, repository: &str, key: &ManifestKey) -> Result<ManifestRecord, StorageError> {
        let record = self.pointers.manifest(repository, key)?;
        match self.content.size_lately(&record.digest)? {
            Some(found) if found == record.size_bytes => Ok(record),
            _ => Err(StorageError::ManifestUnknown(key.to_string())),
        }
    }

    /// The bytes of a manifest, verified. Wrong ones are taken out of service.
    pub fn manifest_bytes(&self, record: &ManifestRecord) -> Result<Vec<u8>, StorageError> {
        let read = self.read_manifest(record);
        if matches!(read, Err(StorageError::Rot { .. }))
            && self.suspect(&record.digest, record.size_bytes)?.is_none()
        {
            // the disk has them right, or somebody has just pushed them again
            return self.read_manifest(record);
        }
        read
    }

    fn read_manifest(&self, record: &ManifestRecord) -> Result<Vec<u8>, StorageError> {
        let Some(reader) = self.content.open(&record.digest, record.size_bytes)? else {
            // deleted since the record was read
            return Err(StorageError::ManifestUnknown(record.digest.to_string()));
        };
        assert!(record.size_bytes <= slipway_oci::limits::MANIFEST_BYTES, "no larger one is ever stored");
        let mut bytes = vec![0; record.size_bytes as usize];
        reader.read_exact_at(&mut bytes, 0).map_err(|source| StorageError::Io {
            operation: "read",
            path: record.digest.to_string().into(),
            source,
        })?;
        let mut hasher = Hasher::new(record.digest.algorithm());
        hasher.update(&bytes);
        match hasher.finish() {
            actual if actual == record.digest => Ok(bytes),
            actual => Err(StorageError::Rot { expected: record.digest.clone(), actual }),
        }
    }

    /// Stores a manifest and points its tags at it, all or nothing.
    pub fn put_manifest(
        self: &Arc<Self>,
        repository: &str,
        manifest: &NewManifest,
        bytes: &[u8],
        author: &Author,
    ) -> Result<(), StorageError> {
        assert_eq!(bytes.len() as u64, manifest.record.size_bytes);
        self.needs_whole(repository, manifest)?;
        let digest = &manifest.record.digest;
        let mut upload = self.stage(repository, digest.algorithm())?;
        upload.append(bytes)?;
        let bounds = self.bounds(repository);
        upload.place(digest, || self.pointers.put_manifest(repository, manifest, &bounds, &author.now()))
    }

    /// What a manifest names is asked for again where its pointer is there and its bytes are not.
    fn needs_whole(&self, repository: &str, manifest: &NewManifest) -> Result<(), StorageError> {
        for required in manifest.required.iter().filter(|required| !required.optional) {
            let Required { digest, size_bytes, .. } = required;
            let found = self.content.size(digest)?;
            // a size that is the manifest's own mistake is for the pointers to say
            let damaged = found != Some(*size_bytes)
                && found.is_none_or(|_| {
                    let record = self.pointers.blob(repository, digest).ok().flatten();
                    record.is_some_and(|record| record.size_bytes == *size_bytes)
                });
            if damaged {
                return Err(StorageError::ReferenceUnknown(digest.clone()));
            }
        }
        Ok(())
    }

    /// All content that is pointed at, with its size in bytes, after `last` in the order of text, at most `count`.
    pub fn contents(&self, last: &str, count: u64) -> Result<Vec<(Digest, u64)>, StorageError> {
        self.pointers.contents(last, count)
    }

    /// Removes a tag, or a manifest with every tag on it; none of them may be immutable, and no index may need it.
    pub fn delete_manifest(
        &self,
        repository: &str,
        key: &ManifestKey,
        deletion: &Deletion,
    ) -> Result<(), StorageError> {
        self.with_reserve(|| {
            let removal = self.removal(deletion);
            if let Some(digest) = self.pointers.delete_manifest(repository, key, &removal)? {
                self.carry_out(std::slice::from_ref(&digest), removal.change.at)?;
            }
            Ok(())
        })
    }

    /// Runs what frees room; on a full disk, with the reserve given free.
    pub(super) fn with_reserve<T>(
        &self,
        work: impl Fn() -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let first = work();
        if !first.as_ref().is_err_and(StorageError::is_full) {
            if first.is_ok() {
                self.content.refill_reserve();
            }
            return first;
        }
        if !self.content.open_reserve()? {
            return first;
        }
        let second = work();
        self.content.refill_reserve();
        second
    }
}

/// Seconds since 1970.
pub(super) fn now_seconds() -> i64 {
    seconds(std::time::SystemTime::now())
}

fn seconds(time: std::time::SystemTime) -> i64 {
    time.duration_since(std::time::UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs() as i64)
}
