//! All that belongs to what is copied: manifests in an order in which a registry takes them, and their blobs.

use crate::{
    error::Failure,
    remote::{Fetched, Remote},
};
use slipway_oci::{
    Descriptor, Digest, Platform, Reference,
    layout::ANNOTATION_REF_NAME,
    limits,
    spec::{Parsed, media_type},
    store::Store,
};
use std::collections::BTreeSet;

/// Where something comes from.
pub(crate) enum Origin<'a> {
    /// A repository of a registry.
    Registry(&'a Remote, Reference),
    /// A store that was filled for this, and the entries of the index that it came with.
    Local(&'a Store, Vec<Descriptor>),
}

impl Origin<'_> {
    /// A manifest by its digest.
    fn manifest(&self, wanted: &Descriptor) -> Result<Fetched, Failure> {
        match self {
            Origin::Registry(remote, name) => remote.manifest(&name.with_digest(wanted.digest.clone())),
            Origin::Local(store, _) => {
                let bytes = store.blobs().read_manifest(&wanted.digest)?;
                let parsed = Parsed::from_bytes(&bytes, None).map_err(|error| Failure::of(&error))?;
                let kind = parsed.media_type().to_owned();
                Ok(Fetched {
                    descriptor: Descriptor::new(kind, wanted.digest.clone(), bytes.len() as u64),
                    bytes,
                })
            }
        }
    }

    /// What is attached to a manifest.
    fn referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>, Failure> {
        match self {
            Origin::Registry(remote, name) => {
                let name = name.with_digest(subject.clone());
                remote.client.referrers(&name, None).map_err(|error| Failure::of(&error))
            }
            Origin::Local(_, entries) => {
                let mut all = Vec::new();
                for entry in entries {
                    let found = match self.manifest(entry)?.parsed()?.1 {
                        Parsed::Manifest(image) => image.subject,
                        Parsed::Index(index) => index.subject,
                    };
                    if found.is_some_and(|found| found.digest == *subject) {
                        all.push(entry.clone());
                    }
                }
                Ok(all)
            }
        }
    }

    /// The entry that a name means, or the only one that is not attached to another.
    pub(crate) fn entry(&self, name: Option<&str>, place: &str) -> Result<Descriptor, Failure> {
        let Origin::Local(_, entries) = self else { unreachable!("a registry has no entries") };
        let tag = |entry: &Descriptor| entry.annotations.get(ANNOTATION_REF_NAME).cloned();
        let mut found: Vec<&Descriptor> = match name {
            Some(name) => entries
                .iter()
                .filter(|entry| {
                    let called = entry.annotations.values().any(|value| value == name);
                    tag(entry).as_deref() == Some(name) || entry.digest.to_string() == name || called
                })
                .collect(),
            None => entries.iter().collect(),
        };
        if found.len() > 1 {
            let mut tops = Vec::new();
            for entry in &found {
                let subject = match self.manifest(entry)?.parsed()?.1 {
                    Parsed::Manifest(image) => image.subject,
                    Parsed::Index(index) => index.subject,
                };
                if subject.is_none() {
                    tops.push(*entry);
                }
            }
            found = tops;
        }
        let first = found.first().copied().cloned();
        match first {
            Some(first) if found.iter().all(|entry| entry.digest == first.digest) => Ok(first),
            Some(_) => {
                let tags: Vec<String> = found.iter().filter_map(|entry| tag(entry)).collect();
                Err(Failure::usage(format!("`{place}` has several images: name one"))
                    .with_hint(format!("it has: {}", tags.join(", "))))
            }
            None => Err(Failure::new(format!("`{place}` has no image of that name"))),
        }
    }
}

/// What is copied.
pub(crate) struct Bundle {
    /// Every manifest but the top one, each after its own children.
    pub(crate) others: Vec<Fetched>,
    /// What gets the name.
    pub(crate) top: Fetched,
    /// What all of them need.
    pub(crate) blobs: Vec<Descriptor>,
    /// Those of `others` that are attached to something.
    pub(crate) attached: Vec<Descriptor>,
}

impl Bundle {
    /// Gathers what belongs to `top`; of an index, all or the image for one platform.
    pub(crate) fn gather(
        origin: &Origin<'_>,
        top: &Descriptor,
        platform: Option<&Platform>,
        with_referrers: bool,
    ) -> Result<Bundle, Failure> {
        let top = match platform {
            Some(platform) => one(origin, top, platform)?,
            None => origin.manifest(top)?,
        };
        let mut gatherer =
            Gatherer { origin, seen: BTreeSet::new(), manifests: Vec::new(), blobs: Vec::new() };
        gatherer.add(top.clone(), 0)?;
        let mut attached = Vec::new();
        if with_referrers {
            let mut asked = 0;
            // what is attached may have something attached to it
            while let Some(subject) = gatherer.manifests.get(asked).map(|one| one.descriptor.digest.clone()) {
                asked += 1;
                for referrer in origin.referrers(&subject)? {
                    if !gatherer.seen.contains(&referrer.digest) {
                        let fetched = origin.manifest(&referrer)?;
                        attached.push(fetched.descriptor.clone());
                        gatherer.add(fetched, 0)?;
                    }
                }
            }
        }
        let Gatherer { mut manifests, blobs, .. } = gatherer;
        let at = manifests.iter().position(|one| one.descriptor.digest == top.descriptor.digest);
        let top = manifests.remove(at.expect("the top was gathered"));
        Ok(Bundle { others: manifests, top, blobs, attached })
    }

    /// Every digest of it.
    pub(crate) fn digests(&self) -> BTreeSet<Digest> {
        let manifests = self.others.iter().chain([&self.top]).map(|one| &one.descriptor.digest);
        manifests.chain(self.blobs.iter().map(|blob| &blob.digest)).cloned().collect()
    }
}

/// The image of an index for a platform.
fn one(origin: &Origin<'_>, top: &Descriptor, platform: &Platform) -> Result<Fetched, Failure> {
    let mut here = origin.manifest(top)?;
    for _ in 0..=limits::INDEX_DEPTH {
        let (_, parsed) = here.clone().parsed()?;
        let Parsed::Index(index) = parsed else { return Ok(here) };
        let chosen = index.select(platform).ok_or_else(|| {
            let all = index.manifests.iter().filter_map(|entry| Some(entry.platform.as_ref()?.to_string()));
            Failure::new(format!("there is no image for {platform}"))
                .with_hint(format!("there are: {}", all.collect::<Vec<_>>().join(", ")))
        })?;
        here = origin.manifest(chosen)?;
    }
    Err(deep())
}

fn deep() -> Failure {
    Failure::new("what is copied is an index of indexes of indexes")
}

struct Gatherer<'a> {
    origin: &'a Origin<'a>,
    seen: BTreeSet<Digest>,
    manifests: Vec<Fetched>,
    blobs: Vec<Descriptor>,
}

impl Gatherer<'_> {
    fn add(&mut self, fetched: Fetched, depth: usize) -> Result<(), Failure> {
        if !self.seen.insert(fetched.descriptor.digest.clone()) {
            return Ok(());
        }
        if depth > limits::INDEX_DEPTH {
            return Err(deep());
        }
        if self.seen.len() > limits::INDEX_ENTRIES {
            return Err(Failure::new("what is copied has more manifests than are taken"));
        }
        match fetched.clone().parsed()?.1 {
            Parsed::Manifest(manifest) => {
                self.blobs.push(manifest.config);
                self.blobs.extend(manifest.layers);
            }
            Parsed::Index(index) => {
                for child in &index.manifests {
                    if media_type::is_content(&child.media_type) {
                        self.blobs.push(child.clone());
                    } else if !self.seen.contains(&child.digest) {
                        let child = self.origin.manifest(child)?;
                        self.add(child, depth + 1)?;
                    }
                }
            }
        }
        self.manifests.push(fetched);
        Ok(())
    }
}
