//! What brings deleted manifests and moved tags back.

use super::{
    Author, Condition, Entities, ManifestKey, Pointer, Storage, StorageError, Undeleted, now_seconds,
};
use crate::limits;
use slipway_oci::Digest;

/// What is there again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revived {
    /// The manifest.
    pub digest: Digest,
    /// What came out of the trash: it, and what it needs.
    pub back: Vec<Pointer>,
    /// What it needs and is gone for good.
    pub missing: Vec<Digest>,
    /// Tags that it has again.
    pub tags: Vec<String>,
}

impl Storage {
    /// Gives a manifest a tag that nothing has.
    pub fn add_tag(
        &self,
        repository: &str,
        tag: &str,
        digest: &Digest,
        author: &Author,
    ) -> Result<(), StorageError> {
        let free = Condition { is: None, is_not: Some(Entities::Any) };
        let bounds = self.bounds(repository);
        self.with_reserve(|| self.pointers.set_tag(repository, tag, digest, &free, &bounds, &author.now()))
    }

    /// Takes a manifest out of the trash with all that it needs, and gives it the tags back that were deleted with it and that
    /// nothing has taken since and that still fit.
    pub fn revive(
        &self,
        repository: &str,
        digest: &Digest,
        author: &Author,
    ) -> Result<Revived, StorageError> {
        let trashed = self.trash(Some(repository), i64::MAX as u64)?;
        let deleted = trashed.iter().find(|one| one.pointer.digest == *digest).map(|one| one.since);
        let found = self.undelete(repository, digest)?;
        let mut tags = Vec::new();
        for tag in self.lost_tags(repository, digest, deleted)? {
            match self.add_tag(repository, &tag, digest, author) {
                Ok(()) => tags.push(tag),
                // somebody has taken it, or its place: the manifest is back by now, and is told of
                Err(StorageError::Moved { .. } | StorageError::OverQuota(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Revived { digest: digest.clone(), back: found.back, missing: found.missing, tags })
    }

    /// Tags that pointed at a manifest until that moment.
    fn lost_tags(
        &self,
        repository: &str,
        digest: &Digest,
        deleted: Option<i64>,
    ) -> Result<Vec<String>, StorageError> {
        let (mut tags, mut before) = (Vec::new(), i64::MAX);
        loop {
            let page = self.pointers.tag_history(repository, None, before, limits::HISTORY_PAGE)?;
            let Some(last) = page.last() else { return Ok(tags) };
            before = last.number;
            for event in page {
                let went = event.digest.is_none() && event.former.as_ref() == Some(digest);
                if went && Some(event.change.at) == deleted && !tags.contains(&event.tag) {
                    tags.push(event.tag);
                }
            }
        }
    }

    /// Brings a deleted tag back, and what it pointed at out of the trash where that is there.
    pub fn revive_tag(&self, repository: &str, tag: &str, author: &Author) -> Result<Revived, StorageError> {
        let unknown = || StorageError::ManifestUnknown(tag.to_owned());
        let last =
            self.pointers.tag_history(repository, Some(tag), i64::MAX, 1)?.pop().ok_or_else(unknown)?;
        if let Some(current) = last.digest {
            return Err(StorageError::Moved { what: tag.to_owned(), current: Some(current) });
        }
        let digest = last.former.ok_or_else(unknown)?;
        let (back, missing) = self.make_sure(repository, &digest)?;
        self.add_tag(repository, tag, &digest, author)?;
        Ok(Revived { digest, back, missing, tags: vec![tag.to_owned()] })
    }

    /// Points a tag at `to`, or at what it pointed at before its last move, unless it moves meanwhile. Answers what it is now, and
    /// what that lacks.
    pub fn roll_back(
        &self,
        repository: &str,
        tag: &str,
        to: Option<&Digest>,
        author: &Author,
    ) -> Result<(Digest, Vec<Digest>), StorageError> {
        let unknown = || StorageError::ManifestUnknown(tag.to_owned());
        let last =
            self.pointers.tag_history(repository, Some(tag), i64::MAX, 1)?.pop().ok_or_else(unknown)?;
        let digest = to.cloned().or(last.former).ok_or_else(unknown)?;
        let (_, missing) = self.make_sure(repository, &digest)?;
        let still = match &last.digest {
            Some(current) => Condition::is(current),
            None => Condition { is: None, is_not: Some(Entities::Any) },
        };
        let bounds = self.bounds(repository);
        self.with_reserve(|| {
            self.pointers.set_tag(repository, tag, &digest, &still, &bounds, &author.now())
        })?;
        Ok((digest, missing))
    }

    fn undelete(&self, repository: &str, digest: &Digest) -> Result<Undeleted, StorageError> {
        let bounds = self.bounds(repository);
        self.with_reserve(|| self.pointers.undelete(repository, digest, &bounds, now_seconds()))
    }

    /// A manifest that is there, or comes out of the trash.
    fn make_sure(
        &self,
        repository: &str,
        digest: &Digest,
    ) -> Result<(Vec<Pointer>, Vec<Digest>), StorageError> {
        match self.pointers.manifest(repository, &ManifestKey::Digest(digest.clone())) {
            Ok(_) => Ok((Vec::new(), Vec::new())),
            Err(StorageError::ManifestUnknown(_)) => {
                let found = self.undelete(repository, digest)?;
                Ok((found.back, found.missing))
            }
            Err(error) => Err(error),
        }
    }
}
