//! Ownership as a held lock: who is alive is asked of the kernel, never of a process id.
//!
//! A lease is a file `<id>` in a folder of leases. Its owner made it exclusively and holds `flock(2)` on it for as long
//! as it lives; the lock goes with the owner's last descriptor, however it ends, and means the same in every pid and
//! user namespace that sees the folder. A process id means something else in each of them, and is given again.
//!
//! ```text
//! leases/<id>     "<kind> <value>\n" for each thing held, written before it is made or relied on
//! tmp/<kind>-<id>-<count>   a thing whose name says whose it is: no line is needed
//! ```
//!
//! Protocol:
//! - **Hold.** Create exclusively, lock, and check that the path still is that inode: between the two a sweeper may
//!   have taken the unlocked file for a dead one's. Then again with another name.
//! - **Sweep.** Lock without waiting. Who gets the lock has found a dead owner, because the living hold theirs; it
//!   removes what the dead one held, and the lease last, so that a sweeper that dies half-way leaves it to the next.
//! - **A name without a lease** is nobody's: the lease is there before anything carries its id, and goes last.
//!
//! The descriptor is `O_CLOEXEC`: programs that are executed hold nothing. A child that is forked and not executed holds
//! its parent's lease with it, which is right where it still uses what is held.
//!
//! ```
//! # let top = tempfile::tempdir().unwrap();
//! use slipway_oci::lease::Leases;
//! let leases = Leases::open(&top.path().join("leases")).unwrap();
//! let lease = leases.hold().unwrap();
//! lease.note("cgroup", "/sys/fs/cgroup/slipway/x").unwrap();
//! let swept = leases.sweep(|_dead| Ok(())).unwrap();
//! assert_eq!(swept, 0, "its owner lives");
//! ```

use crate::{file, limits};
use rustix::fs::{AtFlags, CWD};
use std::{
    collections::HashSet,
    fs::{self, File, TryLockError},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

/// A failure around a lease.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// The file system refused.
    #[error("cannot {operation} `{path}`")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The name is held, or its dead owner's things are not swept yet.
    #[error("`{id}` is in use")]
    Taken {
        /// The lease's id.
        id: String,
    },
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LeaseError {
    let path = path.to_owned();
    move |source| LeaseError::Io { operation, path, source }
}

/// Bytes of a random id; written in hexadecimal.
const ID_BYTES: usize = 8;

/// Longest id of a lease, in characters: that of a container.
const MOST_ID_CHARACTERS: usize = 64;

/// Whether `text` can name a lease: 16 to 64 characters of lower case hexadecimal.
pub fn is_id(text: &str) -> bool {
    (2 * ID_BYTES..=MOST_ID_CHARACTERS).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// The lease's id in a name made by [`Lease::temporary_name`].
pub fn owner_of(name: &str) -> Option<&str> {
    name.rsplit('-').nth(1).filter(|id| is_id(id))
}

/// One thing that a lease holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Note {
    /// What kind of thing.
    pub kind: String,
    /// Which one.
    pub value: String,
}

/// A lease as somebody else sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its id.
    pub id: String,
    /// Whether its owner lives.
    pub alive: bool,
    /// What it holds, in the order in which it was noted.
    pub notes: Vec<Note>,
}

/// A folder of leases.
#[derive(Clone, Debug)]
pub struct Leases {
    folder: PathBuf,
}

/// What a look at a lease's file found.
enum Look {
    /// No such file.
    Gone,
    /// Its owner holds the lock.
    Alive,
    /// Nobody did; the lock is ours now.
    Dead(File),
}

impl Leases {
    /// Opens the folder, making it where it is missing. It must lie below a folder of the caller alone
    /// ([`crate::private`]), or others could hold the locks.
    pub fn open(folder: &Path) -> Result<Leases, LeaseError> {
        match crate::private::new_folder(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(failed("create", folder)(error))
            }
            _ => Ok(Leases { folder: folder.to_owned() }),
        }
    }

    fn path(&self, id: &str) -> PathBuf {
        self.folder.join(id)
    }

    /// A new lease with a random id.
    pub fn hold(&self) -> Result<Lease, LeaseError> {
        loop {
            let id = random_id().map_err(failed("name a lease in", &self.folder))?;
            match self.hold_as(&id) {
                Err(LeaseError::Taken { .. }) => {}
                other => return other,
            }
        }
    }

    /// A new lease with an id of the caller's choice ([`is_id`]), such as a container's.
    pub fn hold_as(&self, id: &str) -> Result<Lease, LeaseError> {
        assert!(is_id(id), "a lease is named by 16 to 64 characters of hexadecimal");
        let path = self.path(id);
        loop {
            let options = File::options().create_new(true).append(true).mode(0o600).clone();
            let file = match options.open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    return Err(LeaseError::Taken { id: id.to_owned() });
                }
                Err(error) => return Err(failed("create", &path)(error)),
            };
            // waits for a sweeper only, and that one is about to remove the file
            file.lock().map_err(failed("lock", &path))?;
            if is_at(&file, &path).map_err(failed("read", &path))? {
                let notes = Mutex::new(HashSet::new());
                return Ok(Lease { id: id.to_owned(), path, file, notes, count: AtomicU64::new(0) });
            }
        }
    }

    /// Whether a lease of this id is there, its owner alive or not.
    pub fn exists(&self, id: &str) -> Result<bool, LeaseError> {
        let path = self.path(id);
        path.try_exists().map_err(failed("read", &path))
    }

    fn look(&self, id: &str) -> Result<Look, LeaseError> {
        let path = self.path(id);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Look::Gone),
            Err(error) => return Err(failed("open", &path)(error)),
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(Look::Alive),
            Err(TryLockError::Error(error)) => return Err(failed("lock", &path)(error)),
        }
        match is_at(&file, &path).map_err(failed("read", &path))? {
            true => Ok(Look::Dead(file)),
            // its owner or another sweeper took it away between opening and locking
            false => Ok(Look::Gone),
        }
    }

    fn ids(&self) -> Result<Vec<String>, LeaseError> {
        let mut ids = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(failed("list", &self.folder))? {
            let entry = entry.map_err(failed("list", &self.folder))?;
            ids.extend(entry.file_name().into_string().ok().filter(|name| is_id(name)));
        }
        Ok(ids)
    }

    fn notes(&self, id: &str) -> Result<Vec<Note>, LeaseError> {
        let path = self.path(id);
        match file::read_capped(&path, limits::LEASE_BYTES) {
            Ok(bytes) => Ok(parse(&bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(failed("read", &path)(error)),
        }
    }

    /// Every lease and what it holds.
    pub fn list(&self) -> Result<Vec<Held>, LeaseError> {
        let mut found = Vec::new();
        for id in self.ids()? {
            let alive = match self.look(&id)? {
                Look::Gone => continue,
                Look::Alive => true,
                Look::Dead(_) => false,
            };
            let notes = self.notes(&id)?;
            found.push(Held { id, alive, notes });
        }
        Ok(found)
    }

    /// Hands every lease whose owner is dead to `remove`, which takes away what it held, and removes the lease after it.
    /// Answers how many.
    ///
    /// A lease whose things could not be removed stays for the next sweep; the others are swept all the same, and the
    /// first failure is answered at the end.
    pub fn sweep(
        &self,
        mut remove: impl FnMut(&Held) -> Result<(), LeaseError>,
    ) -> Result<usize, LeaseError> {
        let (mut swept, mut first) = (0, None);
        for id in self.ids()? {
            match self.sweep_one(&id, &mut remove) {
                Ok(true) => swept += 1,
                Ok(false) => {}
                Err(error) => first = first.or(Some(error)),
            }
        }
        first.map_or(Ok(swept), Err)
    }

    fn sweep_one(
        &self,
        id: &str,
        remove: &mut impl FnMut(&Held) -> Result<(), LeaseError>,
    ) -> Result<bool, LeaseError> {
        // held until the end: two sweepers never work on one lease
        let Look::Dead(_held) = self.look(id)? else { return Ok(false) };
        let notes = self.notes(id)?;
        remove(&Held { id: id.to_owned(), alive: false, notes })?;
        let path = self.path(id);
        fs::remove_file(&path).map_err(failed("remove", &path))?;
        Ok(true)
    }
}

/// A lease that is held. Dropping it says that what it held is gone or in its place.
#[derive(Debug)]
pub struct Lease {
    id: String,
    path: PathBuf,
    file: File,
    notes: Mutex<HashSet<Note>>,
    count: AtomicU64,
}

impl Lease {
    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Notes that `value` of a `kind` is held. Call it before the thing is made or relied on.
    pub fn note(&self, kind: &str, value: &str) -> Result<(), LeaseError> {
        self.note_all([(kind, value)])
    }

    /// The same for several things, in one write.
    pub fn note_all<'a>(&self, all: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<(), LeaseError> {
        let mut notes = self.notes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (mut lines, mut new) = (String::new(), Vec::new());
        for (kind, value) in all {
            assert!(!kind.contains([' ', '\n']) && !value.contains('\n'), "a note is one line");
            let note = Note { kind: kind.to_owned(), value: value.to_owned() };
            if !notes.contains(&note) {
                lines.push_str(&format!("{kind} {value}\n"));
                new.push(note);
            }
        }
        if new.is_empty() {
            return Ok(());
        }
        let before = self.file.metadata().map_err(failed("read", &self.path))?.len();
        if let Err(error) = (&self.file).write_all(lines.as_bytes()) {
            // half a line would spoil the next one; a failure to cut it is the same full disk
            let _ = self.file.set_len(before);
            return Err(failed("write", &self.path)(error));
        }
        notes.extend(new);
        Ok(())
    }

    /// Whether `value` of a `kind` was noted.
    pub fn has(&self, kind: &str, value: &str) -> bool {
        let note = Note { kind: kind.to_owned(), value: value.to_owned() };
        self.notes.lock().unwrap_or_else(std::sync::PoisonError::into_inner).contains(&note)
    }

    /// A name that nothing else has and that says whose it is: `<kind>-<id>-<count>` ([`owner_of`]).
    pub fn temporary_name(&self, kind: &str) -> String {
        format!("{kind}-{}-{:x}", self.id, self.count.fetch_add(1, Ordering::Relaxed))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // while the lock is still held, so that no sweeper works on it; what stays is a dead lease, swept later
        let _ = fs::remove_file(&self.path);
    }
}

/// Whether `path` leads to the inode of `file`.
pub(crate) fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let held = file.metadata()?;
    match rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(named) => Ok((named.st_dev, named.st_ino) == (held.dev(), held.ino())),
        Err(rustix::io::Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// The whole lines of a lease. The last one without its end was never answered as noted, so nothing relies on it.
fn parse(bytes: &[u8]) -> Vec<Note> {
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    let lines = bytes[..whole].split(|byte| *byte == b'\n');
    let lines = lines.filter_map(|line| std::str::from_utf8(line).ok()?.split_once(' '));
    lines.map(|(kind, value)| Note { kind: kind.to_owned(), value: value.to_owned() }).collect()
}

/// 16 characters that nobody else draws.
pub fn random_id() -> io::Result<String> {
    let mut bytes = [0_u8; ID_BYTES];
    // so few bytes come whole, or not at all (getrandom(2))
    rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty())?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests;
