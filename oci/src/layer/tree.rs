//! The file system that a row of layers makes, worked out from tables of contents alone.

use super::{
    entry::{Entry, Kind, join, name_of, parent_of},
    toc::Toc,
};
use crate::limits;
use std::{collections::BTreeMap, sync::Arc};

/// A path that cannot be resolved.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TreeError {
    /// More links than the kernel follows.
    #[error("`{0}` leads through more than {max} symbolic links", max = limits::SYMLINKS)]
    Links(String),
    /// A component that is no folder has something below it.
    #[error("`{0}` is not a folder")]
    NotDirectory(String),
}

/// An entry of a [`Tree`] and the layer that it comes from.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// Which layer, counted from the base.
    pub layer: usize,
    /// What it is there.
    pub entry: &'a Entry,
}

/// Where a path leads once links are followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The path without links, relative to the root.
    pub path: Vec<u8>,
    /// Whether something is there.
    pub exists: bool,
}

/// Layers, the base first, seen as one file system.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    layers: Vec<Arc<Toc>>,
}

impl Tree {
    /// The file system that `layers`, the base first, make.
    pub fn new(layers: Vec<Arc<Toc>>) -> Tree {
        Tree { layers }
    }

    /// The tree with one more layer on top.
    pub fn with(&self, layer: Arc<Toc>) -> Tree {
        let mut layers = self.layers.clone();
        layers.push(layer);
        Tree { layers }
    }

    /// What is at `path`, whose parents must be free of links ([`Tree::resolve`]). The last component is not followed.
    pub fn get(&self, path: &[u8]) -> Option<Found<'_>> {
        let mut implicit = None;
        for (layer, toc) in self.layers.iter().enumerate().rev() {
            if let Some(entry) = toc.get(path) {
                match entry.kind {
                    Kind::Whiteout => return implicit,
                    Kind::Directory if entry.implicit && !entry.opaque => {
                        implicit = implicit.or(Some(Found { layer, entry }));
                        continue;
                    }
                    Kind::Directory => return Some(Found { layer, entry }),
                    // a folder that only the archive above implied hides what is no folder below it
                    _ => return implicit.or(Some(Found { layer, entry })),
                }
            }
            if hides_below(toc, path) {
                return implicit;
            }
        }
        implicit
    }

    /// The entry that says what is found there: of another name of a file, that of its first one in the same layer.
    pub fn linked<'a>(&'a self, found: Found<'a>) -> &'a Entry {
        match found.entry.kind {
            Kind::Hardlink => self.layers[found.layer].get(&found.entry.link).unwrap_or(found.entry),
            _ => found.entry,
        }
    }

    /// Whether any layer says anything of paths below `folder`, be it that they are deleted.
    pub fn has_below(&self, folder: &[u8]) -> bool {
        self.layers.iter().any(|toc| toc.has_below(folder))
    }

    /// The names in the folder `path` (free of links) and what they are.
    pub fn children(&self, path: &[u8]) -> BTreeMap<Vec<u8>, Found<'_>> {
        let mut names: BTreeMap<Vec<u8>, Option<Found<'_>>> = BTreeMap::new();
        for (layer, toc) in self.layers.iter().enumerate().rev() {
            for entry in toc.children(path) {
                let name = name_of(&entry.path);
                if names.contains_key(name) {
                    continue;
                }
                let found = match entry.kind {
                    Kind::Whiteout => None,
                    Kind::Directory if entry.implicit => self.get(&entry.path),
                    _ => Some(Found { layer, entry }),
                };
                names.insert(name.to_vec(), found);
            }
            let own = toc.get(path);
            let ends = own.is_some_and(|entry| !entry.is_directory() || entry.opaque);
            if ends || hides_below(toc, path) {
                break;
            }
        }
        names.into_iter().filter_map(|(name, found)| found.map(|found| (name, found))).collect()
    }

    /// Follows links in `path` as the kernel would inside the root; what is missing at the end is kept as written.
    /// With `follow_last` the last component is followed too.
    pub fn resolve(&self, path: &[u8], follow_last: bool) -> Result<Resolved, TreeError> {
        let shown = || String::from_utf8_lossy(path).into_owned();
        let mut pending: Vec<Vec<u8>> = components(path).rev().map(<[u8]>::to_vec).collect();
        let mut done: Vec<u8> = Vec::new();
        let (mut links, mut exists) = (0, true);
        while let Some(name) = pending.pop() {
            if name == b".." {
                done.truncate(parent_of(&done).map_or(0, <[u8]>::len));
                exists = true;
                continue;
            }
            let here = join(&done, &name);
            let found = if exists { self.get(&here) } else { None };
            match found.map(|found| found.entry) {
                Some(entry) if entry.kind == Kind::Symlink && (follow_last || !pending.is_empty()) => {
                    links += 1;
                    if links > limits::SYMLINKS {
                        return Err(TreeError::Links(shown()));
                    }
                    if entry.link.starts_with(b"/") {
                        done.clear();
                    }
                    pending.extend(components(&entry.link).rev().map(<[u8]>::to_vec));
                }
                Some(entry) if !entry.is_directory() && !pending.is_empty() => {
                    return Err(TreeError::NotDirectory(String::from_utf8_lossy(&here).into_owned()));
                }
                Some(_) => done = here,
                None => {
                    exists = false;
                    done = here;
                }
            }
        }
        Ok(Resolved { path: done, exists })
    }

    /// Every path of the tree, sorted, parents first. `visit` may stop the descent by answering `false`.
    pub fn walk<'a>(&'a self, from: &[u8], visit: &mut dyn FnMut(&[u8], Found<'a>) -> bool) {
        let mut pending: Vec<(Vec<u8>, Found<'a>)> =
            self.children(from).into_iter().map(|(name, found)| (join(from, &name), found)).rev().collect();
        while let Some((path, found)) = pending.pop() {
            if visit(&path, found) && found.entry.is_directory() {
                let below = self.children(&path);
                pending.extend(below.into_iter().map(|(name, found)| (join(&path, &name), found)).rev());
            }
        }
    }

    /// How many layers there are.
    pub fn layers(&self) -> &[Arc<Toc>] {
        &self.layers
    }
}

/// The components of a path that mean something, without `.` and empty ones.
pub(crate) fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".")
}

/// Whether `toc` has something above `path` that lower layers' paths cannot be seen through.
fn hides_below(toc: &Toc, path: &[u8]) -> bool {
    let mut above = parent_of(path);
    while let Some(folder) = above {
        if let Some(entry) = toc.get(folder)
            && (!entry.is_directory() || entry.opaque)
        {
            return true;
        }
        above = parent_of(folder);
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(entries: &[(&str, Kind, &str)]) -> Arc<Toc> {
        let entry = |(path, kind, link): &(&str, Kind, &str)| {
            let mut entry = Entry::new(*path, *kind, 0o755);
            entry.link = link.as_bytes().to_vec();
            entry
        };
        Arc::new(Toc::new(entries.iter().map(entry).collect()))
    }

    fn tree() -> Tree {
        use Kind::*;
        let mut upper = layer(&[
            ("etc", Directory, ""),
            ("etc/gone", Whiteout, ""),
            ("opt", Directory, ""),
            ("opt/new", File, ""),
            ("srv", File, ""),
        ]);
        let opaque = Arc::get_mut(&mut upper).expect("sole owner");
        let mut entries = opaque.entries().to_vec();
        entries.iter_mut().filter(|entry| entry.path == b"opt").for_each(|entry| entry.opaque = true);
        *opaque = Toc::new(entries);
        Tree::new(vec![
            layer(&[
                ("etc", Directory, ""),
                ("etc/gone", File, ""),
                ("etc/kept", File, ""),
                ("lib", Symlink, "usr/lib"),
                ("opt", Directory, ""),
                ("opt/old", File, ""),
                ("srv", Directory, ""),
                ("srv/below", File, ""),
                ("usr", Directory, ""),
                ("usr/lib", Directory, ""),
                ("usr/lib/x", Symlink, "/lib/../../../etc/kept"),
                ("loop", Symlink, "loop"),
            ]),
            upper,
        ])
    }

    #[test]
    fn deletions_hide() {
        let tree = tree();
        for (path, there) in [
            ("etc/kept", true),
            ("etc/gone", false),
            ("opt/old", false),
            ("opt/new", true),
            ("srv/below", false),
            ("srv", true),
        ] {
            assert_eq!(tree.get(path.as_bytes()).is_some(), there, "{path}");
        }
        let names: Vec<_> = tree.children(b"opt").into_keys().collect();
        assert_eq!(names, [b"new".to_vec()]);
        assert!(tree.children(b"srv").is_empty());
    }

    #[test]
    fn links_are_followed_inside() {
        let tree = tree();
        let resolve = |path: &str| {
            tree.resolve(path.as_bytes(), true).map(|r| String::from_utf8_lossy(&r.path).into_owned())
        };
        assert_eq!(resolve("/lib/x"), Ok("etc/kept".to_owned()));
        assert_eq!(resolve("../../lib/new/y"), Ok("usr/lib/new/y".to_owned()));
        assert_eq!(resolve("/"), Ok(String::new()));
        assert!(resolve("loop").is_err());
        assert!(resolve("srv/x").is_err());
        assert_eq!(tree.resolve(b"lib/x", false).map(|r| r.path), Ok(b"usr/lib/x".to_vec()));
    }
}
