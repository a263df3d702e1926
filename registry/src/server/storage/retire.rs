//! Tags and untagged manifests that go because their registry keeps no more of them.

use super::{
    Author, Condition, IsImmutable, ManifestKey, Pointer, Reason, Removal, Storage, StorageError, TagFacts,
    now_seconds,
};
use crate::limits;
use slipway_oci::Digest;
use std::{sync::atomic::Ordering, time::Duration};

/// Which of a repository's tags go at a time, in seconds since 1970.
pub type Expired<'a> = dyn Fn(&str, &[TagFacts], i64) -> Vec<TagFacts> + 'a;

/// What a registry keeps.
pub struct Keeping<'a> {
    /// The tags of a repository that go by now.
    pub expired: &'a Expired<'a>,
    /// After how long untagged manifests of a repository go.
    pub untagged: &'a dyn Fn(&str) -> Option<Duration>,
    /// Tags of a repository that never change.
    pub immutable: &'a dyn Fn(&str) -> IsImmutable,
    /// Who says so.
    pub author: &'a Author,
}

/// Something that went, or would.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retired {
    /// Its repository.
    pub repository: String,
    /// The tag; none where it is an untagged manifest.
    pub tag: Option<String>,
    /// The manifest.
    pub digest: Digest,
}

impl Storage {
    /// Takes away what is kept no longer, each in a transaction of its own that looks again: a tag that was pushed or pulled
    /// meanwhile stays. What they pointed at goes with the next collection, with children and what is attached. `pause` is told of each.
    pub fn retire(
        &self,
        keeping: &Keeping<'_>,
        dry_run: bool,
        pause: &mut dyn FnMut(&Retired) -> bool,
    ) -> Result<(), StorageError> {
        let mut last = String::new();
        loop {
            let names = self.pointers.repositories(&last, limits::HISTORY_PAGE)?;
            let Some(end) = names.last() else { return Ok(()) };
            last.clone_from(end);
            for name in &names {
                if !self.retire_tags(name, keeping, dry_run, pause)?
                    || !self.retire_untagged(name, keeping, dry_run, pause)?
                {
                    return Ok(());
                }
            }
        }
    }

    fn all_facts(&self, repository: &str) -> Result<Vec<TagFacts>, StorageError> {
        let mut all: Vec<TagFacts> = Vec::new();
        loop {
            let last = all.last().map_or("", |one| &one.tag);
            let page = self.pointers.tag_facts(repository, last, limits::HISTORY_PAGE)?;
            if page.is_empty() {
                return Ok(all);
            }
            all.extend(page);
        }
    }

    fn retire_tags(
        &self,
        repository: &str,
        keeping: &Keeping<'_>,
        dry_run: bool,
        pause: &mut dyn FnMut(&Retired) -> bool,
    ) -> Result<bool, StorageError> {
        let immutable = (keeping.immutable)(repository);
        for facts in (keeping.expired)(repository, &self.all_facts(repository)?, now_seconds()) {
            if immutable(&facts.tag) {
                continue;
            }
            let (tag, digest) = (facts.tag.clone(), facts.digest.clone());
            let removal = Removal {
                change: keeping.author.now(),
                immutable: IsImmutable::clone(&immutable),
                condition: Condition::default(),
                force: false,
                trash: self.trash.load(Ordering::Relaxed) > 0,
                seen: Some(facts),
            };
            let key = ManifestKey::Tag(tag.clone());
            let gone = match dry_run {
                true => Ok(None),
                false => self.with_reserve(|| self.pointers.delete_manifest(repository, &key, &removal)),
            };
            match gone {
                Ok(_) => {}
                Err(StorageError::Moved { .. } | StorageError::ManifestUnknown(_)) => continue,
                Err(error) => return Err(error),
            }
            if !pause(&Retired { repository: repository.to_owned(), tag: Some(tag), digest }) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn retire_untagged(
        &self,
        repository: &str,
        keeping: &Keeping<'_>,
        dry_run: bool,
        pause: &mut dyn FnMut(&Retired) -> bool,
    ) -> Result<bool, StorageError> {
        let Some(after) = (keeping.untagged)(repository) else { return Ok(true) };
        let before = now_seconds().saturating_sub(i64::try_from(after.as_secs()).unwrap_or(i64::MAX));
        loop {
            let count = if dry_run { i64::MAX as u64 } else { limits::COLLECT_PAGE };
            let found = self.pointers.candidates(Reason::Untagged, Some(repository), before, count)?;
            let pointers: Vec<Pointer> = found.into_iter().map(|one| one.pointer).collect();
            let trash = self.trash.load(Ordering::Relaxed) > 0;
            if !dry_run {
                self.with_reserve(|| {
                    let now = now_seconds();
                    let (_, condemned) =
                        self.pointers.collect(&pointers, Reason::Untagged, before, trash, now, true)?;
                    self.carry_out(&condemned, now)
                })?;
            }
            for pointer in &pointers {
                let digest = pointer.digest.clone();
                if !pause(&Retired { repository: repository.to_owned(), tag: None, digest }) {
                    return Ok(false);
                }
            }
            if dry_run || pointers.is_empty() {
                return Ok(true);
            }
        }
    }
}
