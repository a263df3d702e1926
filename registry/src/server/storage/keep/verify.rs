//! Reads every byte of a registry, whether it is served meanwhile or not.

use super::spread::spread;
use crate::{
    limits,
    server::storage::{
        Damage, Examined, Fault, Scope, Storage, StorageError, Used,
        error::io_error,
        pointers::{Survey, sqlite::survey},
    },
};
use slipway_oci::{Algorithm, Digest};
use std::{
    fs, io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The database itself contradicts itself, in SQLite's words: `reindex` makes it again.
    Database(String),
    /// Content that something points at is damaged or missing.
    Damaged(Damage),
    /// A tag points at a manifest that its repository lacks.
    Dangling {
        /// Where.
        repository: String,
        /// The tag.
        tag: String,
        /// What it points at.
        digest: String,
    },
    /// The database says that a repository or namespace has more or less than it has: what quotas go by.
    Miscounted {
        /// Whose number it is.
        scope: Scope,
        /// What it says.
        said: Used,
        /// What there is.
        counted: Used,
    },
    /// A manifest needs what its repository lacks: as sparse ones and those with layers of elsewhere do.
    Incomplete {
        /// Where.
        repository: String,
        /// The manifest.
        manifest: String,
        /// What it needs.
        needs: String,
    },
    /// Content that nothing points at; a collection takes it.
    Unreferenced {
        /// Its name.
        digest: Digest,
        /// Its size in bytes.
        size_bytes: u64,
    },
    /// Something in the folder of content that is none.
    Foreign {
        /// Its name, as far as it is text.
        name: String,
    },
}

impl Finding {
    /// Whether something is lost or wrong by it.
    pub fn is_wrong(&self) -> bool {
        matches!(
            self,
            Finding::Database(_)
                | Finding::Damaged(_)
                | Finding::Dangling { .. }
                | Finding::Miscounted { .. }
        )
    }
}

/// What was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Contents that something points at.
    pub contents: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Who is told how far it is and what is found, from many threads.
pub struct Watching<'a> {
    /// Told of bytes that were read, and of how many there are in all.
    pub progress: &'a (dyn Fn(u64, u64) + Sync),
    /// Told of findings.
    pub found: &'a (dyn Fn(&Finding) + Sync),
}

/// Reads everything. `quarantine`: what is damaged is moved aside, as the scrub does it.
pub fn verify(folder: &Path, quarantine: bool, watching: &Watching<'_>) -> Result<Verified, StorageError> {
    let database = folder.join("registry.db");
    if !database.is_file() {
        return Err(StorageError::NoRegistry(folder.to_owned()));
    }
    let mistakes = match survey::check(&database) {
        Ok(mistakes) => mistakes,
        Err(StorageError::Database(error)) => vec![error.to_string()],
        Err(error) => return Err(error),
    };
    if !mistakes.is_empty() {
        mistakes.into_iter().for_each(|words| (watching.found)(&Finding::Database(words)));
        // what it says of content would be no more than a guess
        return Ok(Verified::default());
    }
    let storage = Storage::open(folder)?;
    let verified = read_all(&storage, quarantine, watching)?;
    contradictions(&storage, watching)?;
    unreferenced(folder, &storage, watching)?;
    Ok(verified)
}

/// The same of what replicas share, of which each byte comes from the store.
pub fn verify_shared(
    storage: &Arc<Storage>,
    quarantine: bool,
    watching: &Watching<'_>,
) -> Result<Verified, StorageError> {
    let verified = read_all(storage, quarantine, watching)?;
    contradictions(storage, watching)?;
    let mut last = None;
    loop {
        let page = storage.content.placed(last.as_ref(), young(), limits::SCRUB_PAGE as usize)?;
        let Some(end) = page.last() else { return Ok(verified) };
        last = Some(end.clone());
        for digest in page {
            if !storage.pointers.is_needed(&digest)?
                && let Some(size_bytes) = storage.content.size(&digest)?
            {
                (watching.found)(&Finding::Unreferenced { digest, size_bytes });
            }
        }
    }
}

/// What the database says that cannot be so.
fn contradictions(storage: &Storage, watching: &Watching<'_>) -> Result<(), StorageError> {
    let Survey { dangling, miscounted, incomplete } = storage.pointers.survey()?;
    for (repository, tag, digest) in dangling {
        (watching.found)(&Finding::Dangling { repository, tag, digest });
    }
    for (scope, said, counted) in miscounted {
        (watching.found)(&Finding::Miscounted { scope, said, counted });
    }
    for (repository, manifest, needs) in incomplete {
        (watching.found)(&Finding::Incomplete { repository, manifest, needs });
    }
    Ok(())
}

/// What is younger may be about to be pointed at.
fn young() -> SystemTime {
    SystemTime::now().checked_sub(limits::ORPHAN_AGE).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Reads what is pointed at, on all processors.
fn read_all(
    storage: &Arc<Storage>,
    quarantine: bool,
    watching: &Watching<'_>,
) -> Result<Verified, StorageError> {
    let (done, in_all) = (AtomicU64::new(0), storage.pointers.content_bytes()?);
    let page = |last: &str| storage.contents(last, limits::SCRUB_PAGE);
    let (contents, bytes) = spread(&page, &|digest, size_bytes, failed| {
        let mut pace = |read| {
            (watching.progress)(done.fetch_add(read, Ordering::Relaxed) + read, in_all);
            !failed.load(Ordering::Relaxed)
        };
        if let Some(damage) = look(storage, digest, size_bytes, quarantine, &mut pace)? {
            (watching.found)(&Finding::Damaged(damage));
        }
        Ok(())
    })?;
    Ok(Verified { contents, bytes })
}

fn look(
    storage: &Storage,
    digest: &Digest,
    size_bytes: u64,
    quarantine: bool,
    pace: &mut dyn FnMut(u64) -> bool,
) -> Result<Option<Damage>, StorageError> {
    let Examined::Faulty(fault) = storage.examine(digest, size_bytes, pace)? else { return Ok(None) };
    if quarantine {
        return storage.quarantine(digest, size_bytes, fault);
    }
    // it may have been deleted or pushed again since it was listed
    let repositories = storage.pointers.places(digest, limits::DAMAGE_PLACES)?;
    let gone = repositories.is_empty() || fault == Fault::Missing && storage.content.size(digest)?.is_some();
    let damage = Damage { digest: digest.clone(), size_bytes, fault, aside: false, repositories };
    Ok((!gone).then_some(damage))
}

/// What lies in the folder of content and is not pointed at. What is young may be about to be.
fn unreferenced(folder: &Path, storage: &Storage, watching: &Watching<'_>) -> Result<(), StorageError> {
    let before = young();
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        let path = folder.join("blobs").join(algorithm.name());
        for entry in fs::read_dir(&path).map_err(io_error("list", &path))? {
            let entry = entry.map_err(io_error("list", &path))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                // deleted since it was listed
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(io_error("read", &entry.path())(error)),
            };
            let digest = format!("{}:{name}", algorithm.name()).parse::<Digest>();
            let (Ok(digest), true) = (digest, metadata.is_file()) else {
                (watching.found)(&Finding::Foreign { name: format!("{}/{name}", algorithm.name()) });
                continue;
            };
            let old = metadata.modified().is_ok_and(|modified| modified < before);
            if old && !storage.pointers.is_needed(&digest)? {
                (watching.found)(&Finding::Unreferenced { digest, size_bytes: metadata.len() });
            }
        }
    }
    Ok(())
}
