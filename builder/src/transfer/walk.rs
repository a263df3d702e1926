//! A walk through many folders on all cores.
//!
//! Most of the time of a build that does nothing goes with asking the kernel about each file of the context. Folders are
//! independent of each other: threads take them from one pile, and put those that they find on it.

use super::Node;
use crate::{StepError, ValueError};
use std::sync::{Condvar, Mutex, PoisonError};

/// Paths with what they are.
type Found = Vec<(Vec<u8>, Node)>;

/// From so many paths on a walk gets further threads.
const MANY_PATHS: usize = 512;
/// Most threads, the caller's included.
const MOST_THREADS: usize = 8;

/// What the threads share.
struct Pile {
    folders: Vec<Vec<u8>>,
    /// How many folders are being listed.
    under_way: usize,
    /// Paths that were found so far.
    count: usize,
    /// Why the walk ends early.
    failed: Option<StepError>,
}

/// Everything that `list` says is in the folder `top` and in those below it, in no order; `most` paths at most.
pub(super) fn all_below(
    top: Vec<u8>,
    most: usize,
    list: &(dyn Fn(&Vec<u8>) -> Result<Found, StepError> + Sync),
) -> Result<Found, StepError> {
    let pile = Pile { folders: vec![top], under_way: 0, count: 0, failed: None };
    let walk = Walk { pile: Mutex::new(pile), changed: Condvar::new(), most, list };
    let mut found = Vec::new();
    walk.work(&mut found, MANY_PATHS);
    let cores = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
    let is_left = !walk.locked().folders.is_empty();
    if is_left && cores > 1 {
        let work = || {
            let mut found = Vec::new();
            walk.work(&mut found, usize::MAX);
            found
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (1..cores).map(|_| scope.spawn(work)).collect();
            found.extend(work());
            for thread in threads {
                found.extend(thread.join().expect("listing does not panic"));
            }
        });
    } else if is_left {
        walk.work(&mut found, usize::MAX);
    }
    let failed = walk.locked().failed.take();
    failed.map_or(Ok(found), Err)
}

struct Walk<'l> {
    pile: Mutex<Pile>,
    /// The pile has other folders, or fewer are under way.
    changed: Condvar,
    most: usize,
    list: &'l (dyn Fn(&Vec<u8>) -> Result<Found, StepError> + Sync),
}

impl Walk<'_> {
    fn locked(&self) -> std::sync::MutexGuard<'_, Pile> {
        self.pile.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lists folders until there are none, or until `enough` paths were found in all.
    fn work(&self, found: &mut Found, enough: usize) {
        let mut pile = self.locked();
        loop {
            if pile.failed.is_some() || pile.count >= enough {
                return;
            }
            let Some(folder) = pile.folders.pop() else {
                if pile.under_way == 0 {
                    return;
                }
                pile = self.changed.wait(pile).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            pile.under_way += 1;
            drop(pile);
            let listed = (self.list)(&folder);
            pile = self.locked();
            pile.under_way -= 1;
            match listed {
                Ok(listed) => {
                    pile.count += listed.len();
                    let folders = listed.iter().filter(|(_, node)| node.entry.is_directory());
                    pile.folders.extend(folders.map(|(path, _)| path.clone()));
                    found.extend(listed);
                    if pile.count > self.most {
                        let too_many =
                            ValueError::TooMany { what: "one copy", most: self.most, things: "files" };
                        pile.failed.get_or_insert(too_many.into());
                    }
                }
                Err(error) => drop(pile.failed.get_or_insert(error)),
            }
            self.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use slipway_oci::layer::{Entry, Kind};
    use std::collections::HashSet;

    /// A tree of `width` folders with as many files each, `depth` deep, whose folders' names are their own.
    fn list(width: usize, depth: usize) -> impl Fn(&Vec<u8>) -> Result<Found, StepError> + Sync {
        move |folder: &Vec<u8>| {
            let below = folder.iter().filter(|byte| **byte == b'/').count();
            let name = |kind: Kind, number: usize| {
                let path = format!("{}/{kind:?}{number}", String::from_utf8_lossy(folder)).into_bytes();
                (path.clone(), Node::new(Entry::new(path, kind, 0o755)))
            };
            let folders = if below < depth { width } else { 0 };
            Ok((0..width)
                .map(|number| name(Kind::File, number))
                .chain((0..folders).map(|number| name(Kind::Directory, number)))
                .collect())
        }
    }

    #[test]
    fn everything_is_found_once() {
        for (width, depth) in [(1, 0), (1, 40), (3, 5), (30, 2), (2000, 0)] {
            let found = all_below(Vec::new(), usize::MAX, &list(width, depth)).expect("all");
            let folders: usize = (1..=depth).map(|level| width.pow(level as u32)).sum();
            assert_eq!(found.len(), folders + width * (folders + 1), "{width} {depth}");
            let names: HashSet<&Vec<u8>> = found.iter().map(|(path, _)| path).collect();
            assert_eq!(names.len(), found.len());
        }
    }

    #[test]
    fn a_cap_and_a_failure_end_the_walk() {
        for most in [0, 10, 600, 5000] {
            let error = all_below(Vec::new(), most, &list(30, 2)).err().map(|error| error.to_string());
            assert!(error.is_some_and(|error| error.contains(&most.to_string())), "{most}");
        }
        let tree = list(30, 2);
        let fails = |folder: &Vec<u8>| match folder.ends_with(b"Directory7/Directory7") {
            true => Err(StepError::Cancelled),
            false => tree(folder),
        };
        assert!(matches!(all_below(Vec::new(), usize::MAX, &fails), Err(StepError::Cancelled)));
    }
}
