//! What this process relies on in a store, so that a collection beside it takes none of that away.
//!
//! Whoever decides "this is here" writes the thing's name into its lease first; whoever collects reads the leases of the
//! living first. The two must not pass each other, so both hold `store.lock`: while a note is written, shared; from
//! reading the leases to moving content out of its place, exclusively. Neither waits for more than the other's moment,
//! however long a build lasts. A thing that was written is noted before it gets its name, for the same reason.
//!
//! Nobody notes inside a transaction of the database, or while holding the connection: the collector holds the lock when it
//! begins its own, and a moment may ask the database.
//!
//! ```text
//! user       lock shared   note "blob X"   unlock   look whether X is there   ... relies on X ...
//! collector  lock exclusively   read leases, then names   move what neither has out of the way   unlock   delete it
//! ```
//!
//! The order of the collector's two readings matters: a user that named X and died between them is found by its name.
//! A note that cannot be written, because the disk is full, is replaced by keeping the shared lock: nobody collects
//! beside such a process, and it can still read and delete.

use super::Room;
use crate::{
    Digest,
    lease::{Lease, LeaseError, Leases},
};
use rustix::{fs::FlockOperation, io::Errno};
use std::{
    collections::HashSet,
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

/// How long a collector waits for the moments of others; longer ones are processes on a full disk.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it tries.
const PAUSE: Duration = Duration::from_millis(1);

/// A kind of thing that can be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A blob, by its digest.
    Blob,
    /// A layer in any of its forms on disk, and its rows, by its diff id.
    Layer,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Blob => "blob",
            Kind::Layer => "layer",
        }
    }
}

/// What the living rely on.
#[derive(Debug, Default)]
pub(crate) struct Relied {
    /// Digests of blobs.
    pub(crate) blobs: HashSet<String>,
    /// Diff ids of layers.
    pub(crate) layers: HashSet<String>,
}

/// This process as a user of the store.
#[derive(Debug)]
pub(crate) struct Holder {
    leases: Leases,
    path: PathBuf,
    lease: OnceLock<Lease>,
    /// What may be written, where that is bounded.
    room: OnceLock<Arc<Room>>,
    state: Mutex<State>,
}

/// A moment in which nothing is collected.
pub(crate) struct Moment<'a> {
    holder: &'a Holder,
    state: MutexGuard<'a, State>,
}

impl Moment<'_> {
    /// Notes what is relied on beyond the moment.
    pub(crate) fn rely<'a>(
        &mut self,
        things: impl IntoIterator<Item = (Kind, &'a Digest)>,
    ) -> Result<(), LeaseError> {
        if self.state.everything.is_some() {
            return Ok(());
        }
        let things: Vec<_> =
            things.into_iter().map(|(kind, digest)| (kind.name(), digest.to_string())).collect();
        let notes = things.iter().map(|(kind, value)| (*kind, value.as_str()));
        match self.holder.lease().and_then(|lease| lease.note_all(notes)) {
            Err(error) if crate::file::is_full(&error) => {
                // both are held for a moment, so that no collector comes between
                let everything = open(&self.holder.path)?;
                self.holder.flock(&everything, FlockOperation::LockShared)?;
                self.state.everything = Some(everything);
                Ok(())
            }
            other => other,
        }
    }
}

#[derive(Debug)]
struct State {
    /// Locked for moments. Threads share its lock, so they take turns by the mutex.
    lock: File,
    /// Locked shared for good, once a note could not be written.
    everything: Option<File>,
}

impl Holder {
    /// A user of the store in `root`, holding nothing yet.
    pub(crate) fn new(root: &Path) -> Result<Holder, LeaseError> {
        let path = root.join("store.lock");
        let leases = Leases::open(&root.join("leases"))?;
        let state = Mutex::new(State { lock: open(&path)?, everything: None });
        Ok(Holder { leases, path, lease: OnceLock::new(), room: OnceLock::new(), state })
    }

    pub(crate) fn leases(&self) -> &Leases {
        &self.leases
    }

    /// Bounds what is written; the first one counts.
    pub(super) fn set_room(&self, room: Arc<Room>) {
        let _ = self.room.set(room);
    }

    /// What may be written, where that is bounded.
    pub(crate) fn room(&self) -> Option<&Arc<Room>> {
        self.room.get()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This process' lease, taken with the first thing that it holds.
    pub(crate) fn lease(&self) -> Result<&Lease, LeaseError> {
        if let Some(lease) = self.lease.get() {
            return Ok(lease);
        }
        let lease = self.leases.hold()?;
        // of two threads the second one's lease goes at once: it holds nothing yet
        Ok(self.lease.get_or_init(|| lease))
    }

    /// From when this returns, no collection takes the thing: look whether it is there afterwards.
    pub(crate) fn rely(&self, kind: Kind, digest: &Digest) -> Result<(), LeaseError> {
        if self.lease.get().is_some_and(|lease| lease.has(kind.name(), &digest.to_string())) {
            return Ok(());
        }
        self.moment(|moment| moment.rely([(kind, digest)]))?
    }

    /// Runs `work` with no collection beside it. What it notes through the [`Moment`], and no other way, is not collected
    /// later either; the moment should be short.
    pub(crate) fn moment<T>(&self, work: impl FnOnce(&mut Moment<'_>) -> T) -> Result<T, LeaseError> {
        let state = self.state();
        if state.everything.is_none() {
            self.flock(&state.lock, FlockOperation::LockShared)?;
        }
        let mut moment = Moment { holder: self, state };
        let result = work(&mut moment);
        self.flock(&moment.state.lock, FlockOperation::Unlock)?;
        Ok(result)
    }

    /// Runs `work` with what the other living processes rely on while nobody can begin to rely on anything more. What
    /// this process relies on does not count: who collects is done with its own work. `None` where somebody holds all.
    pub(crate) fn alone<T>(&self, work: impl FnOnce(&Relied) -> T) -> Result<Option<T>, LeaseError> {
        let mut state = self.state();
        let everything = state.everything.take();
        drop(everything);
        let begun = Instant::now();
        loop {
            match rustix::fs::flock(&state.lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::WOULDBLOCK | Errno::INTR) if begun.elapsed() < PATIENCE => {
                    std::thread::sleep(PAUSE)
                }
                Err(Errno::WOULDBLOCK | Errno::INTR) => return Ok(None),
                Err(errno) => return Err(self.failed("lock")(errno.into())),
            }
        }
        let result = self.relied().map(|relied| Some(work(&relied)));
        self.flock(&state.lock, FlockOperation::Unlock)?;
        result
    }

    /// What the other living processes rely on.
    pub(crate) fn relied(&self) -> Result<Relied, LeaseError> {
        let mut relied = Relied::default();
        let own = self.lease.get().map(Lease::id);
        for held in self.leases.list()?.into_iter().filter(|held| held.alive && Some(held.id.as_str()) != own)
        {
            for note in held.notes {
                if note.kind == Kind::Blob.name() {
                    relied.blobs.insert(note.value);
                } else if note.kind == Kind::Layer.name() {
                    relied.layers.insert(note.value);
                }
            }
        }
        Ok(relied)
    }

    fn flock(&self, file: &File, operation: FlockOperation) -> Result<(), LeaseError> {
        rustix::io::retry_on_intr(|| rustix::fs::flock(file, operation))
            .map_err(|errno| self.failed("lock")(errno.into()))
    }

    fn failed(&self, operation: &'static str) -> impl FnOnce(io::Error) -> LeaseError {
        let path = self.path.clone();
        move |source| LeaseError::Io { operation, path, source }
    }
}

fn open(path: &Path) -> Result<File, LeaseError> {
    File::options().create(true).truncate(false).write(true).open(path).map_err(|source| LeaseError::Io {
        operation: "open",
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(text: &str) -> Digest {
        Digest::sha256(text.as_bytes())
    }

    #[test]
    fn what_others_rely_on_is_seen_and_what_is_ones_own_is_not() {
        let top = tempfile::tempdir().expect("folder");
        let (one, two) = (Holder::new(top.path()).expect("one"), Holder::new(top.path()).expect("two"));
        let (a, b, l) = (digest("a"), digest("b"), digest("l"));
        one.rely(Kind::Blob, &a).expect("noted");
        one.rely(Kind::Blob, &a).expect("twice");
        one.rely(Kind::Layer, &l).expect("noted");
        two.rely(Kind::Blob, &b).expect("noted");
        let seen = |of: &Holder| {
            of.alone(|relied| (relied.blobs.clone(), relied.layers.clone()))
                .expect("alone")
                .expect("nobody holds all")
        };
        assert_eq!(seen(&one), (HashSet::from([b.to_string()]), HashSet::new()));
        assert_eq!(seen(&two), (HashSet::from([a.to_string()]), HashSet::from([l.to_string()])));
        drop(one);
        assert_eq!(seen(&two), (HashSet::new(), HashSet::new()));
    }

    /// A user that looks and a collector that takes: whenever the look said "here", the thing stays.
    #[test]
    fn a_look_and_a_collection_do_not_pass_each_other() {
        let top = tempfile::tempdir().expect("folder");
        let collector = Holder::new(top.path()).expect("collector");
        let mut kept = 0;
        for round in 0..200 {
            let thing = digest(&format!("{round}"));
            let path = top.path().join(thing.hex());
            std::fs::write(&path, "").expect("content");
            let user = Holder::new(top.path()).expect("user");
            let both = std::sync::Barrier::new(2);
            let here = std::thread::scope(|scope| {
                let look = scope.spawn(|| {
                    both.wait();
                    user.rely(Kind::Blob, &thing).expect("noted");
                    path.exists()
                });
                both.wait();
                collector
                    .alone(|relied| {
                        if !relied.blobs.contains(&thing.to_string()) {
                            std::fs::remove_file(&path).expect("collected");
                        }
                    })
                    .expect("alone");
                look.join().expect("thread")
            });
            assert_eq!(here, path.exists(), "round {round}");
            kept += usize::from(here);
        }
        println!("{kept} of 200 looks came first");
    }

    #[test]
    fn who_holds_everything_is_not_collected_beside() {
        let top = tempfile::tempdir().expect("folder");
        let (one, two) = (Holder::new(top.path()).expect("one"), Holder::new(top.path()).expect("two"));
        let everything = open(&one.path).expect("lock");
        one.flock(&everything, FlockOperation::LockShared).expect("lock");
        one.state().everything = Some(everything);
        assert_eq!(two.alone(|_| ()).expect("refused"), None);
        // its own collection is its own matter: that is how a full disk is mended
        assert_eq!(one.alone(|_| ()).expect("alone"), Some(()));
        assert_eq!(two.alone(|_| ()).expect("alone"), Some(()));
    }

    /// A disk with no byte left, where a note cannot be written: nothing is collected beside who could not note.
    #[test]
    fn privileged_on_a_full_disk_everything_is_held() {
        slipway_skip::need_root!();
        let top = tempfile::tempdir().expect("folder");
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"])
            .arg(top.path())
            .status()
            .is_ok_and(|status| status.success());
        slipway_skip::need_that!(mounted, "there is no right to mount");
        let work = || {
            let (one, two) = (Holder::new(top.path()).expect("one"), Holder::new(top.path()).expect("two"));
            let full = std::fs::write(top.path().join("filler"), vec![0; 1 << 20]).expect_err("full");
            assert!(crate::file::is_full(&full), "{full}");
            one.rely(Kind::Blob, &digest("a")).expect("held all the same");
            one.rely(Kind::Blob, &digest("b")).expect("held all the same");
            let beside = two.alone(|_| ()).expect("looked");
            drop(one);
            (beside, two.alone(|_| ()).expect("looked"))
        };
        let result = std::panic::catch_unwind(work);
        let _ = std::process::Command::new("umount").arg(top.path()).status();
        assert_eq!(result.expect("as said"), (None, Some(())));
    }
}
