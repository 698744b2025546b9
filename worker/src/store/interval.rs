//! Intervals of `wanted` and `coverage`: changes in stream order, folded so that each statement sees a key once.
//!
//! Invariants:
//! - An end closes what the store has open and what the same flush opened before it.
//! - An interval that would end before it began, or when it began, does not exist.

use crate::aggregate::delta::Millis;
use std::collections::BTreeMap;

/// The effect of a flush's changes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Folded<K: Ord, V> {
    /// When what the store has open ends: the first end of each key.
    pub(super) ends: BTreeMap<K, Millis>,
    /// What begins: (key, since) → (until, what else is known); no end: still open.
    pub(super) begins: BTreeMap<(K, Millis), (Option<Millis>, V)>,
    open: BTreeMap<K, Millis>,
}

impl<K: Ord + Copy, V> Folded<K, V> {
    pub(super) fn new() -> Self {
        Self { ends: BTreeMap::new(), begins: BTreeMap::new(), open: BTreeMap::new() }
    }

    /// An interval begins; while one is open nothing new does.
    pub(super) fn begin(&mut self, key: K, since: Millis, what: V) {
        if self.open.contains_key(&key) {
            return;
        }
        self.open.insert(key, since);
        self.begins.insert((key, since), (None, what));
    }

    /// What is open ends.
    pub(super) fn end(&mut self, key: K, until: Millis) {
        self.ends.entry(key).or_insert(until);
        let Some(since) = self.open.remove(&key) else { return };
        if until <= since {
            self.begins.remove(&(key, since));
        } else if let Some((end, _)) = self.begins.get_mut(&(key, since)) {
            *end = Some(until);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folded(changes: &[(bool, Millis)]) -> (Option<Millis>, Vec<(Millis, Option<Millis>)>) {
        let mut folded = Folded::new();
        for &(begins, at) in changes {
            if begins { folded.begin(1, at, ()) } else { folded.end(1, at) }
        }
        let begins = folded.begins.iter().map(|(&(_, since), &(until, ()))| (since, until)).collect();
        (folded.ends.get(&1).copied(), begins)
    }

    #[test]
    fn what_begins_stays_open() {
        assert_eq!(folded(&[(true, 5)]), (None, vec![(5, None)]));
    }

    #[test]
    fn what_begins_and_ends_in_one_flush_is_one_interval() {
        assert_eq!(folded(&[(true, 5), (false, 9)]).1, vec![(5, Some(9))]);
    }

    #[test]
    fn an_interval_that_would_end_before_it_began_does_not_exist() {
        assert_eq!(folded(&[(true, 5), (false, 4)]).1, vec![]);
        assert_eq!(folded(&[(true, 5), (false, 5)]).1, vec![]);
    }

    #[test]
    fn the_first_end_closes_what_the_store_has_open() {
        assert_eq!(folded(&[(false, 3), (true, 5), (false, 9)]), (Some(3), vec![(5, Some(9))]));
        assert_eq!(folded(&[(false, 3), (false, 4)]), (Some(3), vec![]));
    }

    #[test]
    fn while_one_is_open_nothing_new_begins() {
        assert_eq!(folded(&[(true, 5), (true, 7)]).1, vec![(5, None)]);
    }
}
