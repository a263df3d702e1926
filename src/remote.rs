//! Registries without the local store: what the commands that only ask or change a registry have at hand.

use crate::{
    app::Global,
    error::Failure,
    registries::{self, Registries},
};
use slipway_oci::{Descriptor, Digest, Platform, Reference, limits, spec::Parsed};
use slipway_registry::client::Client;

/// This machine's way to registries.
pub(crate) struct Remote {
    registries: Registries,
    pub(crate) client: Client,
}

impl Remote {
    pub(crate) fn open(global: &Global) -> Result<Remote, Failure> {
        let registries = Registries::read(global).map_err(|failure| failure.with_hint(registries::MEND))?;
        let config = registries.client_config(global).map_err(Failure::new)?;
        Ok(Remote { registries, client: Client::new(config).map_err(|error| Failure::of(&error))? })
    }

    /// What a name stands for on this machine.
    pub(crate) fn meant(&self, reference: &Reference) -> Reference {
        self.registries.meant(reference).into_iter().next().unwrap_or_else(|| reference.clone())
    }

    /// What a reference stands for; of an index the image for `platform`, where one is asked for.
    pub(crate) fn resolve(
        &self,
        reference: &Reference,
        platform: Option<&Platform>,
    ) -> Result<Descriptor, Failure> {
        let Some(platform) = platform else {
            return self.client.resolve(reference).map_err(|error| Failure::of(&error));
        };
        let mut here = reference.clone();
        for _ in 0..=limits::INDEX_DEPTH {
            let (descriptor, parsed) = self.manifest(&here)?.parsed()?;
            match parsed {
                Parsed::Index(index) => {
                    let chosen = crate::indexes::chosen(&index, reference, platform)?;
                    here = reference.with_digest(chosen.digest.clone());
                }
                Parsed::Manifest(_) => return Ok(descriptor),
            }
        }
        Err(crate::indexes::too_deep(reference))
    }

    /// A manifest as it is stored.
    pub(crate) fn manifest(&self, reference: &Reference) -> Result<Fetched, Failure> {
        let (descriptor, bytes) = self.client.manifest(reference).map_err(|error| Failure::of(&error))?;
        Ok(Fetched { descriptor, bytes })
    }
}

/// A manifest or index: what it is, and its bytes.
#[derive(Clone, Debug)]
pub(crate) struct Fetched {
    pub(crate) descriptor: Descriptor,
    pub(crate) bytes: Vec<u8>,
}

impl Fetched {
    /// What the bytes say.
    pub(crate) fn parsed(self) -> Result<(Descriptor, Parsed), Failure> {
        let parsed = Parsed::from_bytes(&self.bytes, Some(&self.descriptor.media_type))
            .map_err(|error| Failure::of(&error))?;
        Ok((self.descriptor, parsed))
    }
}

/// A reference that has to say which manifest it means: what is changed or taken away is never guessed.
pub(crate) fn exact(reference: &Reference, doing: &str) -> Result<(), Failure> {
    if reference.tag().is_some() || reference.digest().is_some() {
        return Ok(());
    }
    let name = reference.familiar_name();
    Err(Failure::usage(format!("`{name}` names no tag and no digest: say what to {doing}"))
        .with_hint(format!("`{name}:TAG` or `{name}@sha256:DIGEST`; `slipway tags {name}` lists the tags")))
}

/// `NAME@DIGEST` without a tag.
pub(crate) fn by_digest(reference: &Reference, digest: &Digest) -> Reference {
    format!("{}@{digest}", reference.name()).parse().expect("a name with a digest is a reference")
}
