//! What was used lately, within a bound: two halves of a table, of which the older one goes when the younger one is full.
//!
//! Whoever is asked for comes into the younger half again, so what goes was not asked for while half of the bound came in.

use std::{borrow::Borrow, collections::HashMap, hash::Hash};

/// The table.
pub(super) struct Recent<K, V> {
    young: HashMap<K, (V, usize)>,
    old: HashMap<K, (V, usize)>,
    /// What the younger half weighs.
    weight: usize,
    /// What a half may weigh.
    half: usize,
}

impl<K: Eq + Hash, V: Clone> Recent<K, V> {
    /// A table that weighs at most `most`.
    pub(super) fn new(most: usize) -> Recent<K, V> {
        Recent { young: HashMap::new(), old: HashMap::new(), weight: 0, half: most / 2 }
    }

    pub(super) fn get<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        if let Some((value, _)) = self.young.get(key) {
            return Some(value.clone());
        }
        let (key, (value, weight)) = self.old.remove_entry(key)?;
        self.insert(key, value.clone(), weight);
        Some(value)
    }

    /// Keeps something, unless it is heavier than all that is kept.
    pub(super) fn insert(&mut self, key: K, value: V, weight: usize) {
        self.remove(&key);
        if weight > self.half {
            return;
        }
        if self.weight + weight > self.half {
            self.old = std::mem::take(&mut self.young);
            self.weight = 0;
        }
        self.weight += weight;
        self.young.insert(key, (value, weight));
    }

    pub(super) fn remove<Q: Eq + Hash + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        if let Some((_, weight)) = self.young.remove(key) {
            self.weight -= weight;
        }
        self.old.remove(key);
    }

    pub(super) fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
        self.weight = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_stays_and_the_bound_holds() {
        let mut recent = Recent::new(100);
        recent.insert(0, 0, 10);
        for number in 1..1000_usize {
            recent.insert(number, number, 10);
            assert_eq!(recent.get(&0), Some(0), "{number}");
            let weight: usize =
                recent.young.values().chain(recent.old.values()).map(|(_, weight)| weight).sum();
            assert!(weight <= 100, "{weight}");
        }
        assert_eq!(recent.get(&1), None);
        assert_eq!(recent.get(&999), Some(999));
        recent.insert(999, 7, 50);
        assert_eq!(recent.get(&999), Some(7));
        recent.insert(999, 8, 51);
        assert_eq!(recent.get(&999), None, "too heavy, and the former one is not it");
        recent.remove(&0);
        assert_eq!(recent.get(&0), None);
        recent.clear();
        assert_eq!((recent.get(&998), recent.weight), (None, 0));
    }
}
