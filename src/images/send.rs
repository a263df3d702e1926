//! Images from the store to registries.

use super::{Images, distinct};
use crate::{error::Failure, nearby, progress::ended};
use slipway_builder::ImageSource;
use slipway_oci::{Descriptor, Digest, Reference, spec::Parsed, store::Store};
use slipway_registry::client::{self, BlobReader, BlobSource, Condition, ManifestBytes, Push, Pushed};
use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

impl Images<'_> {
    /// Sends an image to the registry under `reference`, or an index with all that it names.
    ///
    /// A layer whose bytes are not here is fetched first, unless the same registry is known to have it: then it is
    /// mounted, or there already, and no byte of it moves through this machine.
    ///
    /// Under a condition the tag is moved by itself, when all else is there; a registry that looks at no conditions moves it
    /// whatever it stands for, so it is looked at before.
    pub(crate) fn push(
        &self,
        reference: &Reference,
        digest: &Digest,
        condition: Option<&Condition>,
    ) -> Result<Pushed, Failure> {
        if let Some(condition) = condition {
            self.holds(reference, condition)?;
        }
        let mut members = match self.store.read_index(digest)? {
            Some(index) => self.store.members(&index)?,
            None => Vec::new(),
        };
        members.push(digest.clone());
        let source = StoreBlobs { store: self.store, missing: Mutex::default() };
        let (mut manifests, mut blobs) = (Vec::new(), Vec::new());
        for member in &members {
            // relies on all of an image in one moment; what is none, such as an attestation, is read blob by blob
            let _ = self.store.read_image(member);
            let (bytes, parsed) = self.read_manifest(member)?;
            let media = parsed.media_type().to_owned();
            manifests.push((Descriptor::new(media, member.clone(), bytes.len() as u64), bytes));
            if let Parsed::Manifest(manifest) = parsed {
                blobs.push(manifest.config);
                blobs.extend(manifest.layers);
            }
        }
        for blob in &blobs {
            let mountable = source.known_in(reference.registry(), &blob.digest).is_some();
            if !mountable && !self.store.blobs().contains(&blob.digest)? {
                self.fetch(blob, &self.store.sources(&blob.digest)?)?;
            }
        }
        let (last, children) = manifests.split_last().expect("what is pushed comes last");
        let children: Vec<ManifestBytes<'_>> =
            children.iter().map(|(descriptor, bytes)| ManifestBytes { descriptor, bytes }).collect();
        let manifest = ManifestBytes { descriptor: &last.0, bytes: &last.1 };
        let push = Push { blobs: &blobs, children: &children, manifest };
        self.show.begin(&format!("Pushing {}", reference.familiar()), distinct(&blobs));
        let first = match condition {
            Some(_) => crate::remote::by_digest(reference, digest),
            None => reference.clone(),
        };
        let mut pushed = self.client()?.push(&first, &push, &source, &self.transfers("pushing"));
        // a registry that was to mount a layer may refuse: then it moves through this machine, once for each layer
        while pushed.is_err() && self.fetch_missing(&blobs, &source)? {
            pushed = self.client()?.push(&first, &push, &source, &self.transfers("pushing"));
        }
        if condition.is_some()
            && let Ok(done) = pushed
        {
            pushed = self.client()?.put_manifest(reference, manifest, condition).map(|()| done);
        }
        let pushed = ended(self.show, pushed).map_err(|error| nearby::unsent(reference, &error))?;
        self.push_attached(reference, &members, &source)?;
        for blob in &blobs {
            self.store.put_source(&blob.digest, &reference.name())?;
        }
        Ok(pushed)
    }

    /// Whether a tag is what a condition wants.
    fn holds(&self, reference: &Reference, condition: &Condition) -> Result<(), Failure> {
        let found = match self.client()?.resolve(reference) {
            Ok(found) => Some(found.digest),
            Err(client::ClientError::NotFound { .. }) => None,
            Err(error) => return Err(nearby::unsent(reference, &error)),
        };
        let name = reference.familiar();
        match (condition, found) {
            (Condition::Absent, None) => Ok(()),
            (Condition::Is(wanted), Some(found)) if *wanted == found => Ok(()),
            (_, Some(found)) => {
                Err(Failure::new(format!("`{name}` stands for {found}: nothing was changed")))
            }
            (_, None) => Err(Failure::new(format!("`{name}` is not there: nothing was changed"))),
        }
    }

    /// Fetches the blobs that a push asked for and that are not here; whether there were any.
    fn fetch_missing(&self, blobs: &[Descriptor], source: &StoreBlobs<'_>) -> Result<bool, Failure> {
        let missing = std::mem::take(&mut *source.missing.lock().unwrap_or_else(PoisonError::into_inner));
        let mut fetched = false;
        for blob in blobs.iter().filter(|blob| missing.contains(&blob.digest)) {
            self.fetch(blob, &self.store.sources(&blob.digest)?)?;
            fetched = true;
        }
        Ok(fetched)
    }
}

/// The store as what a push takes its bytes from.
pub(super) struct StoreBlobs<'a> {
    store: &'a Store,
    /// What was asked for and is not here.
    missing: Mutex<BTreeSet<Digest>>,
}

impl BlobSource for StoreBlobs<'_> {
    fn open(&self, digest: &Digest) -> std::io::Result<Box<dyn BlobReader>> {
        if !self.store.blobs().contains(digest).map_err(std::io::Error::other)? {
            self.missing.lock().unwrap_or_else(PoisonError::into_inner).insert(digest.clone());
        }
        Ok(Box::new(self.store.blobs().open_blob(digest).map_err(std::io::Error::other)?))
    }

    fn known_in(&self, registry: &str, digest: &Digest) -> Option<String> {
        let sources = self.store.sources(digest).ok()?;
        sources.iter().find_map(|source| Some(source.strip_prefix(registry)?.strip_prefix('/')?.to_owned()))
    }
}
