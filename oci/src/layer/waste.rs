//! What an image's layers hold that nobody needs: files that later layers replace or delete, files that are there twice, and what
//! package managers leave behind.

use super::{Kind, Toc};
use crate::Digest;
use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
};

/// Paths below which package managers keep what they fetched, without a leading slash; what is there again is fetched again.
const PACKAGE_CACHES: [&str; 14] = [
    "var/lib/apt/lists/",
    "var/cache/apt/",
    "var/cache/apk/",
    "var/cache/dnf/",
    "var/cache/yum/",
    "var/cache/zypp/",
    "var/cache/pacman/pkg/",
    "root/.cache/pip/",
    "root/.cache/go-build/",
    "root/.npm/_cacache/",
    "root/.cargo/registry/",
    "usr/local/share/.cache/yarn/",
    "usr/local/cargo/registry/cache/",
    "root/.gem/",
];

/// A file that a layer holds for nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hidden {
    /// Its path.
    pub path: Vec<u8>,
    /// Its bytes.
    pub size_bytes: u64,
    /// The layer that has it, counted from the base.
    pub layer: usize,
    /// The layer that hides it.
    pub by: usize,
    /// Whether that one deletes it; else it has another file there.
    pub is_deleted: bool,
}

/// One content at several paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copies {
    /// Its bytes, each time.
    pub size_bytes: u64,
    /// Layers and paths that have it.
    pub places: Vec<(usize, Vec<u8>)>,
}

/// What package managers left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// The folder.
    pub folder: &'static str,
    /// The layer.
    pub layer: usize,
    /// How many files.
    pub files: usize,
    /// Their bytes.
    pub size_bytes: u64,
}

/// What is held for nothing; the largest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waste {
    /// Files that are not seen.
    pub hidden: Vec<Hidden>,
    /// Files that are seen twice and more.
    pub copies: Vec<Copies>,
    /// What package managers left and is seen.
    pub left: Vec<Left>,
}

/// Looks through the tables of an image's layers, the base first.
pub fn waste(layers: &[&Toc]) -> Waste {
    // what is seen at a path: the layer, the bytes, the content
    let mut seen: BTreeMap<&[u8], (usize, u64, Option<&Digest>)> = BTreeMap::new();
    let mut hidden = Vec::new();
    for (layer, toc) in layers.iter().enumerate() {
        let hide = |seen: &BTreeMap<&[u8], (usize, u64, Option<&Digest>)>, path: &[u8], below: bool| {
            let is = |other: &[u8]| match below {
                true => {
                    other.len() > path.len()
                        && other.starts_with(path)
                        && (path.is_empty() || other[path.len()] == b'/')
                }
                false => other == path,
            };
            let from = seen
                .range::<[u8], _>((Bound::Included(path), Bound::Unbounded))
                .take_while(|(other, _)| other.starts_with(path));
            let found = from.filter(|(other, (holder, ..))| is(other) && *holder < layer);
            found.map(|(other, (holder, size, _))| (other.to_vec(), *holder, *size)).collect::<Vec<_>>()
        };
        for entry in toc.entries() {
            let gone = match (entry.kind, entry.opaque) {
                (Kind::Whiteout, _) => {
                    [hide(&seen, &entry.path, false), hide(&seen, &entry.path, true)].concat()
                }
                (_, true) => hide(&seen, &entry.path, true),
                (Kind::Directory, false) => Vec::new(),
                _ => [hide(&seen, &entry.path, false), hide(&seen, &entry.path, true)].concat(),
            };
            for (path, holder, size_bytes) in gone {
                seen.remove(path.as_slice());
                let is_deleted = entry.kind == Kind::Whiteout || entry.opaque;
                if size_bytes > 0 {
                    hidden.push(Hidden { path, size_bytes, layer: holder, by: layer, is_deleted });
                }
            }
            if entry.kind == Kind::File {
                seen.insert(&entry.path, (layer, entry.size_bytes, entry.content.as_ref()));
            }
        }
    }
    hidden.sort_by(|one, other| (other.size_bytes, &one.path).cmp(&(one.size_bytes, &other.path)));
    Waste { hidden, copies: copies(&seen), left: left(&seen) }
}

fn copies(seen: &BTreeMap<&[u8], (usize, u64, Option<&Digest>)>) -> Vec<Copies> {
    let mut by_content: HashMap<&Digest, Copies> = HashMap::new();
    for (path, (layer, size_bytes, content)) in seen {
        let Some(content) = content.filter(|_| *size_bytes > 0) else { continue };
        let one = by_content.entry(content).or_insert(Copies { size_bytes: *size_bytes, places: Vec::new() });
        one.places.push((*layer, path.to_vec()));
    }
    let mut copies: Vec<Copies> = by_content.into_values().filter(|one| one.places.len() > 1).collect();
    let cost = |one: &Copies| one.size_bytes * (one.places.len() as u64 - 1);
    copies.sort_by(|one, other| (cost(other), &one.places).cmp(&(cost(one), &other.places)));
    copies
}

fn left(seen: &BTreeMap<&[u8], (usize, u64, Option<&Digest>)>) -> Vec<Left> {
    let mut found: BTreeMap<(&'static str, usize), (usize, u64)> = BTreeMap::new();
    for folder in PACKAGE_CACHES {
        let below = seen
            .range::<[u8], _>((Bound::Included(folder.as_bytes()), Bound::Unbounded))
            .take_while(|(path, _)| path.starts_with(folder.as_bytes()));
        for (_, (layer, size_bytes, _)) in below {
            let sum = found.entry((folder, *layer)).or_default();
            sum.0 += 1;
            sum.1 += size_bytes;
        }
    }
    let found = found.into_iter().filter(|(_, (_, size_bytes))| *size_bytes > 0);
    let mut left: Vec<Left> = found
        .map(|((folder, layer), (files, size_bytes))| Left { folder, layer, files, size_bytes })
        .collect();
    left.sort_by_key(|one| std::cmp::Reverse(one.size_bytes));
    left
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::Entry;

    fn file(path: &str, size_bytes: u64, content: &str) -> Entry {
        let mut entry = Entry::new(path, Kind::File, 0o644);
        entry.size_bytes = size_bytes;
        entry.content = Some(Digest::sha256(content.as_bytes()));
        entry
    }

    #[test]
    fn what_nobody_sees_what_is_there_twice_and_what_was_left() {
        let folder = |path: &str, opaque| Entry { opaque, ..Entry::new(path, Kind::Directory, 0o755) };
        let base = Toc::new(vec![
            folder("a", false),
            file("a/deleted", 100, "1"),
            file("a/replaced", 200, "2"),
            file("a-b", 7, "7"),
            folder("opaque", false),
            file("opaque/one", 300, "3"),
            folder("tree", false),
            file("tree/leaf", 50, "5"),
            file("var/lib/apt/lists/x", 1000, "lists"),
            file("empty", 0, ""),
        ]);
        let above = Toc::new(vec![
            Entry::new("a/deleted", Kind::Whiteout, 0),
            file("a/replaced", 10, "other"),
            folder("opaque", true),
            file("opaque/two", 20, "twice"),
            file("tree", 20, "twice"),
            file("again/empty", 0, ""),
        ]);
        let waste = waste(&[&base, &above]);
        let hidden: Vec<_> = waste
            .hidden
            .iter()
            .map(|one| (String::from_utf8_lossy(&one.path).into_owned(), one.size_bytes, one.is_deleted))
            .collect();
        assert_eq!(
            hidden,
            [
                ("opaque/one".to_owned(), 300, true),
                ("a/replaced".to_owned(), 200, false),
                ("a/deleted".to_owned(), 100, true),
                ("tree/leaf".to_owned(), 50, false),
            ]
        );
        assert!(waste.hidden.iter().all(|one| (one.layer, one.by) == (0, 1)));
        assert_eq!(waste.copies.len(), 1);
        assert_eq!((waste.copies[0].size_bytes, waste.copies[0].places.len()), (20, 2));
        assert_eq!(waste.left, [Left { folder: "var/lib/apt/lists/", layer: 0, files: 1, size_bytes: 1000 }]);
    }
}
