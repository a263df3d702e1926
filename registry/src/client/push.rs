//! Pushing: blobs in parallel, then manifests, children before what names them.

use super::{
    Inner,
    error::ClientError,
    fetch::in_parallel,
    manifest::ManifestBytes,
    progress::{Event, Progress},
    upload::How,
};
use slipway_oci::{Descriptor, Digest, Reference, blobs::Blobs};
use std::{
    collections::BTreeSet,
    io::{self, Read, Seek},
};

/// Bytes of a local blob.
pub trait BlobReader: Read + Seek + Send {}
impl<T: Read + Seek + Send> BlobReader for T {}

/// Where the blobs of a push come from.
pub trait BlobSource {
    /// Opens a blob at its beginning.
    fn open(&self, digest: &Digest) -> io::Result<Box<dyn BlobReader>>;

    /// A repository of the same registry that is thought to have the blob, to be mounted from.
    fn known_in(&self, registry: &str, digest: &Digest) -> Option<String> {
        let _ = (registry, digest);
        None
    }
}

impl BlobSource for Blobs {
    fn open(&self, digest: &Digest) -> io::Result<Box<dyn BlobReader>> {
        let file = self.open_blob(digest).map_err(io::Error::other)?;
        Ok(Box::new(file))
    }
}

/// What a push takes to the registry.
#[derive(Clone, Copy, Debug)]
pub struct Push<'a> {
    /// Blobs of all manifests: configurations and layers. Equal ones count once; those with `urls` are left out.
    pub blobs: &'a [Descriptor],
    /// Manifests that go by digest only, each after its own children.
    pub children: &'a [ManifestBytes<'a>],
    /// What gets the name: an image, or an index over the children.
    pub manifest: ManifestBytes<'a>,
}

/// What a push did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// Digest of the named manifest.
    pub digest: Digest,
    /// Blobs that were sent.
    pub uploaded: usize,
    /// Blobs that the registry took from another repository.
    pub mounted: usize,
    /// Blobs that were there.
    pub present: usize,
}

impl Inner {
    /// Pushes blobs, children and the manifest, which gets the target's tag, or only its digest where there is none.
    pub(super) async fn push(
        &self,
        target: &Reference,
        push: &Push<'_>,
        source: &dyn BlobSource,
        progress: &dyn Progress,
    ) -> Result<Pushed, ClientError> {
        let digest = &push.manifest.descriptor.digest;
        if let Some(named) = target.digest().filter(|named| *named != digest) {
            return Err(ClientError::Digest {
                host: target.registry().to_owned(),
                expected: named.clone(),
                actual: digest.clone(),
            });
        }
        let mut seen = BTreeSet::new();
        let blobs = push.blobs.iter().filter(|blob| blob.urls.is_empty() && seen.insert(&blob.digest));
        let done =
            in_parallel(self.parallel, blobs, |blob| self.push_blob(target, blob, source, progress)).await?;
        for child in push.children {
            let name = child.descriptor.digest.to_string();
            self.put_manifest(target, &name, *child, progress).await?;
        }
        let name = match (target.tag(), target.digest()) {
            (Some(tag), _) => tag.to_owned(),
            (None, Some(digest)) => digest.to_string(),
            (None, None) => target.manifest_reference(),
        };
        self.put_manifest(target, &name, push.manifest, progress).await?;
        progress.event(&Event::Finished { digest });
        let count = |how: How| done.iter().filter(|done| **done == how).count();
        Ok(Pushed {
            digest: digest.clone(),
            uploaded: count(How::Uploaded),
            mounted: count(How::Mounted),
            present: count(How::Present),
        })
    }
}
