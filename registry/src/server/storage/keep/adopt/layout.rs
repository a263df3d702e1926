//! What a folder of `distribution` says that it has (its `registry/storage/paths.go`):
//!
//! ```text
//! docker/registry/v2/blobs/sha256/ab/abcd.../data
//! docker/registry/v2/repositories/NAME/_layers/sha256/HEX/link
//! docker/registry/v2/repositories/NAME/_manifests/revisions/sha256/HEX/link
//! docker/registry/v2/repositories/NAME/_manifests/tags/TAG/current/link
//! docker/registry/v2/repositories/NAME/_uploads/UUID/...
//! ```
//!
//! A `link` is a file with a digest as its text. What was deleted has none any more.

use super::{
    Unfit, Why,
    folder::{Folder, Odd},
};
use crate::limits;
use slipway_oci::{
    Algorithm, Digest,
    reference::{is_repository_name, is_tag},
};
use std::{collections::BTreeMap, io, path::Path};

/// A repository, by its links.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Linked {
    pub(super) layers: Vec<Digest>,
    /// With when they were pushed.
    pub(super) revisions: BTreeMap<Digest, i64>,
    /// With when they were moved.
    pub(super) tags: BTreeMap<String, (Digest, i64)>,
}

/// A folder of distribution's.
pub(super) struct Source {
    top: Folder,
}

impl Source {
    /// Opens the folder that is distribution's `rootdirectory`, or `v2` in it; `None` where it is neither.
    pub(super) fn open(path: &Path) -> io::Result<Option<Source>> {
        let named = Folder::open(path)?;
        let below = named.below(&["docker", "registry", "v2"]).ok().flatten();
        let top = below.unwrap_or(named);
        let is = ["blobs", "repositories"].iter().any(|name| matches!(top.folder(name), Ok(Some(_))));
        Ok(is.then_some(Source { top }))
    }

    /// The folder that has a blob's `data`.
    pub(super) fn blob(&self, digest: &Digest) -> Result<Option<Folder>, Odd> {
        let hex = digest.hex();
        self.top.below(&["blobs", digest.algorithm().name(), &hex[..2], &hex])
    }

    /// All repositories. What is odd is told, and passed over.
    pub(super) fn repositories(&self, tell: &dyn Fn(Unfit)) -> BTreeMap<String, Linked> {
        let mut found = BTreeMap::new();
        let walk = Walk { tell };
        if let Some(folder) = walk.opened("repositories", self.top.folder("repositories")) {
            walk.repositories(&folder, "", 0, &mut found);
        }
        found
    }
}

struct Walk<'a> {
    tell: &'a dyn Fn(Unfit),
}

impl Walk<'_> {
    fn unfit(&self, place: &str, why: Why) {
        (self.tell)(Unfit { place: place.to_owned(), why });
    }

    fn opened<T>(&self, place: &str, opened: Result<Option<T>, Odd>) -> Option<T> {
        opened.unwrap_or_else(|odd| {
            self.unfit(place, Why::Odd(odd));
            None
        })
    }

    fn names(&self, place: &str, folder: &Folder) -> Vec<String> {
        self.opened(place, folder.names().map(Some)).unwrap_or_default()
    }

    fn repositories(&self, folder: &Folder, name: &str, depth: usize, found: &mut BTreeMap<String, Linked>) {
        let here = format!("repositories/{name}");
        let mut linked = Linked::default();
        for entry in self.names(&here, folder) {
            let place = format!("{}/{entry}", here.trim_end_matches('/'));
            match entry.as_str() {
                "_layers" if depth > 0 => linked.layers = self.layers(&place, folder, &entry),
                "_manifests" if depth > 0 => self.manifests(&place, folder, &mut linked),
                "_uploads" => {
                    let open = self.opened(&place, folder.folder(&entry));
                    let count = open.map_or(0, |uploads| self.names(&place, &uploads).len());
                    if count > 0 {
                        self.unfit(&place, Why::Uploads(count));
                    }
                }
                _ => {
                    let child = if name.is_empty() { entry.clone() } else { format!("{name}/{entry}") };
                    // the names of those below begin with it
                    if !is_repository_name(&child) || depth >= limits::ADOPT_DEPTH {
                        self.unfit(&place, Why::Name);
                    } else if let Some(below) = self.opened(&place, folder.folder(&entry)) {
                        self.repositories(&below, &child, depth + 1, found);
                    }
                }
            }
        }
        if linked != Linked::default() {
            found.insert(name.to_owned(), linked);
        }
    }

    fn layers(&self, place: &str, folder: &Folder, name: &str) -> Vec<Digest> {
        let Some(layers) = self.opened(place, folder.folder(name)) else { return Vec::new() };
        self.digests(place, &layers).into_iter().map(|(digest, _)| digest).collect()
    }

    fn manifests(&self, place: &str, folder: &Folder, linked: &mut Linked) {
        let Some(manifests) = self.opened(place, folder.folder("_manifests")) else { return };
        let here = format!("{place}/revisions");
        if let Some(revisions) = self.opened(&here, manifests.folder("revisions")) {
            linked.revisions = self.digests(&here, &revisions).into_iter().collect();
        }
        let here = format!("{place}/tags");
        let Some(tags) = self.opened(&here, manifests.folder("tags")) else { return };
        for tag in self.names(&here, &tags) {
            let place = format!("{here}/{tag}");
            if !is_tag(&tag) {
                self.unfit(&place, Why::Tag);
                continue;
            }
            let current = self.opened(&place, tags.below(&[&tag, "current"]));
            if let Some(target) = current.and_then(|current| self.link(&format!("{place}/current"), &current))
            {
                linked.tags.insert(tag, target);
            }
        }
    }

    /// What the links of `ALGORITHM/HEX` in a folder name, each its own.
    fn digests(&self, place: &str, folder: &Folder) -> Vec<(Digest, i64)> {
        let mut found = Vec::new();
        for name in self.names(place, folder) {
            let here = format!("{place}/{name}");
            let known = [Algorithm::Sha256, Algorithm::Sha512].into_iter().find(|one| one.name() == name);
            let Some(algorithm) = known else {
                self.unfit(&here, Why::Digest);
                continue;
            };
            let Some(of_algorithm) = self.opened(&here, folder.folder(&name)) else { continue };
            for hex in self.names(&here, &of_algorithm) {
                let here = format!("{here}/{hex}");
                let Ok(digest) = format!("{}:{hex}", algorithm.name()).parse::<Digest>() else {
                    self.unfit(&here, Why::Digest);
                    continue;
                };
                let Some(own) = self.opened(&here, of_algorithm.folder(&hex)) else { continue };
                match self.link(&here, &own) {
                    Some((target, at)) if target == digest => found.push((digest, at)),
                    Some((target, _)) => self.unfit(&here, Why::Other(target)),
                    None => {}
                }
            }
        }
        found
    }

    /// The digest that a folder's `link` has; one that was deleted has none.
    fn link(&self, place: &str, folder: &Folder) -> Option<(Digest, i64)> {
        let here = format!("{place}/link");
        let (text, at) = self.opened(&here, folder.text("link", limits::ADOPT_LINK_BYTES))?;
        match text.trim().parse() {
            Ok(digest) => Some((digest, at)),
            // an interrupted write leaves an empty one (distribution's issue 4478)
            Err(_) => {
                self.unfit(&here, Why::Digest);
                None
            }
        }
    }
}
