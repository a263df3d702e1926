//! What a bucket says that `distribution` wrote by its S3 driver: the same names as in a folder ([`super::layout`]), as keys below its
//! `rootdirectory`. What a link of a layer or manifest names is in its key already; only those of tags are read.

use super::{Unfit, Why, bytes::Got, layout::Linked};
use crate::{
    limits,
    server::storage::{
        StorageError,
        content::{Content, ForeignBucket, Found},
        keep::carry::{Carried, carry},
        seconds,
    },
};
use slipway_oci::{
    Digest,
    reference::{is_repository_name, is_tag},
};
use std::collections::{BTreeMap, BTreeSet};

const TOP: &str = "docker/registry/v2";

/// A bucket of distribution's.
pub(super) struct BucketSource(pub(super) ForeignBucket);

/// What was seen of repositories so far.
#[derive(Default)]
struct Seen {
    linked: BTreeMap<String, Linked>,
    uploads: BTreeMap<String, BTreeSet<String>>,
    strange: BTreeSet<String>,
}

impl BucketSource {
    /// All repositories; `None` where there is nothing of distribution's. What is odd is told, and passed over.
    pub(super) fn repositories(
        &self,
        tell: &dyn Fn(Unfit),
    ) -> Result<Option<BTreeMap<String, Linked>>, StorageError> {
        let below = format!("{TOP}/repositories");
        let (mut seen, mut last, mut any) = (Seen::default(), None::<String>, false);
        loop {
            let page = self.0.list(&below, last.as_deref())?;
            let Some(end) = page.last() else { break };
            (last, any) = (Some(end.name.clone()), true);
            for found in &page {
                let place = found.name.strip_prefix(TOP).unwrap_or(&found.name).trim_start_matches('/');
                let unfit = |why| tell(Unfit { place: place.to_owned(), why });
                self.note(place, found, &mut seen, &unfit)?;
            }
        }
        for (name, uploads) in seen.uploads {
            tell(Unfit { place: format!("repositories/{name}/_uploads"), why: Why::Uploads(uploads.len()) });
        }
        Ok(any.then_some(seen.linked))
    }

    fn note(
        &self,
        place: &str,
        found: &Found,
        seen: &mut Seen,
        unfit: &dyn Fn(Why),
    ) -> Result<(), StorageError> {
        let parts: Vec<&str> = place.split('/').skip(1).collect();
        let Some(end) = parts.iter().position(|part| part.starts_with('_')) else { return Ok(()) };
        let name = parts[..end].join("/");
        if !is_repository_name(&name) {
            if seen.strange.insert(name) {
                unfit(Why::Name);
            }
            return Ok(());
        }
        let digest = |algorithm: &str, hex: &str| {
            let digest = format!("{algorithm}:{hex}").parse::<Digest>().ok();
            // an interrupted write leaves an empty one
            digest.filter(|_| found.size_bytes > 0)
        };
        match parts[end..] {
            ["_layers", algorithm, hex, "link"] => match digest(algorithm, hex) {
                Some(digest) => seen.linked.entry(name).or_default().layers.push(digest),
                None => unfit(Why::Digest),
            },
            ["_manifests", "revisions", algorithm, hex, "link"] => match digest(algorithm, hex) {
                Some(digest) => {
                    let own = seen.linked.entry(name).or_default();
                    own.revisions.insert(digest, seconds(found.written));
                }
                None => unfit(Why::Digest),
            },
            ["_manifests", "tags", tag, "current", "link"] => {
                if !is_tag(tag) {
                    unfit(Why::Tag);
                    return Ok(());
                }
                let text = self.0.small(&found.name, limits::ADOPT_LINK_BYTES)?;
                let text = text.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
                match text.trim().parse() {
                    Ok(digest) => {
                        let own = seen.linked.entry(name).or_default();
                        own.tags.insert(tag.to_owned(), (digest, seconds(found.written)));
                    }
                    Err(_) => unfit(Why::Digest),
                }
            }
            ["_uploads", upload, ..] => {
                seen.uploads.entry(name).or_default().insert(upload.to_owned());
            }
            _ => {}
        }
        Ok(())
    }

    /// Takes one content.
    pub(super) fn take(&self, digest: &Digest, to: &dyn Content) -> Result<Got, StorageError> {
        let (algorithm, hex) = (digest.algorithm().name(), digest.hex());
        let name = format!("{TOP}/blobs/{algorithm}/{}/{hex}/data", &hex[..2]);
        let there = to.size(digest)?;
        let Some((reader, size_bytes)) = self.0.object(&name)? else {
            return Ok(Got::Unfit(Why::Missing));
        };
        if there == Some(size_bytes) {
            return Ok(Got::Taken { size_bytes, is_shared: false, was_present: true });
        }
        Ok(match carry(&*reader, digest, size_bytes, to, &|_| {})? {
            Carried::Whole => Got::Taken { size_bytes, is_shared: false, was_present: false },
            Carried::Wrong(actual) => Got::Unfit(Why::Damaged(actual)),
            Carried::Unreadable => Got::Unfit(Why::Missing),
        })
    }
}
