//! Layers put together as one file system: the upper ones hide, and deletions are applied (image-spec `layer.md`).

use super::listing::{Listing, Row};
use slipway_oci::layer::Kind;
use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

/// Paths, sorted, each with the layer that it comes from.
pub(super) struct Tree {
    layers: Vec<Arc<Listing>>,
    rows: Vec<(u16, u32)>,
}

/// One path of a tree.
#[derive(Clone, Copy)]
pub(super) struct Item<'a> {
    pub(super) path: &'a [u8],
    pub(super) link: &'a [u8],
    pub(super) row: &'a Row,
    /// Which layer, counted from the base.
    pub(super) layer: usize,
}

/// A name within a folder, with what is below it.
#[derive(Clone, Default)]
pub(super) struct Child<'a> {
    pub(super) name: &'a [u8],
    /// `None`: a folder that no archive names.
    pub(super) item: Option<Item<'a>>,
    /// Bytes of it, or of all files below it.
    pub(super) bytes: u64,
    /// Files below it.
    pub(super) files: u64,
}

impl Child<'_> {
    pub(super) fn is_folder(&self) -> bool {
        self.item.is_none_or(|item| item.row.kind == Kind::Directory)
    }
}

impl Tree {
    /// One layer, as it is: what it deletes is shown.
    pub(super) fn layer(layer: Arc<Listing>) -> Tree {
        let rows = (0..layer.rows.len()).map(|at| (0, at as u32)).collect();
        Tree { layers: vec![layer], rows }
    }

    /// All layers, the base first.
    pub(super) fn merged(layers: Vec<Arc<Listing>>) -> Tree {
        let mut rows: Vec<(u16, u32)> = Vec::new();
        {
            // what an upper layer decided, and what nothing shows through
            let (mut seen, mut closed) = (HashSet::new(), HashSet::new());
            for (number, layer) in layers.iter().enumerate().rev() {
                let (mut decided, mut shut) = (Vec::new(), Vec::new());
                for (at, row) in layer.rows.iter().enumerate() {
                    let path = layer.path(row);
                    if closed.contains(path) || parents(path).any(|folder| closed.contains(folder)) {
                        continue;
                    }
                    let ends = row.kind != Kind::Directory || row.opaque;
                    if ends {
                        shut.push(path);
                    }
                    // a folder that an upper layer has too is that one's, but what is below it is both's
                    if seen.contains(path) {
                        continue;
                    }
                    decided.push(path);
                    if row.kind != Kind::Whiteout && !path.is_empty() {
                        rows.push((number as u16, at as u32));
                    }
                }
                seen.extend(decided);
                // a file takes the place of a folder below it, never the other way round
                closed.extend(shut);
            }
        }
        let path = |&(layer, at): &(u16, u32)| {
            let layer: &Listing = &layers[usize::from(layer)];
            layer.path(&layer.rows[at as usize])
        };
        rows.sort_unstable_by(|a, b| path(a).cmp(path(b)));
        Tree { rows, layers }
    }

    pub(super) fn layers(&self) -> &[Arc<Listing>] {
        &self.layers
    }

    fn item(&self, at: usize) -> Item<'_> {
        let (number, row) = self.rows[at];
        let layer = &self.layers[usize::from(number)];
        let row = &layer.rows[row as usize];
        Item { path: layer.path(row), link: layer.link(row), row, layer: usize::from(number) }
    }

    /// Every path, sorted.
    pub(super) fn items(&self) -> impl Iterator<Item = Item<'_>> {
        (0..self.rows.len()).map(|at| self.item(at))
    }

    /// What is at a path.
    #[cfg(test)]
    fn get(&self, path: &[u8]) -> Option<Item<'_>> {
        let at = self.rows.partition_point(|row| self.of(row) < path);
        (at < self.rows.len()).then(|| self.item(at)).filter(|item| item.path == path)
    }

    fn of(&self, &(layer, row): &(u16, u32)) -> &[u8] {
        let layer = &self.layers[usize::from(layer)];
        layer.path(&layer.rows[row as usize])
    }

    /// The names in a folder with what is below each, sorted by name.
    pub(super) fn children(&self, folder: &[u8]) -> Vec<Child<'_>> {
        let mut prefix = folder.to_vec();
        if !prefix.is_empty() {
            prefix.push(b'/');
        }
        let start = self.rows.partition_point(|row| self.of(row) < prefix.as_slice());
        let mut children: BTreeMap<&[u8], Child<'_>> = BTreeMap::new();
        for at in start..self.rows.len() {
            let item = self.item(at);
            let Some(rest) = item.path.strip_prefix(prefix.as_slice()) else { break };
            if rest.is_empty() {
                continue;
            }
            let end = rest.iter().position(|byte| *byte == b'/');
            let name = &rest[..end.unwrap_or(rest.len())];
            let child = children.entry(name).or_insert_with(|| Child { name, ..Child::default() });
            if item.row.kind == Kind::File {
                child.bytes = child.bytes.saturating_add(item.row.size_bytes);
                child.files += 1;
            }
            if end.is_none() {
                child.item = Some(item);
            }
        }
        children.into_values().collect()
    }
}

/// Folders above a path.
fn parents(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.iter().enumerate().rev().filter(|(_, byte)| **byte == b'/').map(|(at, _)| &path[..at])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn layer(entries: &[(&str, &str)]) -> Arc<Listing> {
        let mut builder = tar_of(entries);
        let until = Instant::now() + Duration::from_secs(60);
        let listing = Listing::read(&builder.split_off(0)[..], until);
        assert_eq!(listing.cut, None);
        Arc::new(listing)
    }

    /// Files with their bytes, folders with a slash at their end, and links with `->`.
    pub(super) fn tar_of(entries: &[(&str, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, text) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o644);
            header.set_size(0);
            if path.ends_with('/') {
                header.set_entry_type(tar::EntryType::Directory);
                builder.append_data(&mut header, path, std::io::empty()).expect("a folder");
            } else if let Some(target) = text.strip_prefix("->") {
                header.set_entry_type(tar::EntryType::Symlink);
                builder.append_link(&mut header, path, target).expect("a link");
            } else {
                header.set_size(text.len() as u64);
                builder.append_data(&mut header, path, text.as_bytes()).expect("a file");
            }
        }
        builder.into_inner().expect("an archive")
    }

    fn paths(tree: &Tree) -> Vec<String> {
        let text = |item: Item<'_>| format!("{}@{}", String::from_utf8_lossy(item.path), item.layer);
        tree.items().map(text).collect()
    }

    #[test]
    fn upper_layers_hide_and_deletions_are_applied() {
        let base = layer(&[
            ("etc/", ""),
            ("etc/gone", "x"),
            ("etc/kept", "x"),
            ("opt/", ""),
            ("opt/old", "x"),
            ("opt/deep/er", "x"),
            ("srv/", ""),
            ("srv/below", "x"),
            ("run", "file"),
            ("a-b", "x"),
            ("a/b", "x"),
        ]);
        let upper = layer(&[
            ("etc/", ""),
            ("etc/.wh.gone", ""),
            ("opt/", ""),
            ("opt/.wh..wh..opq", ""),
            ("opt/new", "yy"),
            ("srv", "->elsewhere"),
            ("run/", ""),
            ("run/pid", "1"),
        ]);
        let tree = Tree::merged(vec![base.clone(), upper.clone()]);
        assert_eq!(
            paths(&tree),
            ["a-b@0", "a/b@0", "etc@1", "etc/kept@0", "opt@1", "opt/new@1", "run@1", "run/pid@1", "srv@1"]
        );
        // deleted and made again: nothing of before is there
        let again = layer(&[("etc/gone", "new"), (".wh.opt", ""), ("opt/x", "1")]);
        let tree = Tree::merged(vec![base, upper.clone(), again]);
        assert!(tree.get(b"etc/gone").is_some_and(|item| item.layer == 2));
        assert!(tree.get(b"opt/new").is_none() && tree.get(b"opt/x").is_some(), "{:?}", paths(&tree));
        let shown = Tree::layer(upper);
        assert!(shown.get(b"etc/gone").is_some_and(|item| item.row.kind == Kind::Whiteout));
    }

    #[test]
    fn folders_sum_up_what_is_below_them() {
        let tree = Tree::layer(layer(&[("a/b/one", "123"), ("a/two", "12"), ("a-c", "1"), ("z/", "")]));
        let names = |folder: &str| -> Vec<(String, u64, u64, bool)> {
            let children = tree.children(folder.as_bytes());
            let text = |child: &Child<'_>| String::from_utf8_lossy(child.name).into_owned();
            children.iter().map(|child| (text(child), child.bytes, child.files, child.is_folder())).collect()
        };
        let one = |name: &str, bytes, files, folder| (name.to_owned(), bytes, files, folder);
        assert_eq!(names(""), [one("a", 5, 2, true), one("a-c", 1, 1, false), one("z", 0, 0, true)]);
        assert_eq!(names("a"), [one("b", 3, 1, true), one("two", 2, 1, false)]);
        assert!(names("a-c").is_empty() && names("nothing").is_empty());
    }
}
