//! What changed beneath a cache mount looks newer than what the cache holds.
//!
//! Times of files in layers are the build's one epoch, so that digests do not depend on when and where something was
//! built ([`crate::epoch`]). A cache outlives builds and its files have true times: make, ninja, cargo and whoever else
//! asks "is the source newer than what I made of it?" would take every changed source for an old one and keep stale
//! results. Times of the context would not do either: they go backwards with `cp -p`, `tar x` and a checkout's mood.
//!
//! So each cache has a record of what it has seen: path, content, and the time since when the path has had it, which
//! is none for what was there when the cache was made. Before a command runs, the record is brought up to date, and
//! every file that has such a time and an older one of its own shows the recorded one. It stays so in later steps and
//! builds, because nobody knows which of them uses the file. The command sees copies in one more layer, above the
//! others and below what it writes: neither the layers nor their folders, which others use at the same time, change,
//! and none of it is part of the result, whose times are clamped as ever. Files of bind mounts get it in a private copy.
//!
//! The record is of one tree at a time. A path that is gone from a folder that is still there is forgotten, so that it
//! counts as changed when it comes back; one whose folder is gone too belongs to another step that uses the cache.
//!
//! Left out is what a base image brought, whose times are its own, and what a RUN unpacked with times of its own:
//! compilers' headers of another release are as old as their release in every tool.

use super::{
    StageState,
    caches::{Held, guard},
    mounts::Mount,
};
use crate::{StepError, base, limits, transfer};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, XattrFlags};
use slipway_oci::{
    Root, file,
    layer::{Clamp, Entry, Kind, Tree},
};
use slipway_runtime::Lower;
use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs::{self, File},
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, PermissionsExt, chown},
    },
    path::{Path, PathBuf},
    time::Duration,
};

/// First bytes of a record.
const MAGIC: &[u8] = b"slipway seen 1\n";

/// Where a step finds a file.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// At a path of a layer, counted from the base.
    Layer(usize, Vec<u8>),
    /// Below the target of the mount with this number.
    Mount(usize, Vec<u8>),
}

/// Files that a step sees, by absolute path without the leading slash: what they are, and where.
type Sources = BTreeMap<Vec<u8>, (String, Place)>;

/// What a cache has seen: the content of a path, and since when, in nanoseconds since 1970; 0 from the beginning on.
type Seen = BTreeMap<Vec<u8>, (String, i64)>;

/// Files that must look newer than they are, and how new.
#[derive(Default)]
pub(super) struct Newer {
    layers: Vec<(usize, Vec<u8>, i64)>,
    mounts: BTreeMap<usize, Vec<(Vec<u8>, i64)>>,
}

impl Newer {
    /// Those of a mount, by path below its target.
    pub(super) fn of_mount(&self, number: usize) -> Option<&[(Vec<u8>, i64)]> {
        self.mounts.get(&number).map(Vec::as_slice)
    }
}

impl StageState<'_, '_> {
    /// Brings the records of the caches up to date; answers what has to look newer.
    pub(super) fn newer<'h>(
        &mut self,
        mounts: &[Mount],
        held: impl Iterator<Item = &'h Held>,
    ) -> Result<Newer, StepError> {
        let held: Vec<&Held> = held.filter(|cache| cache.seen.is_some()).collect();
        if held.is_empty() {
            return Ok(Newer::default());
        }
        let (base_layers, run_layers, clamp) = (self.base_layers, self.run_layers.clone(), self.epoch.clamp);
        let tree = self.tree()?.clone();
        let mut sources = Sources::new();
        let mut links = BTreeMap::new();
        for layer in base_layers..tree.layers().len() {
            let own_times = run_layers.contains(&layer);
            for entry in tree.layers()[layer].entries() {
                if own_times && !is_made(entry, clamp) {
                    continue;
                }
                let seen = tree.get(&entry.path).is_some_and(|found| found.layer == layer);
                let Some(identity) = identity(entry, &tree, layer).filter(|_| seen) else { continue };
                if entry.kind == Kind::Symlink {
                    links.insert(entry.path.clone(), tree.resolve(&entry.path, true)?.path);
                }
                sources.insert(entry.path.clone(), (identity, Place::Layer(layer, entry.path.clone())));
            }
        }
        for (number, mount) in mounts.iter().enumerate() {
            if let Mount::Bind { mount, layers, source, base_layers } = mount {
                let target = transfer::clean(self.target(&mount.target).as_os_str().as_bytes());
                let tables = base::tree(self.solver.environment, layers)?;
                mounted(&tables, source, *base_layers, (number, &target), &mut sources)?;
            }
        }
        let since = self.look(&held, &sources)?;
        Ok(sort_out(sources, &links, since))
    }

    /// Since when each file has been as it is, for the cache that has known it for the shortest time.
    fn look(&self, held: &[&Held], sources: &Sources) -> Result<BTreeMap<Vec<u8>, i64>, StepError> {
        let now = now()?;
        let mut newest: BTreeMap<Vec<u8>, i64> = BTreeMap::new();
        let mut used = false;
        for cache in held {
            let Some(path) = &cache.seen else { continue };
            // several steps may share the cache
            let _guard = guard(path.parent().unwrap_or(path))?;
            let before = if cache.is_new { None } else { read(path) };
            let missing = if cache.is_new { 0 } else { now };
            let after = update(before.unwrap_or_default(), sources, missing, now);
            for key in sources.keys() {
                let since = after.get(key).map_or(now, |seen| seen.1);
                used |= since == now;
                let newest = newest.entry(key.clone()).or_insert(since);
                *newest = since.max(*newest);
            }
            file::write_atomic(path, &written(&after)).map_err(StepError::io("write", path))?;
        }
        while used && coarse() < now {
            // what the command makes gets times of the kernel's clock tick, which may have begun before
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(newest)
    }

    /// A layer of copies of what has to look newer, where anything has.
    ///
    /// `lower` are the step's layers, the topmost first.
    pub(super) fn newer_layer(
        &self,
        newer: &Newer,
        lower: &[Lower],
        scratch: &mut Vec<PathBuf>,
    ) -> Result<Option<PathBuf>, StepError> {
        if newer.layers.is_empty() {
            return Ok(None);
        }
        let shown = base::Shown::of(lower)?;
        let lower = &shown.folders;
        let mut made: Option<(PathBuf, BTreeSet<Vec<u8>>)> = None;
        for (layer, path, since) in &newer.layers {
            let source = &lower[lower.len() - 1 - layer];
            let root = Root::open(source).map_err(StepError::io("open", source))?;
            let shown = source.join(OsStr::from_bytes(path));
            let file = root.open_regular(Path::new(OsStr::from_bytes(path)));
            let file = file.map_err(StepError::io("open", &shown))?;
            let status = file.metadata().map_err(StepError::io("read", &shown))?;
            // what a RUN of this store made has its true time
            if status.mtime().saturating_mul(1_000_000_000).saturating_add(status.mtime_nsec()) >= *since {
                continue;
            }
            if made.is_none() {
                let folder = self.solver.environment.store.temporary_folder("newer")?;
                scratch.push(folder.clone());
                like(&folder, b"", lower)?;
                made = Some((folder, BTreeSet::new()));
            }
            let Some((folder, parents)) = &mut made else { continue };
            for (at, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
                if parents.insert(path[..at].to_vec()) {
                    let here = folder.join(OsStr::from_bytes(&path[..at]));
                    fs::create_dir(&here).map_err(StepError::io("create", &here))?;
                    like(&here, &path[..at], lower)?;
                }
            }
            let copy = folder.join(OsStr::from_bytes(path));
            copy_file(file, &status, &shown, &copy)?;
            set_time(CWD, copy.as_os_str(), *since).map_err(StepError::io("write", &copy))?;
        }
        let Some((folder, parents)) = made else { return Ok(None) };
        for path in parents.iter().rev().chain([&Vec::new()]) {
            // the copies moved the times of their folders
            like(&folder.join(OsStr::from_bytes(path)), path, lower)?;
        }
        Ok(Some(folder))
    }
}

/// Whether a RUN wrote the file: its time was later than all that the layer may say.
fn is_made(entry: &Entry, clamp: Clamp) -> bool {
    match clamp {
        Clamp::Latest(latest) => entry.mtime >= latest,
        Clamp::Keep => true,
    }
}

/// What a path is, for those kinds that hold something.
fn identity(entry: &Entry, tree: &Tree, layer: usize) -> Option<String> {
    match entry.kind {
        Kind::File => Some(entry.content.as_ref()?.to_string()),
        Kind::Hardlink => Some(tree.layers()[layer].get(&entry.link)?.content.as_ref()?.to_string()),
        Kind::Symlink => Some(format!("-> {}", String::from_utf8_lossy(&entry.link))),
        _ => None,
    }
}

/// The files that a bind mount shows at `target`, beside those of a base image.
fn mounted(
    tables: &Tree,
    source: &[u8],
    base_layers: usize,
    (number, target): (usize, &[u8]),
    sources: &mut Sources,
) -> Result<(), StepError> {
    let top = tables.resolve(source, true)?.path;
    let mut add = |path: &[u8], found: slipway_oci::layer::Found<'_>| {
        if found.layer < base_layers || !matches!(found.entry.kind, Kind::File | Kind::Hardlink) {
            return;
        }
        let Some(identity) = identity(found.entry, tables, found.layer) else { return };
        let below = path.strip_prefix(top.as_slice()).unwrap_or(path);
        let below = below.strip_prefix(b"/").unwrap_or(below);
        let shown = if below.is_empty() { target.to_vec() } else { transfer::join(target, below) };
        sources.insert(shown, (identity, Place::Mount(number, below.to_vec())));
    };
    if let Some(found) = tables.get(&top) {
        add(&top, found);
    }
    tables.walk(&top, &mut |path, found| {
        add(path, found);
        true
    });
    Ok(())
}

/// Brings what a cache has seen up to date. What it has seen otherwise changed now, and so did what is new in a top folder
/// that it knows: a file may have taken another's place. Of other top folders it holds nothing: another step, or another
/// project, has used it. Where there is no record, everything has changed at `missing`.
fn update(before: Seen, sources: &Sources, missing: i64, now: i64) -> Seen {
    let top = |path: &[u8]| path.split(|byte| *byte == b'/').next().unwrap_or_default().to_vec();
    let tops: BTreeSet<Vec<u8>> = before.keys().map(|path| top(path)).collect();
    let unknown = |path: &[u8]| match tops.contains(&top(path)) {
        true => now,
        false if before.is_empty() => missing,
        false => 0,
    };
    let parent = |path: &[u8]| path.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at);
    let folders: BTreeSet<&[u8]> = sources.keys().map(|path| &path[..parent(path)]).collect();
    let mut after: Seen = BTreeMap::new();
    for (path, (identity, _)) in sources {
        let since = match before.get(path) {
            Some((known, since)) if known == identity => *since,
            Some(_) => now,
            None => unknown(path),
        };
        after.insert(path.clone(), (identity.clone(), since));
    }
    for (path, seen) in before {
        if !sources.contains_key(&path) && !folders.contains(&path[..parent(&path)]) {
            after.insert(path, seen);
        }
    }
    after
}

/// Files by where their copies go. A link that leads elsewhere now makes all that it leads to as new as itself.
fn sort_out(
    sources: Sources,
    links: &BTreeMap<Vec<u8>, Vec<u8>>,
    mut since: BTreeMap<Vec<u8>, i64>,
) -> Newer {
    for (link, target) in links {
        let Some(new) = since.get(link).copied().filter(|since| *since > 0) else { continue };
        for (path, time) in since.range_mut(target.clone()..) {
            if !path.starts_with(target) {
                break;
            }
            if transfer::is_within(path, target) {
                *time = new.max(*time);
            }
        }
    }
    let mut newer = Newer::default();
    for (path, (identity, place)) in sources {
        let since = since.get(&path).copied().unwrap_or(0);
        match place {
            _ if since == 0 || identity.starts_with("->") => {}
            Place::Layer(layer, path) => newer.layers.push((layer, path, since)),
            Place::Mount(number, path) => newer.mounts.entry(number).or_default().push((path, since)),
        }
    }
    newer
}

/// Makes files below `top`, a private copy of what a mount shows, as new as they have to look.
pub(super) fn make_newer(top: &Path, newer: &[(Vec<u8>, i64)]) -> Result<(), StepError> {
    if let [(path, since)] = newer
        && path.is_empty()
    {
        return set_time(CWD, top.as_os_str(), *since).map_err(StepError::io("write", top));
    }
    let root = Root::open(top).map_err(StepError::io("open", top))?;
    for (path, since) in newer {
        let path = Path::new(OsStr::from_bytes(path));
        let (parent, name) = root.parent(path).map_err(StepError::io("open", top.join(path)))?;
        set_time(&parent, &name, *since).map_err(StepError::io("write", top.join(path)))?;
    }
    Ok(())
}

fn set_time(folder: impl std::os::fd::AsFd, name: &OsStr, nanoseconds: i64) -> std::io::Result<()> {
    let time = Timespec {
        tv_sec: nanoseconds.div_euclid(1_000_000_000),
        tv_nsec: nanoseconds.rem_euclid(1_000_000_000) as _,
    };
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(rustix::fs::utimensat(folder, name, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Copies a file with all that it has but its time.
fn copy_file(mut from: File, status: &fs::Metadata, shown: &Path, to: &Path) -> Result<(), StepError> {
    let mut copy = File::create_new(to).map_err(StepError::io("create", to))?;
    std::io::copy(&mut from, &mut copy).map_err(StepError::io("copy", shown))?;
    chown(to, Some(status.uid()), Some(status.gid())).map_err(StepError::io("write", to))?;
    let mode = fs::Permissions::from_mode(status.mode() & 0o7777);
    fs::set_permissions(to, mode).map_err(StepError::io("write", to))?;
    copy_attributes(shown, to)
}

/// Makes the folder `made` as the topmost one at `path` is: overlayfs shows mode, owner and time of that one.
fn like(made: &Path, path: &[u8], lower: &[PathBuf]) -> Result<(), StepError> {
    for folder in lower {
        let found = folder.join(OsStr::from_bytes(path));
        let Ok(status) = fs::symlink_metadata(&found) else { continue };
        if !status.is_dir() {
            continue;
        }
        chown(made, Some(status.uid()), Some(status.gid())).map_err(StepError::io("write", made))?;
        let mode = fs::Permissions::from_mode(status.mode() & 0o7777);
        fs::set_permissions(made, mode).map_err(StepError::io("write", made))?;
        copy_attributes(&found, made)?;
        let time = status.mtime().saturating_mul(1_000_000_000).saturating_add(status.mtime_nsec());
        return set_time(CWD, made.as_os_str(), time).map_err(StepError::io("write", made));
    }
    Ok(())
}

/// Copies extended attributes, those excepted that are overlayfs' own.
fn copy_attributes(from: &Path, to: &Path) -> Result<(), StepError> {
    let failed = |errno: rustix::io::Errno| StepError::io("read", from)(errno.into());
    let mut names = vec![0u8; limits::ATTRIBUTE_BYTES];
    let count = match rustix::fs::llistxattr(from, &mut names[..]) {
        Ok(count) => count,
        Err(rustix::io::Errno::NOTSUP) => return Ok(()),
        Err(errno) => return Err(failed(errno)),
    };
    names.truncate(count);
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        if name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.") {
            continue;
        }
        let name = OsStr::from_bytes(name);
        let mut value = vec![0u8; limits::ATTRIBUTE_BYTES];
        let count = rustix::fs::lgetxattr(from, name, &mut value[..]).map_err(failed)?;
        rustix::fs::lsetxattr(to, name, &value[..count], XattrFlags::empty())
            .map_err(|errno| StepError::io("write", to)(errno.into()))?;
    }
    Ok(())
}

fn now() -> Result<i64, StepError> {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    Ok(nanoseconds(time))
}

/// The time that the kernel writes into files.
fn coarse() -> i64 {
    nanoseconds(rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse))
}

fn nanoseconds(time: rustix::time::Timespec) -> i64 {
    time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec)
}

/// The record's bytes: how many paths there are, and for each its length and itself, the length of its content's name and
/// that, and the time.
fn written(seen: &Seen) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend((seen.len() as u64).to_le_bytes());
    for (path, (identity, since)) in seen {
        for part in [path.as_slice(), identity.as_bytes()] {
            bytes.extend((part.len() as u32).to_le_bytes());
            bytes.extend(part);
        }
        bytes.extend(since.to_le_bytes());
    }
    bytes
}

/// Reads a record. One that is missing, cut or of another form is none: then everything counts as changed.
fn read(path: &Path) -> Option<Seen> {
    parse(&file::read_capped(path, limits::SEEN_BYTES).ok()?)
}

fn parse(bytes: &[u8]) -> Option<Seen> {
    let mut rest = bytes.strip_prefix(MAGIC)?;
    let mut take = |count: usize| {
        let (taken, left) = rest.split_at_checked(count)?;
        rest = left;
        Some(taken)
    };
    let mut seen = Seen::new();
    for _ in 0..u64::from_le_bytes(take(8)?.try_into().ok()?) {
        let mut part = || {
            let length = u32::from_le_bytes(take(4)?.try_into().ok()?);
            Some(take(length as usize)?.to_vec())
        };
        let (path, identity) = (part()?, String::from_utf8(part()?).ok()?);
        let since = i64::from_le_bytes(take(8)?.try_into().ok()?);
        seen.insert(path, (identity, since));
    }
    rest.is_empty().then_some(seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(files: &[(&str, &str)]) -> Sources {
        let place = Place::Layer(0, Vec::new());
        let one =
            |(path, text): &(&str, &str)| (path.as_bytes().to_vec(), ((*text).to_owned(), place.clone()));
        files.iter().map(one).collect()
    }

    fn since(seen: &Seen) -> Vec<(String, i64)> {
        seen.iter().map(|(path, (_, since))| (String::from_utf8_lossy(path).into_owned(), *since)).collect()
    }

    fn expected(files: &[(&str, i64)]) -> Vec<(String, i64)> {
        files.iter().map(|(path, since)| ((*path).to_owned(), *since)).collect()
    }

    #[test]
    fn what_changes_or_comes_back_is_new_and_stays_so() {
        let mut seen = Seen::new();
        type Case<'a> = (&'a [(&'a str, &'a str)], &'a [(&'a str, i64)]);
        let cases: [Case<'_>; 7] = [
            // the cache is made
            (&[("app/a", "1"), ("app/b", "1")], &[("app/a", 0), ("app/b", 0)]),
            (&[("app/a", "2"), ("app/b", "1")], &[("app/a", 2), ("app/b", 0)]),
            // and back
            (&[("app/a", "1"), ("app/b", "1")], &[("app/a", 3), ("app/b", 0)]),
            (&[("app/a", "1"), ("app/c", "1")], &[("app/a", 3), ("app/c", 4)]),
            // gone and come back
            (&[("app/a", "1"), ("app/b", "1"), ("app/c", "1")], &[("app/a", 3), ("app/b", 5), ("app/c", 4)]),
            // another step with other folders
            (&[("srv/a", "1")], &[("app/a", 3), ("app/b", 5), ("app/c", 4), ("srv/a", 0)]),
            (&[("app/a", "1")], &[("app/a", 3), ("srv/a", 0)]),
        ];
        for (number, (files, times)) in cases.iter().enumerate() {
            let now = number as i64 + 1;
            let missing = if number == 0 { 0 } else { now };
            seen = update(seen, &sources(files), missing, now);
            assert_eq!(since(&seen), expected(times), "{files:?}");
            assert_eq!(parse(&written(&seen)), Some(seen.clone()));
        }
    }

    #[test]
    fn a_cache_without_a_record_makes_everything_new() {
        let seen = update(Seen::new(), &sources(&[("a", "1")]), 7, 7);
        assert_eq!(since(&seen), expected(&[("a", 7)]));
    }

    #[test]
    fn a_damaged_record_is_none() {
        let whole = written(&update(Seen::new(), &sources(&[("a", "1"), ("b", "22")]), 7, 7));
        for length in 0..whole.len() {
            assert_eq!(parse(&whole[..length]), None, "{length}");
        }
        assert_eq!(parse(&[whole.as_slice(), b"x"].concat()), None);
        assert_eq!(parse(b"another form"), None);
        assert_eq!(parse(&written(&Seen::new())), Some(Seen::new()));
    }

    #[test]
    fn a_link_that_leads_elsewhere_makes_its_target_new() {
        let mut all = sources(&[("lib", "-> v2"), ("v1/a", "1"), ("v2/a", "1"), ("v2.c", "1")]);
        all.insert(b"m".to_vec(), ("x".to_owned(), Place::Mount(3, b"y".to_vec())));
        let since = all.keys().map(|path| (path.clone(), if path == b"lib" || path == b"m" { 9 } else { 0 }));
        let links = BTreeMap::from([(b"lib".to_vec(), b"v2".to_vec())]);
        let newer = sort_out(all.clone(), &links, since.collect());
        assert_eq!(newer.layers.len(), 1, "{:?}", newer.layers);
        assert_eq!(newer.layers[0].2, 9);
        assert_eq!(newer.of_mount(3), Some(&[(b"y".to_vec(), 9)][..]));
    }
}
