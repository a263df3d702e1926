//! Remembers the digest of a context's files by what `stat` says of them.
//!
//! A file whose device, inode, size, modification and change time are all the same has the same bytes, unless it was
//! changed twice within one tick of the kernel's clock. So a file younger than [`TICK_NANOSECONDS`] when it was read is
//! not remembered: it is read again next time (git calls such an entry "racily clean").
//!
//! File: `context/<sha256 of the folder's path>`; magic `SLIPSTA1`, then per file the path (u32 length and bytes), five
//! u64 and 32 bytes of digest. It is only ever an accelerator: a damaged one is thrown away.

use slipway_oci::{Digest, file};
use std::{
    collections::HashMap,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::Mutex,
};

const MAGIC: &[u8; 8] = b"SLIPSTA1";
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

/// The cache of one folder.
pub(crate) struct StatCache {
    path: PathBuf,
    known: HashMap<Vec<u8>, (Fingerprint, Digest)>,
    fresh: Mutex<HashMap<Vec<u8>, (Fingerprint, Digest)>>,
}

impl StatCache {
    /// The cache of the context `folder`, kept in `caches`.
    pub(crate) fn open(caches: &Path, folder: &Path) -> StatCache {
        let path = caches.join(Digest::sha256(folder.as_os_str().as_bytes()).hex());
        let known =
            file::read_capped(&path, MOST_BYTES).ok().and_then(|bytes| decode(&bytes)).unwrap_or_default();
        StatCache { path, known, fresh: Mutex::default() }
    }

    /// The digest of a file that has not changed.
    pub(crate) fn get(&self, path: &[u8], fingerprint: &Fingerprint) -> Option<Digest> {
        let matching = |entry: &&(Fingerprint, Digest)| entry.0 == *fingerprint;
        let fresh = self.fresh.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        fresh.get(path).or_else(|| self.known.get(path)).filter(matching).map(|(_, digest)| digest.clone())
    }

    /// Notes the digest of a file; `fingerprint` is from before it was read.
    pub(crate) fn put(&self, path: &[u8], fingerprint: Fingerprint, digest: Digest) {
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |now| now.as_nanos() as i128);
        if fingerprint.is_settled(now) {
            let mut fresh = self.fresh.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            fresh.insert(path.to_vec(), (fingerprint, digest));
        }
    }

    /// Writes what is new. A cache that cannot be written costs time, not correctness, so failure is not reported.
    pub(crate) fn save(self) {
        let fresh = self.fresh.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        if fresh.is_empty() {
            return;
        }
        let mut all = self.known;
        all.extend(fresh);
        let temporary = self.path.with_file_name(file::temporary_name("stat"));
        if std::fs::write(&temporary, encode(&all))
            .and_then(|()| std::fs::rename(&temporary, &self.path))
            .is_err()
        {
            let _ = std::fs::remove_file(&temporary);
        }
    }
}

fn encode(entries: &HashMap<Vec<u8>, (Fingerprint, Digest)>) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    for (path, (fingerprint, digest)) in entries {
        out.extend_from_slice(&(path.len() as u32).to_le_bytes());
        out.extend_from_slice(path);
        let Fingerprint { device, inode, size_bytes, modified, changed } = *fingerprint;
        for value in [device, inode, size_bytes, modified, changed] {
            out.extend_from_slice(&value.to_le_bytes());
        }
        out.extend_from_slice(digest.hex().as_bytes());
    }
    out
}

fn decode(bytes: &[u8]) -> Option<HashMap<Vec<u8>, (Fingerprint, Digest)>> {
    let mut rest = bytes.strip_prefix(MAGIC)?;
    let mut entries = HashMap::new();
    while !rest.is_empty() {
        let (length, after) = rest.split_at_checked(4)?;
        let length = u32::from_le_bytes(length.try_into().ok()?) as usize;
        let (path, after) = after.split_at_checked(length)?;
        let (numbers, after) = after.split_at_checked(40)?;
        let mut values = numbers.chunks_exact(8).map(|chunk| chunk.try_into().map(u64::from_le_bytes));
        let mut next = || values.next()?.ok();
        let fingerprint = Fingerprint {
            device: next()?,
            inode: next()?,
            size_bytes: next()?,
            modified: next()?,
            changed: next()?,
        };
        let (hex, after) = after.split_at_checked(64)?;
        let digest = format!("sha256:{}", std::str::from_utf8(hex).ok()?).parse().ok()?;
        entries.insert(path.to_vec(), (fingerprint, digest));
        rest = after;
    }
    Some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fingerprint(changed: u64) -> Fingerprint {
        Fingerprint { device: 1, inode: 2, size_bytes: 3, modified: 4, changed }
    }

    #[test]
    fn remembers_settled_files_only() {
        let folder = tempfile::tempdir().expect("folder");
        let cache = StatCache::open(folder.path(), Path::new("/context"));
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .expect("after 1970")
            .as_nanos() as u64;
        cache.put(b"old", fingerprint(5), Digest::sha256(b"old"));
        cache.put(b"young", fingerprint(now), Digest::sha256(b"young"));
        cache.save();
        let cache = StatCache::open(folder.path(), Path::new("/context"));
        assert_eq!(cache.get(b"old", &fingerprint(5)), Some(Digest::sha256(b"old")));
        assert_eq!(cache.get(b"old", &fingerprint(6)), None);
        assert_eq!(cache.get(b"young", &fingerprint(now)), None);
    }

    #[test]
    fn damage_is_thrown_away() {
        let mut entries = HashMap::new();
        entries.insert(b"f".to_vec(), (fingerprint(1), Digest::sha256(b"f")));
        let bytes = encode(&entries);
        assert_eq!(decode(&bytes), Some(entries));
        for cut in 1..bytes.len() {
            assert!(cut == MAGIC.len() || decode(&bytes[..cut]).is_none(), "cut at {cut}");
        }
    }
}
