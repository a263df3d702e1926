//! The database from storage alone: from the journal of pointers, and from the bytes of manifests.
//!
//! What comes back: repositories, their blobs and manifests, what each manifest needs and is attached to, tags, the trash, and the moves of
//! tags. What does not: unfinished uploads, numbers of pulls, and the keys that sign tokens, so that clients log in again.
//! Nothing is believed that is not there: a manifest counts as long as its bytes have its digest.

use super::lock;
use crate::{
    limits,
    server::storage::{
        Storage, StorageError,
        content::{Content, FolderContent},
        described_from,
        error::io_error,
        now_seconds,
        pointers::sqlite::{
            copy, journal,
            rebuild::{self, Rebuilt},
        },
    },
};
use slipway_oci::{
    Digest,
    reference::{is_repository_name, is_tag},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
};

/// What a journal says that there is in one repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::server::storage) struct KeptRepository {
    pub(in crate::server::storage) blobs: BTreeMap<Digest, KeptBlob>,
    pub(in crate::server::storage) manifests: BTreeMap<Digest, KeptManifest>,
    pub(in crate::server::storage) tags: BTreeMap<String, (Digest, i64)>,
    pub(in crate::server::storage) moves: Vec<KeptMove>,
}

/// A blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::server::storage) struct KeptBlob {
    pub(in crate::server::storage) size_bytes: u64,
    pub(in crate::server::storage) deleted: Option<i64>,
}

/// A manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::server::storage) struct KeptManifest {
    pub(in crate::server::storage) media_type: String,
    pub(in crate::server::storage) size_bytes: u64,
    pub(in crate::server::storage) pushed: i64,
    pub(in crate::server::storage) deleted: Option<i64>,
}

/// A move of a tag.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::server::storage) struct KeptMove {
    pub(in crate::server::storage) at: i64,
    pub(in crate::server::storage) tag: String,
    pub(in crate::server::storage) former: Option<String>,
    pub(in crate::server::storage) digest: Option<String>,
    pub(in crate::server::storage) who: Option<String>,
    pub(in crate::server::storage) origin: Option<String>,
}

/// Something that could not be brought back whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lost {
    /// Lines of the journal that are damaged, or torn by a crash.
    Lines(u64),
    /// Bytes that are not there, or wrong: a push of them heals it.
    Content {
        /// Where.
        repository: String,
        /// What.
        digest: Digest,
    },
    /// A tag of a manifest that is not there.
    Tag {
        /// Where.
        repository: String,
        /// Its name.
        tag: String,
        /// What it pointed at.
        digest: Digest,
    },
}

/// What was brought back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reindexed {
    /// Repositories.
    pub repositories: u64,
    /// Blobs, once in each repository.
    pub blobs: u64,
    /// Manifests, once in each repository.
    pub manifests: u64,
    /// Tags.
    pub tags: u64,
    /// Manifests that no journal names, put where the caller said.
    pub found: u64,
    /// Where the former database lies, if there was one.
    pub former: Option<PathBuf>,
}

/// Makes the database of a folder that nobody serves anew. Manifests that the journal does not name go into the repository `found_in`,
/// where one is named. `lost` is told of what is not whole.
pub fn reindex(
    folder: &Path,
    found_in: Option<&str>,
    lost: &dyn Fn(&Lost),
) -> Result<Reindexed, StorageError> {
    if !folder.join("blobs").is_dir() {
        return Err(StorageError::NoRegistry(folder.to_owned()));
    }
    slipway_oci::private::folder(folder)?;
    let _alone = lock::alone(folder)?;
    let (mut kept, broken) = read_journal(&folder.join("pointers"))?;
    if kept.is_empty() && found_in.is_none() && !has_journal(folder)? {
        return Err(StorageError::NoJournal(folder.to_owned()));
    }
    if broken > 0 {
        lost(&Lost::Lines(broken));
    }
    let content = FolderContent::open(folder)?;
    let mut done = Reindexed::default();
    if let Some(name) = found_in {
        done.found = find(folder, &content, &mut kept, name)?;
    }
    let database = folder.join("registry.db");
    let new = folder.join("registry.db.new");
    copy::remove(&new)?;
    let Rebuilt { blobs, manifests, tags } = rebuild::rebuild(&new, &kept, &content, now_seconds(), lost)?;
    (done.repositories, done.blobs, done.manifests, done.tags) = (kept.len() as u64, blobs, manifests, tags);
    done.former = set_aside(&database)?;
    fs::rename(&new, &database).map_err(io_error("rename", &new))?;
    slipway_oci::file::sync_folder(folder).map_err(io_error("sync", folder))?;
    // the journal begins anew with what there is now
    let storage = Storage::open_used(folder)?;
    storage.write_down(true)?;
    Ok(done)
}

fn has_journal(folder: &Path) -> Result<bool, StorageError> {
    let pointers = folder.join("pointers");
    let any = ["snapshot", "log"].iter().any(|name| pointers.join(name).exists());
    Ok(any || !journal::former(&pointers)?.is_empty())
}

/// Names of a database and of what SQLite keeps beside it.
fn parts(database: &Path) -> [PathBuf; 3] {
    ["", "-wal", "-shm"].map(|end| {
        let mut name = database.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    })
}

/// The former database stays: it may be whole enough for somebody who knows it.
fn set_aside(database: &Path) -> Result<Option<PathBuf>, StorageError> {
    let [there, ..] = parts(database);
    if !there.exists() {
        // a log of a database that is gone would be taken for the new one's
        copy::remove(database)?;
        return Ok(None);
    }
    let to = database.with_file_name(format!("registry.db.before-{}", now_seconds()));
    for (from, to) in parts(database).iter().zip(parts(&to)) {
        match fs::rename(from, &to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_error("rename", from)(error));
            }
            _ => {}
        }
    }
    Ok(Some(to))
}

/// What a journal says that there is, by repository.
pub(in crate::server::storage) type Kept = BTreeMap<String, KeptRepository>;

/// The state that a journal's lines come to, and how many of them are damaged.
pub(in crate::server::storage) fn read_journal(folder: &Path) -> Result<(Kept, u64), StorageError> {
    let mut paths = vec![folder.join("snapshot")];
    paths.extend(journal::former(folder)?.into_iter().map(|(_, path)| path));
    paths.push(folder.join("log"));
    let (mut kept, mut broken) = (Kept::new(), 0);
    let mut moves = BTreeSet::new();
    for path in paths {
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(io_error("open", &path)(error)),
        };
        let mut file = BufReader::new(file);
        let mut line = Vec::new();
        loop {
            line.clear();
            let mut rest = io::Read::take(&mut file, limits::JOURNAL_LINE_BYTES as u64);
            let count = rest.read_until(b'\n', &mut line).map_err(io_error("read", &path))?;
            if count == 0 {
                break;
            }
            let whole = line.strip_suffix(b"\n").and_then(journal::opened);
            let done = whole.and_then(|text| apply(&mut kept, &mut moves, text));
            broken += u64::from(done.is_none());
        }
    }
    // a repository that has nothing is none
    kept.retain(|_, own| !own.blobs.is_empty() || !own.manifests.is_empty());
    Ok((kept, broken))
}

/// Carries one line out; `None` where it is none.
fn apply(kept: &mut Kept, moves: &mut BTreeSet<String>, line: &str) -> Option<()> {
    let values: Vec<serde_json::Value> = serde_json::from_str(line).ok()?;
    let text = |at: usize| values.get(at)?.as_str();
    let number = |at: usize| values.get(at)?.as_i64();
    let digest = |at: usize| text(at)?.parse::<Digest>().ok();
    let name = text(1).filter(|name| is_repository_name(name))?;
    let repository = kept.entry(name.to_owned()).or_default();
    match text(0)? {
        "b" => {
            let size_bytes = values.get(3)?.as_u64()?;
            repository.blobs.insert(digest(2)?, KeptBlob { size_bytes, deleted: number(4) });
        }
        "B" => drop(repository.blobs.remove(&digest(2)?)),
        "m" => {
            let (media_type, size_bytes) = (text(3)?.to_owned(), values.get(4)?.as_u64()?);
            let manifest = KeptManifest { media_type, size_bytes, pushed: number(5)?, deleted: number(6) };
            repository.manifests.insert(digest(2)?, manifest);
        }
        "M" => drop(repository.manifests.remove(&digest(2)?)),
        "t" => {
            let tag = text(2).filter(|tag| is_tag(tag))?;
            repository.tags.insert(tag.to_owned(), (digest(3)?, number(4)?));
        }
        "T" => drop(repository.tags.remove(text(2)?)),
        "h" => {
            let own = |at| text(at).map(str::to_owned);
            let (tag, at) = (own(2).filter(|tag| is_tag(tag))?, number(5)?);
            let (former, digest, who, origin) = (own(3), own(4), own(6), own(7));
            // a snapshot has the newest of a log too
            if moves.insert(line.to_owned()) {
                repository.moves.push(KeptMove { at, tag, former, digest, who, origin });
            }
        }
        _ => return None,
    }
    Some(())
}

/// Manifests that no repository has go into `name`, with what they need as far as it is there.
fn find(folder: &Path, content: &FolderContent, kept: &mut Kept, name: &str) -> Result<u64, StorageError> {
    let named: BTreeSet<Digest> =
        kept.values().flat_map(|own| own.blobs.keys().chain(own.manifests.keys()).cloned()).collect();
    let blobs = slipway_oci::blobs::Blobs::open(&folder.join("blobs"), &folder.join("uploads"))?;
    let (mut found, mut count) = (KeptRepository::default(), 0);
    for digest in blobs.list()?.into_iter().filter(|digest| !named.contains(digest)) {
        let Some(size_bytes) = content.size(&digest)? else { continue };
        let Some(described) = described_from(content, &digest, size_bytes, None)? else { continue };
        for required in &described.required {
            let there = content.size(&required.digest)? == Some(required.size_bytes);
            if there && !required.manifest {
                let blob = KeptBlob { size_bytes: required.size_bytes, deleted: None };
                found.blobs.insert(required.digest.clone(), blob);
            }
        }
        let media_type = described.record.media_type;
        let manifest = KeptManifest { media_type, size_bytes, pushed: now_seconds(), deleted: None };
        found.manifests.insert(digest, manifest);
        count += 1;
    }
    if count > 0 {
        let own = kept.entry(name.to_owned()).or_default();
        own.blobs.extend(found.blobs);
        own.manifests.extend(found.manifests);
    }
    Ok(count)
}
