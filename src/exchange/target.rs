//! Brings a bundle to its place: only what is missing there travels.

use super::{Bundle, Origin};
use crate::{
    error::Failure,
    nearby,
    progress::{self, Show, Transfers},
    remote::{self, Remote},
};
use slipway_oci::{
    Descriptor, Digest, Platform, Reference,
    blobs::Blobs,
    layout::{self, ANNOTATION_IMAGE_NAME, ANNOTATION_REF_NAME},
    spec::Parsed,
    store::Store,
};
use slipway_registry::client::{BlobReader, BlobSource, Condition, ManifestBytes, Push};
use std::{
    collections::BTreeSet,
    io::{self, Write},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

/// What a copy to a registry did.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub(crate) struct Sent {
    /// Blobs that were sent.
    pub(crate) uploaded: usize,
    /// Blobs that the registry took from another of its repositories.
    pub(crate) mounted: usize,
    /// Blobs that were there.
    pub(crate) present: usize,
}

/// Blobs for a push: of a folder, or mounted from the repository that they come from.
struct Source<'a> {
    blobs: &'a Blobs,
    /// The registry and repository that has all of them.
    from: Option<&'a Reference>,
    /// Whether one was asked for that is not here.
    missed: AtomicBool,
}

impl BlobSource for Source<'_> {
    fn open(&self, digest: &Digest) -> io::Result<Box<dyn BlobReader>> {
        if !self.blobs.contains(digest).map_err(io::Error::other)? {
            self.missed.store(true, Ordering::Relaxed);
        }
        Ok(Box::new(self.blobs.open_blob(digest).map_err(io::Error::other)?))
    }

    fn known_in(&self, registry: &str, _: &Digest) -> Option<String> {
        let from = self.from.filter(|from| from.registry() == registry)?;
        Some(from.repository().to_owned())
    }
}

/// Sends a bundle to a registry. `blobs` has what is local; what is not is fetched into it from the origin.
pub(crate) fn to_registry(
    remote: &Remote,
    origin: &Origin<'_>,
    bundle: &Bundle,
    target: &Reference,
    condition: Option<&Condition>,
    blobs: &Blobs,
    show: &dyn Show,
) -> Result<Sent, Failure> {
    let wanted: Vec<Descriptor> = bundle.blobs.iter().filter(|blob| blob.urls.is_empty()).cloned().collect();
    let from = match origin {
        Origin::Registry(_, name) => Some(name),
        Origin::Local(..) => None,
    };
    let near = from.is_some_and(|from| from.registry() == target.registry());
    show.begin(&format!("Copying to {}", target.familiar()), wanted.len());
    let sent = (|| {
        if !near {
            fetch_lacking(remote, from, target, &wanted, blobs, show)?;
        }
        let source = Source { blobs, from, missed: AtomicBool::new(false) };
        match push(remote, bundle, &wanted, target, condition, &source, show) {
            // the registry did not mount what it was asked to: then it travels
            Err(_) if source.missed.load(Ordering::Relaxed) => {
                fetch_lacking(remote, from, target, &wanted, blobs, show)?;
                push(remote, bundle, &wanted, target, condition, &source, show)
            }
            other => other,
        }
    })();
    progress::ended(show, sent)
}

fn fetch_lacking(
    remote: &Remote,
    from: Option<&Reference>,
    target: &Reference,
    wanted: &[Descriptor],
    blobs: &Blobs,
    show: &dyn Show,
) -> Result<(), Failure> {
    let Some(from) = from else { return Ok(()) };
    let lacking = remote.client.lacking(target, wanted).map_err(|error| Failure::of(&error))?;
    let transfers = Transfers { show, doing: "pulling" };
    remote.client.fetch_blobs(from, &lacking, blobs, &transfers).map_err(|error| Failure::of(&error))
}

fn push(
    remote: &Remote,
    bundle: &Bundle,
    wanted: &[Descriptor],
    target: &Reference,
    condition: Option<&Condition>,
    source: &Source<'_>,
    show: &dyn Show,
) -> Result<Sent, Failure> {
    let children: Vec<ManifestBytes<'_>> = bundle
        .others
        .iter()
        .map(|one| ManifestBytes { descriptor: &one.descriptor, bytes: &one.bytes })
        .collect();
    let manifest = ManifestBytes { descriptor: &bundle.top.descriptor, bytes: &bundle.top.bytes };
    let push = Push { blobs: wanted, children: &children, manifest };
    let unsent = |error| nearby::unsent(target, &error);
    let transfers = Transfers { show, doing: "pushing" };
    // under a condition the tag comes by itself, when all else is there
    let first = match condition {
        Some(_) => remote::by_digest(target, &bundle.top.descriptor.digest),
        None => target.clone(),
    };
    let pushed = remote.client.push(&first, &push, source, &transfers).map_err(unsent)?;
    if condition.is_some() {
        remote.client.put_manifest(target, manifest, condition).map_err(unsent)?;
    }
    Ok(Sent { uploaded: pushed.uploaded, mounted: pushed.mounted, present: pushed.present })
}

/// Puts manifests and blobs of a bundle into a folder of blobs, those that are missing.
fn fill(origin: &Origin<'_>, bundle: &Bundle, into: &Blobs, show: &dyn Show) -> Result<(), Failure> {
    match origin {
        Origin::Registry(remote, name) => {
            let transfers = Transfers { show, doing: "pulling" };
            let (near, far): (Vec<_>, Vec<_>) =
                bundle.blobs.iter().cloned().partition(|blob| blob.urls.is_empty());
            show.begin(&format!("Copying {}", name.familiar()), near.len());
            let fetched = remote.client.fetch_blobs(name, &near, into, &transfers);
            progress::ended(show, fetched).map_err(|error| Failure::of(&error))?;
            for blob in far {
                if remote.client.fetch_blob(name, &blob, into, &transfers).is_err() {
                    crate::show::note(format_args!(
                        "note: the layer {} lives elsewhere and is not copied: {}",
                        blob.digest,
                        blob.urls.join(", ")
                    ));
                }
            }
        }
        Origin::Local(store, _) => {
            for blob in &bundle.blobs {
                if !into.contains(&blob.digest)? && store.blobs().contains(&blob.digest)? {
                    into.copy_from(store.blobs().open_blob(&blob.digest)?, blob)?;
                }
            }
        }
    }
    for one in bundle.others.iter().chain([&bundle.top]) {
        if !into.contains(&one.descriptor.digest)? {
            into.copy_from(&one.bytes[..], &one.descriptor)?;
        }
    }
    Ok(())
}

/// Entries of an index: the top under its name, and what is attached.
fn entries(bundle: &Bundle, name: Option<&str>, origin: &Origin<'_>) -> Vec<Descriptor> {
    let mut top = bundle.top.descriptor.clone();
    if let Origin::Registry(_, from) = origin {
        top.annotations.insert(ANNOTATION_IMAGE_NAME.to_owned(), from.to_string());
    }
    let own = match origin {
        Origin::Registry(_, from) => from.tag(),
        Origin::Local(..) => None,
    };
    if let Some(tag) = name.or(own) {
        top.annotations.insert(ANNOTATION_REF_NAME.to_owned(), tag.to_owned());
    }
    [top].into_iter().chain(bundle.attached.iter().cloned()).collect()
}

/// Writes a bundle into an OCI layout, which is made or added to.
pub(crate) fn to_layout(
    origin: &Origin<'_>,
    bundle: &Bundle,
    folder: &Path,
    name: Option<&str>,
    show: &dyn Show,
) -> Result<(), Failure> {
    std::fs::create_dir_all(folder)
        .map_err(|error| Failure::new(format!("cannot make the folder `{}`: {error}", folder.display())))?;
    let blobs = Blobs::open(&folder.join("blobs"), &folder.join(".slipway-tmp"))?;
    fill(origin, bundle, &blobs, show)?;
    Ok(layout::add_to_folder(folder, &entries(bundle, name, origin))?)
}

/// Writes a bundle as an OCI layout in a tar.
pub(crate) fn to_archive(
    origin: &Origin<'_>,
    bundle: &Bundle,
    scratch: &Store,
    name: Option<&str>,
    output: &mut dyn Write,
    show: &dyn Show,
) -> Result<(), Failure> {
    fill(origin, bundle, scratch.blobs(), show)?;
    let mut digests: BTreeSet<Digest> = BTreeSet::new();
    for digest in bundle.digests() {
        // what lives elsewhere may not be here
        if scratch.blobs().contains(&digest)? {
            digests.insert(digest);
        }
    }
    Ok(layout::write_archive(scratch.blobs(), &entries(bundle, name, origin), &digests, output)?)
}

/// Writes the image of a bundle as docker's older archive.
pub(crate) fn to_docker_archive(
    origin: &Origin<'_>,
    bundle: &Bundle,
    scratch: &Store,
    name: Option<&str>,
    output: &mut dyn Write,
    show: &dyn Show,
) -> Result<(), Failure> {
    if let Parsed::Index(_) = bundle.top.clone().parsed()?.1 {
        let host = Platform::host();
        return Err(Failure::usage("docker's archives hold no image for several platforms")
            .with_hint(format!("--platform {host} takes the one for this machine; oci-archive: holds all")));
    }
    fill(origin, bundle, scratch.blobs(), show)?;
    let digest = &bundle.top.descriptor.digest;
    scratch.name_manifest(digest, &[])?;
    let own = match origin {
        Origin::Registry(_, from) => Some(from.clone()),
        Origin::Local(..) => None,
    };
    let named = name.map(str::parse::<Reference>).transpose().map_err(|error| Failure::of(&error))?;
    let names = named.or(own).filter(|name| name.digest().is_none()).into_iter().collect();
    Ok(layout::write_docker_archive(scratch, &[layout::LayoutImage::new(digest.clone(), names)], output)?)
}
