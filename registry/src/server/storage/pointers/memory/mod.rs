//! Pointers in memory: for tests, and for a registry that may forget everything.

mod repository;
mod state;
mod tally;
mod usage;

use super::{
    BlobRecord, Bound, Candidate, Change, Condition, Kin, Kind, ManifestKey, ManifestRecord, NewManifest,
    Pointer, Pointers, Progress, Pulls, Reason, Referrer, ReferrersPage, Removal, Scope, Session,
    SessionCaps, SigningKey, Survey, TagEvent, TagFacts, Undeleted, Usage, Used,
};
use crate::{
    limits,
    server::storage::{StorageError, UploadId},
};
use repository::Repository;
use slipway_oci::Digest;
use state::{Held, State};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound as End,
    sync::{Mutex, MutexGuard},
};

/// Pointers in memory.
#[derive(Default)]
pub struct MemoryPointers(Mutex<State>);

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
    let after = names.range::<str, _>((End::Excluded(last), End::Unbounded));
    let kept = after.filter(|(_, value)| keep(value)).map(|(name, _)| name.clone());
    kept.take(count as usize).collect()
}

impl Pointers for MemoryPointers {
    fn blob(&self, repository: &str, digest: &Digest) -> Result<Option<BlobRecord>, StorageError> {
        let state = self.state();
        let found = state.repositories.get(repository).and_then(|repository| repository.blob(digest));
        Ok(found.map(|blob| BlobRecord { size_bytes: blob.size, loose: blob.loose }))
    }

    fn renew(&self, repository: &str, digest: &Digest, now: i64) -> Result<(), StorageError> {
        let mut state = self.state();
        let found = state.repositories.get_mut(repository);
        let blob = found.and_then(|repository| repository.blobs.get_mut(digest));
        if let Some(blob) = blob.filter(|blob| blob.loose.is_some()) {
            blob.loose = Some(now);
        }
        Ok(())
    }

    fn blob_elsewhere(&self, digest: &Digest, from: Option<&str>) -> Result<Option<u64>, StorageError> {
        Ok(self.state().blob(digest, from))
    }

    fn manifest(&self, repository: &str, key: &ManifestKey) -> Result<ManifestRecord, StorageError> {
        let state = self.state();
        let repository = state.known(repository)?;
        let digest = match key {
            ManifestKey::Tag(tag) => repository.tags.get(tag).map(|tag| &tag.digest),
            ManifestKey::Digest(digest) => Some(digest),
        };
        let found = digest.and_then(|digest| repository.manifest(digest));
        found.map(|found| found.record.clone()).ok_or_else(|| StorageError::ManifestUnknown(key.to_string()))
    }

    fn tags(&self, repository: &str, last: &str, count: u64) -> Result<Vec<String>, StorageError> {
        Ok(page(&self.state().known(repository)?.tags, last, |_| true, count))
    }

    fn repositories(&self, last: &str, count: u64) -> Result<Vec<String>, StorageError> {
        let shown = |repository: &Repository| repository.live().next().is_some();
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
        for (_, manifest) in repository.live().filter(wanted) {
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
        bounds: &[Bound],
        now: i64,
    ) -> Result<(), StorageError> {
        let mut state = self.state();
        state.not_condemned(digest)?;
        state.within(repository, bounds, |state| {
            let own = state.repositories.entry(repository.to_owned()).or_default();
            own.put_blob(digest, size_bytes, now);
            Ok(())
        })?;
        session.map(|id| state.sessions.remove(id));
        Ok(())
    }

    fn mount(
        &self,
        repository: &str,
        digest: &Digest,
        from: Option<&str>,
        bounds: &[Bound],
        now: i64,
    ) -> Result<bool, StorageError> {
        let mut state = self.state();
        let Some(size) = state.blob(digest, from) else { return Ok(false) };
        state.within(repository, bounds, |state| {
            state.repositories.entry(repository.to_owned()).or_default().put_blob(digest, size, now);
            Ok(true)
        })
    }

    fn put_manifest(
        &self,
        repository: &str,
        manifest: &NewManifest,
        bounds: &[Bound],
        change: &Change,
    ) -> Result<(), StorageError> {
        let mut state = self.state();
        state.not_condemned(&manifest.record.digest)?;
        let nothing = Repository::default();
        state.repositories.get(repository).unwrap_or(&nothing).judge(manifest)?;
        state.within(repository, bounds, |state| {
            let State { repositories, number, .. } = state;
            repositories.entry(repository.to_owned()).or_default().put_manifest(manifest, change, number);
            Ok(())
        })
    }

    fn delete_blob(
        &self,
        repository: &str,
        digest: &Digest,
        removal: &Removal,
    ) -> Result<bool, StorageError> {
        let mut state = self.state();
        let gone = state.known_mut(repository)?.0.delete_blob(digest, removal)?;
        Ok(gone && state.condemn(digest, removal.change.at))
    }

    fn delete_manifest(
        &self,
        repository: &str,
        key: &ManifestKey,
        removal: &Removal,
    ) -> Result<Option<Digest>, StorageError> {
        let mut state = self.state();
        let (repository, number) = state.known_mut(repository)?;
        let gone = repository.delete_manifest(key, removal, number)?;
        Ok(gone.filter(|digest| state.condemn(digest, removal.change.at)))
    }

    fn candidates(
        &self,
        reason: Reason,
        repository: Option<&str>,
        before: i64,
        count: u64,
    ) -> Result<Vec<Candidate>, StorageError> {
        let state = self.state();
        let mut found = Vec::new();
        for kind in [Kind::Manifest, Kind::Blob] {
            let mut of_kind = Vec::new();
            let named = |name: &String| repository.is_none_or(|wanted| name == wanted);
            for (name, repository) in state.repositories.iter().filter(|(name, _)| named(name)) {
                let digests: Vec<&Digest> = match kind {
                    Kind::Manifest => repository.manifests.keys().collect(),
                    Kind::Blob => repository.blobs.keys().collect(),
                };
                for digest in digests {
                    let Some((since, size_bytes)) = repository.since(kind, digest, reason) else { continue };
                    let pointer = Pointer { repository: name.clone(), kind, digest: digest.clone() };
                    of_kind.push(Candidate { pointer, size_bytes, since });
                }
            }
            of_kind.retain(|candidate| candidate.since < before);
            of_kind.sort_by_key(|one| (one.since, one.pointer.clone()));
            found.extend(of_kind);
        }
        found.truncate(count as usize);
        Ok(found)
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
        let mut state = self.state();
        let (mut gone, mut condemned) = (0, Vec::new());
        for Pointer { repository, kind, digest } in pointers {
            let Ok((repository, _)) = state.known_mut(repository) else { continue };
            let since = repository.since(*kind, digest, reason);
            if since.is_none_or(|(since, _)| since >= before) {
                continue;
            }
            gone += 1;
            let stays = trash && *kind == Kind::Manifest && reason != Reason::Trashed;
            match (kind, reason) {
                (Kind::Blob, _) => drop(repository.blobs.remove(digest)),
                (Kind::Manifest, Reason::Trashed) => repository.drop_manifest(digest, now),
                (Kind::Manifest, _) => repository.remove_manifest(digest, trash, now),
            }
            if !stays && state.condemn(digest, now) {
                condemned.push(digest.clone());
            }
        }
        Ok((gone, condemned))
    }

    fn undelete(
        &self,
        repository: &str,
        digest: &Digest,
        bounds: &[Bound],
        now: i64,
    ) -> Result<Undeleted, StorageError> {
        self.state().within(repository, bounds, |state| {
            state.known_mut(repository)?.0.undelete(repository, digest, now)
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
        self.state().within(repository, bounds, |state| {
            let (repository, number) = state.known_mut(repository)?;
            repository.set_tag(tag, digest, condition, change, number)
        })
    }

    fn tag_history(
        &self,
        repository: &str,
        tag: Option<&str>,
        before: i64,
        count: u64,
    ) -> Result<Vec<TagEvent>, StorageError> {
        let state = self.state();
        let events = state.known(repository)?.history.iter().rev();
        let wanted = |event: &&TagEvent| event.number < before && tag.is_none_or(|tag| event.tag == tag);
        Ok(events.filter(wanted).take(count as usize).cloned().collect())
    }

    fn tag_facts(&self, repository: &str, last: &str, count: u64) -> Result<Vec<TagFacts>, StorageError> {
        let state = self.state();
        let tags = &state.known(repository)?.tags;
        let after = tags.range::<str, _>((End::Excluded(last), End::Unbounded));
        let facts = after.map(|(name, tag)| TagFacts {
            tag: name.clone(),
            digest: tag.digest.clone(),
            updated: tag.updated,
            pulled: tag.pulled,
            pulls: tag.pulls,
        });
        Ok(facts.take(count as usize).collect())
    }

    fn usage(&self, name: &str) -> Result<Usage, StorageError> {
        Ok(usage::of(&self.state().repositories, name))
    }

    fn used(&self, scope: &Scope) -> Result<Used, StorageError> {
        Ok(tally::of(&self.state().repositories, scope))
    }

    fn all_used(&self, of: Kin, last: &str, count: u64) -> Result<Vec<(String, Used)>, StorageError> {
        Ok(tally::all(&self.state().repositories, of, last, count))
    }

    fn record_pulls(&self, pulls: &[Pulls]) -> Result<(), StorageError> {
        let mut state = self.state();
        for one in pulls {
            let Some(repository) = state.repositories.get_mut(&one.repository) else { continue };
            let meant = |(name, tag): &(&String, &mut repository::Tag)| match &one.key {
                ManifestKey::Tag(wanted) => *name == wanted,
                ManifestKey::Digest(digest) => tag.digest == *digest,
            };
            for (_, tag) in repository.tags.iter_mut().filter(meant) {
                tag.pulled = tag.pulled.max(Some(one.at));
                tag.pulls += one.count;
            }
        }
        Ok(())
    }

    fn content_bytes(&self) -> Result<u64, StorageError> {
        Ok(self.contents("", u64::MAX)?.iter().map(|(_, size)| size).sum())
    }

    fn survey(&self) -> Result<Survey, StorageError> {
        // everything is counted when it is asked for, and nothing here outlives its process
        Ok(Survey::default())
    }

    fn contents(&self, last: &str, count: u64) -> Result<Vec<(Digest, u64)>, StorageError> {
        let state = self.state();
        let mut all: BTreeMap<String, (Digest, u64)> = BTreeMap::new();
        for repository in state.repositories.values() {
            let blobs = repository.blobs.iter().map(|(digest, blob)| (digest, blob.size));
            let manifests = repository.manifests.iter();
            let manifests = manifests.map(|(digest, stored)| (digest, stored.manifest.record.size_bytes));
            all.extend(
                blobs.chain(manifests).map(|(digest, size)| (digest.to_string(), (digest.clone(), size))),
            );
        }
        let after = all.range::<str, _>((End::Excluded(last), End::Unbounded));
        Ok(after.map(|(_, content)| content.clone()).take(count as usize).collect())
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

    fn forget(&self, digests: &[Digest]) -> Result<(), StorageError> {
        let mut state = self.state();
        state.condemned.retain(|digest, _| !digests.contains(digest));
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
        let has = |repository: &Repository| repository.blob(digest).is_some();
        Ok(page(&self.state().repositories, last, has, count))
    }

    fn places(&self, digest: &Digest, count: u64) -> Result<Vec<String>, StorageError> {
        let points = |repository: &Repository| {
            repository.blobs.contains_key(digest) || repository.manifests.contains_key(digest)
        };
        Ok(page(&self.state().repositories, "", points, count))
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
