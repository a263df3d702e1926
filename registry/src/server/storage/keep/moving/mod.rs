//! A registry, carried from one place into another while it is served: out of a folder into what replicas share, back, or between two
//! of a kind.
//!
//! 1. *Rounds* beside everybody's changes. The rows of both sides are read in the order of their keys and compared ([`sync`]); what differs
//!    is written. The bytes of what a row points at are there, and digested, before the row is. What was carried once is not
//!    carried again, in this run or in one that comes after a crash: the rows say how far it is.
//! 2. *Held*. Once little differs, the source refuses changes (503, try again): its database does, to whoever serves it, and for a
//!    few seconds after the last word of whoever moves it. One more round then carries everything.
//! 3. *Over*. The source refuses changes for good, and only then the target, which nobody could serve so far, is a registry. A crash
//!    in between leaves neither that takes changes, and the next run ends it.

mod contents;
mod sync;
#[cfg(test)]
mod tests;

use crate::{
    limits,
    server::storage::{
        Seals, Storage, StorageError,
        content::{BucketConfig, Content, FolderContent},
        keep::lock,
        pointers::{
            DatabaseAddress, SqlitePointers,
            rows::{CARRIED, Mark, Rows},
        },
    },
};
use contents::Contents;
use slipway_oci::Digest;
use std::{
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
};

/// A registry that is carried, or the place of one.
pub struct Side {
    storage: Arc<Storage>,
    /// What it is called in the other side's mark.
    name: String,
    /// Nobody else has the folder of a target.
    _alone: Option<slipway_oci::lock::Lock>,
}

impl Side {
    /// A folder with a registry.
    pub fn folder(path: &Path) -> Result<Side, StorageError> {
        let storage = Storage::open_existing(path)?;
        Ok(Side { storage, name: named(path)?, _alone: None })
    }

    /// A folder that a registry is carried into.
    pub fn target_folder(path: &Path) -> Result<Side, StorageError> {
        slipway_oci::private::folder(path)?;
        let alone = lock::alone(path)?;
        let pointers = SqlitePointers::open(&path.join("registry.db"))?;
        let storage = Storage::new(FolderContent::open(path)?, pointers);
        Ok(Side { storage, name: named(path)?, _alone: Some(alone) })
    }

    /// What replicas share; `within` is a folder for what passes through. A target's tables are made where they are missing.
    pub fn shared(
        database: &DatabaseAddress,
        bucket: &BucketConfig,
        seals: &Seals,
        within: &Path,
        is_target: bool,
    ) -> Result<Side, StorageError> {
        let name = format!("{database} and {bucket:?}");
        if !is_target {
            return Ok(Side {
                storage: Storage::open_beside(database, bucket, seals, within)?,
                name,
                _alone: None,
            });
        }
        Ok(Side { storage: Storage::open_target(database, bucket, seals, within)?, name, _alone: None })
    }

    /// What waits in the database for webhooks; `None` where that is beside it.
    pub fn storage(&self) -> &Arc<Storage> {
        &self.storage
    }

    fn rows(&self) -> &dyn Rows {
        self.storage.pointers.rows().expect("only databases are carried")
    }

    fn content(&self) -> &dyn Content {
        &*self.storage.content
    }

    /// Has a source take changes again, whether it was moved or only about to be.
    pub fn give_back(&self) -> Result<(), StorageError> {
        match self.rows().mark()? {
            Some(mark) if mark.is_source => self.rows().release(),
            _ => Ok(()),
        }
    }
}

fn named(path: &Path) -> Result<String, StorageError> {
    let path = path.canonicalize().map_err(crate::server::storage::error::io_error("look up", path))?;
    Ok(path.display().to_string())
}

/// What was carried.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Rows that were written or removed, in all rounds of this run.
    pub rows: u64,
    /// Contents whose bytes were copied.
    pub contents: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Contents that were there already.
    pub present: u64,
    /// Contents that the source has lost: their rows are carried, a push brings the bytes.
    pub lost: Vec<Digest>,
    /// What webhooks are to be told yet.
    pub notices: u64,
    /// How long the source refused changes while it was served, in milliseconds.
    pub held_ms: u64,
}

/// What whoever waits is told.
pub struct Moving<'a> {
    /// Bytes that are there, and how many there are in all by the first look.
    pub progress: &'a (dyn Fn(u64, u64) + Sync),
    /// The source refuses changes from now on.
    pub held: &'a dyn Fn(),
}

/// Carries a registry. `hand_over` carries what webhooks are to be told, once no change is taken any more;
/// it answers how many.
pub fn migrate(
    from: &Side,
    to: &Side,
    moving: &Moving<'_>,
    hand_over: &dyn Fn() -> Result<u64, StorageError>,
) -> Result<Moved, StorageError> {
    apart(from, to)?;
    let id = begin(from, to)?;
    let in_all = from.storage.pointers.content_bytes()?;
    let contents = Contents::new(from.content(), to.content(), (moving.progress, in_all));
    let counted = AtomicU64::new(0);
    let mut last = u64::MAX;
    for _ in 0..limits::MOVE_ROUNDS {
        let changed = round(from, to, &contents, false)?;
        counted.fetch_add(changed, Ordering::Relaxed);
        if changed <= limits::MOVE_FEW || changed >= last {
            break;
        }
        last = changed;
    }
    let held = Held::take(from, &id, &to.name)?;
    (moving.held)();
    let since = std::time::Instant::now();
    counted.fetch_add(round(from, to, &contents, true)?, Ordering::Relaxed);
    carry_keys(&from.storage, &to.storage)?;
    held.finish()?;
    // from here on nobody takes changes but the target, once that is a registry
    let notices = hand_over()?;
    to.rows().release()?;
    let Contents { copied, bytes, present, lost, .. } = contents;
    let mut lost = lost.into_inner().unwrap_or_else(PoisonError::into_inner);
    lost.sort_unstable();
    lost.dedup();
    Ok(Moved {
        rows: counted.into_inner(),
        contents: copied.into_inner(),
        bytes: bytes.into_inner(),
        present: present.into_inner(),
        lost,
        notices,
        held_ms: u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX),
    })
}

/// Both sides have nothing in common: content that two databases point at would be taken away by either of them.
fn apart(from: &Side, to: &Side) -> Result<(), StorageError> {
    if from.name == to.name {
        return Err(StorageError::SamePlace);
    }
    // one place may have several names and addresses: what is written to the one is not read from the other
    let mut random = [0_u8; 16];
    getrandom::fill(&mut random)?;
    let number = u128::from_be_bytes(random);
    let (name, text) = (format!("probe-{number:032x}"), format!("{number:x}"));
    to.content().set_note(&name, &text)?;
    let found = from.content().note(&name);
    to.content().remove_note(&name)?;
    match found?.is_some() {
        true => Err(StorageError::SameContent(to.name.clone())),
        false => Ok(()),
    }
}

/// Marks the target, or finds it marked by a run before. Answers which move it is.
fn begin(from: &Side, to: &Side) -> Result<String, StorageError> {
    if let Some(Mark { is_source: false, other, .. }) = from.rows().mark()? {
        return Err(StorageError::BeingFilled(other));
    }
    match to.rows().mark()? {
        Some(Mark { is_source: false, other, id, .. }) if other == from.name => return Ok(id),
        Some(Mark { is_source: false, other, .. }) => return Err(StorageError::BeingFilled(other)),
        Some(_) => return Err(StorageError::HasRegistry(to.name.clone())),
        None => {}
    }
    if let Some(Mark { is_over: true, other, .. }) = from.rows().mark()? {
        return Err(StorageError::HasMoved(other));
    }
    let mut random = [0_u8; 16];
    getrandom::fill(&mut random)?;
    let id = format!("{:032x}", u128::from_be_bytes(random));
    // a registry that is there is never held: whoever died here would have it emptied by the next run
    if !is_empty(to)? {
        return Err(StorageError::HasRegistry(to.name.clone()));
    }
    if !to.rows().hold(&id, &from.name, None)? {
        // another run has come first, and the mark is its
        return Err(StorageError::OtherMove);
    }
    // somebody pushed before it was held
    if !is_empty(to)? {
        to.rows().release()?;
        return Err(StorageError::HasRegistry(to.name.clone()));
    }
    Ok(id)
}

fn is_empty(side: &Side) -> Result<bool, StorageError> {
    for table in &CARRIED {
        if !side.rows().page(table, None, 1)?.is_empty() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// All tables once. Answers how many rows differed. `is_last`: nothing changes any more.
fn round(from: &Side, to: &Side, contents: &Contents<'_>, is_last: bool) -> Result<u64, StorageError> {
    let mut changed = 0;
    for table in &CARRIED {
        changed += sync::sync(from.rows(), to.rows(), table, contents, is_last)?;
    }
    Ok(changed)
}

/// Keys that sign tokens, opened by the seals of the one and sealed by those of the other.
fn carry_keys(from: &Storage, to: &Storage) -> Result<(), StorageError> {
    let there = to.signing_keys()?;
    let mut keys = from.signing_keys()?;
    keys.retain(|key| !there.contains(key));
    keys.sort_by_key(|key| key.created);
    for key in keys {
        // none is too young or too old: what tokens in flight were signed with is known as before
        to.add_signing_key(&key, i64::MAX, i64::MIN)?;
    }
    Ok(())
}

/// The hold of a source, and the thread that extends it.
struct Held<'a> {
    rows: &'a dyn Rows,
    id: String,
    over: Option<mpsc::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
    lost: Arc<Mutex<bool>>,
}

impl<'a> Held<'a> {
    fn take(from: &'a Side, id: &str, other: &str) -> Result<Held<'a>, StorageError> {
        let rows = from.rows();
        if rows.mark()?.is_some_and(|mark| mark.id == id && mark.is_over) {
            // a run before this one came as far as that
            return Ok(Held { rows, id: id.to_owned(), over: None, thread: None, lost: Arc::default() });
        }
        if !rows.hold(id, other, Some(limits::MOVE_HOLD))? {
            return Err(StorageError::OtherMove);
        }
        let (over, told) = mpsc::channel();
        let (storage, own, lost) = (Arc::clone(&from.storage), id.to_owned(), Arc::new(Mutex::new(false)));
        let shown = Arc::clone(&lost);
        let begun = thread::Builder::new().spawn(move || {
            let rows = storage.pointers.rows().expect("only databases are carried");
            while told.recv_timeout(limits::MOVE_HOLD / 6) == Err(mpsc::RecvTimeoutError::Timeout) {
                if let Ok(false) = rows.hold_on(&own, Some(limits::MOVE_HOLD)) {
                    *shown.lock().unwrap_or_else(PoisonError::into_inner) = true;
                    return;
                }
            }
        });
        // nobody would extend the hold, which ends by itself
        let thread = begun.map_err(|source| StorageError::Io {
            operation: "start a thread that holds",
            path: from.name.clone().into(),
            source,
        })?;
        Ok(Held { rows, id: id.to_owned(), over: Some(over), thread: Some(thread), lost })
    }

    fn stop(&mut self) {
        drop(self.over.take());
        if let Some(thread) = self.thread.take() {
            // a panic there was reported by itself
            let _ = thread.join();
        }
    }

    /// The source refuses changes for good, if it refused them all the time.
    fn finish(mut self) -> Result<(), StorageError> {
        self.stop();
        let lost = *self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        if lost || !self.rows.hold_on(&self.id, None)? {
            return Err(StorageError::HoldLost);
        }
        Ok(())
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // of one that failed the hold ends by itself
        self.stop();
    }
}
