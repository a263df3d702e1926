//! Pointers in SQLite: one file, any number of processes, no set-up.
//!
//! Reads run on connections of their own beside the writer (WAL). Writes go through the one thread of [`writer`], which
//! commits whatever waits together.

mod checkpoint;
pub(in crate::server::storage) mod copy;
mod history;
mod holds;
pub(in crate::server::storage) mod journal;
mod keys;
mod life;
mod reads;
pub(in crate::server::storage) mod rebuild;
mod rows;
mod schema;
mod sessions;
pub(in crate::server::storage) mod survey;
mod tally;
mod writer;
mod writes;

use super::{
    BlobRecord, Bound, Candidate, Change, Condition, Counts, Kin, ManifestKey, ManifestRecord, NewManifest,
    Pointer, Pointers, Progress, Pulls, Reason, Referrer, ReferrersPage, Removal, Scope, Session,
    SessionCaps, SigningKey, Survey, TagEvent, TagFacts, Undeleted, Usage, Used, Written, rows::Rows,
};
use crate::server::storage::{StorageError, UploadId};
use checkpoint::Checkpoint;
use journal::{Journal, Lossy};
use schema::Readers;
use slipway_oci::Digest;
use std::path::{Path, PathBuf};
use writer::{Durability, Writer};

/// An open database of pointers.
pub struct SqlitePointers {
    path: PathBuf,
    readers: Readers,
    writer: Writer,
    lossy: Lossy,
}

impl SqlitePointers {
    /// Opens the database, making it where it is missing. One of a newer version is left as it is.
    pub fn open(path: &Path) -> Result<SqlitePointers, StorageError> {
        let mut database = schema::open(path)?;
        journal::watch(&database)?;
        let lossy = Lossy::default();
        let checkpoint = Checkpoint::start(&mut database, path)?;
        let writer = Writer::start(database, Journal::new(path, lossy.clone()), checkpoint);
        Ok(SqlitePointers { path: path.to_owned(), readers: Readers::new(path.to_owned()), writer, lossy })
    }
}

impl Pointers for SqlitePointers {
    fn rows(&self) -> Option<&dyn Rows> {
        Some(self)
    }

    fn blob(&self, repository: &str, digest: &Digest) -> Result<Option<BlobRecord>, StorageError> {
        self.readers.read(|database| reads::blob(database, repository, digest))
    }

    fn renew(&self, repository: &str, digest: &Digest, now: i64) -> Result<(), StorageError> {
        let (repository, digest) = (repository.to_owned(), digest.clone());
        self.writer
            .write(Durability::Lazy, move |database| writes::renew(database, &repository, &digest, now))
    }

    fn blob_elsewhere(&self, digest: &Digest, from: Option<&str>) -> Result<Option<u64>, StorageError> {
        self.readers.read(|database| reads::blob_elsewhere(database, digest, from))
    }

    fn manifest(&self, repository: &str, key: &ManifestKey) -> Result<ManifestRecord, StorageError> {
        self.readers.read(|database| reads::manifest(database, repository, key))
    }

    fn tags(&self, repository: &str, last: &str, count: u64) -> Result<Vec<String>, StorageError> {
        self.readers.read(|database| reads::tags(database, repository, last, count))
    }

    fn repositories(&self, last: &str, count: u64) -> Result<Vec<String>, StorageError> {
        self.readers.read(|database| reads::repositories(database, last, count))
    }

    fn referrers(
        &self,
        repository: &str,
        subject: &Digest,
        page: &ReferrersPage,
    ) -> Result<(Vec<Referrer>, bool), StorageError> {
        self.readers.read(|database| reads::referrers(database, repository, subject, page))
    }

    fn put_blob(
        &self,
        repository: &str,
        digest: &Digest,
        size_bytes: u64,
        session: Option<&UploadId>,
        bounds: &[Bound],
        now: i64,
    ) -> Result<(), StorageError> {
        let (repository, digest, session) = (repository.to_owned(), digest.clone(), session.cloned());
        let bounds = bounds.to_vec();
        self.writer.write(Durability::Durable, move |database| {
            let put = || writes::put_blob(database, &repository, &digest, size_bytes, now);
            tally::within(database, &bounds, put)?;
            session.map_or(Ok(()), |id| sessions::end(database, &id))
        })
    }

    fn mount(
        &self,
        repository: &str,
        digest: &Digest,
        from: Option<&str>,
        bounds: &[Bound],
        now: i64,
    ) -> Result<bool, StorageError> {
        let (repository, digest) = (repository.to_owned(), digest.clone());
        let (from, bounds) = (from.map(str::to_owned), bounds.to_vec());
        self.writer.write(Durability::Durable, move |database| {
            let mount = || writes::mount(database, &repository, &digest, from.as_deref(), now);
            tally::within(database, &bounds, mount)
        })
    }

    fn put_manifest(
        &self,
        repository: &str,
        manifest: &NewManifest,
        bounds: &[Bound],
        change: &Change,
    ) -> Result<(), StorageError> {
        let (repository, manifest, change) = (repository.to_owned(), manifest.clone(), change.clone());
        let bounds = bounds.to_vec();
        self.writer.write(Durability::Durable, move |database| {
            let put = || writes::put_manifest(database, &repository, &manifest, &change);
            tally::within(database, &bounds, put)
        })
    }

    fn delete_blob(
        &self,
        repository: &str,
        digest: &Digest,
        removal: &Removal,
    ) -> Result<bool, StorageError> {
        let (repository, digest, removal) = (repository.to_owned(), digest.clone(), removal.clone());
        self.writer.write(Durability::Durable, move |database| {
            writes::delete_blob(database, &repository, &digest, &removal)
        })
    }

    fn delete_manifest(
        &self,
        repository: &str,
        key: &ManifestKey,
        removal: &Removal,
    ) -> Result<Option<Digest>, StorageError> {
        let (repository, key, removal) = (repository.to_owned(), key.clone(), removal.clone());
        self.writer.write(Durability::Durable, move |database| {
            writes::delete_manifest(database, &repository, &key, &removal)
        })
    }

    fn candidates(
        &self,
        reason: Reason,
        repository: Option<&str>,
        before: i64,
        count: u64,
    ) -> Result<Vec<Candidate>, StorageError> {
        self.readers.read(|database| life::candidates(database, reason, repository, before, count))
    }

    fn collect(
        &self,
        pointers: &[Pointer],
        reason: Reason,
        before: i64,
        trash: bool,
        now: i64,
        durable: bool,
    ) -> Result<(u64, Vec<Digest>), StorageError> {
        let pointers = pointers.to_vec();
        let durability = if durable { Durability::Durable } else { Durability::Lazy };
        self.writer
            .write(durability, move |database| life::collect(database, &pointers, reason, before, trash, now))
    }

    fn undelete(
        &self,
        repository: &str,
        digest: &Digest,
        bounds: &[Bound],
        now: i64,
    ) -> Result<Undeleted, StorageError> {
        let (repository, digest, bounds) = (repository.to_owned(), digest.clone(), bounds.to_vec());
        self.writer.write(Durability::Durable, move |database| {
            tally::within(database, &bounds, || life::undelete(database, &repository, &digest, now))
        })
    }

    fn set_tag(
        &self,
        repository: &str,
        tag: &str,
        digest: &Digest,
        condition: &Condition,
        bounds: &[Bound],
        change: &Change,
    ) -> Result<(), StorageError> {
        let (repository, tag, digest) = (repository.to_owned(), tag.to_owned(), digest.clone());
        let (condition, bounds, change) = (condition.clone(), bounds.to_vec(), change.clone());
        self.writer.write(Durability::Durable, move |database| {
            let set = || history::set(database, &repository, &tag, &digest, &condition, &change);
            tally::within(database, &bounds, set)
        })
    }

    fn tag_history(
        &self,
        repository: &str,
        tag: Option<&str>,
        before: i64,
        count: u64,
    ) -> Result<Vec<TagEvent>, StorageError> {
        self.readers.read(|database| history::list(database, repository, tag, before, count))
    }

    fn usage(&self, repository: &str) -> Result<Usage, StorageError> {
        self.readers.read(|database| reads::usage(database, repository))
    }

    fn used(&self, scope: &Scope) -> Result<Used, StorageError> {
        self.readers.read(|database| tally::used(database, scope))
    }

    fn all_used(&self, of: Kin, last: &str, count: u64) -> Result<Vec<(String, Used)>, StorageError> {
        self.readers.read(|database| tally::all(database, of, last, count))
    }

    fn tag_facts(&self, repository: &str, last: &str, count: u64) -> Result<Vec<TagFacts>, StorageError> {
        self.readers.read(|database| history::facts(database, repository, last, count))
    }

    fn record_pulls(&self, pulls: &[Pulls]) -> Result<(), StorageError> {
        let pulls = pulls.to_vec();
        self.writer.write(Durability::Lazy, move |database| history::record_pulls(database, &pulls))
    }

    fn contents(&self, last: &str, count: u64) -> Result<Vec<(Digest, u64)>, StorageError> {
        self.readers.read(|database| reads::contents(database, last, count))
    }

    fn content_bytes(&self) -> Result<u64, StorageError> {
        self.readers.read(survey::bytes_of)
    }

    fn survey(&self) -> Result<Survey, StorageError> {
        self.readers.read(survey::survey)
    }

    fn is_needed(&self, digest: &Digest) -> Result<bool, StorageError> {
        self.readers.read(|database| reads::is_needed(database, digest))
    }

    fn condemn(&self, digest: &Digest, now: i64) -> Result<bool, StorageError> {
        let digest = digest.clone();
        self.writer.write(Durability::Durable, move |database| writes::condemn(database, &digest, now))
    }

    fn condemned(&self, before: i64, count: u64) -> Result<Vec<Digest>, StorageError> {
        self.readers.read(|database| reads::condemned(database, before, count))
    }

    fn forget(&self, digests: &[Digest]) -> Result<(), StorageError> {
        if digests.is_empty() {
            return Ok(());
        }
        let digests = digests.to_vec();
        // lost in a crash, it is done again
        self.writer.write(Durability::Lazy, move |database| writes::forget(database, &digests))
    }

    fn start_session(
        &self,
        repository: &str,
        id: &UploadId,
        session: &Session,
        caps: SessionCaps,
        now: i64,
    ) -> Result<(), StorageError> {
        let (repository, id, session) = (repository.to_owned(), id.clone(), session.clone());
        self.writer.write(Durability::Lazy, move |database| {
            sessions::start(database, &repository, &id, &session, caps, now)
        })
    }

    fn session(&self, repository: &str, id: &UploadId) -> Result<Session, StorageError> {
        self.readers.read(|database| sessions::find(database, repository, id))
    }

    fn advance_session(
        &self,
        id: &UploadId,
        from: u64,
        progress: &Progress,
        now: i64,
    ) -> Result<(), StorageError> {
        let (id, progress) = (id.clone(), progress.clone());
        self.writer
            .write(Durability::Lazy, move |database| sessions::advance(database, &id, from, &progress, now))
    }

    fn end_session(&self, id: &UploadId) -> Result<(), StorageError> {
        let id = id.clone();
        self.writer.write(Durability::Lazy, move |database| sessions::end(database, &id))
    }

    fn idle_sessions(
        &self,
        repository: Option<&str>,
        before: i64,
        count: u64,
    ) -> Result<Vec<UploadId>, StorageError> {
        self.readers.read(|database| sessions::idle(database, repository, before, count))
    }

    fn has_session(&self, id: &UploadId) -> Result<bool, StorageError> {
        self.readers.read(|database| sessions::exists(database, id))
    }

    fn holders(&self, digest: &Digest, last: &str, count: u64) -> Result<Vec<String>, StorageError> {
        self.readers.read(|database| reads::holders(database, digest, last, count))
    }

    fn write_down(&self, began: bool) -> Result<(), StorageError> {
        if !journal::is_due(&self.path, &self.lossy, began) {
            return Ok(());
        }
        let Some(_turn) = journal::turn(&self.path)? else { return Ok(()) };
        let (path, lossy) = (self.path.clone(), self.lossy.clone());
        let superfluous = self.writer.write(Durability::Lazy, move |_| journal::rotate(&path, &lossy))?;
        let written = self.readers.read(|database| journal::snapshot(database, &self.path, &superfluous));
        if written.is_err() {
            self.lossy.lose();
        }
        written
    }

    fn places(&self, digest: &Digest, count: u64) -> Result<Vec<String>, StorageError> {
        self.readers.read(|database| reads::places(database, digest, count))
    }

    fn counts(&self) -> Result<Option<Counts>, StorageError> {
        self.readers.read(reads::counts).map(Some)
    }

    fn written(&self) -> Written {
        self.writer.written()
    }

    fn queue(&self) -> usize {
        self.writer.waiting()
    }

    fn signing_keys(&self) -> Result<Vec<SigningKey>, StorageError> {
        self.readers.read(keys::all)
    }

    fn add_signing_key(&self, key: &SigningKey, young: i64, old: i64) -> Result<(), StorageError> {
        let key = key.clone();
        self.writer.write(Durability::Durable, move |database| keys::add(database, &key, young, old))
    }
}
