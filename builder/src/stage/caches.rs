//! Cache mounts: folders of the store that outlive a build.
//!
//! **Which.** As BuildKit (`solver/llbsolver/mounts/mount.go`, `getRefCacheDir`): by id and by what a new one starts
//! from, which is `from` with its path, or an empty folder of `uid`, `gid` and `mode`. Mounts of one step that mean the
//! same cache share one folder, whatever they say of sharing; the strictest word counts.
//!
//! **Locks.** A step first finds everything that another stage may have to be built for, and then takes the locks of
//! its caches in the order of their names, each once. Whoever waits holds smaller names only and waits for no stage: no
//! two steps wait for each other. The wait ends with the build.

use super::{Attached, StageState, mounts::Seed};
use crate::{Event, StepError, clock, key::chain_id};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::FlockOperation,
};
use slipway_dockerfile::mount::{CacheMount, Sharing};
use slipway_oci::{
    Digest, file,
    layer::owner,
    store::{CacheAbout, CacheLock},
};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::{fd::AsFd, unix::fs::PermissionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// How often a lock that another step holds is asked for.
const ASK_AGAIN: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// How long a step waits before it is said why, in so many words, for whoever sees no picture of the steps.
const LONG_WAIT: Duration = Duration::from_secs(1);

/// A cache that a step holds.
pub(super) struct Held {
    /// Its content.
    pub(super) folder: PathBuf,
    /// Where it is written down what the cache has seen; none for a folder that goes away with the step.
    pub(super) seen: Option<PathBuf>,
    /// Whether there is nothing in it yet.
    pub(super) is_new: bool,
}

/// What a step wants of one cache.
struct Wanted<'m> {
    mount: &'m CacheMount,
    seed: &'m Option<Seed>,
    sharing: Sharing,
}

/// Locks the folder of all caches for a moment's change of what lies in it.
pub(super) fn guard(folder: &Path) -> Result<File, StepError> {
    let opened = File::open(folder).map_err(StepError::io("open", folder))?;
    rustix::fs::flock(&opened, FlockOperation::LockExclusive)
        .map_err(|errno| StepError::io("lock", folder)(errno.into()))?;
    Ok(opened)
}

/// The stricter of two words.
fn stricter(one: Sharing, other: Sharing) -> Sharing {
    match (one, other) {
        (Sharing::Locked, _) | (_, Sharing::Locked) => Sharing::Locked,
        (Sharing::Shared, _) | (_, Sharing::Shared) => Sharing::Shared,
        (Sharing::Private, Sharing::Private) => Sharing::Private,
    }
}

impl StageState<'_, '_> {
    /// The name of the cache that a mount means. Hashed: an id such as `../..` names nothing but itself.
    pub(super) fn cache_name(&self, mount: &CacheMount, seed: &Option<Seed>) -> String {
        let mut text = format!("{}/{}", self.cache_scope(), mount.id);
        if let Some(seed) = seed {
            let chain = chain_id(seed.layers.iter().map(|form| &form.diff_id));
            text.push_str(&format!("\0from {chain} {}", String::from_utf8_lossy(&seed.source)));
        }
        if (mount.uid, mount.gid, mount.mode) != (0, 0, 0o755) {
            text.push_str(&format!("\0{}:{} {:o}", mount.uid, mount.gid, mount.mode));
        }
        Digest::sha256(text.as_bytes()).hex()
    }

    /// What people are told of a cache, and what carries it elsewhere.
    fn about_cache(&self, wanted: &Wanted<'_>) -> CacheAbout {
        let from = |seed: &Seed| {
            let chain = chain_id(seed.layers.iter().map(|form| &form.diff_id));
            format!("{chain} {}", String::from_utf8_lossy(&seed.source))
        };
        CacheAbout {
            id: wanted.mount.id.clone(),
            scope: self.cache_scope(),
            uid: wanted.mount.uid,
            gid: wanted.mount.gid,
            mode: wanted.mount.mode,
            from: wanted.seed.as_ref().map_or_else(String::new, from),
            ..CacheAbout::default()
        }
    }

    fn cache_scope(&self) -> String {
        self.solver.request.build_args.get("BUILDKIT_CACHE_MOUNT_NS").cloned().unwrap_or_default()
    }

    /// Takes the locks of all caches that the mounts mean, and makes those that are not there.
    pub(super) fn hold_caches<'m>(
        &mut self,
        mounts: impl Iterator<Item = (&'m CacheMount, &'m Option<Seed>)>,
        attached: &mut Attached,
    ) -> Result<BTreeMap<String, Held>, StepError> {
        let mut wanted: BTreeMap<String, Wanted<'m>> = BTreeMap::new();
        for (mount, seed) in mounts {
            let name = self.cache_name(mount, seed);
            let one = wanted.entry(name).or_insert(Wanted { mount, seed, sharing: mount.sharing });
            one.sharing = stricter(one.sharing, mount.sharing);
            if self.solver.environment.bare && one.sharing == Sharing::Shared {
                // it is moved into the step's root, where no other step has it
                one.sharing = Sharing::Locked;
            }
        }
        let mut held = BTreeMap::new();
        for (name, wanted) in wanted {
            let cache = self.hold_cache(&name, &wanted, attached)?;
            held.insert(name, cache);
        }
        Ok(held)
    }

    fn hold_cache(
        &mut self,
        name: &str,
        wanted: &Wanted<'_>,
        attached: &mut Attached,
    ) -> Result<Held, StepError> {
        let store = self.solver.environment.store;
        let folder = store.root().join("caches");
        let ask = || store.try_lock_cache(name, wanted.sharing != Sharing::Shared);
        let lock = match ask()? {
            Some(lock) => lock,
            None if wanted.sharing == Sharing::Private => {
                let own = store.temporary_folder("cache")?;
                attached.scratch.push(own.clone());
                let folder = own.join("cache");
                self.seed(wanted, &folder, &own)?;
                return Ok(Held { folder, seen: None, is_new: true });
            }
            None => self.wait_for(&wanted.mount.id, || Ok(ask()?))?,
        };
        attached.locks.push(lock);
        store.note_cache(name, &self.about_cache(wanted));
        self.solver.environment.cache_sinks.iter().for_each(|sink| sink.used_cache(name));
        let path = store.cache_folder(name);
        let is_missing = !path.exists();
        let is_carried = is_missing && self.carried(name, &folder)?;
        if is_missing && !is_carried {
            self.seed(wanted, &path, &folder)?;
        }
        // what a seed holds was made from nobody knows what
        let is_new = is_missing && !is_carried && wanted.seed.is_none();
        Ok(Held { folder: path, seen: Some(folder.join(format!("{name}.seen"))), is_new })
    }

    /// Asks until it is granted or the build is given up.
    fn wait_for(
        &self,
        id: &str,
        ask: impl Fn() -> Result<Option<CacheLock>, StepError>,
    ) -> Result<CacheLock, StepError> {
        let environment = self.solver.environment;
        let reason = format!("the cache `{id}`, which another step holds");
        clock::aside(environment.progress, &reason, || {
            let (began, mut told) = (Instant::now(), false);
            loop {
                if environment.cancel.is_cancelled() {
                    return Err(StepError::Cancelled);
                }
                if let Some(lock) = ask()? {
                    return Ok(lock);
                }
                if !told && began.elapsed() >= LONG_WAIT {
                    let message = format!("a step waits for {reason}");
                    environment.progress.event(Event::Warning { message: &message });
                    told = true;
                }
                let mut watched = [PollFd::from_borrowed_fd(environment.cancel.as_fd(), PollFlags::IN)];
                // a signal only means that it is asked again sooner
                let _ = poll(&mut watched, Some(&ASK_AGAIN));
            }
        })
    }

    /// Takes the contents of a cache from elsewhere, where somebody has them.
    fn carried(&self, name: &str, holder: &Path) -> Result<bool, StepError> {
        let environment = self.solver.environment;
        if environment.cache_sources.is_empty() {
            return Ok(false);
        }
        let store = environment.store;
        let scratch = store.temporary_folder("carried")?;
        let found = environment.cache_sources.iter().find_map(|source| source.fill_cache(name, &scratch));
        let Some(seen) = found else {
            fs::remove_dir(&scratch).map_err(StepError::io("remove", &scratch))?;
            return Ok(false);
        };
        let path = store.cache_folder(name);
        let _guard = guard(holder)?;
        if path.is_dir() {
            // another step that shares it was quicker
            file::remove_tree(&scratch).map_err(StepError::io("remove", &scratch))?;
            return Ok(true);
        }
        if !seen.is_empty() {
            let record = path.with_extension("seen");
            file::write_atomic(&record, &seen).map_err(StepError::io("write", &record))?;
        }
        fs::rename(&scratch, &path).map_err(StepError::io("rename", &path))?;
        Ok(true)
    }

    /// Makes a new cache at `path`, a name in `holder`.
    fn seed(&mut self, wanted: &Wanted<'_>, path: &Path, holder: &Path) -> Result<(), StepError> {
        let mount = wanted.mount;
        self.check_owner(&format!("the cache `{}`", mount.id), mount.uid, mount.gid)?;
        let store = self.solver.environment.store;
        let scratch = store.temporary_folder("seed")?;
        if let Some(seed) = wanted.seed {
            let mut attached = Attached::default();
            let seeded = self.folder_with(&seed.layers, &seed.source, true, &mut attached)?;
            fs::remove_dir(&scratch).map_err(StepError::io("remove", &scratch))?;
            fs::rename(&seeded, &scratch).map_err(StepError::io("rename", &seeded))?;
        }
        owner::give(&scratch, mount.uid, mount.gid, store.xattrs())
            .map_err(StepError::io("open", &scratch))?;
        fs::set_permissions(&scratch, fs::Permissions::from_mode(mount.mode))
            .map_err(StepError::io("open", &scratch))?;
        // rename(2) would put a folder over an empty one, which another step may have made and mounted meanwhile
        let _guard = guard(holder)?;
        if path.is_dir() {
            return file::remove_tree(&scratch).map_err(StepError::io("remove", &scratch));
        }
        fs::rename(&scratch, path).map_err(StepError::io("rename", path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strictest_word_counts() {
        use Sharing::{Locked, Private, Shared};
        for (one, other, both) in [
            (Shared, Shared, Shared),
            (Shared, Private, Shared),
            (Shared, Locked, Locked),
            (Private, Private, Private),
            (Private, Locked, Locked),
            (Locked, Locked, Locked),
        ] {
            assert_eq!(stricter(one, other), both);
            assert_eq!(stricter(other, one), both);
        }
    }
}
