//! One repository in memory: what it has, and what holds what.

use crate::{
    limits,
    server::storage::{
        StorageError,
        pointers::{
            Change, Condition, Kept, Kind, ManifestKey, NewManifest, Pointer, Reason, Removal, Required,
            TagEvent, Undeleted,
        },
    },
};
use slipway_oci::Digest;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Default)]
pub(super) struct Repository {
    pub(super) blobs: BTreeMap<Digest, Blob>,
    pub(super) manifests: BTreeMap<Digest, Stored>,
    pub(super) tags: BTreeMap<String, Tag>,
    pub(super) history: Vec<TagEvent>,
}

#[derive(Clone)]
pub(super) struct Blob {
    pub(super) size: u64,
    pub(super) loose: Option<i64>,
    pub(super) deleted: Option<i64>,
    /// Whether it counts for quotas.
    pub(super) counted: bool,
}

#[derive(Clone)]
pub(super) struct Stored {
    pub(super) manifest: NewManifest,
    pub(super) loose: Option<i64>,
    pub(super) orphan: bool,
    pub(super) deleted: Option<i64>,
}

#[derive(Clone)]
pub(super) struct Tag {
    pub(super) digest: Digest,
    pub(super) updated: i64,
    pub(super) pulled: Option<i64>,
    pub(super) pulls: u64,
}

impl Repository {
    pub(super) fn blob(&self, digest: &Digest) -> Option<&Blob> {
        self.blobs.get(digest).filter(|blob| blob.deleted.is_none())
    }

    pub(super) fn manifest(&self, digest: &Digest) -> Option<&NewManifest> {
        self.manifests.get(digest).filter(|stored| stored.deleted.is_none()).map(|stored| &stored.manifest)
    }

    /// Manifests that are not in the trash.
    pub(super) fn live(&self) -> impl Iterator<Item = (&Digest, &NewManifest)> {
        let live = self.manifests.iter().filter(|(_, stored)| stored.deleted.is_none());
        live.map(|(digest, stored)| (digest, &stored.manifest))
    }

    pub(super) fn check(&self, required: &Required) -> Result<(), StorageError> {
        let manifest = || self.manifest(&required.digest).filter(|_| required.manifest);
        let size = self.blob(&required.digest).map(|blob| blob.size);
        match size.or_else(|| manifest().map(|manifest| manifest.record.size_bytes)) {
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
    fn needs_blob(&self, digest: &Digest) -> Option<&Digest> {
        let as_manifest = self.manifest(digest).is_some();
        let edge = |required: &Required| required.digest == *digest && !(required.manifest && as_manifest);
        self.live().find(|(_, manifest)| manifest.required.iter().any(edge)).map(|(found, _)| found)
    }

    /// The index that needs a manifest.
    fn parent(&self, digest: &Digest) -> Option<&Digest> {
        let edge = |required: &Required| required.digest == *digest && required.manifest;
        self.live().find(|(_, manifest)| manifest.required.iter().any(edge)).map(|(found, _)| found)
    }

    /// Whether any manifest, in the trash too, names this.
    fn is_named(&self, digest: &Digest) -> bool {
        let names =
            |stored: &Stored| stored.manifest.required.iter().any(|required| required.digest == *digest);
        self.manifests.values().any(names)
    }

    fn is_held(&self, digest: &Digest) -> bool {
        let subject = self.manifests.get(digest).and_then(|stored| stored.manifest.subject.as_ref());
        self.tags.values().any(|tag| tag.digest == *digest)
            || subject.is_some_and(|subject| self.manifest(subject).is_some())
            || self.parent(digest).is_some()
    }

    pub(super) fn settle(&mut self, digest: &Digest, orphan: bool, now: i64) {
        let held = self.is_held(digest);
        let Some(stored) = self.manifests.get_mut(digest).filter(|stored| stored.deleted.is_none()) else {
            return;
        };
        stored.loose = (!held).then(|| stored.loose.unwrap_or(now));
        stored.orphan = !held && (orphan || stored.orphan);
    }

    pub(super) fn put_blob(&mut self, digest: &Digest, size: u64, now: i64) {
        let loose = (!self.is_named(digest)).then_some(now);
        self.blobs.insert(digest.clone(), Blob { size, loose, deleted: None, counted: true });
    }

    /// Refuses what may not be pushed.
    pub(super) fn judge(&self, manifest: &NewManifest) -> Result<(), StorageError> {
        let record = &manifest.record;
        for tag in &manifest.tags {
            manifest.condition.check(tag, self.tags.get(tag).map(|tag| &tag.digest))?;
        }
        if manifest.tags.is_empty() {
            let there = self.manifest(&record.digest).map(|_| &record.digest);
            manifest.condition.check(&record.digest.to_string(), there)?;
        }
        manifest.required.iter().try_for_each(|required| self.check(required))?;
        if let Some(stored) = self.manifest(&record.digest).map(|stored| &stored.record.media_type)
            && *stored != record.media_type
        {
            return Err(StorageError::OtherType {
                digest: record.digest.clone(),
                stored: stored.clone(),
                pushed: record.media_type.clone(),
            });
        }
        for (tag, why) in &manifest.kept {
            let moves = self.tags.get(tag).is_some_and(|own| own.digest != record.digest);
            match why {
                Kept::Immutable if moves => return Err(StorageError::TagImmutable { tag: tag.clone() }),
                Kept::Foreign if moves => return Err(StorageError::TagTaken { tag: tag.clone() }),
                _ => {}
            }
        }
        Ok(())
    }

    pub(super) fn put_manifest(&mut self, manifest: &NewManifest, change: &Change, number: &mut i64) {
        let digest = &manifest.record.digest;
        let stored = Stored { manifest: manifest.clone(), loose: None, orphan: false, deleted: None };
        self.manifests.insert(digest.clone(), stored);
        self.hold_below(digest);
        for tag in &manifest.tags {
            self.point(tag, digest, change, number);
        }
        self.settle(digest, false, change.at);
    }

    /// What a manifest holds is not loose any more.
    pub(super) fn hold_below(&mut self, digest: &Digest) {
        let Some(stored) = self.manifests.get(digest) else { return };
        for required in stored.manifest.required.clone() {
            if let Some(blob) = self.blobs.get_mut(&required.digest) {
                blob.loose = None;
                blob.counted |= blob.deleted.is_none();
            }
            self.settle(&required.digest, false, 0);
        }
        for other in self.attached(digest) {
            self.settle(&other, false, 0);
        }
    }

    fn attached(&self, digest: &Digest) -> Vec<Digest> {
        let attached = self.live().filter(|(_, manifest)| manifest.subject.as_ref() == Some(digest));
        attached.map(|(other, _)| other.clone()).collect()
    }

    fn note(
        &mut self,
        tag: &str,
        former: Option<Digest>,
        digest: Option<Digest>,
        change: &Change,
        number: &mut i64,
    ) {
        *number += 1;
        let event = TagEvent { number: *number, tag: tag.to_owned(), former, digest, change: change.clone() };
        self.history.push(event);
        let moves = |event: &&TagEvent| event.tag == tag;
        let beyond = self.history.iter().rev().filter(moves).nth(limits::TAG_MOVES as usize);
        if let Some(oldest) = beyond.map(|event| event.number) {
            self.history.retain(|event| event.tag != tag || event.number > oldest);
        }
    }

    pub(super) fn point(&mut self, tag: &str, digest: &Digest, change: &Change, number: &mut i64) {
        let former = self.tags.get(tag).map(|tag| tag.digest.clone());
        let (pulled, pulls) = self.tags.get(tag).map_or((None, 0), |tag| (tag.pulled, tag.pulls));
        self.tags.insert(tag.to_owned(), Tag { digest: digest.clone(), updated: change.at, pulled, pulls });
        if former.as_ref() != Some(digest) {
            self.note(tag, former.clone(), Some(digest.clone()), change, number);
            former.iter().for_each(|former| self.settle(former, false, change.at));
        }
        self.settle(digest, false, change.at);
    }

    fn unpoint(&mut self, tag: &str, change: &Change, number: &mut i64) {
        let Some(own) = self.tags.remove(tag) else { return };
        self.note(tag, Some(own.digest.clone()), None, change, number);
        self.settle(&own.digest, false, change.at);
    }

    pub(super) fn delete_blob(&mut self, digest: &Digest, removal: &Removal) -> Result<bool, StorageError> {
        if self.blob(digest).is_none() {
            return Err(StorageError::BlobUnknown(digest.clone()));
        }
        if let Some(manifest) = self.needs_blob(digest).filter(|_| !removal.force) {
            let manifest = manifest.to_string();
            return Err(StorageError::BlobNeeded { digest: digest.clone(), manifest });
        }
        match self.blobs.get_mut(digest) {
            Some(blob) if removal.trash => {
                (blob.deleted, blob.counted) = (Some(removal.change.at), false);
            }
            _ => drop(self.blobs.remove(digest)),
        }
        Ok(!removal.trash)
    }

    pub(super) fn delete_manifest(
        &mut self,
        key: &ManifestKey,
        removal: &Removal,
        number: &mut i64,
    ) -> Result<Option<Digest>, StorageError> {
        let unknown = || StorageError::ManifestUnknown(key.to_string());
        match key {
            ManifestKey::Tag(tag) => {
                let found = self.tags.get(tag).map(|tag| &tag.digest);
                removal.condition.check(tag, found)?;
                if (removal.immutable)(tag) {
                    return Err(StorageError::TagImmutable { tag: tag.clone() });
                }
                let digest = found.ok_or_else(unknown)?.clone();
                if let Some(seen) = &removal.seen {
                    let found = self.tags.get(tag);
                    seen.check(found.map(|own| (own.digest.clone(), own.updated, own.pulled)))?;
                }
                self.unpoint(tag, &removal.change, number);
                if removal.seen.is_some() {
                    self.settle(&digest, true, removal.change.at);
                }
                Ok(None)
            }
            ManifestKey::Digest(digest) => {
                let there = self.manifest(digest).map(|_| digest);
                removal.condition.check(&digest.to_string(), there)?;
                let on_it = self.tags.iter().filter(|(_, tag)| tag.digest == *digest);
                let on_it: Vec<String> = on_it.map(|(tag, _)| tag.clone()).collect();
                if let Some(tag) = on_it.iter().find(|tag| (removal.immutable)(tag)) {
                    return Err(StorageError::TagImmutable { tag: tag.clone() });
                }
                there.ok_or_else(unknown)?;
                if let Some(index) = self.parent(digest).filter(|_| !removal.force) {
                    let index = index.to_string();
                    return Err(StorageError::ManifestNeeded { digest: digest.clone(), index });
                }
                on_it.iter().for_each(|tag| self.unpoint(tag, &removal.change, number));
                self.remove_manifest(digest, removal.trash, removal.change.at);
                Ok((!removal.trash).then(|| digest.clone()))
            }
        }
    }

    pub(super) fn remove_manifest(&mut self, digest: &Digest, trash: bool, now: i64) {
        let Some(stored) = self.manifests.get_mut(digest) else { return };
        (stored.deleted, stored.loose, stored.orphan) = (Some(now), None, false);
        let required = stored.manifest.required.clone();
        for Required { digest, .. } in &required {
            let names = |own: &Required| own.digest == *digest;
            let needed = self.live().any(|(_, manifest)| manifest.required.iter().any(names));
            if let Some(blob) = self.blobs.get_mut(digest) {
                blob.counted &= needed;
            }
        }
        let children = required.into_iter().filter(|required| required.manifest);
        let below: Vec<Digest> =
            children.map(|required| required.digest).chain(self.attached(digest)).collect();
        below.iter().for_each(|one| self.settle(one, true, now));
        if !trash {
            self.drop_manifest(digest, now);
        }
    }

    pub(super) fn drop_manifest(&mut self, digest: &Digest, now: i64) {
        let Some(stored) = self.manifests.remove(digest) else { return };
        for required in stored.manifest.required {
            let named = self.is_named(&required.digest);
            if let Some(blob) = self.blobs.get_mut(&required.digest).filter(|_| !named) {
                blob.loose = blob.loose.or(Some(now));
            }
        }
    }

    /// Since when something may go for a reason, and its size.
    pub(super) fn since(&self, kind: Kind, digest: &Digest, reason: Reason) -> Option<(i64, u64)> {
        match kind {
            Kind::Blob => {
                let blob = self.blobs.get(digest)?;
                let since = match reason {
                    Reason::Loose => blob.loose.filter(|_| blob.deleted.is_none()),
                    Reason::Untagged => None,
                    Reason::Trashed => blob.deleted,
                };
                Some((since?, blob.size))
            }
            Kind::Manifest => {
                let stored = self.manifests.get(digest)?;
                let since = match reason {
                    Reason::Loose => stored.loose.filter(|_| stored.orphan),
                    Reason::Untagged => stored.loose,
                    Reason::Trashed => stored.deleted,
                };
                Some((since?, stored.manifest.record.size_bytes))
            }
        }
    }

    pub(super) fn set_tag(
        &mut self,
        tag: &str,
        digest: &Digest,
        condition: &Condition,
        change: &Change,
        number: &mut i64,
    ) -> Result<(), StorageError> {
        condition.check(tag, self.tags.get(tag).map(|tag| &tag.digest))?;
        if self.manifest(digest).is_none() {
            return Err(StorageError::ManifestUnknown(digest.to_string()));
        }
        self.point(tag, digest, change, number);
        Ok(())
    }

    /// `name` is its own, for the answer.
    pub(super) fn undelete(
        &mut self,
        name: &str,
        digest: &Digest,
        now: i64,
    ) -> Result<Undeleted, StorageError> {
        let mut found = Undeleted::default();
        let mut waiting = vec![digest.clone()];
        while let Some(one) = waiting.pop() {
            let pointer = |kind, digest| Pointer { repository: name.to_owned(), kind, digest };
            let Some(stored) = self.manifests.get_mut(&one).filter(|one| one.deleted.is_some()) else {
                continue;
            };
            stored.deleted = None;
            found.back.push(pointer(Kind::Manifest, one.clone()));
            let needed: BTreeSet<Digest> =
                stored.manifest.required.iter().map(|required| required.digest.clone()).collect();
            for target in needed {
                match self.blobs.get_mut(&target) {
                    Some(blob) if blob.deleted.is_some() => {
                        blob.deleted = None;
                        found.back.push(pointer(Kind::Blob, target.clone()));
                    }
                    None if !self.manifests.contains_key(&target) => found.missing.push(target.clone()),
                    _ => {}
                }
                waiting.push(target);
            }
            self.hold_below(&one);
            self.settle(&one, false, now);
        }
        if found.back.is_empty() { Err(StorageError::ManifestUnknown(digest.to_string())) } else { Ok(found) }
    }
}
