//! Whether images may be used, by the policy of this machine.

use super::Images;
use crate::{
    app,
    error::Failure,
    trust::guard::{self, Guard, Wanted},
};
use slipway_oci::{Digest, Reference};
use std::path::Path;

impl Images<'_> {
    /// Asks the policy, where there is one.
    fn asked(&self, ask: impl FnOnce(&Guard<'_>) -> Result<(), Failure>) -> Result<(), Failure> {
        let read = self.policy.get_or_init(|| {
            let home = app::home();
            let read = guard::policy(self.global.signature_policy.as_deref(), home.as_deref());
            read.map_err(|failure| failure.words())
        });
        let policy = read.as_ref().map_err(|words| {
            Failure::new(words.clone()).with_hint(
                "no image is used under a policy that is not understood: containers-policy.json(5)",
            )
        })?;
        match policy {
            Some(policy) => ask(&Guard { policy, store: self.store, client: &|| self.client() }),
            None => Ok(()),
        }
    }

    /// Whether an image of a registry may be used.
    pub(super) fn allow(&self, name: &Reference, target: &Digest, image: &Digest) -> Result<(), Failure> {
        let digests = if target == image { vec![image] } else { vec![target, image] };
        self.asked(|guard| guard.allow(&Wanted { name: Some(name), digests }))
    }

    /// The same of all images of an index.
    pub(super) fn allow_all(
        &self,
        name: &Reference,
        target: &Digest,
        members: &[Digest],
    ) -> Result<(), Failure> {
        if members.is_empty() {
            return self.allow(name, target, target);
        }
        members.iter().try_for_each(|member| self.allow(name, target, member))
    }

    /// Whether an image of the store may be used: one that was put together here is its maker's own.
    pub(super) fn allow_here(
        &self,
        name: Option<&Reference>,
        target: &Digest,
        image: &Digest,
    ) -> Result<(), Failure> {
        self.asked(|guard| {
            if self.store.is_built_here(image)? {
                return Ok(());
            }
            let digests = if target == image { vec![image] } else { vec![target, image] };
            guard.allow(&Wanted { name, digests })
        })
    }

    /// The same of an image that a caller calls so.
    pub(crate) fn allow_called(&self, text: &str, target: &Digest, image: &Digest) -> Result<(), Failure> {
        let given = text.parse::<Reference>().ok().map(Reference::or_latest);
        let names = self.store.names_of(target)?;
        let is_id = |name: &Reference| name.digest().is_none() && !names.contains(name);
        // an id is every one of its names, of which the first tells whose it is
        let name = given.filter(|name| !is_id(name)).or_else(|| names.first().cloned());
        self.allow_here(name.as_ref(), target, image)
    }

    /// Whether images of a layout's folder may be used.
    pub(super) fn allow_layout(&self, folder: &Path) -> Result<(), Failure> {
        let folder = std::path::absolute(folder)?;
        self.asked(|guard| guard.allow_place("oci", &folder))
    }
}
