//! Counted rows on their way into the store: at which level each is added, sorted and laid out in columns.
//!
//! Invariants:
//! - A row goes to the finest level that retention has left it, and marks dirty what is summed from there.
//! - Within a level rows are sorted by primary key and each key occurs once.

use super::family::{Family, Level};
use super::partition::{Kept, Period, Retained};
use super::value::{Stamp, Unstorable};
use super::write::{Column, RefusedRow, Write};
use crate::aggregate::delta::Millis;
use rustc_hash::FxHashMap;
use serde_json::json;
use std::collections::BTreeSet;

const HOUR_MS: Millis = 3_600_000;
const DAY_MS: Millis = 86_400_000;

/// What a window must be summed for again. The order is that in which locks are taken: roll-up of an hour marks its
/// day, so days come last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Dirty {
    Hour,
    HourUniques,
    Day,
    DayUniques,
}

impl Dirty {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::HourUniques => "hour_uniques",
            Self::Day => "day",
            Self::DayUniques => "day_uniques",
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        [Self::Hour, Self::HourUniques, Self::Day, Self::DayUniques].into_iter().find(|level| level.name() == name)
    }
}

/// What one commit prepares besides its rows.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) retained: Retained,
    pub(super) dirty: BTreeSet<(Dirty, Stamp)>,
    pub(super) periods: BTreeSet<Period>,
    pub(super) refused: Vec<RefusedRow>,
    /// A flush has many rows and few windows.
    routes: FxHashMap<(Level, Millis), (Level, Stamp)>,
}

impl Context {
    pub(super) fn new(retained: Retained) -> Self {
        Self {
            retained,
            dirty: BTreeSet::new(),
            periods: BTreeSet::new(),
            refused: Vec::new(),
            routes: FxHashMap::default(),
        }
    }

    /// The value, or a refused row.
    pub(super) fn accept<T>(&mut self, table: &'static str, row: Result<T, Unstorable>, ids: &[u64]) -> Option<T> {
        match row {
            Ok(row) => Some(row),
            Err(error) => {
                self.refused.push(RefusedRow { table, row: json!({ "ids": ids }), reason: error.to_string() });
                None
            }
        }
    }

    /// The level at which a window of the first level is added now; notes the partitions that it and its sums need.
    fn route(&mut self, first: Level, window_ms: Millis) -> (Level, Stamp) {
        if let Some(&route) = self.routes.get(&(first, window_ms)) {
            return route;
        }
        let kinds: &[Kept] = match first {
            Level::Minute => &[Kept::Minute, Kept::MinuteChatters, Kept::Hour, Kept::Day],
            Level::Hour => &[Kept::Hour, Kept::Day],
            Level::Day | Level::Folded => &[Kept::Day],
        };
        self.periods.extend(kinds.iter().map(|kept| kept.period(Stamp::saturating(window_ms))));
        let route = self.choose(first, window_ms);
        self.routes.insert((first, window_ms), route);
        route
    }

    /// The finest level that retention has left; marks dirty what is summed from there.
    fn choose(&mut self, first: Level, window_ms: Millis) -> (Level, Stamp) {
        let window = Stamp::saturating(window_ms);
        let hour = Stamp::saturating(window_ms - window_ms % HOUR_MS);
        let day = Stamp::saturating(window_ms - window_ms % DAY_MS);
        let has_minutes = self.retained.has(Kept::Minute, hour);
        let has_hours = self.retained.has(Kept::Hour, hour);
        let has_days = self.retained.has(Kept::Day, day);
        let per_chatter = first == Level::Hour;
        match first {
            Level::Minute if has_minutes => {
                self.dirty.extend([(Dirty::Hour, hour), (Dirty::Day, day)]);
                (Level::Minute, window)
            }
            Level::Minute | Level::Hour if has_hours => {
                // An hour's unique chatters are counted from the rows of its chatters.
                if per_chatter {
                    self.dirty.insert((if has_minutes { Dirty::Hour } else { Dirty::HourUniques }, hour));
                }
                self.dirty.insert((Dirty::Day, day));
                (Level::Hour, hour)
            }
            Level::Minute | Level::Hour | Level::Day if has_days => {
                if per_chatter {
                    self.dirty.insert((Dirty::DayUniques, day));
                }
                (Level::Day, day)
            }
            _ => (Level::Folded, Stamp::NEVER),
        }
    }

    /// An event's partition is needed; false: retention has dropped it.
    pub(super) fn keeps_event(&mut self, at: Stamp) -> bool {
        self.periods.insert(Kept::Event.period(at));
        self.retained.has(Kept::Event, at)
    }

    /// The dirty rows that the commit upserts last, so that it holds their locks only while it commits.
    pub(super) fn dirty_write(&self, shard: i16) -> Write {
        let (levels, windows) = self.dirty.iter().map(|&(level, at)| (level.name().to_owned(), at)).unzip();
        Write {
            table: "dirty",
            sql: "INSERT INTO dirty AS t (level, window_start, shard) \
                  SELECT *, $3 FROM unnest($1::text[], $2::timestamptz[]) \
                  ON CONFLICT (shard, level, window_start) DO UPDATE SET window_start = excluded.window_start",
            columns: vec![("level", Column::Texts(levels)), ("window_start", Column::Times(windows))],
            rows: self.dirty.len(),
            shard: Some(shard),
        }
    }
}

/// Rows of one family: `K` keys, `C` counters, unique chatters (0 where not counted).
#[derive(Debug)]
pub(super) struct Rows<const K: usize, const C: usize> {
    family: Family,
    levels: [Vec<Row<K, C>>; 4],
}

type Row<const K: usize, const C: usize> = (i64, Stamp, [i64; K], [i64; C], i64);

impl<const K: usize, const C: usize> Rows<K, C> {
    pub(super) fn new(family: Family, capacity: usize) -> Self {
        let mut levels = [Vec::new(), Vec::new(), Vec::new(), Vec::new()];
        levels[family.first_level() as usize].reserve(capacity);
        Self { family, levels }
    }

    /// Adds a row where it belongs now. `K` keys begin with the channel.
    pub(super) fn push(
        &mut self,
        context: &mut Context,
        window_ms: Millis,
        keys: [i64; K],
        counts: [i64; C],
        uniques: i64,
    ) {
        let first = self.family.first_level();
        let (level, window) = context.route(first, window_ms);
        self.levels[level as usize].push((keys[0], window, keys, counts, uniques));
    }

    /// One write per level that has rows, finest first.
    pub(super) fn into_writes(self) -> Vec<Write> {
        let family = self.family;
        let pairs = Level::ALL.into_iter().zip(self.levels);
        pairs.filter(|(_, rows)| !rows.is_empty()).map(|(level, rows)| write(family, level, rows)).collect()
    }
}

fn write<const K: usize, const C: usize>(family: Family, level: Level, mut rows: Vec<Row<K, C>>) -> Write {
    rows.sort_unstable_by_key(|row| (row.0, row.1, row.2));
    rows.dedup_by(|later, kept| {
        let same = (later.1, later.2) == (kept.1, kept.2);
        if same {
            for (sum, more) in kept.3.iter_mut().zip(later.3) {
                *sum = sum.saturating_add(more);
            }
        }
        same
    });
    let mut columns = Vec::with_capacity(K + C + 2);
    for (i, name) in family.keys().iter().enumerate() {
        columns.push((*name, Column::Numbers(rows.iter().map(|row| row.2[i]).collect())));
    }
    if level != Level::Folded {
        columns.push((level.name(), Column::Times(rows.iter().map(|row| row.1).collect())));
    }
    for (i, name) in family.counters().iter().enumerate() {
        columns.push((*name, Column::Numbers(rows.iter().map(|row| row.3[i]).collect())));
    }
    if family.counts_uniques(level) {
        columns.push(("unique_chatters", Column::Numbers(rows.iter().map(|row| row.4).collect())));
    }
    Write { table: family.table(level), sql: &family.statements(level).add, columns, rows: rows.len(), shard: None }
}
