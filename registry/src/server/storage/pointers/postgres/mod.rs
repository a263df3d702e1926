//! Pointers in PostgreSQL (15 or later): one database, any number of replicas.
//!
//! A verb is one short transaction, or one statement. What two of them may not do at once is said in [`locks`]; what is tried
//! again when a connection goes or others are in the way, in [`connect`]. No connection is held between two
//! verbs, so none waits for a client.

mod address;
mod connect;
mod devices;
mod history;
mod holds;
mod leases;
mod life;
mod line;
mod listen;
mod locks;
mod outbox;
mod reads;
mod records;
mod row;
mod rows;
mod schema;
mod secrets;
mod sessions;
mod survey;
mod tally;
mod writes;

#[cfg(test)]
mod tests;

use super::{
    BlobRecord, Bound, Candidate, Change, Condition, Counts, Heard, Kin, ManifestKey, ManifestRecord,
    NewManifest, Outbox, Pointer, Pointers, Progress, Pulls, Reason, Referrer, ReferrersPage, Removal,
    Removed, Scope, Session, SessionCaps, SigningKey, Survey, TagEvent, TagFacts, Undeleted, Usage, Used,
    rows::Rows,
};
use crate::server::storage::{Asked, StorageError, UploadId};
pub use address::DatabaseAddress;
use connect::Pool;
pub use devices::{Asked as DeviceAsked, Decided, DeviceTimes, NewDevice, SharedDevices, Typed};
pub use leases::{Lease, Leases};
use locks::Locks;
use records::Records;
pub use secrets::SharedSecrets;
use slipway_oci::Digest;
use std::sync::Arc;

/// A database of pointers that replicas share.
pub struct PostgresPointers {
    pool: Arc<Pool>,
    address: DatabaseAddress,
    records: Arc<Records>,
}

impl PostgresPointers {
    /// Opens a database that has tables already, bringing them up to date.
    pub fn open_existing(address: &DatabaseAddress) -> Result<PostgresPointers, StorageError> {
        let pool = Arc::new(Pool::new(address.clone()));
        schema::exists(&pool, address)?;
        schema::prepare(&pool)?;
        Ok(PostgresPointers { pool, address: address.clone(), records: Arc::default() })
    }

    /// Opens the database, making its tables where they are missing. One of a newer version is left as it is, one of
    /// an older one gets what it lacks.
    pub fn open(address: &DatabaseAddress) -> Result<PostgresPointers, StorageError> {
        let pool = Arc::new(Pool::new(address.clone()));
        schema::prepare(&pool)?;
        Ok(PostgresPointers { pool, address: address.clone(), records: Arc::default() })
    }
}

impl Pointers for PostgresPointers {
    fn rows(&self) -> Option<&dyn Rows> {
        Some(self)
    }

    fn is_near(&self) -> bool {
        false
    }

    fn asked(&self) -> Option<Asked> {
        Some(self.pool.traffic.asked())
    }

    fn leases(&self) -> Option<Leases> {
        Some(Leases::new(Arc::clone(&self.pool)))
    }

    fn limit_key(&self) -> Result<Option<Vec<u8>>, StorageError> {
        let key: String = self.pool.read(|database| database.one("SELECT key::text FROM limit_key", &[]))?;
        Ok(Some(key.into_bytes()))
    }

    fn tell_counts(&self, text: &str) -> Result<(), StorageError> {
        self.pool.read(|database| writes::tell_counts(database, text))
    }

    fn hear_counts(&self, heard: Heard) {
        self.records.hear_counts(heard);
    }

    fn devices(&self) -> Option<SharedDevices> {
        Some(SharedDevices::new(Arc::clone(&self.pool)))
    }

    fn secrets(&self) -> Option<SharedSecrets> {
        Some(SharedSecrets(Arc::clone(&self.pool)))
    }

    fn outbox(&self) -> Option<Arc<dyn Outbox>> {
        Some(Arc::new(outbox::SharedOutbox(Arc::clone(&self.pool))))
    }

    fn listen(&self, removed: Removed) -> Result<(), StorageError> {
        listen::start(self.address.clone(), &self.records, removed)
    }

    fn tell_removed(&self, digest: &Digest) -> Result<(), StorageError> {
        self.pool.read(|database| writes::tell_removed(database, digest))
    }

    fn blob(&self, repository: &str, digest: &Digest) -> Result<Option<BlobRecord>, StorageError> {
        if let Some(known) = self.records.blob(repository, digest) {
            return Ok(Some(known));
        }
        let since = self.records.moment();
        let found = self.pool.read(|database| reads::blob(database, repository, digest))?;
        Ok(found.map(|(id, record)| {
            self.records.keep_blob((repository, id), digest, record, since);
            record
        }))
    }

    fn renew(&self, repository: &str, digest: &Digest, now: i64) -> Result<(), StorageError> {
        let done = self.pool.write(|database| {
            Locks::default().share(repository).take(database)?;
            writes::renew(database, repository, digest, now)
        });
        self.records.changed_here(repository);
        done
    }

    fn blob_elsewhere(&self, digest: &Digest, from: Option<&str>) -> Result<Option<u64>, StorageError> {
        if from.is_some_and(|from| row::place(from) != from) {
            // no repository is called so
            return Ok(None);
        }
        self.pool.read(|database| reads::blob_elsewhere(database, digest, from))
    }

    fn manifest(&self, repository: &str, key: &ManifestKey) -> Result<ManifestRecord, StorageError> {
        if let Some(known) = self.records.manifest(repository, key) {
            return Ok(known);
        }
        let since = self.records.moment();
        let (id, record) = self.pool.read(|database| reads::manifest(database, repository, key))?;
        self.records.keep_manifest((repository, id), key, &record, since);
        Ok(record)
    }

    fn tags(&self, repository: &str, last: &str, count: u64) -> Result<Vec<String>, StorageError> {
        self.pool.read(|database| reads::tags(database, repository, row::place(last), count))
    }

    fn repositories(&self, last: &str, count: u64) -> Result<Vec<String>, StorageError> {
        self.pool.read(|database| reads::repositories(database, row::place(last), count))
    }

    fn referrers(
        &self,
        repository: &str,
        subject: &Digest,
        page: &ReferrersPage,
    ) -> Result<(Vec<Referrer>, bool), StorageError> {
        self.pool.read(|database| reads::referrers(database, repository, subject, page))
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
        self.pool.write(|database| {
            Locks::default().within(bounds).share(repository).point(digest).take(database)?;
            tally::within(database, bounds, |database| {
                writes::put_blob(database, repository, digest, size_bytes, now)
            })?;
            session.map_or(Ok(()), |id| sessions::end(database, id))
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
        self.pool.write(|database| {
            Locks::default().within(bounds).share(repository).point(digest).take(database)?;
            tally::within(database, bounds, |database| writes::mount(database, repository, digest, from, now))
        })
    }

    fn put_manifest(
        &self,
        repository: &str,
        manifest: &NewManifest,
        bounds: &[Bound],
        change: &Change,
    ) -> Result<(), StorageError> {
        let done = self.pool.write(|database| {
            let digest = &manifest.record.digest;
            Locks::default().within(bounds).own(repository).point(digest).take(database)?;
            tally::within(database, bounds, |database| {
                writes::put_manifest(database, repository, manifest, change)
            })
        });
        self.records.changed_here(repository);
        done
    }

    fn delete_blob(
        &self,
        repository: &str,
        digest: &Digest,
        removal: &Removal,
    ) -> Result<bool, StorageError> {
        let done = self.pool.write(|database| {
            Locks::default().own(repository).condemn(digest).take(database)?;
            writes::delete_blob(database, repository, digest, removal)
        });
        self.records.changed_here(repository);
        done
    }

    fn delete_manifest(
        &self,
        repository: &str,
        key: &ManifestKey,
        removal: &Removal,
    ) -> Result<Option<Digest>, StorageError> {
        let done = self.pool.write(|database| {
            let locks = Locks::default().own(repository);
            match key {
                ManifestKey::Digest(digest) => locks.condemn(digest).take(database)?,
                ManifestKey::Tag(_) => locks.take(database)?,
            }
            writes::delete_manifest(database, repository, key, removal)
        });
        self.records.changed_here(repository);
        done
    }

    fn candidates(
        &self,
        reason: Reason,
        repository: Option<&str>,
        before: i64,
        count: u64,
    ) -> Result<Vec<Candidate>, StorageError> {
        self.pool.read(|database| life::candidates(database, reason, repository, before, count))
    }

    fn collect(
        &self,
        pointers: &[Pointer],
        reason: Reason,
        before: i64,
        trash: bool,
        now: i64,
        _durable: bool,
    ) -> Result<(u64, Vec<Digest>), StorageError> {
        let done = self.pool.write(|database| {
            let locks = pointers.iter().fold(Locks::default(), |locks, pointer| {
                let locks = locks.own(&pointer.repository);
                if life::stays(pointer, reason, trash) { locks } else { locks.condemn(&pointer.digest) }
            });
            locks.take(database)?;
            life::collect(database, pointers, reason, before, trash, now)
        });
        pointers.iter().for_each(|pointer| self.records.changed_here(&pointer.repository));
        done
    }

    fn undelete(
        &self,
        repository: &str,
        digest: &Digest,
        bounds: &[Bound],
        now: i64,
    ) -> Result<Undeleted, StorageError> {
        let done = self.pool.write(|database| {
            Locks::default().within(bounds).own(repository).take(database)?;
            tally::within(database, bounds, |database| life::undelete(database, repository, digest, now))
        });
        self.records.changed_here(repository);
        done
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
        let done = self.pool.write(|database| {
            Locks::default().within(bounds).own(repository).take(database)?;
            tally::within(database, bounds, |database| {
                history::set(database, repository, tag, digest, condition, change)
            })
        });
        self.records.changed_here(repository);
        done
    }

    fn tag_history(
        &self,
        repository: &str,
        tag: Option<&str>,
        before: i64,
        count: u64,
    ) -> Result<Vec<TagEvent>, StorageError> {
        self.pool.read(|database| history::list(database, repository, tag, before, count))
    }

    fn tag_facts(&self, repository: &str, last: &str, count: u64) -> Result<Vec<TagFacts>, StorageError> {
        self.pool.read(|database| history::facts(database, repository, row::place(last), count))
    }

    fn usage(&self, repository: &str) -> Result<Usage, StorageError> {
        self.pool.read(|database| reads::usage(database, repository))
    }

    fn used(&self, scope: &Scope) -> Result<Used, StorageError> {
        self.pool.read(|database| tally::used(database, scope))
    }

    fn all_used(&self, of: Kin, last: &str, count: u64) -> Result<Vec<(String, Used)>, StorageError> {
        self.pool.read(|database| tally::all(database, of, row::place(last), count))
    }

    fn record_pulls(&self, pulls: &[Pulls]) -> Result<(), StorageError> {
        self.pool.write(|database| {
            let locks = pulls.iter().fold(Locks::default(), |locks, one| locks.share(&one.repository));
            locks.take(database)?;
            history::record_pulls(database, pulls)
        })
    }

    fn contents(&self, last: &str, count: u64) -> Result<Vec<(Digest, u64)>, StorageError> {
        self.pool.read(|database| reads::contents(database, last, count))
    }

    fn content_bytes(&self) -> Result<u64, StorageError> {
        self.pool.write(survey::content_bytes)
    }

    fn survey(&self) -> Result<Survey, StorageError> {
        self.pool.write(survey::survey)
    }

    fn is_needed(&self, digest: &Digest) -> Result<bool, StorageError> {
        self.pool.read(|database| reads::is_needed(database, digest))
    }

    fn condemn(&self, digest: &Digest, now: i64) -> Result<bool, StorageError> {
        self.pool.write(|database| {
            Locks::default().condemn(digest).take(database)?;
            writes::condemn(database, digest, now)
        })
    }

    fn condemned(&self, before: i64, count: u64) -> Result<Vec<Digest>, StorageError> {
        self.pool.read(|database| reads::condemned(database, before, count))
    }

    fn forget(&self, digests: &[Digest]) -> Result<(), StorageError> {
        self.pool.read(|database| writes::forget(database, digests))
    }

    fn start_session(
        &self,
        repository: &str,
        id: &UploadId,
        session: &Session,
        caps: SessionCaps,
        now: i64,
    ) -> Result<(), StorageError> {
        self.pool.write(|database| sessions::start(database, repository, id, session, caps, now))
    }

    fn session(&self, repository: &str, id: &UploadId) -> Result<Session, StorageError> {
        self.pool.read(|database| sessions::find(database, repository, id))
    }

    fn advance_session(
        &self,
        id: &UploadId,
        from: u64,
        progress: &Progress,
        now: i64,
    ) -> Result<(), StorageError> {
        self.pool.write(|database| sessions::advance(database, id, from, progress, now))
    }

    fn end_session(&self, id: &UploadId) -> Result<(), StorageError> {
        self.pool.read(|database| sessions::end(database, id))
    }

    fn idle_sessions(
        &self,
        repository: Option<&str>,
        before: i64,
        count: u64,
    ) -> Result<Vec<UploadId>, StorageError> {
        self.pool.read(|database| sessions::idle(database, repository, before, count))
    }

    fn has_session(&self, id: &UploadId) -> Result<bool, StorageError> {
        self.pool.read(|database| sessions::exists(database, id))
    }

    fn holders(&self, digest: &Digest, last: &str, count: u64) -> Result<Vec<String>, StorageError> {
        self.pool.read(|database| reads::holders(database, digest, row::place(last), count))
    }

    fn places(&self, digest: &Digest, count: u64) -> Result<Vec<String>, StorageError> {
        self.pool.read(|database| reads::places(database, digest, count))
    }

    fn counts(&self) -> Result<Option<Counts>, StorageError> {
        self.pool.read(reads::counts).map(Some)
    }

    fn reseal_key(&self, id: &str, from: &[u8], to: &[u8]) -> Result<(), StorageError> {
        self.pool.read(|database| sessions::reseal(database, id, from, to))
    }

    fn signing_keys(&self) -> Result<Vec<SigningKey>, StorageError> {
        self.pool.read(sessions::keys)
    }

    fn add_signing_key(&self, key: &SigningKey, young: i64, old: i64) -> Result<(), StorageError> {
        self.pool.write(|database| sessions::add_key(database, key, young, old))
    }
}
