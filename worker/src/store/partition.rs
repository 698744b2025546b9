//! Partitions: made ahead, and on demand before a commit that needs them.
//!
//! Invariants:
//! - A partition lies after its level's `retained_from`; nothing makes one before it.
//! - Creators and retention hold one advisory lock, so a partition is made once and never while it is dropped.
//! - A partition is attached, not created in place: that takes no lock which a running commit would wait for.

use super::error::{StoreError, Trying};
use super::value::Stamp;
use crate::aggregate::delta::Millis;
use rustc_hash::FxHashSet;
use sqlx::postgres::{PgConnection, PgPool};
use sqlx::{AssertSqlSafe, Connection, Executor, query, query_as, query_scalar};
use std::sync::{Mutex, PoisonError};
use time::{Date, Duration, Month, OffsetDateTime, Time};

/// Tables that are kept equally long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Kept {
    MinuteChatters,
    Minute,
    Hour,
    Day,
    Event,
}

impl Kept {
    pub(super) const ALL: [Self; 5] = [Self::MinuteChatters, Self::Minute, Self::Hour, Self::Day, Self::Event];

    /// `retained_from.level`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::MinuteChatters => "minute_chatters",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Event => "event",
        }
    }

    pub(super) fn tables(self) -> &'static [&'static str] {
        match self {
            Self::MinuteChatters => &["channel_minute_chatters"],
            Self::Minute => &["channel_minute", "emote_minute", "phrase_minute"],
            Self::Hour => &["channel_hour", "emote_hour", "phrase_hour", "chatter_hour"],
            Self::Day => &["channel_day", "emote_day", "phrase_day", "chatter_day", "chatter_emote_day"],
            Self::Event => &["phrase_match", "chat_event"],
        }
    }

    /// The period in which a time lies: a day for minutes, a month for the rest.
    pub(super) fn period(self, at: Stamp) -> Period {
        let date = date(at);
        let start = match self {
            Self::MinuteChatters | Self::Minute => date,
            Self::Hour | Self::Day | Self::Event => first_of_month(date),
        };
        Period { kept: self, start }
    }
}

/// A day or a month of tables that are kept equally long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Period {
    pub(super) kept: Kept,
    start: Date,
}

impl Period {
    pub(super) fn start(self) -> Stamp {
        stamp(self.start)
    }

    pub(super) fn end(self) -> Stamp {
        stamp(self.next_start())
    }

    pub(super) fn next(self) -> Self {
        Self { start: self.next_start(), ..self }
    }

    fn next_start(self) -> Date {
        match self.kept {
            Kept::MinuteChatters | Kept::Minute => self.start.next_day().unwrap_or(Date::MAX),
            Kept::Hour | Kept::Day | Kept::Event => first_of_month(self.start.saturating_add(Duration::days(31))),
        }
    }

    /// The partition's name: `channel_minute_p20260131`, `channel_hour_p202601`.
    pub(super) fn partition(self, table: &str) -> String {
        let (year, month, day) = (self.start.year(), u8::from(self.start.month()), self.start.day());
        match self.kept {
            Kept::MinuteChatters | Kept::Minute => format!("{table}_p{year:04}{month:02}{day:02}"),
            Kept::Hour | Kept::Day | Kept::Event => format!("{table}_p{year:04}{month:02}"),
        }
    }

    /// The period of a partition of that name; none: the name is not ours.
    fn of(kept: Kept, table: &str, partition: &str) -> Option<Self> {
        let digits = partition.strip_prefix(table)?.strip_prefix("_p")?;
        let year = digits.get(..4)?.parse().ok()?;
        let month = Month::try_from(digits.get(4..6)?.parse::<u8>().ok()?).ok()?;
        let day = if digits.len() == 8 { digits.get(6..)?.parse().ok()? } else { 1 };
        Some(Self { kept, start: Date::from_calendar_date(year, month, day).ok()? })
    }
}

fn date(at: Stamp) -> Date {
    let seconds = i64::try_from(at.millis() / 1000).unwrap_or(0);
    OffsetDateTime::from_unix_timestamp(seconds).map_or(Date::MIN, OffsetDateTime::date)
}

fn first_of_month(date: Date) -> Date {
    date.replace_day(1).unwrap_or(date)
}

fn stamp(date: Date) -> Stamp {
    let seconds = date.with_time(Time::MIDNIGHT).assume_utc().unix_timestamp();
    Stamp::saturating(seconds.max(0).cast_unsigned() * 1000)
}

/// From when on each level is kept: a snapshot of the table `retained_from`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Retained([Stamp; 5]);

impl Retained {
    /// Nothing was dropped.
    pub(super) const EVERYTHING: Self = Self([Stamp::NEVER; 5]);

    pub(super) async fn read(connection: &mut PgConnection) -> Result<Self, sqlx::Error> {
        let rows: Vec<(String, Stamp)> =
            query_as("SELECT level, start_time FROM retained_from").fetch_all(connection).await?;
        let mut retained = Self::EVERYTHING;
        for (level, start) in rows {
            if let Some(kept) = Kept::ALL.into_iter().find(|kept| kept.name() == level) {
                retained.0[kept as usize] = start;
            }
        }
        Ok(retained)
    }

    pub(super) fn from(&self, kept: Kept) -> Stamp {
        self.0[kept as usize]
    }

    /// Whether the level still has the window that begins then.
    pub(super) fn has(&self, kept: Kept, window: Stamp) -> bool {
        window >= self.from(kept)
    }
}

/// Takes the lock of all who make or drop partitions, until the transaction ends.
pub(super) async fn lock_partitions(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    query("SELECT pg_advisory_xact_lock(hashtextextended('clamor partitions of ' || current_schema(), 0))")
        .execute(connection)
        .await?;
    Ok(())
}

/// The periods for which all partitions are there.
pub(super) async fn existing(connection: &mut PgConnection) -> Result<FxHashSet<Period>, sqlx::Error> {
    let names: FxHashSet<String> = query_scalar(
        "SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
         JOIN pg_class p ON p.oid = i.inhparent \
         WHERE p.relnamespace = current_schema()::regnamespace AND p.relkind = 'p'",
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .collect();
    let mut periods = FxHashSet::default();
    for kept in Kept::ALL {
        let first = kept.tables()[0];
        let found = names.iter().filter_map(|name| Period::of(kept, first, name));
        periods
            .extend(found.filter(|period| kept.tables().iter().all(|table| names.contains(&period.partition(table)))));
    }
    Ok(periods)
}

/// Which partitions are known to be there.
#[derive(Debug, Default)]
pub(super) struct Partitions {
    known: Mutex<FxHashSet<Period>>,
}

/// Periods made in one transaction: bounds the locks that it holds.
const PERIODS_PER_TRANSACTION: usize = 20;

impl Partitions {
    /// Makes the partitions that are missing, except before `retained_from`.
    pub(super) async fn ensure(
        &self,
        pool: &PgPool,
        periods: impl IntoIterator<Item = Period>,
    ) -> Result<(), StoreError> {
        let missing: Vec<Period> = {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            periods.into_iter().filter(|period| !known.contains(period)).collect()
        };
        for some in missing.chunks(PERIODS_PER_TRANSACTION) {
            let found = create(pool, some).await.trying("make partitions")?;
            self.known.lock().unwrap_or_else(PoisonError::into_inner).extend(found);
        }
        Ok(())
    }

    /// Forgets what is known: a partition was missing after all.
    pub(super) fn forget(&self) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// Returns the periods that need no further look: those made, those there, and those that are dropped for ever.
async fn create(pool: &PgPool, periods: &[Period]) -> Result<Vec<Period>, sqlx::Error> {
    let mut connection = pool.acquire().await?;
    let mut transaction = connection.begin().await?;
    lock_partitions(&mut transaction).await?;
    let retained = Retained::read(&mut transaction).await?;
    let existing = existing(&mut transaction).await?;
    for &period in periods {
        if !existing.contains(&period) && retained.has(period.kept, period.start()) {
            create_period(&mut transaction, period).await?;
        }
    }
    transaction.commit().await?;
    Ok(periods.to_vec())
}

async fn create_period(connection: &mut PgConnection, period: Period) -> Result<(), sqlx::Error> {
    let (from, to) = (period.start().text(), period.end().text());
    for table in period.kept.tables() {
        let partition = period.partition(table);
        let fillfactor = if period.kept == Kept::Event { 100 } else { 70 };
        // Names and bounds are made of our own constants and of digits.
        let sql = format!(
            "CREATE TABLE IF NOT EXISTS {partition} (LIKE {table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS) \
             WITH (fillfactor = {fillfactor});
             DO $$ BEGIN
                 IF NOT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = '{partition}'::regclass) THEN
                     ALTER TABLE {table} ATTACH PARTITION {partition} FOR VALUES FROM ('{from}') TO ('{to}');
                 END IF;
             END $$;"
        );
        connection.execute(AssertSqlSafe(sql)).await?;
    }
    Ok(())
}

/// The periods that should be there ahead of time.
pub(super) fn ahead(now_ms: Millis) -> Vec<Period> {
    let now = Stamp::saturating(now_ms);
    let mut periods = Vec::new();
    for kept in Kept::ALL {
        let count = match kept {
            // Today, and the next three days.
            Kept::MinuteChatters | Kept::Minute => 4,
            // This month, and the next.
            Kept::Hour | Kept::Day | Kept::Event => 2,
        };
        periods.extend(std::iter::successors(Some(kept.period(now)), |period| Some(period.next())).take(count));
    }
    periods
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2024-02-29T23:30Z.
    const LEAP: Millis = 1_709_249_400_000;

    #[test]
    fn minutes_lie_in_days_and_hours_in_months() {
        let day = Kept::Minute.period(Stamp::saturating(LEAP));
        assert_eq!(day.partition("emote_minute"), "emote_minute_p20240229");
        assert_eq!(
            (day.start().text(), day.end().text()),
            ("2024-02-29T00:00:00Z".into(), "2024-03-01T00:00:00Z".into())
        );
        let month = Kept::Hour.period(Stamp::saturating(LEAP));
        assert_eq!(month.partition("channel_hour"), "channel_hour_p202402");
        assert_eq!(month.end().text(), "2024-03-01T00:00:00Z");
    }

    #[test]
    fn a_partition_s_name_says_its_period() {
        for kept in Kept::ALL {
            let period = kept.period(Stamp::saturating(LEAP));
            let table = kept.tables()[0];
            assert_eq!(Period::of(kept, table, &period.partition(table)), Some(period));
        }
        assert_eq!(Period::of(Kept::Minute, "channel_minute", "channel_minute_old"), None);
        // `channel_minute_chatters_p…` is a partition of another table.
        assert_eq!(Period::of(Kept::Minute, "channel_minute", "channel_minute_chatters_p20240229"), None);
    }

    #[test]
    fn december_is_followed_by_january() {
        let december = Kept::Day.period(Stamp::saturating(1_703_980_800_000));
        assert_eq!(december.next().partition("t"), "t_p202401");
    }
}
