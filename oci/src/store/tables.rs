//! Tables of contents that were read in this process, by path: a build asks for the same ones many times. They are held up
//! to a number of entries in all; those that were not asked for longest go first, and are read again when asked for.

use crate::{layer::Toc, limits};
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

/// A number of tables.
pub(super) struct Tables {
    most_entries: usize,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    tables: HashMap<PathBuf, (Arc<Toc>, u64)>,
    entries: usize,
    /// Counts what was asked for.
    clock: u64,
}

impl Tables {
    fn new(most_entries: usize) -> Tables {
        Tables { most_entries, held: Mutex::default() }
    }

    /// Those of this process.
    pub(super) fn shared() -> &'static Tables {
        static SHARED: OnceLock<Tables> = OnceLock::new();
        SHARED.get_or_init(|| Tables::new(limits::HELD_ENTRIES))
    }

    pub(super) fn get(&self, path: &Path) -> Option<Arc<Toc>> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.clock += 1;
        let now = held.clock;
        let (toc, used) = held.tables.get_mut(path)?;
        *used = now;
        Some(toc.clone())
    }

    /// The table of this path is another one from now on, or none.
    pub(super) fn forget(&self, path: &Path) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).remove(path);
    }

    /// Holds a table. One that is larger than all that may be held is not.
    pub(super) fn put(&self, path: PathBuf, toc: Arc<Toc>) {
        let count = toc.entries().len();
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.remove(&path);
        if count > self.most_entries {
            return;
        }
        while held.entries + count > self.most_entries {
            let oldest = held.tables.iter().min_by_key(|(_, (_, used))| *used).map(|(path, _)| path.clone());
            let Some(oldest) = oldest else { break };
            held.remove(&oldest);
        }
        held.clock += 1;
        held.entries += count;
        let now = held.clock;
        held.tables.insert(path, (toc, now));
    }
}

impl Held {
    fn remove(&mut self, path: &Path) {
        if let Some((toc, _)) = self.tables.remove(path) {
            self.entries -= toc.entries().len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::{Entry, Kind};

    fn toc(count: usize) -> Arc<Toc> {
        let entry = |number: usize| Entry::new(number.to_string(), Kind::File, 0o644);
        Arc::new(Toc::new((0..count).map(entry).collect()))
    }

    #[test]
    fn what_was_not_asked_for_longest_goes_first() {
        let tables = Tables::new(10);
        let there = || -> Vec<&str> {
            let held = tables.held.lock().expect("held");
            assert!(held.entries <= 10);
            assert_eq!(held.entries, held.tables.values().map(|(toc, _)| toc.entries().len()).sum::<usize>());
            ["a", "b", "c", "d"]
                .into_iter()
                .filter(|name| held.tables.contains_key(Path::new(name)))
                .collect()
        };
        tables.put("a".into(), toc(4));
        tables.put("b".into(), toc(4));
        assert_eq!(tables.get(Path::new("a")).expect("a").entries().len(), 4);
        tables.put("c".into(), toc(4));
        assert_eq!(there(), ["a", "c"]);
        tables.put("a".into(), toc(6));
        assert_eq!(there(), ["a", "c"], "the new one counts instead of the old");
        tables.put("d".into(), toc(11));
        assert_eq!(there(), ["a", "c"], "what never fits drives nobody out");
        tables.put("d".into(), toc(10));
        assert_eq!(there(), ["d"]);
        assert!(tables.get(Path::new("a")).is_none());
    }
}
