//! Pointers in memory: for tests, and for a registry that may forget everything.

use super::{
    IsImmutable, Kept, ManifestKey, ManifestRecord, NewManifest, Pointers, Progress, Referrer, ReferrersPage,
    Required, Session, SessionCaps, SigningKey,
};
use crate::{
    limits,
    server::storage::{StorageError, UploadId},
};
use slipway_oci::Digest;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Bound,
    sync::{Mutex, MutexGuard},
};

/// Pointers in memory.
#[derive(Default)]
pub struct MemoryPointers(Mutex<State>);

#[derive(Default)]
struct State {
    repositories: BTreeMap<String, Repository>,
    condemned: BTreeMap<Digest, i64>,
    sessions: HashMap<UploadId, Held>,
    keys: Vec<SigningKey>,
}

#[derive(Default)]
struct Repository {
    blobs: BTreeMap<Digest, u64>,
    manifests: BTreeMap<Digest, NewManifest>,
    tags: BTreeMap<String, Digest>,
}

struct Held {
    repository: String,
    session: Session,
    touched: i64,
}

impl Repository {
    /// The size of what an edge leads to.
    fn size(&self, required: &Required) -> Option<u64> {
        let manifest = || {
            let found = self.manifests.get(&required.digest).filter(|_| required.manifest);
            found.map(|manifest| manifest.record.size_bytes)
        };
        self.blobs.get(&required.digest).copied().or_else(manifest)
    }

    fn check(&self, required: &Required) -> Result<(), StorageError> {
        match self.size(required) {
            Some(actual) if actual != required.size_bytes => Err(StorageError::ReferenceSize {
                digest: required.digest.clone(),
                claimed: required.size_bytes,
                actual,
            }),
            None if !required.optional => Err(StorageError::ReferenceUnknown(required.digest.clone())),
            _ => Ok(()),
        }
    }

    /// The manifest that needs a blob.
    fn needs(&self, digest: &Digest) -> Option<&Digest> {
        let as_manifest = self.manifests.contains_key(digest);
        let edge = |required: &Required| required.digest == *digest && !(required.manifest && as_manifest);
        self.manifests.iter().find(|(_, manifest)| manifest.required.iter().any(edge)).map(|(found, _)| found)
    }
}

impl State {
    fn known(&self, name: &str) -> Result<&Repository, StorageError> {
        self.repositories.get(name).ok_or_else(|| StorageError::RepositoryUnknown(name.to_owned()))
    }

    fn known_mut(&mut self, name: &str) -> Result<&mut Repository, StorageError> {
        self.repositories.get_mut(name).ok_or_else(|| StorageError::RepositoryUnknown(name.to_owned()))
    }

    fn not_condemned(&self, digest: &Digest) -> Result<(), StorageError> {
        if self.condemned.contains_key(digest) {
            Err(StorageError::Condemned(digest.clone()))
        } else {
            Ok(())
        }
    }

    fn is_needed(&self, digest: &Digest) -> bool {
        let has = |repository: &Repository| {
            repository.blobs.contains_key(digest) || repository.manifests.contains_key(digest)
        };
        self.repositories.values().any(has)
    }

    fn condemn(&mut self, digest: &Digest, now: i64) -> bool {
        let free = !self.is_needed(digest);
        if free {
            self.condemned.entry(digest.clone()).or_insert(now);
        }
        free
    }

    fn blob(&self, digest: &Digest, from: Option<&str>) -> Option<u64> {
        let mut found = self.repositories.iter().filter(|(name, _)| from.is_none_or(|from| *name == from));
        found.find_map(|(_, repository)| repository.blobs.get(digest).copied())
    }
}

impl MemoryPointers {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic happens while the state is held")
    }
}

/// `count` names after `last`.
fn page<'a, V: 'a>(
    names: &'a BTreeMap<String, V>,
    last: &str,
    keep: impl Fn(&V) -> bool,
    count: u64,
) -> Vec<String> {
    let after = names.range::<str, _>((Bound::Excluded(last), Bound::Unbounded));
    let kept = after.filter(|(_, value)| keep(value)).map(|(name, _)| name.clone());
    kept.take(count as usize).collect()
}

impl Pointers for MemoryPointers {
    fn blob_size(&self, repository: &str, digest: &Digest) -> Result<Option<u64>, StorageError> {
        Ok(self.state().blob(digest, Some(repository)))
    }

    fn blob_elsewhere(&self, digest: &Digest, from: Option<&str>) -> Result<Option<u64>, StorageError> {
        Ok(self.state().blob(digest, from))
    }

    fn manifest(&self, repository: &str, key: &ManifestKey) -> Result<ManifestRecord, StorageError> {
        let state = self.state();
        let repository = state.known(repository)?;
        let digest = match key {
            ManifestKey::Tag(tag) => repository.tags.get(tag),
            ManifestKey::Digest(digest) => Some(digest),
        };
        let found = digest.and_then(|digest| repository.manifests.get(digest));
        found.map(|found| found.record.clone()).ok_or_else(|| StorageError::ManifestUnknown(key.to_string()))
    }

    fn tags(&self, repository: &str, last: &str, count: u64) -> Result<Vec<String>, StorageError> {
        Ok(page(&self.state().known(repository)?.tags, last, |_| true, count))
    }

    fn repositories(&self, last: &str, count: u64) -> Result<Vec<String>, StorageError> {
        let shown = |repository: &Repository| !repository.manifests.is_empty();
        Ok(page(&self.state().repositories, last, shown, count))
    }

    fn referrers(
        &self,
        repository: &str,
        subject: &Digest,
        page: &ReferrersPage,
    ) -> Result<(Vec<Referrer>, bool), StorageError> {
        let state = self.state();
        let Some(repository) = state.repositories.get(repository) else { return Ok((Vec::new(), false)) };
        let wanted = |(digest, manifest): &(&Digest, &NewManifest)| {
            manifest.subject.as_ref() == Some(subject)
                && digest.to_string() > page.last
                && (page.artifact_type.is_none() || page.artifact_type == manifest.artifact_type)
        };
        let (mut found, mut bytes) = (Vec::new(), 0);
        for (_, manifest) in repository.manifests.iter().filter(wanted) {
            bytes += manifest.annotations.as_ref().map_or(0, String::len);
            let full = found.len() >= limits::REFERRERS_ENTRIES || bytes > limits::REFERRERS_BYTES;
            if full && !found.is_empty() {
                return Ok((found, true));
            }
            found.push(Referrer {
                record: manifest.record.clone(),
                artifact_type: manifest.artifact_type.clone(),
                annotations: manifest.annotations.clone(),
            });
        }
        Ok((found, false))
    }

    fn put_blob(
        &self,
        repository: &str,
        digest: &Digest,
        size_bytes: u64,
        session: Option<&UploadId>,
    ) -> Result<(), StorageError> {
        let mut state = self.state();
        state.not_condemned(digest)?;
        let repository = state.repositories.entry(repository.to_owned()).or_default();
        repository.blobs.insert(digest.clone(), size_bytes);
        session.map(|id| state.sessions.remove(id));
        Ok(())
    }

    fn mount(&self, repository: &str, digest: &Digest, from: Option<&str>) -> Result<bool, StorageError> {
        let mut state = self.state();
        let Some(size) = state.blob(digest, from) else { return Ok(false) };
        let repository = state.repositories.entry(repository.to_owned()).or_default();
        repository.blobs.entry(digest.clone()).or_insert(size);
        Ok(true)
    }

    fn put_manifest(&self, repository: &str, manifest: &NewManifest, _: i64) -> Result<(), StorageError> {
        let mut state = self.state();
        let record = &manifest.record;
        state.not_condemned(&record.digest)?;
        let nothing = Repository::default();
        let found = state.repositories.get(repository).unwrap_or(&nothing);
        manifest.required.iter().try_for_each(|required| found.check(required))?;
        if let Some(stored) = found.manifests.get(&record.digest).map(|stored| &stored.record.media_type)
            && *stored != record.media_type
        {
            return Err(StorageError::OtherType {
                digest: record.digest.clone(),
                stored: stored.clone(),
                pushed: record.media_type.clone(),
            });
        }
        for (tag, why) in &manifest.kept {
            let moves = found.tags.get(tag).is_some_and(|own| *own != record.digest);
            match why {
                Kept::Immutable if moves => return Err(StorageError::TagImmutable { tag: tag.clone() }),
                Kept::Foreign if moves => return Err(StorageError::TagTaken { tag: tag.clone() }),
                _ => {}
            }
        }
        let repository = state.repositories.entry(repository.to_owned()).or_default();
        repository.manifests.entry(record.digest.clone()).or_insert_with(|| manifest.clone());
        for tag in &manifest.tags {
            repository.tags.insert(tag.clone(), record.digest.clone());
        }
        Ok(())
    }

    fn delete_blob(&self, repository: &str, digest: &Digest, now: i64) -> Result<bool, StorageError> {
        let mut state = self.state();
        let repository = state.known_mut(repository)?;
        if !repository.blobs.contains_key(digest) {
            return Err(StorageError::BlobUnknown(digest.clone()));
        }
        if let Some(manifest) = repository.needs(digest) {
            let manifest = manifest.to_string();
            return Err(StorageError::BlobNeeded { digest: digest.clone(), manifest });
        }
        repository.blobs.remove(digest);
        Ok(state.condemn(digest, now))
    }

    fn delete_manifest(
        &self,
        repository: &str,
        key: &ManifestKey,
        immutable: &IsImmutable,
        now: i64,
    ) -> Result<Option<Digest>, StorageError> {
        let mut state = self.state();
        let repository = state.known_mut(repository)?;
        let unknown = || StorageError::ManifestUnknown(key.to_string());
        match key {
            ManifestKey::Tag(tag) if immutable(tag) => Err(StorageError::TagImmutable { tag: tag.clone() }),
            ManifestKey::Tag(tag) => repository.tags.remove(tag).map(|_| None).ok_or_else(unknown),
            ManifestKey::Digest(digest) => {
                let mut on_it = repository.tags.iter().filter(|(_, tagged)| *tagged == digest);
                if let Some((tag, _)) = on_it.find(|(tag, _)| immutable(tag)) {
                    return Err(StorageError::TagImmutable { tag: tag.clone() });
                }
                repository.manifests.remove(digest).ok_or_else(unknown)?;
                repository.tags.retain(|_, tagged| tagged != digest);
                Ok(state.condemn(digest, now).then(|| digest.clone()))
            }
        }
    }

    fn is_needed(&self, digest: &Digest) -> Result<bool, StorageError> {
        Ok(self.state().is_needed(digest))
    }

    fn condemn(&self, digest: &Digest, now: i64) -> Result<bool, StorageError> {
        Ok(self.state().condemn(digest, now))
    }

    fn condemned(&self, before: i64, count: u64) -> Result<Vec<Digest>, StorageError> {
        let state = self.state();
        let old = state.condemned.iter().filter(|(_, since)| **since < before);
        Ok(old.map(|(digest, _)| digest.clone()).take(count as usize).collect())
    }

    fn forget(&self, digest: &Digest) -> Result<(), StorageError> {
        self.state().condemned.remove(digest);
        Ok(())
    }

    fn start_session(
        &self,
        repository: &str,
        id: &UploadId,
        session: &Session,
        caps: SessionCaps,
        now: i64,
    ) -> Result<(), StorageError> {
        let mut state = self.state();
        let mine = state.sessions.values().filter(|held| held.repository == repository).count() as u64;
        if mine >= caps.repository || state.sessions.len() as u64 >= caps.registry {
            return Err(StorageError::SessionsMany);
        }
        let held = Held { repository: repository.to_owned(), session: session.clone(), touched: now };
        state.sessions.insert(id.clone(), held);
        Ok(())
    }

    fn session(&self, repository: &str, id: &UploadId) -> Result<Session, StorageError> {
        let state = self.state();
        let held = state.sessions.get(id).filter(|held| held.repository == repository);
        held.map(|held| held.session.clone()).ok_or(StorageError::UploadUnknown)
    }

    fn advance_session(
        &self,
        id: &UploadId,
        from: u64,
        progress: &Progress,
        now: i64,
    ) -> Result<(), StorageError> {
        let mut state = self.state();
        let held = state.sessions.get_mut(id).ok_or(StorageError::UploadUnknown)?;
        if held.session.progress.length != from {
            return Err(StorageError::UploadBusy);
        }
        held.session.progress = progress.clone();
        held.touched = now;
        Ok(())
    }

    fn end_session(&self, id: &UploadId) -> Result<(), StorageError> {
        self.state().sessions.remove(id);
        Ok(())
    }

    fn idle_sessions(
        &self,
        repository: Option<&str>,
        before: i64,
        count: u64,
    ) -> Result<Vec<UploadId>, StorageError> {
        let state = self.state();
        let idle = state.sessions.iter().filter(|(_, held)| {
            held.touched < before && repository.is_none_or(|name| held.repository == name)
        });
        let oldest: BTreeSet<(i64, UploadId)> = idle.map(|(id, held)| (held.touched, id.clone())).collect();
        Ok(oldest.into_iter().map(|(_, id)| id).take(count as usize).collect())
    }

    fn has_session(&self, id: &UploadId) -> Result<bool, StorageError> {
        Ok(self.state().sessions.contains_key(id))
    }

    fn holders(&self, digest: &Digest, last: &str, count: u64) -> Result<Vec<String>, StorageError> {
        let has = |repository: &Repository| repository.blobs.contains_key(digest);
        Ok(page(&self.state().repositories, last, has, count))
    }

    fn signing_keys(&self) -> Result<Vec<SigningKey>, StorageError> {
        Ok(self.state().keys.clone())
    }

    fn add_signing_key(&self, key: &SigningKey, young: i64, old: i64) -> Result<(), StorageError> {
        let mut state = self.state();
        state.keys.retain(|own| own.created >= old);
        if state.keys.iter().all(|own| own.created <= young) {
            state.keys.push(key.clone());
        }
        Ok(())
    }
}
