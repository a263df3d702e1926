//! Asks the policy of the images that are used: as bases of builds, to be run, to be pulled.
//!
//! An image that was put together here is its maker's own. Of any other one that needs a signature, those that the store has kept are
//! looked at first, then those in its registry; good ones are kept, so that what was pulled under a policy runs without the registry.

use super::{
    collect::Signatures,
    payload,
    policy::{POLICY_BYTES, Policy, Requirement, Sigstore},
};
use crate::{error::Failure, service::input};
use slipway_oci::{Descriptor, Digest, Reference, spec::to_json, store::Store};
use slipway_registry::client::Client;
use std::{
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// The policy of the machine's owner.
const SYSTEM: &str = "/etc/containers/policy.json";
/// That of a user, below their home.
const OWN: &str = ".config/containers/policy.json";

/// What the file of `--signature-policy` holds: read once, as it may be a pipe.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn given(path: &Path) -> Result<Vec<u8>, Failure> {
    static READ: Mutex<Option<Vec<u8>>> = Mutex::new(None);
    let mut read = READ.lock().unwrap_or_else(PoisonError::into_inner);
    match &*read {
        Some(bytes) => Ok(bytes.clone()),
        None => {
            let bytes = input::read("--signature-policy", path, POLICY_BYTES)?;
            *read = Some(bytes.clone());
            Ok(bytes)
        }
    }
}

/// The policy that holds: the one that was named, else the user's own, else the system's; none where there is none.
///
/// # Errors
/// When there is one that cannot be read.
pub(crate) fn policy(named: Option<&Path>, home: Option<&Path>) -> Result<Option<Policy>, Failure> {
    if let Some(path) = named {
        return Policy::of_bytes(&given(path)?, path).map(Some);
    }
    let own = home.map(|home| home.join(OWN));
    // one that is there and cannot be looked at is no reason to ask for less
    let is_there = |path: &PathBuf| match std::fs::symlink_metadata(path) {
        Ok(_) => true,
        Err(error) => {
            error.kind() != std::io::ErrorKind::NotFound && error.kind() != std::io::ErrorKind::NotADirectory
        }
    };
    let found = own.into_iter().chain([PathBuf::from(SYSTEM)]).find(is_there);
    found.map(|path| Policy::read(&path)).transpose()
}

/// An image that is to be used.
pub(crate) struct Wanted<'a> {
    /// What it is called; nothing where it has no name.
    pub(crate) name: Option<&'a Reference>,
    /// What that stands for: the image, or its index; signatures of either count.
    pub(crate) digests: Vec<&'a Digest>,
}

/// Who asks, and where signatures are.
pub(crate) struct Guard<'a> {
    pub(crate) policy: &'a Policy,
    pub(crate) store: &'a Store,
    /// Made when a registry is asked.
    pub(crate) client: &'a dyn Fn() -> Result<&'a Client, Failure>,
}

impl Guard<'_> {
    /// Whether the image may be used.
    ///
    /// # Errors
    /// When it may not, with what was asked for and what was looked for.
    pub(crate) fn allow(&self, wanted: &Wanted<'_>) -> Result<(), Failure> {
        let (asked, scope) = match wanted.name {
            Some(name) => self.policy.of_image(name),
            None => self.policy.of_nameless(),
        };
        let called = || match (wanted.name, wanted.digests.first()) {
            (Some(name), _) => name.familiar(),
            (None, Some(digest)) => digest.to_string(),
            (None, None) => String::new(),
        };
        for requirement in asked {
            let met = match (requirement, wanted.name) {
                (Requirement::Nothing {}, _) => Ok(()),
                (Requirement::Reject {}, _) => Err(Failure::new("no image of it is used")),
                (Requirement::Gpg(_), _) => {
                    Err(Failure::new("a signature of GPG is asked for, which slipway does not check"))
                }
                (Requirement::Sigstore(own), Some(name)) => self.signed(own, name, &wanted.digests),
                (Requirement::Sigstore(_), None) => {
                    Err(Failure::new("it has to be signed, and has no name to look for signatures under"))
                }
            };
            met.map_err(|failure| self.refused(&called(), &scope, failure))?;
        }
        Ok(())
    }

    /// Whether images of a folder or archive may be used; signatures are looked for in none.
    ///
    /// # Errors
    /// When they may not.
    pub(crate) fn allow_place(&self, transport: &str, path: &Path) -> Result<(), Failure> {
        let (asked, scope) = self.policy.of_place(transport, path);
        match asked.iter().all(|requirement| matches!(requirement, Requirement::Nothing {})) {
            true => Ok(()),
            false => {
                let why = Failure::new("more is asked of it than can be checked there");
                Err(self.refused(&path.display().to_string(), &scope, why))
            }
        }
    }

    fn refused(&self, called: &str, scope: &str, why: Failure) -> Failure {
        let place = self.policy.place.display();
        why.about(format!("the policy `{place}` ({scope}) does not let `{called}` be used"))
    }

    fn signed(&self, own: &Sigstore, name: &Reference, digests: &[&Digest]) -> Result<(), Failure> {
        let keys = own.keys()?;
        let is_good = |found: &Signatures, digest: &Digest| {
            let good = found.good(digest, &keys);
            good.into_iter().find(|(_, claim, _)| own.is_of(claim, name)).map(|(one, ..)| one.clone())
        };
        for digest in digests {
            if is_good(&Signatures::in_store(self.store, digest)?, digest).is_some() {
                return Ok(());
            }
        }
        let (mut looked, mut others) = (Vec::new(), false);
        for digest in digests {
            let found = Signatures::in_registry((self.client)()?, self.store, name, digest)?;
            if let Some(good) = is_good(&found, digest) {
                return self.keep(digest, good.layer);
            }
            others |= !found.good(digest, &keys).is_empty();
            looked.push(format!("{digest}: {}", found.looked()));
        }
        let names: Vec<String> = keys.iter().map(|key| format!("`{}`", key.name)).collect();
        let keys = names.join(" or ");
        Err(match others {
            true => Failure::new(format!(
                "{keys} has signed it, but under another name ({})",
                looked.join("; ")
            ))
            .with_hint(
                "`\"signedIdentity\": {\"type\": \"matchRepository\"}` takes cosign's, which name no tag",
            ),
            false => Failure::new(format!("it has no signature by {keys} ({})", looked.join("; "))),
        })
    }

    /// Keeps a good signature beside its image, where that is registered here.
    fn keep(&self, digest: &Digest, layer: Descriptor) -> Result<(), Failure> {
        if self.store.manifest_kind(digest)?.is_none() {
            return Ok(());
        }
        let bytes = self.store.blobs().read_manifest(digest)?;
        let media =
            slipway_oci::spec::Parsed::from_bytes(&bytes, None).map_err(|error| Failure::of(&error))?;
        let subject = Descriptor::new(media.media_type(), digest.clone(), bytes.len() as u64);
        let (manifest, config) = payload::manifest(vec![layer], Some(subject));
        self.store.blobs().put(&config)?;
        let digest = self.store.blobs().put(&to_json(&manifest))?;
        Ok(self.store.put_referrer(&digest, &[])?)
    }
}
