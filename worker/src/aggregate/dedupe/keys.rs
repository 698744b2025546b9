//! A set of event keys that costs about twelve bytes a key, grown a little at a time.
//!
//! Of a key, 72 bits of its hash are kept: eight choose one of 256 tables, 64 are stored. A table is an array of them in
//! ascending order with holes (ordered linear probing): where a print begins to be looked for is proportional to it, and
//! the first larger one ends the search, so that a table may be three quarters full. Tables grow by a quarter, each when
//! it is full, so there is never a moment at which everything is held twice.
//!
//! Invariants of a table: prints ascend; between a print's home and itself there is no hole; no print is [`HOLE`].

use xxhash_rust::xxh3::xxh3_128;

const TABLES: usize = 256;
/// Larger than every print, so that a search ends at it.
const HOLE: u64 = u64::MAX;
/// Slots after the last home, and as many more where they do not suffice.
const TAIL: usize = 24;

/// Keys that were seen.
#[derive(Debug)]
pub(super) struct Keys {
    tables: Box<[Table]>,
    len: usize,
}

impl Default for Keys {
    fn default() -> Self {
        Self { tables: (0..TABLES).map(|_| Table::default()).collect(), len: 0 }
    }
}

/// Where a key is: its table, and what is stored of it there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    table: usize,
    print: u64,
}

impl Place {
    /// Keys need not be evenly spread: most are random UUIDs, but a simulator may count its own up.
    pub(super) fn of(key: u128) -> Self {
        let [table, _, _, _, _, _, _, _, print @ ..] = xxh3_128(&key.to_le_bytes()).to_be_bytes();
        Self { table: usize::from(table), print: u64::from_be_bytes(print).min(HOLE - 1) }
    }
}

impl Keys {
    /// Adds a key; false where it was there.
    pub(super) fn insert(&mut self, place: Place) -> bool {
        let new = self.tables[place.table].insert(place.print);
        self.len += usize::from(new);
        new
    }

    pub(super) fn contains(&self, place: Place) -> bool {
        self.tables[place.table].find(place.print).is_ok()
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Empties the set, and keeps the room that as many keys as `like` has will need; what a burst took is given back.
    pub(super) fn clear_for(&mut self, like: &Self) {
        for (table, like) in self.tables.iter_mut().zip(&like.tables) {
            table.clear_for(like.len);
        }
        self.len = 0;
    }
}

#[derive(Debug, Default)]
struct Table {
    /// Where searches begin, and behind that a tail for prints whose home is near the end.
    slots: Vec<u64>,
    homes: usize,
    len: usize,
}

impl Table {
    fn with_homes(homes: usize) -> Self {
        Self { slots: vec![HOLE; homes + TAIL], homes, len: 0 }
    }

    /// Where the print is, or else where it belongs.
    fn find(&self, print: u64) -> Result<usize, usize> {
        let mut at = home(print, self.homes);
        while let Some(&found) = self.slots.get(at) {
            if found >= print {
                return if found == print { Ok(at) } else { Err(at) };
            }
            at += 1;
        }
        Err(at)
    }

    fn insert(&mut self, print: u64) -> bool {
        let Err(mut at) = self.find(print) else { return false };
        if self.len >= self.homes / 4 * 3 {
            self.grow();
            at = self.find(print).unwrap_or_else(|at| at);
        }
        // What is there moves up to the next hole.
        let run = self.slots[at..].iter().position(|&slot| slot == HOLE).unwrap_or_else(|| {
            let end = self.slots.len();
            self.lengthen();
            end - at
        });
        self.slots.copy_within(at..at + run, at + 1);
        self.slots[at] = print;
        self.len += 1;
        true
    }

    /// For as many prints as have their home near the end, which are few where prints are spread evenly.
    fn lengthen(&mut self) {
        self.slots.reserve_exact(TAIL);
        self.slots.resize(self.slots.len() + TAIL, HOLE);
    }

    fn grow(&mut self) {
        let mut larger = Self::with_homes(self.homes + self.homes / 4 + 8);
        let mut free = 0;
        for &print in self.slots.iter().filter(|&&slot| slot != HOLE) {
            let at = home(print, larger.homes).max(free);
            if at == larger.slots.len() {
                larger.lengthen();
            }
            larger.slots[at] = print;
            free = at + 1;
        }
        larger.len = self.len;
        *self = larger;
    }

    fn clear_for(&mut self, expected: usize) {
        if self.homes > 2 * expected {
            *self = Self::default();
        } else {
            self.slots.fill(HOLE);
            self.len = 0;
        }
    }
}

/// The slot at which a print begins to be looked for: proportional to it.
fn home(print: u64, homes: usize) -> usize {
    usize::try_from((u128::from(print) * homes as u128) >> 64).unwrap_or(homes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rustc_hash::FxHashSet;

    fn holds_its_invariants(table: &Table) {
        let prints: Vec<u64> = table.slots.iter().copied().filter(|&slot| slot != HOLE).collect();
        assert!(prints.is_sorted_by(|a, b| a < b));
        assert_eq!(prints.len(), table.len);
        for (at, &print) in table.slots.iter().enumerate().filter(|(_, slot)| **slot != HOLE) {
            assert!(table.slots[home(print, table.homes)..at].iter().all(|&slot| slot != HOLE));
        }
    }

    proptest! {
        #[test]
        fn a_table_is_a_set(prints in proptest::collection::vec(
            prop_oneof![any::<u64>(), 0..200u64, HOLE - 200..HOLE, (1u64 << 63)..(1 << 63) + 200], 0..600)
        ) {
            let (mut table, mut set) = (Table::default(), FxHashSet::default());
            for print in &prints {
                prop_assert_eq!(table.insert(*print), set.insert(*print));
            }
            holds_its_invariants(&table);
            for print in prints.iter().flat_map(|print| [*print, print.wrapping_add(1).min(HOLE - 1)]) {
                prop_assert_eq!(table.find(print).is_ok(), set.contains(&print));
            }
        }
    }

    #[test]
    fn a_large_set_is_a_set_in_little_memory() {
        let mut keys = Keys::default();
        let count = 1_000_000;
        for number in 0..count {
            assert!(keys.insert(Place::of(number)), "{number}");
        }
        assert!((0..count).all(|number| keys.contains(Place::of(number)) && !keys.insert(Place::of(number))));
        assert!((count..2 * count).all(|number| !keys.contains(Place::of(number))));
        assert_eq!(keys.len() as u128, count);
        let bytes: usize = keys.tables.iter().map(|table| table.slots.capacity() * size_of::<u64>()).sum();
        assert!(bytes < 14 * keys.len(), "{bytes} bytes");
        keys.tables.iter().for_each(holds_its_invariants);
    }

    #[test]
    fn a_cleared_set_is_empty_and_gives_back_what_a_burst_took() {
        let (mut burst, mut usual) = (Keys::default(), Keys::default());
        for number in 0..100_000u128 {
            burst.insert(Place::of(number));
            if number % 10 == 0 {
                usual.insert(Place::of(number));
            }
        }
        let room = |keys: &Keys| keys.tables.iter().map(|table| table.slots.len()).sum::<usize>();
        let mut same = Keys::default();
        for number in 0..100_000u128 {
            same.insert(Place::of(number));
        }
        same.clear_for(&burst);
        assert_eq!((room(&same), same.len()), (room(&burst), 0));
        burst.clear_for(&usual);
        assert_eq!((room(&burst), burst.len()), (0, 0));
        assert!(!burst.contains(Place::of(7)) && burst.insert(Place::of(7)));
    }
}
