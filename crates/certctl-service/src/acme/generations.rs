//! A memory of bounded size: what is not used for a while goes.

use std::{collections::HashMap, hash::Hash};

/// Two generations of entries. When the young one is full it becomes the old one, and what nobody used since is dropped.
pub(super) struct Generations<K, V> {
    capacity: usize,
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K: Eq + Hash, V> Generations<K, V> {
    /// With up to so many entries in each generation.
    pub(super) fn of(capacity: usize) -> Self {
        Self {
            capacity,
            young: HashMap::new(),
            old: HashMap::new(),
        }
    }

    pub(super) fn keep(&mut self, key: K, value: V) {
        if self.young.len() >= self.capacity {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }

    /// Forgets an entry, and returns it.
    pub(super) fn take(&mut self, key: &K) -> Option<V> {
        let old = self.old.remove(key);
        self.young.remove(key).or(old)
    }
}

impl<K: Eq + Hash + Clone, V: Clone> Generations<K, V> {
    /// An entry, which counts as used.
    pub(super) fn get(&mut self, key: &K) -> Option<V> {
        if let Some(value) = self.young.get(key) {
            return Some(value.clone());
        }
        let value = self.old.remove(key)?;
        self.keep(key.clone(), value.clone());
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_rest_goes() {
        let mut kept = Generations::of(2);
        for n in 0..4 {
            kept.keep(n, n);
            assert_eq!(kept.get(&0), Some(0), "used with every step");
        }
        // 0, 2 and 3 were used since 1 was.
        assert_eq!(
            [1, 2, 3].map(|n| kept.take(&n).is_some()),
            [false, true, true]
        );
        assert_eq!(kept.take(&0), Some(0));
        assert_eq!(kept.take(&0), None);
    }

    #[test]
    fn it_never_holds_more_than_two_generations() {
        let mut kept = Generations::of(10);
        for n in 0..1000 {
            kept.keep(n, n);
            assert!(kept.young.len() + kept.old.len() <= 20);
        }
    }
}
