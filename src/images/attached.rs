//! What is attached to images, to registries and back.

use super::{Images, StoreBlobs};
use crate::{error::Failure, nearby, remote, show};
use slipway_oci::{
    Descriptor, Digest, Reference,
    limits::{ATTACHED, ATTACHED_BYTES},
    store::Attached,
};
use slipway_registry::client::{ManifestBytes, Push};
use std::collections::BTreeSet;

impl Images<'_> {
    /// Sends what is attached to manifests that were sent, and what is attached to that.
    pub(super) fn push_attached(
        &self,
        reference: &Reference,
        members: &[Digest],
        source: &StoreBlobs<'_>,
    ) -> Result<(), Failure> {
        let mut open: Vec<Digest> = members.to_vec();
        let mut seen: BTreeSet<Digest> = members.iter().cloned().collect();
        while let Some(subject) = open.pop() {
            for Attached { descriptor, manifest } in self.store.referrers(&subject)? {
                if !seen.insert(descriptor.digest.clone()) {
                    continue;
                }
                let bytes = self.store.blobs().read_manifest(&descriptor.digest)?;
                let blobs: Vec<Descriptor> =
                    std::iter::once(manifest.config).chain(manifest.layers).collect();
                let plain =
                    Descriptor::new(descriptor.media_type, descriptor.digest.clone(), bytes.len() as u64);
                let push = Push {
                    blobs: &blobs,
                    children: &[],
                    manifest: ManifestBytes { descriptor: &plain, bytes: &bytes },
                };
                let target = remote::by_digest(reference, &plain.digest);
                let pushed = self.client()?.push(&target, &push, source, &self.transfers("pushing"));
                pushed.map_err(|error| {
                    nearby::unsent(reference, &error).about("what is attached to the image was not sent")
                })?;
                open.push(plain.digest);
            }
        }
        Ok(())
    }

    /// Fetches what is attached to manifests of the store in the registry that `name` is of, and what is attached to that, and
    /// attaches it here; answers how much it was. `kind` is its type, if only one is wanted.
    ///
    /// # Errors
    /// When the registry does not answer, or something is not what it says.
    pub(crate) fn fetch_attached(
        &self,
        name: &Reference,
        members: &[Digest],
        kind: Option<&str>,
    ) -> Result<usize, Failure> {
        let mut open: Vec<Digest> = members.to_vec();
        let mut seen: BTreeSet<Digest> = members.iter().cloned().collect();
        let mut count = 0;
        while let Some(subject) = open.pop() {
            let listed = self.client()?.referrers(&name.with_digest(subject.clone()), kind);
            for entry in listed.map_err(|error| Failure::of(&error))? {
                if !seen.insert(entry.digest.clone()) {
                    continue;
                }
                if count >= ATTACHED {
                    let words = format!("`{}` has more attached than is taken ({ATTACHED})", name.familiar());
                    return Err(Failure::new(words));
                }
                if let Some(digest) = self.fetch_one(name, &subject, &entry)? {
                    count += 1;
                    open.push(digest);
                }
            }
        }
        Ok(count)
    }

    fn fetch_one(
        &self,
        name: &Reference,
        subject: &Digest,
        entry: &Descriptor,
    ) -> Result<Option<Digest>, Failure> {
        let here = name.with_digest(entry.digest.clone());
        self.fetch_manifest(&here, name)?;
        let bytes = self.store.blobs().read_manifest(&entry.digest)?;
        // a list may say anything: what counts is whom the manifest is about
        let attached = Attached::read(&bytes).map_err(|error| Failure::of(&error))?;
        let Some((_, Attached { manifest, .. })) = attached.filter(|(about, _)| about == subject) else {
            return Ok(None);
        };
        let blobs: Vec<Descriptor> = std::iter::once(manifest.config).chain(manifest.layers).collect();
        let bytes: u64 = blobs.iter().fold(0, |sum, blob| sum.saturating_add(blob.size_bytes));
        if bytes > ATTACHED_BYTES {
            show::note(format_args!(
                "warning: `{}`, attached to `{}`, has {bytes} bytes and is left out: {ATTACHED_BYTES} are taken",
                entry.digest,
                name.familiar()
            ));
            return Ok(None);
        }
        let fetched =
            self.client()?.fetch_blobs(&here, &blobs, self.store.blobs(), &self.transfers("pulling"));
        fetched.map_err(|error| Failure::of(&error))?;
        self.store.put_referrer(&entry.digest, &[])?;
        Ok(Some(entry.digest.clone()))
    }
}
