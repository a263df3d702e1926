//! Where the signatures of an image are found: the tag that cosign gives them, what is attached to the image in its registry, and what
//! the store has kept of either.

use super::key::PublicKey;
use super::payload::{ARTIFACT_TYPE, BUNDLE_TYPE, Candidate, Claim, PAYLOAD_TYPE};
use crate::error::Failure;
use slipway_oci::{
    Descriptor, Digest, Reference,
    spec::{Manifest, Parsed},
    store::Store,
};
use slipway_registry::client::{Client, ClientError};

/// Most signatures of an image that are looked at.
const SIGNATURES: usize = 128;
/// Largest signed payload or bundle, in bytes.
const PAYLOAD_BYTES: u64 = 1 << 20;

/// A signature that was found: the layer that it is, with its bytes.
#[derive(Clone, Debug)]
pub(crate) struct Signature {
    pub(crate) layer: Descriptor,
    pub(crate) bytes: Vec<u8>,
    candidate: Candidate,
}

/// The signatures that were found of a manifest, and where was looked.
#[derive(Debug, Default)]
pub(crate) struct Signatures {
    pub(crate) all: Vec<Signature>,
    looked: Vec<String>,
}

/// The tag that cosign keeps the signatures of a manifest under.
pub(crate) fn tag(digest: &Digest) -> String {
    format!("{}-{}.sig", digest.algorithm().name(), digest.hex())
}

/// The same as a name in the image's repository.
pub(crate) fn tagged(name: &Reference, digest: &Digest) -> Reference {
    format!("{}:{}", name.name(), tag(digest)).parse().expect("a name with such a tag is a reference")
}

fn is_signature(kind: Option<&str>) -> bool {
    kind.is_some_and(|kind| kind == ARTIFACT_TYPE || kind.starts_with(BUNDLE_TYPE))
}

impl Signatures {
    /// Those in the image's repository.
    ///
    /// # Errors
    /// When the registry does not answer, or with what is none: nobody is believed because nothing was found out.
    pub(crate) fn in_registry(
        client: &Client,
        store: &Store,
        name: &Reference,
        digest: &Digest,
    ) -> Result<Signatures, Failure> {
        let mut found = Signatures::default();
        let failed = |error: ClientError| {
            Failure::of(&error).about(format!("the signatures of `{}` cannot be read", name.familiar()))
        };
        let tagged = tagged(name, digest);
        let before = found.all.len();
        match client.manifest(&tagged) {
            Ok((descriptor, bytes)) => found.add(client, store, &tagged, &descriptor, &bytes)?,
            Err(ClientError::NotFound { .. }) => {}
            Err(error) => return Err(failed(error)),
        }
        found.looked.push(format!("the tag `{}` has {}", tag(digest), count(found.all.len() - before)));
        let before = found.all.len();
        let listed = client.referrers(&name.with_digest(digest.clone()), None).map_err(failed)?;
        for entry in listed.iter().filter(|entry| is_signature(entry.artifact_type.as_deref())) {
            let here = name.with_digest(entry.digest.clone());
            let (descriptor, bytes) = client.manifest(&here).map_err(failed)?;
            found.add(client, store, &here, &descriptor, &bytes)?;
        }
        found.looked.push(format!("attached to it are {}", found.all.len() - before));
        Ok(found)
    }

    fn add(
        &mut self,
        client: &Client,
        store: &Store,
        name: &Reference,
        descriptor: &Descriptor,
        bytes: &[u8],
    ) -> Result<(), Failure> {
        let parsed =
            Parsed::from_bytes(bytes, Some(&descriptor.media_type)).map_err(|error| Failure::of(&error))?;
        let Parsed::Manifest(manifest) = parsed else { return Ok(()) };
        let layers: Vec<Descriptor> = signed(&manifest, SIGNATURES.saturating_sub(self.all.len()));
        client.fetch_blobs(name, &layers, store.blobs(), &()).map_err(|error| Failure::of(&error))?;
        self.read(store, layers);
        Ok(())
    }

    fn read(&mut self, store: &Store, layers: Vec<Descriptor>) {
        for layer in layers {
            let Ok(bytes) = store.blobs().read(&layer.digest, PAYLOAD_BYTES) else { continue };
            if let Some(candidate) = Candidate::of_layer(&layer, &bytes) {
                self.all.push(Signature { layer, bytes, candidate });
            }
        }
    }

    /// Those that the store has kept.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn in_store(store: &Store, digest: &Digest) -> Result<Signatures, Failure> {
        let mut found = Signatures::default();
        for attached in store.referrers(digest)? {
            if is_signature(attached.descriptor.artifact_type.as_deref()) {
                found.read(store, signed(&attached.manifest, SIGNATURES.saturating_sub(found.all.len())));
            }
        }
        Ok(found)
    }

    /// Those of this manifest that one of the keys has made, and what they say.
    pub(crate) fn good<'a, 'k>(
        &'a self,
        digest: &Digest,
        keys: &'k [PublicKey],
    ) -> Vec<(&'a Signature, Claim, &'k PublicKey)> {
        let verified = |one: &'a Signature| {
            let (claim, key) = one.candidate.verified(keys)?;
            (claim.digest == *digest).then_some((one, claim, key))
        };
        self.all.iter().filter_map(verified).collect()
    }

    /// Where was looked and what was there, in words.
    pub(crate) fn looked(&self) -> String {
        self.looked.join(", ")
    }
}

fn count(signatures: usize) -> String {
    format!("{signatures} signature{}", if signatures == 1 { "" } else { "s" })
}

/// The layers of a manifest that are signatures, as far as they are taken.
fn signed(manifest: &Manifest, most: usize) -> Vec<Descriptor> {
    let is_one = |layer: &&Descriptor| {
        (layer.media_type == PAYLOAD_TYPE || layer.media_type.starts_with(BUNDLE_TYPE))
            && layer.size_bytes <= PAYLOAD_BYTES
    };
    manifest.layers.iter().filter(is_one).take(most).cloned().collect()
}
