//! What is looked at beside the protocol: by the web page, and by the operator's commands.

use super::{Candidate, Reason, Storage, StorageError, TagEvent, TagFacts, Usage};
use slipway_oci::Digest;

impl Storage {
    /// An address that opens a blob whose membership was checked, for a while; `None` where there is none.
    pub fn link(&self, digest: &Digest) -> Result<Option<String>, StorageError> {
        self.content.link(digest)
    }

    /// Tags with when they were moved and pulled, sorted by byte, after `last`, at most `count`.
    pub fn tag_facts(&self, repository: &str, last: &str, count: u64) -> Result<Vec<TagFacts>, StorageError> {
        self.pointers.tag_facts(repository, last, count)
    }

    /// Moves of a repository's tags, of one where it is named, the newest first, before number `before`, at most `count`.
    pub fn tag_history(
        &self,
        repository: &str,
        tag: Option<&str>,
        before: i64,
        count: u64,
    ) -> Result<Vec<TagEvent>, StorageError> {
        self.pointers.tag_history(repository, tag, before, count)
    }

    /// How much a repository has; an unknown one has nothing.
    pub fn usage(&self, repository: &str) -> Result<Usage, StorageError> {
        self.pointers.usage(repository)
    }

    /// What lies in the trash, of one repository where it is named, the oldest first, at most `count`.
    pub fn trash(&self, repository: Option<&str>, count: u64) -> Result<Vec<Candidate>, StorageError> {
        self.pointers.candidates(Reason::Trashed, repository, i64::MAX, count)
    }
}
