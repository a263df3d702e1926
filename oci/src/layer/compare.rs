//! Two file systems, path by path, by their tables alone.

use super::{Entry, Kind, Tree, entry::join};
use std::collections::BTreeSet;

/// What is different about a path that both have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aspect {
    /// File, folder, link, device.
    Kind,
    /// A file's bytes.
    Content,
    /// Where a link leads.
    Link,
    /// Permission bits.
    Mode,
    /// Owner or group.
    Owner,
    /// Modification time.
    Time,
    /// Extended attributes.
    Attributes,
    /// Numbers of a device.
    Device,
}

impl Aspect {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Aspect::Kind => "kind",
            Aspect::Content => "content",
            Aspect::Link => "link",
            Aspect::Mode => "mode",
            Aspect::Owner => "owner",
            Aspect::Time => "time",
            Aspect::Attributes => "attributes",
            Aspect::Device => "device",
        }
    }
}

/// A path that is not the same in both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Its path without a leading slash; empty for the root.
    pub path: Vec<u8>,
    /// What the first has there.
    pub one: Option<Entry>,
    /// What the second has there.
    pub other: Option<Entry>,
    /// Where both have something: what about it differs.
    pub aspects: Vec<Aspect>,
}

/// What differs between two file systems, sorted by path, folders before what is in them. Of a folder that one of them lacks all that
/// is in it is told too.
pub fn compare(one: &Tree, other: &Tree) -> Vec<Difference> {
    let mut found = Vec::new();
    let own = |tree: &Tree| tree.get(b"").map(|found| found.entry.clone());
    note(Vec::new(), own(one), own(other), &mut found);
    walk(one, other, &[], (true, true), &mut found);
    found
}

fn walk(one: &Tree, other: &Tree, folder: &[u8], within: (bool, bool), found: &mut Vec<Difference>) {
    let (left, right) = (
        if within.0 { one.children(folder) } else { Default::default() },
        if within.1 { other.children(folder) } else { Default::default() },
    );
    let names: BTreeSet<&Vec<u8>> = left.keys().chain(right.keys()).collect();
    for name in names {
        let path = join(folder, name);
        let (a, b) = (left.get(name).map(|found| found.entry), right.get(name).map(|found| found.entry));
        let is_folder = |entry: Option<&Entry>| entry.is_some_and(Entry::is_directory);
        let below = (is_folder(a), is_folder(b));
        note(path.clone(), a.cloned(), b.cloned(), found);
        if below.0 || below.1 {
            walk(one, other, &path, below, found);
        }
    }
}

fn note(path: Vec<u8>, one: Option<Entry>, other: Option<Entry>, found: &mut Vec<Difference>) {
    let aspects = match (&one, &other) {
        (None, None) => return,
        (Some(one), Some(other)) => aspects(one, other),
        // a root that is not named is the usual one
        _ if path.is_empty() => return,
        _ => Vec::new(),
    };
    if one.is_some() && other.is_some() && aspects.is_empty() {
        return;
    }
    found.push(Difference { path, one, other, aspects });
}

fn aspects(one: &Entry, other: &Entry) -> Vec<Aspect> {
    if one.kind != other.kind {
        return vec![Aspect::Kind];
    }
    let both = |kind: Kind| one.kind == kind;
    let cases = [
        (
            both(Kind::File) && (one.size_bytes, &one.content) != (other.size_bytes, &other.content),
            Aspect::Content,
        ),
        (one.link != other.link, Aspect::Link),
        (!both(Kind::Symlink) && one.mode != other.mode, Aspect::Mode),
        ((one.uid, one.gid) != (other.uid, other.gid), Aspect::Owner),
        (one.mtime != other.mtime, Aspect::Time),
        (one.xattrs != other.xattrs, Aspect::Attributes),
        (one.device != other.device, Aspect::Device),
    ];
    cases.into_iter().filter(|(differs, _)| *differs).map(|(_, aspect)| aspect).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Digest, layer::Toc};
    use std::sync::Arc;

    fn tree(entries: Vec<Entry>) -> Tree {
        Tree::new(vec![Arc::new(Toc::new(entries))])
    }

    fn file(path: &str, text: &str) -> Entry {
        let mut entry = Entry::new(path, Kind::File, 0o644);
        (entry.size_bytes, entry.content) = (text.len() as u64, Some(Digest::sha256(text.as_bytes())));
        entry
    }

    #[test]
    fn every_difference_is_named_and_nothing_else() {
        let folder = |path: &str| Entry::new(path, Kind::Directory, 0o755);
        let link = |path: &str, to: &str| Entry { link: to.into(), ..Entry::new(path, Kind::Symlink, 0o777) };
        let base = vec![
            folder("d"),
            file("d/same", "x"),
            file("d/text", "x"),
            link("l", "d"),
            file("gone", "x"),
            folder("k"),
        ];
        let one = tree(base.clone());
        assert_eq!(compare(&one, &one), []);
        let changed = tree(vec![
            Entry { mtime: 7, ..folder("d") },
            file("d/same", "x"),
            Entry { mode: 0o755, uid: 3, ..file("d/text", "y") },
            Entry { mode: 0o700, ..link("l", "e") },
            file("k", "a file now"),
            folder("new"),
            file("new/leaf", ""),
        ]);
        let found: Vec<(String, bool, bool, String)> = compare(&one, &changed)
            .into_iter()
            .map(|one| {
                let words: Vec<&str> = one.aspects.iter().map(|aspect| aspect.name()).collect();
                (
                    String::from_utf8_lossy(&one.path).into_owned(),
                    one.one.is_some(),
                    one.other.is_some(),
                    words.join(" "),
                )
            })
            .collect();
        let expected = [
            ("d", true, true, "time"),
            ("d/text", true, true, "content mode owner"),
            ("gone", true, false, ""),
            ("k", true, true, "kind"),
            ("l", true, true, "link"),
            ("new", false, true, ""),
            ("new/leaf", false, true, ""),
        ];
        let expected: Vec<_> = expected
            .iter()
            .map(|(path, a, b, words)| ((*path).to_owned(), *a, *b, (*words).to_owned()))
            .collect();
        assert_eq!(found, expected);
        // layers that come to the same are the same
        let above = Toc::new(vec![Entry::new("extra", Kind::Whiteout, 0), file("d/text", "x")]);
        let below = Toc::new([base, vec![file("extra", "e")]].concat());
        assert_eq!(compare(&one, &Tree::new(vec![Arc::new(below), Arc::new(above)])), []);
    }
}
