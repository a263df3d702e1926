//! Remembers the digest and the attributes of a context's files by what `stat` says of them.
//!
//! A file whose device, inode, size, modification and change time are all the same has the same bytes and attributes,
//! unless it was
//! changed twice within one tick of the kernel's clock. So a file that was younger than [`TICK_NANOSECONDS`] when the
//! cache was opened, which is before any file is looked at, is not remembered: it is read again next time (git calls
//! such an entry "racily clean"). The time after a read says nothing: a slow one outlasts the tick that it fell into.
//! Paths that are gone are forgotten when the cache is written.
//!
//! File: `context/<sha256 of the folder's path>`; magic `SLIPSTA3`, then per file the path (u32 length and bytes), five
//! u64, 32 bytes of digest, and the attributes (u32 count, then name and value, each u32 length and bytes). It is only ever an accelerator: a damaged one is thrown away.

use slipway_oci::{Digest, file, layer::Attributes};
use std::{
    collections::HashMap,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::{
        RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

const MAGIC: &[u8; 8] = b"SLIPSTA3";
/// Twice the coarsest tick of kernels in use (CONFIG_HZ=100), in nanoseconds.
const TICK_NANOSECONDS: i128 = 20_000_000;
/// Largest cache file that is read, in bytes.
const MOST_BYTES: u64 = 1 << 30;

/// What identifies an unchanged file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) size_bytes: u64,
    /// Nanoseconds since 1970, wrapped: only equality counts.
    pub(crate) modified: u64,
    /// Nanoseconds since 1970, wrapped: only equality counts.
    pub(crate) changed: u64,
}

impl Fingerprint {
    pub(crate) fn of(stat: &rustix::fs::Stat) -> Fingerprint {
        let nanoseconds =
            |seconds: i64, rest: u64| (seconds as u64).wrapping_mul(1_000_000_000).wrapping_add(rest);
        Fingerprint {
            device: stat.st_dev,
            inode: stat.st_ino,
            size_bytes: stat.st_size as u64,
            modified: nanoseconds(stat.st_mtime, stat.st_mtime_nsec),
            changed: nanoseconds(stat.st_ctime, stat.st_ctime_nsec),
        }
    }

    /// Whether the file was at rest for long enough before `now` (nanoseconds since 1970).
    fn is_settled(&self, now: i128) -> bool {
        now - i128::from(self.modified.max(self.changed)) > TICK_NANOSECONDS
    }
}

/// What is remembered of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remembered {
    /// Of its bytes.
    pub(crate) digest: Digest,
    /// Those that travel.
    pub(crate) attributes: Attributes,
}

/// What an earlier build found.
struct Known {
    fingerprint: Fingerprint,
    file: Remembered,
    /// Whether this build has met the path.
    met: AtomicBool,
}

/// The cache of one folder.
pub(crate) struct StatCache {
    path: PathBuf,
    /// When the cache was opened, in nanoseconds since 1970.
    opened: i128,
    known: HashMap<Vec<u8>, Known>,
    fresh: RwLock<HashMap<Vec<u8>, (Fingerprint, Remembered)>>,
}

impl StatCache {
    /// The cache of the context `folder`, kept in `caches`.
    pub(crate) fn open(caches: &Path, folder: &Path) -> StatCache {
        let path = caches.join(Digest::sha256(folder.as_os_str().as_bytes()).hex());
        let known =
            file::read_capped(&path, MOST_BYTES).ok().and_then(|bytes| decode(&bytes)).unwrap_or_default();
        let opened = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |now| now.as_nanos() as i128);
        StatCache { path, opened, known, fresh: RwLock::default() }
    }

    /// What is known of a file that has not changed.
    pub(crate) fn get(&self, path: &[u8], fingerprint: &Fingerprint) -> Option<Remembered> {
        let fresh = self.fresh.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (found, file) = match (fresh.get(path), self.known.get(path)) {
            (Some((found, file)), _) => (found, file),
            (None, Some(known)) => {
                known.met.store(true, Ordering::Relaxed);
                (&known.fingerprint, &known.file)
            }
            (None, None) => return None,
        };
        (found == fingerprint).then(|| file.clone())
    }

    /// Notes what a file is; `fingerprint` is from before it was read.
    pub(crate) fn put(&self, path: &[u8], fingerprint: Fingerprint, file: Remembered) {
        if fingerprint.is_settled(self.opened) {
            let mut fresh = self.fresh.write().unwrap_or_else(std::sync::PoisonError::into_inner);
            fresh.insert(path.to_vec(), (fingerprint, file));
        }
    }

    /// Writes what is new, and forgets paths that this build has not met and that are not `there` any more. A cache that
    /// cannot be written costs time, not correctness, so failure is not reported.
    pub(crate) fn save(self, there: impl Fn(&[u8]) -> bool) {
        let fresh = self.fresh.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        if fresh.is_empty() {
            return;
        }
        let mut bytes = MAGIC.to_vec();
        let known = self.known.iter().filter(|(path, _)| !fresh.contains_key(*path));
        for (path, known) in known.filter(|(path, known)| known.met.load(Ordering::Relaxed) || there(path)) {
            encode(&mut bytes, path, &known.fingerprint, &known.file);
        }
        for (path, (fingerprint, file)) in &fresh {
            encode(&mut bytes, path, fingerprint, file);
        }
        let temporary = self.path.with_file_name(file::temporary_name("stat"));
        let _ = file::replace(&self.path, &temporary, &bytes);
    }
}

fn encode(out: &mut Vec<u8>, path: &[u8], fingerprint: &Fingerprint, file: &Remembered) {
    fn sized(out: &mut Vec<u8>, bytes: &[u8]) {
        out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        out.extend_from_slice(bytes);
    }
    sized(out, path);
    let Fingerprint { device, inode, size_bytes, modified, changed } = *fingerprint;
    for value in [device, inode, size_bytes, modified, changed] {
        out.extend_from_slice(&value.to_le_bytes());
    }
    out.extend_from_slice(file.digest.as_bytes());
    out.extend_from_slice(&(file.attributes.len() as u32).to_le_bytes());
    for (name, value) in &file.attributes {
        sized(out, name);
        sized(out, value);
    }
}

/// Bytes of an entry with a path of no length and no attributes.
const LEAST_ENTRY_BYTES: usize = 4 + 5 * 8 + 32 + 4;

fn decode(bytes: &[u8]) -> Option<HashMap<Vec<u8>, Known>> {
    let mut rest = Rest(bytes.strip_prefix(MAGIC)?);
    let mut entries = HashMap::with_capacity(rest.0.len() / (2 * LEAST_ENTRY_BYTES));
    while !rest.0.is_empty() {
        let path = rest.sized()?.to_vec();
        let fingerprint = Fingerprint {
            device: rest.u64()?,
            inode: rest.u64()?,
            size_bytes: rest.u64()?,
            modified: rest.u64()?,
            changed: rest.u64()?,
        };
        let digest = Digest::of_content(rest.take(32)?.try_into().ok()?);
        let attributes = (0..rest.u32()?)
            .map(|_| Some((rest.sized()?.to_vec(), rest.sized()?.to_vec())))
            .collect::<Option<_>>()?;
        let file = Remembered { digest, attributes };
        entries.insert(path, Known { fingerprint, file, met: AtomicBool::new(false) });
    }
    Some(entries)
}

/// What is left to decode.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn sized(&mut self) -> Option<&'a [u8]> {
        let length = self.u32()?;
        self.take(length as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fingerprint(changed: u64) -> Fingerprint {
        Fingerprint { device: 1, inode: 2, size_bytes: 3, modified: 4, changed }
    }

    fn file(content: &[u8]) -> Remembered {
        let attributes = vec![(b"user.from".to_vec(), content.to_vec()), (b"user.none".to_vec(), Vec::new())];
        Remembered { digest: Digest::content(content), attributes }
    }

    fn now() -> u64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.expect("after 1970").as_nanos() as u64
    }

    #[test]
    fn remembers_settled_files_only() {
        let folder = tempfile::tempdir().expect("folder");
        let cache = StatCache::open(folder.path(), Path::new("/context"));
        let now = now();
        cache.put(b"old", fingerprint(5), file(b"old"));
        cache.put(b"young", fingerprint(now), file(b"young"));
        cache.save(|_| true);
        let cache = StatCache::open(folder.path(), Path::new("/context"));
        assert_eq!(cache.get(b"old", &fingerprint(5)), Some(file(b"old")));
        assert_eq!(cache.get(b"old", &fingerprint(6)), None);
        assert_eq!(cache.get(b"young", &fingerprint(now)), None);
    }

    #[test]
    fn a_read_that_outlasts_the_tick_does_not_settle_a_file() {
        let folder = tempfile::tempdir().expect("folder");
        let mut cache = StatCache::open(folder.path(), Path::new("/context"));
        // as if the build had begun a minute ago and the read had taken until now
        cache.opened -= 60_000_000_000;
        let written = (cache.opened + 1_000_000) as u64;
        cache.put(b"slow", fingerprint(written), file(b"before"));
        cache.save(|_| true);
        let cache = StatCache::open(folder.path(), Path::new("/context"));
        assert_eq!(cache.get(b"slow", &fingerprint(written)), None);
    }

    #[test]
    fn forgets_what_is_gone_and_only_that() {
        let folder = tempfile::tempdir().expect("folder");
        let open = || StatCache::open(folder.path(), Path::new("/context"));
        let cache = open();
        for path in [&b"met"[..], b"apart", b"gone/deep"] {
            cache.put(path, fingerprint(5), file(path));
        }
        cache.save(|_| true);
        let cache = open();
        assert!(cache.get(b"met", &fingerprint(5)).is_some());
        cache.put(b"new", fingerprint(5), file(b"new"));
        cache.save(|path| path == b"apart");
        let mut left: Vec<_> = open().known.into_keys().collect();
        left.sort();
        assert_eq!(left, [&b"apart"[..], b"met", b"new"]);
    }

    #[test]
    fn damage_is_thrown_away() {
        let mut bytes = MAGIC.to_vec();
        encode(&mut bytes, b"f", &fingerprint(1), &file(b"f"));
        let found = decode(&bytes).expect("what was written");
        let known = &found[&b"f"[..]];
        assert_eq!((found.len(), known.fingerprint, &known.file), (1, fingerprint(1), &file(b"f")));
        for cut in 1..bytes.len() {
            assert!(cut == MAGIC.len() || decode(&bytes[..cut]).is_none(), "cut at {cut}");
        }
    }
}
