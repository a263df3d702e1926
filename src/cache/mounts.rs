//! Caches of RUN that travel with a build's results, or by themselves (`slipway cache export`, `import`).
//!
//! In the cache's manifest they are layers beside those of results: a table, and packs of chunks ([`slipway_oci::carried`]).
//! What is wrong with them is said and costs time: the cache begins empty then.

use super::import::{Source, Table};
use crate::{error::Failure, images::Images, request::cache::Mounts, show};
use slipway_builder::PackedTable;
use slipway_oci::{
    Algorithm, Descriptor, Digest,
    artifact::EMPTY_TYPE,
    carried::{self, Carried, CarriedCache, CarriedError, Local, MOUNTS_TYPE, PACK_TYPE, Pack},
    file,
    spec::{Manifest, to_json},
    store::{CacheAbout, CacheLock},
};
use std::{
    collections::{BTreeSet, HashMap},
    fs::{self, File},
    path::Path,
    time::{Duration, Instant},
};

/// How long a cache that a step uses is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether a layer of a cache's manifest is none of a result.
pub(super) fn is_ours(layer: &Descriptor) -> bool {
    layer.media_type == MOUNTS_TYPE || layer.media_type == PACK_TYPE
}

/// A manifest's caches of RUN, where it has any.
pub(super) fn table_of(manifest: &Manifest) -> Option<&Descriptor> {
    manifest.layers.iter().find(|layer| layer.media_type == MOUNTS_TYPE)
}

/// The caches of a store that are to be carried, locked and read.
struct Taken {
    sources: Vec<carried::Source>,
    _locks: Vec<CacheLock>,
}

/// Adds what `names` are called to a packed table, beside what `earlier` has of others, within the cap.
///
/// # Errors
/// When the store cannot be read or written.
pub(super) fn add(
    images: &Images<'_>,
    mounts: &Mounts,
    names: &BTreeSet<String>,
    earlier: Option<(&Carried, &str)>,
    packed: &mut PackedTable,
) -> Result<(), Failure> {
    let none = Carried::default();
    let before = earlier.map_or(&none, |(carried, _)| carried);
    let mut taken = take(images, mounts, names)?;
    let mut left = mounts.most_bytes;
    let mut out = Vec::new();
    taken.sources.retain(|source| {
        let bytes = source.archive.metadata().map_or(0, |metadata| metadata.len());
        let fits = bytes <= left;
        if fits {
            left -= bytes
        } else {
            out.push((source.about.id.clone(), bytes))
        }
        fits
    });
    for (id, bytes) in out {
        show::note(format_args!(
            "note: the cache `{id}` has {} and is not carried: mounts-max={} allows less",
            show::human(bytes),
            show::human(mounts.most_bytes)
        ));
    }
    let mut total = mounts.most_bytes - left;
    let stays: BTreeSet<&str> = before
        .caches()
        .iter()
        .filter(|cache| !names.contains(&cache.name) && mounts.takes(&cache.about))
        .filter(|cache| {
            let fits = total + cache.size <= mounts.most_bytes;
            total += if fits { cache.size } else { 0 };
            fits
        })
        .map(|cache| cache.name.as_str())
        .collect();
    let blobs = images.store.blobs();
    let mut writer = blobs.writer(Algorithm::Sha256)?;
    let written =
        Carried::write(before, &mut taken.sources, |cache| stays.contains(cache.name.as_str()), &mut writer);
    let written = written.map_err(|error| Failure::of(&error).about("the caches of RUN"))?;
    drop(taken);
    if written.has_pack {
        let pack = written.carried.packs().last().expect("there is one");
        writer.commit(Some((&pack.digest, pack.size)))?;
    }
    let table = written.carried.to_bytes().map_err(|error| Failure::of(&error))?;
    blobs.put(&table)?;
    packed
        .manifest
        .layers
        .retain(|layer| layer.media_type != EMPTY_TYPE || written.carried.caches().is_empty());
    if !written.carried.caches().is_empty() {
        packed.manifest.layers.push(Descriptor::of(MOUNTS_TYPE, &table));
        for pack in written.carried.packs() {
            packed.manifest.layers.push(Descriptor::new(PACK_TYPE, pack.digest.clone(), pack.size));
            if let Some((_, place)) = earlier.filter(|(carried, _)| carried.packs().contains(pack)) {
                images.store.put_source(&pack.digest, place)?;
            }
        }
    }
    packed.manifest_bytes = to_json(&packed.manifest);
    blobs.put(&packed.manifest_bytes)?;
    Ok(())
}

/// Locks and reads caches; one that is in use for long, or that is gone, is left out.
fn take(images: &Images<'_>, mounts: &Mounts, names: &BTreeSet<String>) -> Result<Taken, Failure> {
    let mut taken = Taken { sources: Vec::new(), _locks: Vec::new() };
    for name in names {
        let about = images.store.cache_about(name).unwrap_or_default();
        if !mounts.takes(&about) || !images.store.cache_folder(name).is_dir() {
            continue;
        }
        let Some(lock) = wait_for(images, name)? else {
            show::note(format_args!("warning: the cache `{}` is in use, and is not carried", about.id));
            continue;
        };
        match read(images, name) {
            Ok((archive, seen)) => {
                taken.sources.push(carried::Source { name: name.clone(), about, archive, seen });
                taken._locks.push(lock);
            }
            Err(error) if file::is_full(&error) => return Err(Failure::of(&error)),
            Err(error) => {
                let words = Failure::of(&error).words();
                show::note(format_args!("warning: the cache `{}` cannot be carried: {words}", about.id));
            }
        }
    }
    Ok(taken)
}

fn wait_for(images: &Images<'_>, name: &str) -> Result<Option<CacheLock>, Failure> {
    let began = Instant::now();
    loop {
        let lock = images.store.try_lock_cache(name, true)?;
        if lock.is_some() || began.elapsed() > PATIENCE {
            return Ok(lock);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The archive of a cache, and what it has seen.
fn read(images: &Images<'_>, name: &str) -> Result<(File, Vec<u8>), CarriedError> {
    let store = images.store;
    let scratch = store.temporary_folder("carried").map_err(std::io::Error::other)?;
    let archive = carried::archive(&store.cache_folder(name), &scratch, store.xattrs());
    file::remove_tree(&scratch)?;
    let seen = store.cache_folder(name).with_extension("seen");
    let seen = file::read_capped(&seen, slipway_oci::limits::CACHE_SEEN_BYTES).unwrap_or_default();
    Ok((archive?, seen))
}

impl Source<'_> {
    /// Fills the empty `folder` with a cache that this source has; answers what it has seen.
    pub(super) fn fill_cache(&self, name: &str, folder: &Path) -> Option<Vec<u8>> {
        for table in self.tables() {
            let Some(mounts) = &table.mounts else { continue };
            let Some(cache) = mounts.get(name) else { continue };
            match self.fetch_cache(mounts, cache, &Local::default(), folder) {
                Ok(seen) => return Some(seen),
                Err(failure) => {
                    self.say(format_args!(
                        ": its cache `{}` is not taken: {}",
                        cache.about.id,
                        failure.words()
                    ));
                    let _ = file::remove_tree(folder);
                    let _ = fs::create_dir(folder);
                }
            }
        }
        None
    }

    /// Fetches the packs that are needed, and unpacks.
    fn fetch_cache(
        &self,
        mounts: &Carried,
        cache: &CarriedCache,
        have: &Local,
        folder: &Path,
    ) -> Result<Vec<u8>, Failure> {
        let needed: Vec<Descriptor> = mounts
            .needed(cache, have)
            .into_iter()
            .map(|pack| Descriptor::new(PACK_TYPE, pack.digest, pack.size))
            .collect();
        let packs: HashMap<Digest, File> = self.open_blobs(&needed)?;
        let store = self.images().store;
        if let Some(room) = store.room() {
            room.take(cache.size).map_err(|error| Failure::of(&error))?;
        }
        mounts.unpack(cache, (&packs, have), folder, store.xattrs()).map_err(|error| Failure::of(&error))
    }

    /// The caches of a place that is about to be written; nothing where it lacks one of their packs: what is in this store under
    /// that digest was never its, and whoever wrote the table would have it sent.
    pub(super) fn kept_mounts(&self) -> Option<(&Carried, &str)> {
        let table = self.tables().iter().find(|table| table.mounts.is_some())?;
        let mounts = table.mounts.as_ref()?;
        let of = |pack: &Pack| Descriptor::new(PACK_TYPE, pack.digest.clone(), pack.size);
        let packs: Vec<Descriptor> = mounts.packs().iter().map(of).collect();
        self.has_all(table, &packs).then_some((mounts, table.place.as_str()))
    }

    /// The caches that this source has.
    pub(super) fn mounts(&self) -> Option<(&Carried, &str)> {
        self.tables().iter().find_map(|table: &Table| Some((table.mounts.as_ref()?, table.place.as_str())))
    }

    /// Puts the caches that `takes` says so of into the store, over those that are there; answers their ids and how many bytes of
    /// each are new here.
    pub(super) fn import_caches(
        &self,
        takes: impl Fn(&CarriedCache) -> bool,
    ) -> Result<Vec<Imported>, Failure> {
        let store = self.images().store;
        let Some((mounts, _)) = self.mounts() else { return Ok(Vec::new()) };
        let mut imported = Vec::new();
        for cache in mounts.caches().iter().filter(|cache| takes(cache)) {
            let Some(_lock) = wait_for(self.images(), &cache.name)? else {
                show::note(format_args!(
                    "warning: the cache `{}` is in use, and stays as it is",
                    cache.about.id
                ));
                continue;
            };
            let folder = store.cache_folder(&cache.name);
            let have = match folder.is_dir() {
                true => {
                    let here = read(self.images(), &cache.name);
                    let (archive, seen) = here.map_err(|error| Failure::of(&error))?;
                    Local::of(archive, &seen)?
                }
                false => Local::default(),
            };
            let new = store.temporary_folder("cache")?;
            let bytes = mounts.needed(cache, &have).iter().map(|pack| pack.size).sum();
            let filled = self.fetch_cache(mounts, cache, &have, &new);
            let seen = filled.inspect_err(|_| drop(file::remove_tree(&new)))?;
            store.put_cache(&cache.name, &new, &seen, &cache.about)?;
            imported.push(Imported { id: cache.about.id.clone(), bytes, size: cache.size });
        }
        Ok(imported)
    }
}

/// A cache that was imported.
pub(crate) struct Imported {
    /// Its id.
    pub(crate) id: String,
    /// Bytes of packs that were read.
    pub(crate) bytes: u64,
    /// Bytes of its archive.
    pub(crate) size: u64,
}

/// Whether words name a cache: its id, or its name's beginning.
pub(crate) fn is_named(words: &[String], name: &str, about: &CacheAbout) -> bool {
    words.is_empty()
        || words.iter().any(|word| *word == about.id || word.len() >= 4 && name.starts_with(word.as_str()))
}
