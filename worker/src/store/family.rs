//! The counter tables: families of the same counters at several levels, and the SQL that each needs.
//!
//! ```text
//! minute ──roll-up──► hour ──roll-up──► day ──retention──► folded      (the view *_total adds them up)
//! ```
//!
//! Per-chatter families begin at the hour or at the day. Every table's primary key is (channel, window, other keys).

use rustc_hash::FxHashMap;
use std::sync::LazyLock;

/// Tables with the same keys and counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Family {
    Channel,
    Emote,
    Phrase,
    Chatter,
    ChatterEmote,
}

/// How long a table's windows are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Level {
    Minute,
    Hour,
    Day,
    /// What retention dropped from the days, in one sum.
    Folded,
}

impl Level {
    pub(super) const ALL: [Self; 4] = [Self::Minute, Self::Hour, Self::Day, Self::Folded];

    /// Suffix of its tables, and name of their window column.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Folded => "folded",
        }
    }
}

impl Family {
    pub(super) const ALL: [Self; 5] = [Self::Channel, Self::Emote, Self::Phrase, Self::Chatter, Self::ChatterEmote];

    fn name(self) -> &'static str {
        match self {
            Self::Channel => "channel",
            Self::Emote => "emote",
            Self::Phrase => "phrase",
            Self::Chatter => "chatter",
            Self::ChatterEmote => "chatter_emote",
        }
    }

    /// Keys after the channel and the window.
    pub(super) fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Channel => &["channel_id"],
            Self::Emote => &["channel_id", "emote_id"],
            Self::Phrase => &["channel_id", "phrase_id"],
            Self::Chatter => &["channel_id", "chatter_id"],
            Self::ChatterEmote => &["channel_id", "chatter_id", "emote_id"],
        }
    }

    /// In the order in which the conversion from a delta lists them.
    pub(super) fn counters(self) -> &'static [&'static str] {
        match self {
            Self::Channel => &[
                "messages",
                "characters",
                "words",
                "emotes",
                "bits",
                "first_time_chatters",
                "subs",
                "gifts",
                "raids",
                "timeouts",
                "bans",
                "deletions",
                "mirrored",
            ],
            Self::Emote => &["occurrences", "messages"],
            Self::Phrase => &["matches", "messages"],
            Self::Chatter => &["messages", "characters", "words", "emotes", "bits"],
            Self::ChatterEmote => &["occurrences"],
        }
    }

    /// The level at which counting writes.
    pub(super) fn first_level(self) -> Level {
        match self {
            Self::Channel | Self::Emote | Self::Phrase => Level::Minute,
            Self::Chatter => Level::Hour,
            Self::ChatterEmote => Level::Day,
        }
    }

    /// Whether the level's table has `unique_chatters` and counting writes them.
    pub(super) fn counts_uniques(self, level: Level) -> bool {
        self == Self::Channel && level == Level::Minute
    }

    pub(super) fn table(self, level: Level) -> &'static str {
        self.statements(level).table.as_str()
    }

    pub(super) fn statements(self, level: Level) -> &'static Statements {
        static ALL: LazyLock<FxHashMap<(Family, Level), Statements>> = LazyLock::new(|| {
            let pairs = Family::ALL.iter().flat_map(|&family| Level::ALL.map(|level| (family, level)));
            pairs.map(|(family, level)| ((family, level), Statements::new(family, level))).collect()
        });
        // The map is total over both enums.
        &ALL[&(self, level)]
    }

    fn primary_key(self, level: Level) -> String {
        let mut columns = vec!["channel_id"];
        if level != Level::Folded {
            columns.push(level.name());
        }
        columns.extend(&self.keys()[1..]);
        columns.join(", ")
    }
}

/// The SQL of one counter table.
pub(super) struct Statements {
    pub(super) table: String,
    /// Adds rows: keys, window (not where folded), counters, unique chatters (where counted).
    pub(super) add: String,
    /// Writes the windows of one shard from the level below: `$1` shard, `$2` start, `$3` end.
    pub(super) roll_up: String,
    /// Adds what lies in `$1` to `$2` to the folded table; of days only.
    pub(super) fold: String,
}

impl Statements {
    fn new(family: Family, level: Level) -> Self {
        Self {
            table: format!("{}_{}", family.name(), level.name()),
            add: add(family, level),
            roll_up: roll_up(family, level),
            fold: fold(family),
        }
    }
}

fn add(family: Family, level: Level) -> String {
    let table = format!("{}_{}", family.name(), level.name());
    let mut columns: Vec<&str> = family.keys().to_vec();
    let mut types: Vec<&str> = vec!["bigint"; columns.len()];
    if level != Level::Folded {
        columns.push(level.name());
        types.push("timestamptz");
    }
    columns.extend(family.counters());
    types.resize(columns.len(), "bigint");
    let mut sets: Vec<String> = family.counters().iter().map(|c| format!("{c} = t.{c} + excluded.{c}")).collect();
    if family.counts_uniques(level) {
        columns.push("unique_chatters");
        types.push("bigint");
        // A set only grows; 0 stands for "not known in this flush".
        sets.push("unique_chatters = greatest(t.unique_chatters, excluded.unique_chatters)".to_owned());
    }
    let arrays: Vec<String> = types.iter().enumerate().map(|(i, kind)| format!("${}::{kind}[]", i + 1)).collect();
    format!(
        "INSERT INTO {table} AS t ({}) SELECT * FROM unnest({}) ON CONFLICT ({}) DO UPDATE SET {}",
        columns.join(", "),
        arrays.join(", "),
        family.primary_key(level),
        sets.join(", ")
    )
}

fn roll_up(family: Family, level: Level) -> String {
    let source_level = match level {
        Level::Hour => Level::Minute,
        Level::Day => Level::Hour,
        Level::Minute | Level::Folded => return String::new(),
    };
    let (name, window) = (family.name(), level.name());
    let source = source_level.name();
    let keys = family.keys().join(", ");
    let counters = family.counters().join(", ");
    let sums: Vec<String> = family.counters().iter().map(|c| format!("sum(s.{c})")).collect();
    let qualified: Vec<String> = family.keys().iter().map(|key| format!("s.{key}")).collect();
    let qualified = qualified.join(", ");
    let sets: Vec<String> = family.counters().iter().map(|c| format!("{c} = excluded.{c}")).collect();
    let old: Vec<String> = family.counters().iter().map(|c| format!("t.{c}")).collect();
    let new: Vec<String> = family.counters().iter().map(|c| format!("excluded.{c}")).collect();
    // Rows that are right already are left alone.
    format!(
        "INSERT INTO {name}_{window} AS t ({keys}, {window}, {counters}) \
         SELECT {qualified}, $2, {} FROM channel c JOIN {name}_{source} s USING (channel_id) \
         WHERE c.shard = $1 AND s.{source} >= $2 AND s.{source} < $3 GROUP BY {qualified} ORDER BY {qualified} \
         ON CONFLICT ({}) DO UPDATE SET {} WHERE ({}) IS DISTINCT FROM ({})",
        sums.join(", "),
        family.primary_key(level),
        sets.join(", "),
        old.join(", "),
        new.join(", ")
    )
}

fn fold(family: Family) -> String {
    let name = family.name();
    let keys = family.keys().join(", ");
    let counters = family.counters().join(", ");
    let sums: Vec<String> = family.counters().iter().map(|c| format!("sum({c})")).collect();
    let sets: Vec<String> = family.counters().iter().map(|c| format!("{c} = t.{c} + excluded.{c}")).collect();
    format!(
        "INSERT INTO {name}_folded AS t ({keys}, {counters}) SELECT {keys}, {} FROM {name}_day \
         WHERE day >= $1 AND day < $2 GROUP BY {keys} ORDER BY {keys} ON CONFLICT ({keys}) DO UPDATE SET {}",
        sums.join(", "),
        sets.join(", ")
    )
}
