//! Which slots hear which channel: bounded-load rendezvous hashing that moves as little as it can.
//!
//! Every channel ranks all slots by a hash of (login, slot). A new copy goes to the best ranked slot that has room. A
//! copy that has a place keeps it, unless its slot is gone, the channel's redundancy fell, or the slot is overfull and
//! the move makes it better. So the same input always gives the same output, and an unchanged world never moves a
//! channel.
//!
//! Invariants: a channel's copies are on distinct slots; at redundancy 1 no slot's load exceeds
//! `max(1.5 × mean, mean + heaviest)`.

use rustc_hash::FxHashMap;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Login → the slots that hear it, sorted and each once.
pub type Placement = BTreeMap<String, Vec<String>>;

/// Login → the slots that hear it now.
pub type Current<'a> = FxHashMap<&'a str, Vec<&'a String>>;

/// One channel to place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item<'a> {
    /// Its login, unique among the items.
    pub login: &'a str,
    /// What it costs the slot that hears it, at least 1.
    pub weight: u64,
    /// On how many slots it should be; fewer slots than that get one copy each.
    pub redundancy: usize,
}

/// A placement as where things stand now. A channel for which there was no slot stands nowhere.
pub(crate) fn current(placement: &Placement) -> Current<'_> {
    let placed = placement.iter().filter(|(_, slots)| !slots.is_empty());
    placed.map(|(login, slots)| (login.as_str(), slots.iter().collect())).collect()
}

/// Places all items on the slots, starting from where they are.
#[must_use]
pub fn place(items: &[Item<'_>], slots: &BTreeSet<String>, current: &Current<'_>) -> Placement {
    let mut board = Board::new(items, slots);
    board.keep(current);
    board.add_missing();
    board.relieve();
    board.into_placement()
}

/// The state of one placement run. Slots and items are indices here.
struct Board<'a> {
    items: &'a [Item<'a>],
    slots: Vec<&'a String>,
    /// Per slot, the hash of its name.
    seeds: Vec<u64>,
    load: Vec<u64>,
    /// Per item, the slots that hear it.
    places: Vec<Vec<usize>>,
    total: u64,
}

impl<'a> Board<'a> {
    fn new(items: &'a [Item<'a>], slots: &'a BTreeSet<String>) -> Self {
        let slots: Vec<&String> = slots.iter().collect();
        let total = items.iter().map(|item| item.weight * copies(item, slots.len()) as u64).sum();
        let seeds = slots.iter().map(|slot| xxh3_64(slot.as_bytes())).collect();
        Self { items, seeds, load: vec![0; slots.len()], slots, places: vec![Vec::new(); items.len()], total }
    }

    fn keep(&mut self, current: &Current<'_>) {
        let numbers: FxHashMap<&str, usize> = self.slots.iter().map(|slot| slot.as_str()).zip(0..).collect();
        for (index, item) in self.items.iter().enumerate() {
            let Some(now) = current.get(item.login) else { continue };
            let mut kept: Vec<usize> = now.iter().filter_map(|slot| numbers.get(slot.as_str()).copied()).collect();
            if kept.len() > 1 {
                kept.sort_by_key(|slot| Reverse(self.score(index, *slot)));
            }
            kept.truncate(copies(item, self.slots.len()));
            for slot in kept {
                self.put(index, slot);
            }
        }
    }

    fn add_missing(&mut self) {
        let is_missing = |index: &usize| self.places[*index].len() < copies(&self.items[*index], self.slots.len());
        let mut order: Vec<usize> = (0..self.items.len()).filter(is_missing).collect();
        order.sort_by_key(|index| (Reverse(self.items[*index].weight), self.items[*index].login));
        for index in order {
            for _ in self.places[index].len()..copies(&self.items[index], self.slots.len()) {
                if let Some(slot) = self.best_with_room(index).or_else(|| self.least_loaded(index)) {
                    self.put(index, slot);
                }
            }
        }
    }

    /// Takes channels from slots above 1.5 times the mean, those that rank the slot lowest first. A move must leave
    /// the receiver below what the giver had: so the sum of squared loads falls with each, they end, and none is left
    /// for the next plan.
    fn relieve(&mut self) {
        while (0..self.slots.len()).filter(|slot| self.relieve_slot(*slot)).count() > 0 {}
    }

    fn relieve_slot(&mut self, slot: usize) -> bool {
        if !self.is_overfull(slot) {
            return false;
        }
        let mut moved = false;
        let places = self.places.iter().enumerate();
        let mut here: Vec<usize> =
            places.filter(|(_, places)| places.contains(&slot)).map(|(index, _)| index).collect();
        here.sort_by_key(|index| self.score(*index, slot));
        for index in here {
            if !self.is_overfull(slot) {
                break;
            }
            let weight = self.items[index].weight;
            let target = self.best_with_room(index).or_else(|| self.least_loaded(index));
            if let Some(target) = target.filter(|target| self.load[*target] + weight < self.load[slot]) {
                self.places[index].retain(|place| *place != slot);
                self.load[slot] -= weight;
                self.put(index, target);
                moved = true;
            }
        }
        moved
    }

    fn put(&mut self, index: usize, slot: usize) {
        if !self.places[index].contains(&slot) {
            self.places[index].push(slot);
            self.load[slot] += self.items[index].weight;
        }
    }

    fn free_slots(&self, index: usize) -> impl Iterator<Item = usize> {
        (0..self.slots.len()).filter(move |slot| !self.places[index].contains(slot))
    }

    /// The best ranked slot that stays within 1.25 times the mean load.
    fn best_with_room(&self, index: usize) -> Option<usize> {
        let count = self.slots.len() as u64;
        self.free_slots(index)
            .filter(|slot| (self.load[*slot] + self.items[index].weight) * 4 * count <= self.total * 5)
            .max_by_key(|slot| self.score(index, *slot))
    }

    fn least_loaded(&self, index: usize) -> Option<usize> {
        self.free_slots(index).min_by_key(|slot| (self.load[*slot], Reverse(self.score(index, *slot))))
    }

    fn is_overfull(&self, slot: usize) -> bool {
        self.load[slot] * 2 * self.slots.len() as u64 > self.total * 3
    }

    fn score(&self, index: usize, slot: usize) -> u64 {
        xxh3_64_with_seed(self.items[index].login.as_bytes(), self.seeds[slot])
    }

    fn into_placement(self) -> Placement {
        let names = |mut places: Vec<usize>| {
            places.sort_unstable();
            places.into_iter().map(|slot| self.slots[slot].clone()).collect()
        };
        self.items.iter().zip(self.places).map(|(item, places)| (item.login.to_owned(), names(places))).collect()
    }
}

fn copies(item: &Item<'_>, slots: usize) -> usize {
    item.redundancy.max(1).min(slots)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn place(items: &[Item<'_>], slots: &BTreeSet<String>, now: &Placement) -> Placement {
        super::place(items, slots, &current(now))
    }

    fn slots(count: usize) -> BTreeSet<String> {
        (0..count).map(|n| format!("slot-{n}")).collect()
    }

    type Drawn = Vec<(String, u64, usize)>;

    fn items(drawn: &Drawn) -> Vec<Item<'_>> {
        drawn
            .iter()
            .map(|(login, weight, redundancy)| Item { login, weight: *weight, redundancy: *redundancy })
            .collect()
    }

    fn channels(redundancy: std::ops::RangeInclusive<usize>) -> impl Strategy<Value = Drawn> {
        proptest::collection::btree_map("[a-z0-9_]{1,8}", (1_u64..50, redundancy), 0..80)
            .prop_map(|map| map.into_iter().map(|(login, (weight, redundancy))| (login, weight, redundancy)).collect())
    }

    fn loads(items: &[Item<'_>], placement: &Placement) -> BTreeMap<String, u64> {
        let mut loads = BTreeMap::new();
        for item in items {
            for slot in &placement[item.login] {
                *loads.entry(slot.clone()).or_default() += item.weight;
            }
        }
        loads
    }

    proptest! {
        #[test]
        fn every_channel_gets_its_copies_on_distinct_slots(drawn in channels(1..=3), count in 0_usize..6) {
            let items = items(&drawn);
            let placement = place(&items, &slots(count), &Placement::new());
            for item in &items {
                prop_assert_eq!(placement[item.login].len(), item.redundancy.min(count));
            }
        }

        #[test]
        fn no_slot_is_loaded_above_its_bound(
            drawn in channels(1..=1), count in 1_usize..6, before in 1_usize..6,
        ) {
            let items = items(&drawn);
            let current = place(&items, &slots(before), &Placement::new());
            let placement = place(&items, &slots(count), &current);
            let total: u64 = items.iter().map(|item| item.weight).sum();
            let heaviest = items.iter().map(|item| item.weight).max().unwrap_or(0);
            for load in loads(&items, &placement).values() {
                let count = count as u64;
                prop_assert!(load * 2 * count <= total * 3 || load * count <= total + heaviest * count);
            }
        }

        #[test]
        fn an_unchanged_world_moves_nothing(drawn in channels(1..=3), count in 1_usize..6, before in 1_usize..6) {
            let items = items(&drawn);
            let once = place(&items, &slots(count), &place(&items, &slots(before), &Placement::new()));
            prop_assert_eq!(place(&items, &slots(count), &once), once);
        }

        #[test]
        fn the_order_of_the_input_does_not_matter(drawn in channels(1..=3), count in 1_usize..6) {
            let mut backwards = drawn.clone();
            backwards.reverse();
            let (forwards, backwards) = (items(&drawn), items(&backwards));
            let placement = place(&forwards, &slots(count), &Placement::new());
            prop_assert_eq!(place(&backwards, &slots(count), &Placement::new()), placement);
        }

        #[test]
        fn a_lost_slot_moves_only_its_own_channels(drawn in channels(1..=1), count in 2_usize..6) {
            let drawn: Drawn = drawn.into_iter().map(|(login, _, copies)| (login, 1, copies)).collect();
            let items = items(&drawn);
            let before = place(&items, &slots(count), &Placement::new());
            let after = place(&items, &slots(count - 1), &before);
            let lost = format!("slot-{}", count - 1);
            for item in &items {
                if !before[item.login].contains(&lost) {
                    prop_assert_eq!(&after[item.login], &before[item.login]);
                }
            }
        }

        #[test]
        fn a_channel_leaves_a_slot_that_stays_only_if_it_was_overfull(
            drawn in channels(1..=1), count in 1_usize..6,
        ) {
            let items = items(&drawn);
            let before = place(&items, &slots(count), &Placement::new());
            let after = place(&items, &slots(count + 1), &before);
            let total: u64 = items.iter().map(|item| item.weight).sum();
            let loads = loads(&items, &before);
            for item in &items {
                for left in before[item.login].iter().filter(|slot| !after[item.login].contains(slot)) {
                    prop_assert!(loads[left] * 2 * (count as u64 + 1) > total * 3);
                }
            }
        }
    }

    #[test]
    fn a_new_slot_takes_its_part() {
        let logins: Vec<String> = (0..100).map(|n| format!("channel_{n}")).collect();
        let items: Vec<_> = logins.iter().map(|login| Item { login, weight: 1, redundancy: 1 }).collect();
        let one = place(&items, &slots(1), &Placement::new());
        let two = place(&items, &slots(2), &one);
        let moved = items.iter().filter(|item| one[item.login] != two[item.login]).count();
        assert_eq!(moved, 25, "down to 1.5 times the mean of 50, and no further");
    }
}
