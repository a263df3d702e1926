//! A registry of `distribution` (`docker-registry`), taken over from its folder or its bucket.
//!
//! What its links name is taken: content by another name of the same file, by its blocks, or byte for byte, and always after it was
//! digested; then the pointers, as pushes would write them, one repository after another. What does not fit is told and left. The source is somebody else's:
//! no link in it is followed, and nothing in it is changed unless it is asked to be moved.

mod bucket;
mod bytes;
mod folder;
mod layout;
mod taking;
#[cfg(test)]
mod tests;

pub use bytes::Means;
pub use folder::Odd;

use crate::server::storage::{
    Storage, StorageError,
    content::{BucketConfig, ForeignBucket},
    error::io_error,
};
use bucket::BucketSource;
use layout::Source;
use slipway_oci::{Digest, blobs::Blobs};
use std::{path::Path, sync::Arc};
use taking::{Take, Taking};

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
    /// Of who has to end first what would take bytes away that nothing points at yet.
    pub waiting: &'a (dyn Fn(&str) + Sync),
}

/// Takes the folder `from` over into the registry's folder `to`, which may be served meanwhile.
pub fn adopt(from: &Path, to: &Path, by: Means, telling: &Telling<'_>) -> Result<Adopted, StorageError> {
    let opened = Source::open(from).map_err(io_error("open", from))?;
    let source = opened.ok_or_else(|| StorageError::NoDistribution(from.to_owned()))?;
    apart(from, to)?;
    let storage = Storage::open(to)?;
    let linked = source.repositories(&|unfit| (telling.unfit)(&unfit));
    let target = Blobs::open(&to.join("blobs"), &to.join("uploads"))?;
    let take = |digest: &Digest| bytes::take(&source, &target, digest, by);
    let settle = || {
        ["sha256", "sha512"].into_iter().try_for_each(|name| {
            let folder = to.join("blobs").join(name);
            slipway_oci::file::sync_folder(&folder).map_err(io_error("sync", &folder))
        })
    };
    Taking::new(&storage, &take, &settle, telling).all(&linked)
}

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
    // what the store or the folder has taken is durable by itself
    Taking::new(storage, take, &|| Ok(()), telling).all(&linked)
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
