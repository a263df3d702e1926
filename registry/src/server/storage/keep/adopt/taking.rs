//! What links name, taken into a registry that others may use meanwhile: of one repository after another the bytes, then what points at
//! them.
//!
//! Bytes that nothing points at are a sweep's after an hour, and what is taken over may take days. So nobody sweeps while something is
//! taken over; and since whoever lost that turn does not know it at once, each content is looked at again once something
//! points at it, as after a push, and taken again where it went in between.

use super::{Adopted, Telling, Unfit, Why, bytes::Got, layout::Linked};
use crate::{
    limits,
    server::storage::{
        Storage, StorageError, Work, described_from,
        keep::spread::spread,
        now_seconds,
        pointers::{Change, Condition, NewManifest},
    },
};
use slipway_oci::Digest;
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Takes one content.
pub(super) type Take<'a> = dyn Fn(&Digest) -> Result<Got, StorageError> + Sync + 'a;

/// Has the names of what was taken on the disk.
pub(super) type Settle<'a> = dyn Fn() -> Result<(), StorageError> + Sync + 'a;

pub(super) struct Taking<'a> {
    storage: &'a Arc<Storage>,
    take: &'a Take<'a>,
    settle: &'a Settle<'a>,
    telling: &'a Telling<'a>,
    taken: Mutex<Taken>,
}

/// What was taken so far.
#[derive(Default)]
struct Taken {
    /// How many contents there are.
    in_all: u64,
    /// The sizes of those that were looked at; `None` of those that do not fit.
    sizes: BTreeMap<Digest, Option<u64>>,
    shared: u64,
    present: u64,
}

impl<'a> Taking<'a> {
    pub(super) fn new(
        storage: &'a Arc<Storage>,
        take: &'a Take<'a>,
        settle: &'a Settle<'a>,
        telling: &'a Telling<'a>,
    ) -> Taking<'a> {
        Taking { storage, take, settle, telling, taken: Mutex::default() }
    }

    fn unfit(&self, place: String, why: Why) {
        (self.telling.unfit)(&Unfit { place, why });
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn size(&self, digest: &Digest) -> Option<u64> {
        self.taken().sizes.get(digest).copied().flatten()
    }

    pub(super) fn all(&self, linked: &BTreeMap<String, Linked>) -> Result<Adopted, StorageError> {
        let mut adopted = Adopted { repositories: linked.len() as u64, ..Adopted::default() };
        let named = linked.values().flat_map(|own| own.layers.iter().chain(own.revisions.keys()));
        self.taken().in_all = named.collect::<BTreeSet<_>>().len() as u64;
        let _turn = self.storage.await_turn(Work::Sweep, &mut |holder| (self.telling.waiting)(holder))?;
        linked.iter().try_for_each(|(name, own)| self.repository(name, own, &mut adopted))?;
        let taken = self.taken();
        let sizes = || taken.sizes.values().flatten();
        (adopted.contents, adopted.bytes) = (sizes().count() as u64, sizes().sum());
        (adopted.shared, adopted.present) = (taken.shared, taken.present);
        Ok(adopted)
    }

    fn repository(&self, name: &str, linked: &Linked, adopted: &mut Adopted) -> Result<(), StorageError> {
        self.bytes(&linked.layers.iter().collect())?;
        self.blobs(name, linked)?;
        self.bytes(&linked.revisions.keys().collect())?;
        let taken = self.manifests(name, linked)?;
        adopted.manifests += taken.len() as u64;
        for (tag, (digest, at)) in &linked.tags {
            if !taken.contains(digest) {
                self.unfit(format!("{name}:{tag}"), Why::Dangling(digest.clone()));
                continue;
            }
            // what is there already is taken, whatever a quota says
            self.storage.pointers.set_tag(name, tag, digest, &Condition::default(), &[], &change(*at))?;
            adopted.tags += 1;
        }
        Ok(())
    }

    /// Takes the bytes of some contents, as far as no other repository had them.
    fn bytes(&self, wanted: &BTreeSet<&Digest>) -> Result<(), StorageError> {
        let known = self.taken();
        let new = wanted.iter().filter(|digest| !known.sizes.contains_key(**digest));
        let all: BTreeMap<String, Digest> =
            new.map(|digest| (digest.to_string(), (*digest).clone())).collect();
        drop(known);
        if all.is_empty() {
            return Ok(());
        }
        let page = |last: &str| {
            let after = all.range::<str, _>((Bound::Excluded(last), Bound::Unbounded));
            Ok(after.take(limits::SCRUB_PAGE as usize).map(|(_, digest)| (digest.clone(), 0)).collect())
        };
        spread(&page, &|digest, _, _| {
            let got = (self.take)(digest)?;
            let mut taken = self.taken();
            let size = match got {
                Got::Taken { size_bytes, is_shared, was_present } => {
                    taken.shared += u64::from(is_shared);
                    taken.present += u64::from(was_present);
                    Some(size_bytes)
                }
                Got::Unfit(why) => {
                    self.unfit(digest.to_string(), why);
                    None
                }
            };
            taken.sizes.insert(digest.clone(), size);
            (self.telling.progress)(taken.sizes.len() as u64, taken.in_all);
            Ok(())
        })?;
        (self.settle)()
    }

    /// Has something point at a content whose bytes are there, and sees to it that they still are.
    fn point(
        &self,
        digest: &Digest,
        size_bytes: u64,
        pointer: impl Fn() -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        for _ in 0..limits::PLACE_TRIES {
            match pointer() {
                Err(StorageError::Condemned(_)) => self.storage.await_removal(digest)?,
                Ok(()) if self.storage.content.size(digest)? == Some(size_bytes) => return Ok(()),
                other => other?,
            }
            if let Got::Unfit(why) = (self.take)(digest)? {
                // the source has it no more: it is as if it had never been there
                self.unfit(digest.to_string(), why);
                return Ok(());
            }
            (self.settle)()?;
        }
        Err(StorageError::Condemned(digest.clone()))
    }

    /// Several at a time, so that they share transactions.
    fn blobs(&self, name: &str, linked: &Linked) -> Result<(), StorageError> {
        let there: Vec<(&Digest, u64)> =
            linked.layers.iter().filter_map(|digest| Some((digest, self.size(digest)?))).collect();
        let share = there.len().div_ceil(limits::ADOPT_WRITERS).max(1);
        let put = |digest: &Digest, size_bytes: u64| {
            self.point(digest, size_bytes, || {
                self.storage.pointers.put_blob(name, digest, size_bytes, None, &[], now_seconds())
            })
        };
        let all = |part: &[(&Digest, u64)]| part.iter().try_for_each(|(digest, size)| put(digest, *size));
        std::thread::scope(|scope| {
            let workers: Vec<_> = there.chunks(share).map(|part| scope.spawn(|| all(part))).collect();
            workers
                .into_iter()
                .try_for_each(|worker| worker.join().expect("a panic of a worker is one of this"))
        })
    }

    fn put(&self, name: &str, manifest: &NewManifest, at: i64) -> Result<(), StorageError> {
        let record = &manifest.record;
        self.point(&record.digest, record.size_bytes, || {
            self.storage.pointers.put_manifest(name, manifest, &[], &change(at))
        })
    }

    /// A manifest whose bytes were taken; `None` where it is none.
    fn described(&self, digest: &Digest, size_bytes: u64) -> Result<Option<NewManifest>, StorageError> {
        for _ in 0..limits::PLACE_TRIES {
            let found = described_from(&*self.storage.content, digest, size_bytes, None)?;
            if found.is_some() || self.storage.content.size(digest)? == Some(size_bytes) {
                return Ok(found);
            }
            // nothing points at it yet
            (self.take)(digest)?;
        }
        Ok(None)
    }

    /// Children before the indexes that name them; what is left then is taken without what it needs.
    fn manifests(&self, name: &str, linked: &Linked) -> Result<BTreeSet<Digest>, StorageError> {
        let mut waiting = Vec::new();
        for (digest, at) in &linked.revisions {
            let Some(size_bytes) = self.size(digest) else { continue };
            match self.described(digest, size_bytes)? {
                Some(manifest) => waiting.push((manifest, *at)),
                None => self.unfit(format!("{name}@{digest}"), Why::Manifest),
            }
        }
        let mut taken = BTreeSet::new();
        loop {
            let mut left = Vec::new();
            let before = taken.len();
            for (manifest, at) in waiting {
                match self.put(name, &manifest, at) {
                    Ok(()) => drop(taken.insert(manifest.record.digest)),
                    Err(StorageError::ReferenceUnknown(needs)) => left.push((manifest, at, needs)),
                    Err(StorageError::ReferenceSize { digest, .. }) => {
                        self.unfit(format!("{name}@{}", manifest.record.digest), Why::Size(digest));
                    }
                    Err(error) => return Err(error),
                }
            }
            if taken.len() > before {
                waiting = left.into_iter().map(|(manifest, at, _)| (manifest, at)).collect();
                continue;
            }
            // distribution serves it too, and clients of one platform may need no more
            for (manifest, at, needs) in left {
                self.without(name, manifest, at, needs, &mut taken)?;
            }
            return Ok(taken);
        }
    }

    fn without(
        &self,
        name: &str,
        mut manifest: NewManifest,
        at: i64,
        needs: Digest,
        taken: &mut BTreeSet<Digest>,
    ) -> Result<(), StorageError> {
        let digest = manifest.record.digest.clone();
        manifest.required.iter_mut().for_each(|required| required.optional = true);
        let why = match self.put(name, &manifest, at) {
            Ok(()) => {
                taken.insert(digest.clone());
                Why::Incomplete(needs)
            }
            Err(StorageError::ReferenceSize { digest, .. }) => Why::Size(digest),
            Err(error) => return Err(error),
        };
        self.unfit(format!("{name}@{digest}"), why);
        Ok(())
    }
}

/// A push of that time, as far as it is not to come.
fn change(at: i64) -> Change {
    Change { at: at.clamp(0, now_seconds()), who: None, origin: Some("adopt".to_owned()) }
}
