//! What lies beneath a layer where its archive leaves parents out.
//!
//! A layer of nothing but `lib/foo` means another file where the base's `/lib` is a link to `usr/lib` than where it is a
//! folder, and a folder that the archive only implies has the mode that it has beneath. So such a layer has no one
//! unpacked form: it has one for each *footing*, which is what the layers beneath say of every path that unpacking it
//! may ask about. Two bases with one footing share the form; the footing's digest is part of its name.
//!
//! The unpacker asks the footing and never the tree. A question that the footing does not foresee is an error, so what is
//! unpacked depends on the archive and the footing's digest, and on nothing else.

use super::{
    Entry, Kind, LayerError, Toc, Tree,
    entry::{join, parent_of},
    tree::components,
};
use crate::{Digest, limits};
use std::collections::{BTreeMap, HashSet};

/// What the layers beneath have at each path that unpacking a layer may ask about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Footing {
    answers: BTreeMap<Vec<u8>, Option<Entry>>,
}

impl Footing {
    /// The footing of the layer `own`, a table made without one, on `below`. `None` where nothing beneath matters: the
    /// archive names all its parents, or what it leaves out is not beneath either.
    pub fn of(own: &Toc, below: &Tree) -> Result<Option<Footing>, LayerError> {
        if below.layers().is_empty() || !own.has_implicit() {
            return Ok(None);
        }
        let mut answers = BTreeMap::new();
        let mut seen: HashSet<Vec<u8>> = HashSet::new();
        let implicit = own.entries().iter().filter(|entry| entry.implicit);
        let mut pending: Vec<Vec<u8>> = implicit.map(|entry| entry.path.clone()).collect();
        let named: usize = pending.iter().map(|path| components_of(path)).sum();
        let mut left = named * LINKS_OF_A_PARENT + limits::FOOTING_PATHS;
        while let Some(path) = pending.pop() {
            if !seen.insert(path.clone()) {
                continue;
            }
            // a link into itself makes paths that grow: what counts is every component, not every path
            let steps = components_of(&path);
            if steps > left || path.len() > limits::PATH_BYTES {
                let what = "links that its missing parents lead through";
                return Err(LayerError::Limit { what, most: limits::FOOTING_PATHS as u64 });
            }
            left -= steps;
            follow(&path, own, below, &mut answers, &mut pending);
        }
        let footing = Footing { answers };
        Ok(footing.answers.values().any(Option::is_some).then_some(footing))
    }

    /// A name for the footing: equal ones have equal digests.
    pub fn digest(&self) -> Digest {
        // what is not there is written as a deletion, which no tree answers with
        let entry = |(path, answer): (&Vec<u8>, &Option<Entry>)| match answer {
            Some(entry) => Entry { path: path.clone(), ..entry.clone() },
            None => Entry::new(path.clone(), Kind::Whiteout, 0),
        };
        Digest::sha256(&Toc::new(self.answers.iter().map(entry).collect()).encode())
    }

    /// What is beneath at `path`; the outer `None` says that nobody looked.
    pub(super) fn get(&self, path: &[u8]) -> Option<Option<&Entry>> {
        self.answers.get(path).map(Option::as_ref)
    }
}

/// How many links a missing parent leads through on honest bases (`/lib`, `/usr/lib` and perhaps one more), and itself.
const LINKS_OF_A_PARENT: usize = 4;

fn components_of(path: &[u8]) -> usize {
    components(path).count()
}

/// Notes what is beneath at every component of `path`, and adds the paths that links on the way lead to: those beneath
/// and those of the layer itself, whichever of the two the unpacker will meet.
fn follow(
    path: &[u8],
    own: &Toc,
    below: &Tree,
    answers: &mut BTreeMap<Vec<u8>, Option<Entry>>,
    pending: &mut Vec<Vec<u8>>,
) {
    let parts: Vec<&[u8]> = components(path).collect();
    let mut here: Vec<u8> = Vec::new();
    for (at, part) in parts.iter().enumerate() {
        if *part == b".." {
            here.truncate(parent_of(&here).map_or(0, <[u8]>::len));
            continue;
        }
        here = join(&here, part);
        let beneath = below.get(&here).map(|found| found.entry);
        answers.entry(here.clone()).or_insert_with(|| beneath.cloned());
        let links = [beneath, own.get(&here)].into_iter().flatten();
        for entry in links.filter(|entry| entry.kind == Kind::Symlink) {
            let rest = parts[at + 1..].join(&b'/');
            let target = link_target(&here, &entry.link);
            pending.push(if rest.is_empty() { target } else { [target, rest].join(&b'/') });
        }
    }
}

/// Where a link at `path` leads, relative to the root.
pub(super) fn link_target(path: &[u8], link: &[u8]) -> Vec<u8> {
    if link.starts_with(b"/") {
        return link.to_vec();
    }
    join(parent_of(path).unwrap_or_default(), link)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn folder(path: &str, mode: u32) -> Entry {
        Entry::new(path, Kind::Directory, mode)
    }

    fn link(path: &str, target: &str) -> Entry {
        let mut entry = Entry::new(path, Kind::Symlink, 0o777);
        entry.link = target.into();
        entry
    }

    fn tree(entries: Vec<Entry>) -> Tree {
        Tree::new(vec![Arc::new(Toc::new(entries))])
    }

    /// A layer of nothing but `lib/foo`.
    fn foo() -> Toc {
        let mut parent = folder("lib", 0o755);
        parent.implicit = true;
        Toc::new(vec![parent, Entry::new("lib/foo", Kind::File, 0o644)])
    }

    #[test]
    fn bases_that_agree_where_it_matters_have_one_footing() {
        let of = |entries: Vec<Entry>| {
            let footing = Footing::of(&foo(), &tree(entries)).expect("footing");
            footing.map(|footing| footing.digest())
        };
        let plain = of(vec![folder("lib", 0o755)]);
        let linked = of(vec![link("lib", "usr/lib"), folder("usr", 0o755), folder("usr/lib", 0o755)]);
        assert_eq!(of(vec![]), None);
        assert_eq!(of(vec![folder("usr", 0o755)]), None, "nothing of it matters");
        assert!(plain.is_some() && linked.is_some());
        assert_eq!(of(vec![folder("lib", 0o755), folder("other", 0o700)]), plain);
        assert_ne!(of(vec![folder("lib", 0o700)]), plain, "the mode is lent");
        assert_ne!(linked, plain);
        let deeper = |entry| vec![link("lib", "/usr/../usr/lib"), folder("usr", 0o755), entry];
        assert_ne!(of(deeper(folder("usr/lib", 0o755))), linked, "another link");
        assert_ne!(of(deeper(folder("usr/lib", 0o755))), of(deeper(folder("usr/lib", 0o700))));
        assert_ne!(of(deeper(folder("usr/lib", 0o755))), of(deeper(link("usr/lib", "/opt"))));
    }

    #[test]
    fn a_layer_with_all_its_parents_has_no_footing() {
        let toc = Toc::new(vec![folder("lib", 0o755), Entry::new("lib/foo", Kind::File, 0o644)]);
        let below = tree(vec![link("lib", "usr/lib")]);
        assert_eq!(Footing::of(&toc, &below).expect("footing"), None);
    }

    #[test]
    fn links_of_the_layer_itself_are_followed_too() {
        let mut entries = foo().entries().to_vec();
        entries.push(link("usr", "opt"));
        let own = Toc::new(entries);
        let below = |mode| tree(vec![link("lib", "usr/lib"), folder("opt", mode), folder("opt/lib", 0o755)]);
        let digest = |mode| Footing::of(&own, &below(mode)).expect("footing").expect("some").digest();
        assert_ne!(digest(0o755), digest(0o700));
    }

    #[test]
    fn links_in_a_circle_come_to_an_end() {
        let below = tree(vec![link("lib", "lib"), link("a", "../b"), link("b", "a/a/a")]);
        assert!(Footing::of(&foo(), &below).is_ok());
        // every turn makes a longer path
        let below = tree(vec![link("lib", "lib/x/../y"), link("lib/x", "/lib")]);
        let found = Footing::of(&foo(), &below);
        assert!(matches!(found, Ok(Some(_)) | Err(LayerError::Limit { .. })), "{found:?}");
    }

    #[test]
    fn links_into_themselves_cost_little() {
        // found by `fuzz/toc`: each turn was a longer path, whose components were all noted
        for link_target in ["lib/a/b", "lib/a", "a/lib/../../lib/a", "/lib/x/x/x/x/x/x/x/x/x"] {
            for (own_link, below_link) in [(true, false), (false, true), (true, true)] {
                let mut entries = foo().entries().to_vec();
                let mut beneath = vec![folder("a", 0o755), folder("other", 0o755)];
                if own_link {
                    entries.retain(|entry| entry.path != b"lib");
                    let mut parent = folder("lib/more", 0o755);
                    parent.implicit = true;
                    entries.extend([link("lib", link_target), parent]);
                }
                if below_link {
                    beneath.push(link("lib", link_target));
                }
                let own = Toc::new(entries);
                let started = std::time::Instant::now();
                // refused or not: it comes to an end soon
                let _ = Footing::of(&own, &tree(beneath));
                let most = std::time::Duration::from_secs(5);
                assert!(started.elapsed() < most, "{link_target}: {:?}", started.elapsed());
            }
        }
    }

    #[test]
    fn many_parents_behind_one_link_are_fine() {
        let parents = (0..30_000).map(|number| {
            let mut parent = folder(&format!("lib/{number}"), 0o755);
            parent.implicit = true;
            parent
        });
        let own = Toc::new(parents.collect());
        let below = tree(vec![link("lib", "usr/lib"), folder("usr", 0o755), folder("usr/lib", 0o755)]);
        assert!(Footing::of(&own, &below).expect("footing").is_some());
    }
}
