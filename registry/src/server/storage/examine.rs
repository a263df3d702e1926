//! Whether content is still what its name says, and what becomes of it where it is not.
//!
//! Damaged content is moved aside, so that nobody is served from it: not by `HEAD`, not by a range, not as the source of a mount,
//! for all of these look for the bytes each time. The pointers stay, and the next push of the same bytes, into any repository,
//! heals all that have it.

use super::{Storage, StorageError, content::Reader};
use crate::limits;
use slipway_oci::{Digest, Hasher};
use std::{fmt, io, sync::Arc};

/// What is wrong with content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is not there.
    Missing,
    /// It has another length.
    Length {
        /// What its pointers say, in bytes.
        expected: u64,
        /// What there is, in bytes.
        actual: u64,
    },
    /// It has other bytes.
    Bytes {
        /// Their digest.
        actual: Digest,
    },
    /// The disk cannot read it.
    Unreadable {
        /// In the system's words.
        why: String,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Missing => write!(f, "it is not there"),
            Fault::Length { expected, actual } => write!(f, "it has {actual} bytes and not {expected}"),
            Fault::Bytes { actual } => write!(f, "its bytes have digest `{actual}`"),
            Fault::Unreadable { why } => write!(f, "it cannot be read: {why}"),
        }
    }
}

/// Content that is not what its name says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Its name.
    pub digest: Digest,
    /// What its pointers say that it has, in bytes.
    pub size_bytes: u64,
    /// What is wrong.
    pub fault: Fault,
    /// Whether something lies in quarantine now.
    pub aside: bool,
    /// Repositories that have it, at most [`limits::DAMAGE_PLACES`].
    pub repositories: Vec<String>,
}

/// Told of damage when it is found.
pub type Watcher = Arc<dyn Fn(&Damage) + Send + Sync>;

/// What a look at content found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Examined {
    /// It is what its name says.
    Whole,
    /// It is not.
    Faulty(Fault),
    /// Whoever sets the pace did not want to go on.
    Stopped,
}

/// Told of every piece that was read, in bytes, and answers whether to go on.
pub type Pace<'a> = dyn FnMut(u64) -> bool + 'a;

impl Storage {
    /// Whoever is told of damage from now on; the first one stays.
    pub fn watch(&self, watcher: Watcher) {
        // a second one would have to be told of what it missed
        let _ = self.watcher.set(watcher);
    }

    /// Reads content to its end. What is wrong is read a second time, from the disk: a bit that fell over in memory is none
    /// of the disk's.
    pub fn examine(
        &self,
        digest: &Digest,
        size_bytes: u64,
        pace: &mut Pace<'_>,
    ) -> Result<Examined, StorageError> {
        let length = || self.content.size(digest);
        let found = look(digest, size_bytes, self.content.open_stored(digest, size_bytes), &length, pace)?;
        match found {
            Examined::Whole => self.seen.add(digest),
            Examined::Faulty(_) => self.seen.remove(digest),
            Examined::Stopped => {}
        }
        Ok(found)
    }

    fn is_whole_aside(&self, digest: &Digest, size_bytes: u64) -> Result<bool, StorageError> {
        let opened = self.content.open_aside(digest, size_bytes);
        Ok(look(digest, size_bytes, opened, &|| Ok(None), &mut |_| true)? == Examined::Whole)
    }

    /// Takes content out of service that [`Storage::examine`] found to be wrong, and tells of it; `None` where it turns out to
    /// be right by now, or needed by nobody.
    pub fn quarantine(
        &self,
        digest: &Digest,
        size_bytes: u64,
        fault: Fault,
    ) -> Result<Option<Damage>, StorageError> {
        let missing = fault == Fault::Missing;
        let aside = !missing && self.content.set_aside(digest)?;
        self.pointers.tell_removed(digest)?;
        // whoever pushed it at the same moment had whole bytes moved; a crash then leaves them where only this finds them
        if (aside || missing) && self.is_whole_aside(digest, size_bytes)? {
            self.content.put_back(digest)?;
            return Ok(None);
        }
        if !aside && (!missing || self.content.size(digest)?.is_some()) {
            return Ok(None);
        }
        let repositories = self.pointers.places(digest, limits::DAMAGE_PLACES)?;
        if repositories.is_empty() {
            return Ok(None);
        }
        let damage = Damage { digest: digest.clone(), size_bytes, fault, aside, repositories };
        if let Some(watcher) = self.watcher.get() {
            watcher(&damage);
        }
        Ok(Some(damage))
    }

    /// Looks again at what was wrong when it was served; what stays wrong is taken out of service.
    pub(crate) fn suspect(&self, digest: &Digest, size_bytes: u64) -> Result<Option<Damage>, StorageError> {
        match self.examine(digest, size_bytes, &mut |_| true)? {
            Examined::Faulty(fault) => self.quarantine(digest, size_bytes, fault),
            Examined::Whole | Examined::Stopped => Ok(None),
        }
    }
}

fn look(
    digest: &Digest,
    size_bytes: u64,
    opened: Result<Option<Arc<dyn Reader>>, StorageError>,
    length: &dyn Fn() -> Result<Option<u64>, StorageError>,
    pace: &mut Pace<'_>,
) -> Result<Examined, StorageError> {
    let reader = match opened {
        Ok(Some(reader)) => reader,
        Ok(None) => {
            return Ok(Examined::Faulty(match length()? {
                Some(actual) => Fault::Length { expected: size_bytes, actual },
                None => Fault::Missing,
            }));
        }
        Err(error) => return unreadable(error).map(Examined::Faulty),
    };
    let first = read_through(&*reader, digest, size_bytes, pace)?;
    if !matches!(first, Examined::Faulty(_)) {
        return Ok(first);
    }
    reader.forget();
    read_through(&*reader, digest, size_bytes, pace)
}

fn read_through(
    reader: &dyn Reader,
    digest: &Digest,
    size_bytes: u64,
    pace: &mut Pace<'_>,
) -> Result<Examined, StorageError> {
    let mut hasher = Hasher::new(digest.algorithm());
    let mut buffer = vec![0; size_bytes.min(limits::PIECE_BYTES as u64) as usize];
    let mut offset = 0;
    while offset < size_bytes {
        let count = (size_bytes - offset).min(buffer.len() as u64);
        let piece = &mut buffer[..count as usize];
        if let Err(source) = reader.read_once(piece, offset) {
            let path = digest.to_string().into();
            return unreadable(StorageError::Io { operation: "read", path, source }).map(Examined::Faulty);
        }
        hasher.update(piece);
        offset += count;
        if !pace(count) {
            return Ok(Examined::Stopped);
        }
    }
    let actual = hasher.finish();
    Ok(if actual == *digest { Examined::Whole } else { Examined::Faulty(Fault::Bytes { actual }) })
}

/// A disk or file system that cannot bring the bytes back any more; everything else is the moment's, and says nothing of them.
pub(super) fn unreadable(error: StorageError) -> Result<Fault, StorageError> {
    use rustix::io::Errno;
    match &error {
        StorageError::Io { source, .. } => match source.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::IO | Errno::UCLEAN | Errno::BADMSG) => {
                Ok(Fault::Unreadable { why: source.to_string() })
            }
            // shorter than it was when it was opened
            None if source.kind() == io::ErrorKind::UnexpectedEof => {
                Ok(Fault::Unreadable { why: "it ends too early".to_owned() })
            }
            _ => Err(error),
        },
        _ => Err(error),
    }
}
