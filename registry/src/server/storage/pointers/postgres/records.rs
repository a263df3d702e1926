//! What this replica remembers of the database: which blobs and manifests repositories have, and where tags point.
//!
//! Only what is there is remembered, never what is not: what another replica adds is found at once. What changes or goes is told by
//! triggers (`schema_3.sql`), in the order of commits. A record counts only while [`super::listen`] has heard lately of all that was
//! committed: within [`limits::CACHE_TIME`], or the database is asked as if there were no cache. A record that was read before a
//! change and comes here after it was told of is not kept: every change is a moment, and whoever reads notes the moment before.

use crate::{
    limits,
    server::storage::{
        pointers::{BlobRecord, Heard, ManifestKey, ManifestRecord},
        recent::Recent,
    },
};
use slipway_oci::Digest;
use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// What is remembered.
pub(super) struct Records {
    state: Mutex<State>,
    begun: Instant,
    /// Until when it counts, in microseconds since `begun`.
    until: AtomicU64,
    /// Whether anybody asked since the listener looked.
    asked: AtomicBool,
    /// Told of what other replicas counted, which is nothing to remember here.
    heard: OnceLock<Heard>,
}

/// A point in the order of changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(u64);

struct State {
    /// Rows of repositories never go, and keep their names.
    names: HashMap<String, i64>,
    manifests: Recent<(i64, ManifestKey), (ManifestRecord, Moment)>,
    blobs: Recent<(i64, Digest), (BlobRecord, Moment)>,
    now: Moment,
    /// What was read before may be from before a change that is forgotten.
    floor: Moment,
    /// The same for repositories without a name here.
    unnamed: Moment,
    changed: HashMap<i64, Changed>,
}

/// When a repository changed last.
#[derive(Clone, Copy)]
struct Changed {
    /// So that nothing of before counts.
    whole: Moment,
    /// In any way.
    any: Moment,
}

impl State {
    fn step(&mut self) -> Moment {
        self.now.0 += 1;
        self.now
    }

    fn clear(&mut self) {
        self.floor = self.step();
        self.names.clear();
        self.manifests.clear();
        self.blobs.clear();
        self.changed.clear();
    }

    fn change(&mut self, repository: i64, whole: bool) {
        if self.changed.len() >= limits::CACHE_REPOSITORIES && !self.changed.contains_key(&repository) {
            return self.clear();
        }
        let now = self.step();
        let changed = self.changed.entry(repository).or_insert(Changed { whole: self.floor, any: now });
        changed.any = now;
        if whole {
            changed.whole = now;
        }
    }

    /// Whether a record of this moment counts.
    fn counts(&self, repository: i64, of: Moment) -> bool {
        of >= self.floor && self.changed.get(&repository).is_none_or(|changed| of >= changed.whole)
    }

    /// Where something that was read after `since` may be kept.
    fn place(&mut self, name: &str, repository: i64, since: Moment) -> bool {
        if since < self.floor || self.changed.get(&repository).is_some_and(|changed| since < changed.any) {
            return false;
        }
        if self.names.contains_key(name) {
            return true;
        }
        if since < self.unnamed {
            return false;
        }
        if self.names.len() >= limits::CACHE_REPOSITORIES {
            self.clear();
            return false;
        }
        self.names.insert(name.to_owned(), repository);
        true
    }
}

impl Default for Records {
    fn default() -> Records {
        let state = State {
            names: HashMap::new(),
            manifests: Recent::new(limits::CACHE_RECORDS),
            blobs: Recent::new(limits::CACHE_RECORDS),
            now: Moment(0),
            floor: Moment(0),
            unnamed: Moment(0),
            changed: HashMap::new(),
        };
        let (until, asked) = (AtomicU64::new(0), AtomicBool::new(false));
        Records { state: Mutex::new(state), begun: Instant::now(), until, asked, heard: OnceLock::new() }
    }
}

impl Records {
    pub(super) fn hear_counts(&self, heard: Heard) {
        // one server has them
        let _ = self.heard.set(heard);
    }

    pub(super) fn count(&self, counts: &str) {
        if let Some(heard) = self.heard.get() {
            heard(counts);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic happens while records are held")
    }

    fn micros(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.begun).as_micros()).unwrap_or(u64::MAX)
    }

    /// Everything that was committed before `at` was told of by now.
    pub(super) fn attest(&self, at: Instant) {
        self.until.fetch_max(self.micros(at + limits::CACHE_TIME), Ordering::Release);
    }

    /// Whether anybody asked since this was asked last.
    pub(super) fn was_asked(&self) -> bool {
        self.asked.swap(false, Ordering::Relaxed)
    }

    fn is_current(&self) -> bool {
        self.asked.store(true, Ordering::Relaxed);
        self.micros(Instant::now()) < self.until.load(Ordering::Acquire)
    }

    /// Changes may have been missed.
    pub(super) fn clear(&self) {
        self.until.store(0, Ordering::Release);
        self.state().clear();
    }

    /// A repository is not what it was.
    pub(super) fn changed(&self, repository: i64) {
        self.state().change(repository, true);
    }

    /// A tag points elsewhere.
    pub(super) fn moved(&self, repository: i64, tag: &str) {
        let mut state = self.state();
        state.change(repository, false);
        state.manifests.remove(&(repository, ManifestKey::Tag(tag.to_owned())));
    }

    /// This replica changed it.
    pub(super) fn changed_here(&self, name: &str) {
        let state = &mut *self.state();
        match state.names.get(name).copied() {
            Some(repository) => state.change(repository, true),
            // whoever reads it right now does not know its number yet either
            None => state.unnamed = state.step(),
        }
    }

    /// The moment before something is read.
    pub(super) fn moment(&self) -> Moment {
        self.state().now
    }

    pub(super) fn manifest(&self, name: &str, key: &ManifestKey) -> Option<ManifestRecord> {
        if !self.is_current() {
            return None;
        }
        let mut state = self.state();
        let repository = *state.names.get(name)?;
        let (record, of) = state.manifests.get(&(repository, key.clone()))?;
        state.counts(repository, of).then_some(record)
    }

    pub(super) fn keep_manifest(
        &self,
        (name, repository): (&str, i64),
        key: &ManifestKey,
        record: &ManifestRecord,
        since: Moment,
    ) {
        let mut state = self.state();
        if state.place(name, repository, since) {
            let now = state.now;
            state.manifests.insert((repository, key.clone()), (record.clone(), now), 1);
        }
    }

    pub(super) fn blob(&self, name: &str, digest: &Digest) -> Option<BlobRecord> {
        if !self.is_current() {
            return None;
        }
        let mut state = self.state();
        let repository = *state.names.get(name)?;
        let (record, of) = state.blobs.get(&(repository, digest.clone()))?;
        state.counts(repository, of).then_some(record)
    }

    pub(super) fn keep_blob(
        &self,
        (name, repository): (&str, i64),
        digest: &Digest,
        record: BlobRecord,
        since: Moment,
    ) {
        let mut state = self.state();
        if state.place(name, repository, since) {
            let now = state.now;
            state.blobs.insert((repository, digest.clone()), (record, now), 1);
        }
    }
}

/// How often the listener looks whether it still hears.
pub(super) const PULSE: Duration = Duration::from_millis(limits::CACHE_TIME.as_millis() as u64 / 4);

#[cfg(test)]
mod tests {
    use super::*;

    fn record(text: &str) -> ManifestRecord {
        let digest = Digest::sha256(text.as_bytes());
        ManifestRecord { digest, media_type: "t".to_owned(), size_bytes: 1 }
    }

    fn tag(name: &str) -> ManifestKey {
        ManifestKey::Tag(name.to_owned())
    }

    #[test]
    fn what_changed_meanwhile_is_not_kept() {
        let records = Records::default();
        records.attest(Instant::now());
        let keep = |name: &str, text: &str, since| {
            records.keep_manifest(("a", 1), &tag(name), &record(text), since);
        };
        keep("v", "one", records.moment());
        assert_eq!(records.manifest("a", &tag("v")), Some(record("one")));
        assert_eq!(records.manifest("b", &tag("v")), None);
        let before = records.moment();
        records.moved(1, "v");
        assert_eq!(records.manifest("a", &tag("v")), None);
        keep("v", "one", before);
        assert_eq!(records.manifest("a", &tag("v")), None, "it was read before the move");
        keep("v", "two", records.moment());
        keep("w", "three", records.moment());
        records.moved(1, "w");
        assert_eq!(records.manifest("a", &tag("v")), Some(record("two")), "another tag stays");
        for change in [&|| records.changed(1), &|| records.changed_here("a")] as [&dyn Fn(); 2] {
            keep("v", "two", records.moment());
            let before = records.moment();
            change();
            assert_eq!(records.manifest("a", &tag("v")), None);
            keep("v", "two", before);
            assert_eq!(records.manifest("a", &tag("v")), None);
        }
        // a name that nobody read so far
        let before = records.moment();
        records.changed_here("new");
        records.keep_manifest(("new", 2), &tag("v"), &record("one"), before);
        assert_eq!(records.manifest("new", &tag("v")), None);
    }

    #[test]
    fn nothing_counts_once_the_listener_is_not_heard_of() {
        let records = Records::default();
        let digest = Digest::sha256(b"x");
        let blob = BlobRecord { size_bytes: 1, loose: None };
        records.keep_blob(("a", 1), &digest, blob, records.moment());
        assert_eq!(records.blob("a", &digest), None, "nobody listens yet");
        assert!(records.was_asked() && !records.was_asked());
        records.attest(Instant::now());
        assert_eq!(records.blob("a", &digest), Some(blob));
        std::thread::sleep(limits::CACHE_TIME);
        assert_eq!(records.blob("a", &digest), None, "it is too long ago");
        records.attest(Instant::now());
        assert_eq!(records.blob("a", &digest), Some(blob), "and is heard of again");
        records.clear();
        records.attest(Instant::now());
        assert_eq!(records.blob("a", &digest), None);
    }

    #[test]
    fn many_repositories_forget_and_never_lie() {
        let records = Records::default();
        records.attest(Instant::now());
        let before = records.moment();
        records.changed(1);
        for number in 2..limits::CACHE_REPOSITORIES as i64 + 10 {
            records.changed(number);
        }
        records.keep_manifest(("a", 1), &tag("v"), &record("old"), before);
        assert_eq!(records.manifest("a", &tag("v")), None, "its change was forgotten, not undone");
        records.keep_manifest(("a", 1), &tag("v"), &record("new"), records.moment());
        assert_eq!(records.manifest("a", &tag("v")), Some(record("new")));
    }
}
