//! A registry of `distribution` (`docker-registry`), taken over from its folder or its bucket.
//!
//! What its links name is taken: content by another name of the same file, by its blocks, or byte for byte, and always after it was
//! digested; then the pointers, as pushes would write them. What does not fit is told and left. The source is somebody else's:
//! no link in it is followed, and nothing in it is changed unless it is asked to be moved.

mod bucket;
mod bytes;
mod folder;
mod layout;
#[cfg(test)]
mod tests;

pub use bytes::Means;
pub use folder::Odd;

use super::spread::spread;
use crate::{
    limits,
    server::storage::{
        Storage, StorageError,
        content::{BucketConfig, Content, FolderContent, ForeignBucket},
        described_from,
        error::io_error,
        now_seconds,
        pointers::{Change, Condition, NewManifest},
    },
};
use bucket::BucketSource;
use bytes::Got;
use layout::{Linked, Source};
use slipway_oci::{Digest, blobs::Blobs};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// Something of the source that was not taken, or not whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    /// Where, within the source; or which repository and digest or tag.
    pub place: String,
    /// Why.
    pub why: Why,
}

/// Why something was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// No file or folder as it should be.
    #[error(transparent)]
    Odd(Odd),
    /// No repository has such a name.
    #[error("no repository may have this name")]
    Name,
    /// No tag has such a name.
    #[error("no tag may have this name")]
    Tag,
    /// There should be a digest.
    #[error("there is no digest")]
    Digest,
    /// A link that names something else than its folder does.
    #[error("it names `{0}` instead")]
    Other(Digest),
    /// Uploads that nobody finished.
    #[error("{0} unfinished uploads stay behind")]
    Uploads(usize),
    /// The bytes are not there.
    #[error("its bytes are not there")]
    Missing,
    /// Other bytes.
    #[error("its bytes have digest `{0}`")]
    Damaged(Digest),
    /// No manifest that a registry takes.
    #[error("it is no manifest that is taken")]
    Manifest,
    /// A manifest that names content with another size than it has.
    #[error("it says that `{0}` has another size than it has")]
    Size(Digest),
    /// A manifest that was taken without something that it needs.
    #[error("it was taken without `{0}`, which its repository lacks")]
    Incomplete(Digest),
    /// A tag of something that was not taken.
    #[error("it points at `{0}`, which was not taken")]
    Dangling(Digest),
}

impl Why {
    /// Whether it is no loss: what nobody could pull before either.
    pub fn is_harmless(&self) -> bool {
        matches!(self, Why::Uploads(_))
    }
}

/// What was taken over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Adopted {
    /// Repositories.
    pub repositories: u64,
    /// Tags.
    pub tags: u64,
    /// Manifests, once in each repository.
    pub manifests: u64,
    /// Contents, manifests among them.
    pub contents: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Those that are another name of the source's file, or share its blocks, or were moved.
    pub shared: u64,
    /// Those that were there already.
    pub present: u64,
}

/// Who is told.
pub struct Telling<'a> {
    /// Of contents that were taken, and how many there are.
    pub progress: &'a (dyn Fn(u64, u64) + Sync),
    /// Of what does not fit.
    pub unfit: &'a (dyn Fn(&Unfit) + Sync),
}

/// Takes the folder `from` over into the registry's folder `to`, which may be served meanwhile.
pub fn adopt(from: &Path, to: &Path, by: Means, telling: &Telling<'_>) -> Result<Adopted, StorageError> {
    let opened = Source::open(from).map_err(io_error("open", from))?;
    let source = opened.ok_or_else(|| StorageError::NoDistribution(from.to_owned()))?;
    apart(from, to)?;
    let storage = Storage::open(to)?;
    let linked = source.repositories(&|unfit| (telling.unfit)(&unfit));
    let mut adopted = Adopted { repositories: linked.len() as u64, ..Adopted::default() };
    let target = Blobs::open(&to.join("blobs"), &to.join("uploads"))?;
    let take = |digest: &Digest| bytes::take(&source, &target, digest, by);
    let sizes = take_bytes(&take, &linked, telling, &mut adopted)?;
    for name in ["sha256", "sha512"] {
        let folder = to.join("blobs").join(name);
        slipway_oci::file::sync_folder(&folder).map_err(io_error("sync", &folder))?;
    }
    let content = FolderContent::open(to)?;
    let taking = Taking { storage: &storage, content: &content, sizes, telling };
    taking.all(&linked, &mut adopted)?;
    Ok(adopted)
}

/// Takes one content.
type Take<'a> = dyn Fn(&Digest) -> Result<Got, StorageError> + Sync + 'a;

/// What distribution keeps everything in.
#[derive(Clone, Copy)]
pub enum Origin<'a> {
    /// Its folder.
    Folder(&'a Path),
    /// The bucket of its S3 driver, whose prefix is its `rootdirectory`.
    Bucket(&'a BucketConfig),
}

/// Takes everything over into a registry of any kind, which may be served meanwhile: each byte is read, digested and written.
pub fn adopt_into(
    from: &Origin<'_>,
    storage: &Arc<Storage>,
    telling: &Telling<'_>,
) -> Result<Adopted, StorageError> {
    let tell = |unfit| (telling.unfit)(&unfit);
    let (folder, bucket);
    let (linked, take): (_, &Take<'_>) = match from {
        Origin::Folder(path) => {
            let opened = Source::open(path).map_err(io_error("open", path))?;
            let source = opened.ok_or_else(|| StorageError::NoDistribution((*path).to_owned()))?;
            let linked = source.repositories(&tell);
            folder = move |digest: &Digest| bytes::take_into(&source, digest, &*storage.content);
            (linked, &folder)
        }
        Origin::Bucket(config) => {
            let source = BucketSource(ForeignBucket::open(config)?);
            let linked = source.repositories(&tell)?;
            let linked = linked.ok_or_else(|| StorageError::NoDistribution(format!("{config:?}").into()))?;
            bucket = move |digest: &Digest| source.take(digest, &*storage.content);
            (linked, &bucket)
        }
    };
    let mut adopted = Adopted { repositories: linked.len() as u64, ..Adopted::default() };
    let sizes = take_bytes(take, &linked, telling, &mut adopted)?;
    let taking = Taking { storage, content: &*storage.content, sizes, telling };
    taking.all(&linked, &mut adopted)?;
    Ok(adopted)
}

/// Neither folder is within the other.
fn apart(from: &Path, to: &Path) -> Result<(), StorageError> {
    // what is not there yet lies where its nearest folder does
    let mut there = to;
    while !there.exists() {
        there = there.parent().unwrap_or(Path::new("/"));
        if there.as_os_str().is_empty() {
            there = Path::new(".");
        }
    }
    let from = from.canonicalize().map_err(io_error("look up", from))?;
    let found = there.canonicalize().map_err(io_error("look up", there))?;
    if found.starts_with(&from) || to.exists() && from.starts_with(&found) {
        return Err(StorageError::Within(to.to_owned()));
    }
    Ok(())
}

/// Takes the bytes of everything that links name; answers the sizes of what is there.
fn take_bytes(
    take: &Take<'_>,
    linked: &BTreeMap<String, Linked>,
    telling: &Telling<'_>,
    adopted: &mut Adopted,
) -> Result<BTreeMap<Digest, u64>, StorageError> {
    let named = linked.values().flat_map(|own| own.layers.iter().chain(own.revisions.keys()));
    let all: BTreeSet<String> = named.map(Digest::to_string).collect();
    let in_all = all.len() as u64;
    let page = |last: &str| {
        let after = all.range::<str, _>((std::ops::Bound::Excluded(last), std::ops::Bound::Unbounded));
        let page = after.take(limits::SCRUB_PAGE as usize);
        Ok(page.map(|text| (text.parse().expect("it was a digest"), 0)).collect())
    };
    let (done, shared, present) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let sizes = Mutex::new(BTreeMap::new());
    spread(&page, &|digest, _, _| {
        match take(digest)? {
            Got::Taken { size_bytes, is_shared, was_present } => {
                shared.fetch_add(u64::from(is_shared), Ordering::Relaxed);
                present.fetch_add(u64::from(was_present), Ordering::Relaxed);
                sizes.lock().unwrap_or_else(PoisonError::into_inner).insert(digest.clone(), size_bytes);
            }
            Got::Unfit(why) => (telling.unfit)(&Unfit { place: digest.to_string(), why }),
        }
        (telling.progress)(done.fetch_add(1, Ordering::Relaxed) + 1, in_all);
        Ok(())
    })?;
    let sizes = sizes.into_inner().unwrap_or_else(PoisonError::into_inner);
    (adopted.contents, adopted.bytes) = (sizes.len() as u64, sizes.values().sum());
    (adopted.shared, adopted.present) = (shared.into_inner(), present.into_inner());
    Ok(sizes)
}

struct Taking<'a> {
    storage: &'a Arc<Storage>,
    content: &'a dyn Content,
    sizes: BTreeMap<Digest, u64>,
    telling: &'a Telling<'a>,
}

impl Taking<'_> {
    fn unfit(&self, place: String, why: Why) {
        (self.telling.unfit)(&Unfit { place, why });
    }

    fn all(&self, linked: &BTreeMap<String, Linked>, adopted: &mut Adopted) -> Result<(), StorageError> {
        linked.iter().try_for_each(|(name, own)| self.repository(name, own, adopted))
    }

    fn repository(&self, name: &str, linked: &Linked, adopted: &mut Adopted) -> Result<(), StorageError> {
        self.blobs(name, linked)?;
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

    /// Several at a time, so that they share transactions.
    fn blobs(&self, name: &str, linked: &Linked) -> Result<(), StorageError> {
        let there: Vec<(&Digest, u64)> =
            linked.layers.iter().filter_map(|digest| Some((digest, *self.sizes.get(digest)?))).collect();
        let share = there.len().div_ceil(limits::ADOPT_WRITERS).max(1);
        std::thread::scope(|scope| {
            let workers: Vec<_> = there
                .chunks(share)
                .map(|part| {
                    scope.spawn(move || {
                        part.iter().try_for_each(|(digest, size_bytes)| {
                            self.storage.pointers.put_blob(
                                name,
                                digest,
                                *size_bytes,
                                None,
                                &[],
                                now_seconds(),
                            )
                        })
                    })
                })
                .collect();
            workers
                .into_iter()
                .try_for_each(|worker| worker.join().expect("a panic of a worker is one of this"))
        })
    }

    /// Children before the indexes that name them; what is left then is taken without what it needs.
    fn manifests(&self, name: &str, linked: &Linked) -> Result<BTreeSet<Digest>, StorageError> {
        let mut waiting = Vec::new();
        for (digest, at) in &linked.revisions {
            let Some(size_bytes) = self.sizes.get(digest) else { continue };
            match described_from(self.content, digest, *size_bytes, None)? {
                Some(manifest) => waiting.push((manifest, *at)),
                None => self.unfit(format!("{name}@{digest}"), Why::Manifest),
            }
        }
        let mut taken = BTreeSet::new();
        loop {
            let mut left = Vec::new();
            let before = taken.len();
            for (manifest, at) in waiting {
                match self.storage.pointers.put_manifest(name, &manifest, &[], &change(at)) {
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
        let why = match self.storage.pointers.put_manifest(name, &manifest, &[], &change(at)) {
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
