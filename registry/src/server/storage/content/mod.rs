//! Content: bytes under their digest, and bytes that come in.
//!
//! [`Content`] is what a folder does, and what an object store can do: bytes are staged under an upload's name, placed
//! under their digest when that was verified, read by range, and removed. Nothing here knows repositories; whether bytes
//! may be read or removed is decided by [`super::pointers`].

mod folder;
mod memory;
mod object;

pub use folder::{FolderContent, read_file};
pub use memory::MemoryContent;
pub use object::{BucketConfig, ForeignBucket, Found, ObjectContent, Opened};

use super::{Asked, StorageError, UploadId};
use slipway_oci::Digest;
use std::{io, sync::Arc, time::SystemTime};

/// One blob that is open for reading. It stays readable when its name goes.
pub trait Reader: Send + Sync {
    /// Fills `buffer` from `offset`; fewer bytes than that are an error, never a shorter answer.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// The same for who reads everything once: what others have in the machine's cache stays there, and nothing else gets in.
    fn read_once(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }

    /// The next read asks the disk, as far as that can be had.
    fn forget(&self) {}

    /// The file whose bytes they are, where they lie in one as they are.
    fn as_file(&self) -> Option<&std::fs::File> {
        None
    }

    /// Whether `length` bytes from `offset` are in the machine's cache by all signs: whoever lets the kernel send them does not
    /// wait for a disk.
    fn is_at_hand(&self, _offset: u64, _length: usize) -> bool {
        false
    }
}

/// A turn that one process at a time has, until this is dropped.
pub type Turn = Box<dyn std::any::Any + Send>;

/// Bytes that come in, which this owner alone writes. Dropping it keeps them where they are.
pub trait Staged: Send {
    /// Adds bytes at `offset`, which is where the last ones ended.
    fn append(&mut self, bytes: &[u8], offset: u64) -> Result<(), StorageError>;

    /// Cuts back to `length` bytes.
    fn truncate(&mut self, length: u64) -> Result<(), StorageError>;

    /// What [`Content::resume`] needs to go on from here, on this machine or another one. What was appended before is
    /// then as durable as an answer to the client promises.
    fn checkpoint(&mut self) -> Result<Vec<u8>, StorageError>;

    /// Reads back what was staged.
    fn reader(&self) -> Result<Arc<dyn Reader>, StorageError>;

    /// Whether anything lies where bytes come in that [`Content::discard`] has to take away.
    fn is_anywhere(&self) -> bool {
        true
    }

    /// Makes the bytes durable and lets them be found under `digest`, which the caller verified, whether or not something
    /// is there. May be called again when a removal came in between.
    fn place(&mut self, digest: &Digest) -> Result<(), StorageError>;
}

/// A session's bytes, taken up again.
pub struct Resumed {
    /// The bytes.
    pub staged: Box<dyn Staged>,
    /// How many there are: what the pointers say, or fewer.
    pub length: u64,
    /// Whether they are certainly those that were written. After a power cut they may not be.
    pub is_certain: bool,
}

/// Uploads, and after which to look for more, if there are more.
pub type Stale = (Vec<UploadId>, Option<UploadId>);

/// Tells the length of an upload and its last checkpoint.
pub type ProgressOf<'a> = dyn Fn() -> Result<(u64, Vec<u8>), StorageError> + 'a;

/// Where content is kept.
pub trait Content: Send + Sync {
    /// The size in bytes of what lies under a digest.
    fn size(&self, digest: &Digest) -> Result<Option<u64>, StorageError>;

    /// The size in bytes of what lies there, or lay there a moment ago and was told to nobody to be gone: for who reads.
    fn size_lately(&self, digest: &Digest) -> Result<Option<u64>, StorageError> {
        self.size(digest)
    }

    /// The same as [`Content::open`] from where it lies for good, never from what is nearer at hand.
    fn open_stored(&self, digest: &Digest, size_bytes: u64) -> Result<Option<Arc<dyn Reader>>, StorageError> {
        self.open(digest, size_bytes)
    }

    /// Opens what lies under a digest, if it has `size_bytes` bytes: anything else is not it.
    fn open(&self, digest: &Digest, size_bytes: u64) -> Result<Option<Arc<dyn Reader>>, StorageError>;

    /// An address that opens what lies under a digest to whoever has it, for [`crate::limits::REDIRECT_LIFE`]; `None` where there
    /// is none.
    fn link(&self, _digest: &Digest) -> Result<Option<String>, StorageError> {
        Ok(None)
    }

    /// Removes what lies under a digest; nothing there is fine.
    fn remove(&self, digest: &Digest) -> Result<(), StorageError>;

    /// Begins to take bytes in, under an upload's name.
    fn stage(&self, id: &UploadId) -> Result<Box<dyn Staged>, StorageError>;

    /// Takes up an upload again. `progress` tells how many of its bytes count and what its last checkpoint said; it is
    /// asked once nobody else can write them. Bytes beyond are cut off. An upload that somebody else writes is
    /// [`StorageError::UploadBusy`].
    fn resume(&self, id: &UploadId, progress: &ProgressOf<'_>) -> Result<Resumed, StorageError>;

    /// How many bytes an upload has, acknowledged or not; `None` where it is gone; `u64::MAX` where the pointers
    /// alone know.
    fn staged_length(&self, id: &UploadId) -> Result<Option<u64>, StorageError>;

    /// A file without a name for bytes that are read while they come in, where what is staged is not read so.
    fn spool(&self) -> Result<Option<std::fs::File>, StorageError> {
        Ok(None)
    }

    /// Drops an upload's bytes, unless somebody writes them. Answers whether they are gone.
    fn discard(&self, id: &UploadId) -> Result<bool, StorageError>;

    /// Uploads that nobody writes and that were last written before `before`, some of those after `last`; and after which to look for
    /// more, if there are more.
    fn stale_uploads(&self, before: SystemTime, last: Option<&UploadId>) -> Result<Stale, StorageError>;

    /// Ends what a store still holds of uploads that were begun before `before` and never ended, other than those of sessions that are
    /// `known`. Answers how many.
    fn end_dangling(
        &self,
        _before: SystemTime,
        _known: &dyn Fn(&UploadId) -> Result<bool, StorageError>,
    ) -> Result<usize, StorageError> {
        Ok(0)
    }

    /// Content that was placed before `before`, at most `count` digests after `last`, in order.
    fn placed(
        &self,
        last: Option<&Digest>,
        before: SystemTime,
        count: usize,
    ) -> Result<Vec<Digest>, StorageError>;

    /// Moves what lies under a digest aside, where nothing is served from. Answers whether there was anything.
    fn set_aside(&self, digest: &Digest) -> Result<bool, StorageError>;

    /// Opens what was set aside, if it has `size_bytes` bytes.
    fn open_aside(&self, digest: &Digest, size_bytes: u64) -> Result<Option<Arc<dyn Reader>>, StorageError>;

    /// Puts what was set aside back under its digest.
    fn put_back(&self, digest: &Digest) -> Result<(), StorageError>;

    /// Lets go what was held for a backup that is no longer under way.
    fn let_go(&self) -> Result<(), StorageError> {
        Ok(())
    }

    /// How much was asked of a store elsewhere; `None` where there is none.
    fn asked(&self) -> Option<Asked> {
        None
    }

    /// A small text that is kept beside the content.
    fn note(&self, name: &str) -> Result<Option<String>, StorageError>;

    /// Keeps such a text; a crash may bring the former one back.
    fn set_note(&self, name: &str, text: &str) -> Result<(), StorageError>;

    /// Takes such a text away.
    fn remove_note(&self, name: &str) -> Result<(), StorageError>;

    /// Takes the turn of this name; `None` where another process has it.
    fn turn(&self, name: &str) -> Result<Option<Turn>, StorageError>;

    /// Frees the room that is kept for deletes on a full disk. Answers whether there was any.
    fn open_reserve(&self) -> Result<bool, StorageError>;

    /// Keeps that room again, as soon as there is some.
    fn refill_reserve(&self);
}
