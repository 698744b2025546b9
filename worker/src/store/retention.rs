//! Retention: drops whole partitions that are past their age, and moves `retained_from` in the same transaction.
//!
//! Invariants:
//! - It holds the rows of `shard_group` meanwhile: no commit is under way, and the next one reads `retained_from` anew.
//! - Nothing dirty is dropped: all that a window held is in the level above it.
//! - A level is not kept longer than the one summed from it, and what the days lose is folded into `*_folded`.
//! - What was wanted, and who heard what, is known for as long as there are hours: before that nobody judges gaps, and no
//!   late line counts. That somebody heard is known for ever: it keeps older history from being counted twice.

use super::connect::Store;
use super::error::{StoreError, Trying, is_lock_timeout};
use super::family::{Family, Level};
use super::partition::{Kept, Period, Retained, existing, lock_partitions};
use super::value::Stamp;
use crate::aggregate::delta::Millis;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Executor, query, query_scalar};
use std::time::Duration;

/// Ages after which levels are dropped; none: kept for ever. Minutes go by the day, all else by the month.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retention {
    /// Chatter ids of minutes; at the latest with the minutes.
    pub minute_chatters: Option<Duration>,
    /// Minute windows.
    pub minutes: Option<Duration>,
    /// Hour windows, chatters' hours among them; not before their minutes.
    pub hours: Option<Duration>,
    /// Day windows, chatters' days among them; not before their hours. What is dropped stays in the totals.
    pub days: Option<Duration>,
    /// `chat_event` and `phrase_match`.
    pub events: Option<Duration>,
}

/// Sets of late data come at most this long after their minute, so younger ids are still needed.
const YOUNGEST: Duration = Duration::from_secs(24 * 3600);
/// Periods dropped in one transaction: bounds its locks and how long commits wait.
const PERIODS_PER_TRANSACTION: usize = 10;

impl Retention {
    fn age(&self, kept: Kept) -> Option<Duration> {
        let Self { minute_chatters, minutes, hours, days, events } = *self;
        let age = match kept {
            Kept::MinuteChatters => match (minute_chatters, minutes) {
                (Some(ids), Some(windows)) => Some(ids.min(windows)),
                (ids, windows) => ids.or(windows),
            },
            Kept::Minute => minutes,
            Kept::Hour => hours,
            Kept::Day => days,
            Kept::Event => events,
        };
        age.map(|age| age.max(YOUNGEST))
    }
}

impl Store {
    /// Drops what is past its age. Returns how many partitions went. What cannot be locked soon is left for later.
    ///
    /// # Errors
    /// The database cannot be used now.
    pub async fn apply_retention(&self, retention: &Retention, now_ms: Millis) -> Result<usize, StoreError> {
        let mut dropped = 0;
        for kept in Kept::ALL {
            let Some(age) = retention.age(kept) else { continue };
            let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
            let cutoff = kept.period(Stamp::saturating(now_ms.saturating_sub(age_ms))).start();
            let mut moved = false;
            loop {
                match Box::pin(self.drop_before(kept, cutoff)).await {
                    Ok(Dropped { partitions, more, moved: further }) => {
                        dropped += partitions;
                        moved |= further;
                        if !more {
                            break;
                        }
                    }
                    Err(StoreError::Sql { source, .. }) if is_lock_timeout(&source) => {
                        tracing::info!(level = kept.name(), "partitions are in use, retention waits");
                        break;
                    }
                    Err(error) => return Err(error),
                }
            }
            if kept == Kept::Hour && moved {
                self.forget_who_listened().await?;
            }
        }
        self.forget_ended_connections().await?;
        Ok(dropped)
    }

    async fn drop_before(&self, kept: Kept, cutoff: Stamp) -> Result<Dropped, StoreError> {
        let action = "apply retention";
        let mut connection = self.acquire().await?;
        let mut transaction = connection.begin().await.trying(action)?;
        // A long query on a partition must not stall all commits behind us.
        (&mut *transaction).execute("SET LOCAL lock_timeout = '2s'").await.trying(action)?;
        lock_partitions(&mut transaction).await.trying(action)?;
        query("SELECT FROM shard_group ORDER BY shard, grp FOR UPDATE")
            .execute(&mut *transaction)
            .await
            .trying(action)?;
        let retained = Retained::read(&mut transaction).await.trying(action)?;
        let bound = bound(&mut transaction, kept, cutoff, &retained).await.trying(action)?;
        let mut periods: Vec<Period> = existing(&mut transaction).await.trying(action)?.into_iter().collect();
        periods.retain(|period| period.kept == kept && period.end() <= bound);
        periods.sort_unstable();
        let more = periods.len() > PERIODS_PER_TRANSACTION;
        periods.truncate(PERIODS_PER_TRANSACTION);
        let until = if more { periods.last().map_or(bound, |period| period.end()) } else { bound };
        if until <= retained.from(kept) {
            transaction.rollback().await.trying(action)?;
            return Ok(Dropped { partitions: 0, more: false, moved: false });
        }
        let mut partitions = 0;
        for period in periods {
            partitions += drop_period(&mut transaction, period).await.trying(action)?;
        }
        query("UPDATE retained_from SET start_time = $2 WHERE level = $1")
            .bind(kept.name())
            .bind(until)
            .execute(&mut *transaction)
            .await
            .trying(action)?;
        transaction.commit().await.trying(action)?;
        Ok(Dropped { partitions, more, moved: true })
    }

    /// Intervals that ended before the first hour that is kept. Afterwards, and without the rows of `shard_group`, so that
    /// no commit waits for this: only an import reads them, and to it what they become says the same.
    async fn forget_who_listened(&self) -> Result<(), StoreError> {
        let action = "forget who listened";
        let mut connection = self.acquire().await?;
        let mut transaction = connection.begin().await.trying(action)?;
        (&mut *transaction).execute("SET LOCAL statement_timeout = '10min'").await.trying(action)?;
        for sql in FORGET_WHO_LISTENED {
            query(sql).bind(Kept::Hour.name()).execute(&mut *transaction).await.trying(action)?;
        }
        transaction.commit().await.trying(action)
    }

    /// Rows of `heard` that no open coverage refers to any more.
    async fn forget_ended_connections(&self) -> Result<(), StoreError> {
        let mut connection = self.acquire().await?;
        query(
            "DELETE FROM heard h WHERE h.until < now() - interval '1 day' AND NOT EXISTS (
                 SELECT FROM coverage v WHERE v.until IS NULL
                 AND v.shard = h.shard AND v.instance = h.instance AND v.connection = h.connection
             )",
        )
        .execute(&mut *connection)
        .await
        .trying("forget ended connections")?;
        Ok(())
    }
}

/// `$1`: the level that they are kept with.
const FORGET_WHO_LISTENED: [&str; 2] =
    ["DELETE FROM wanted WHERE until <= (SELECT start_time FROM retained_from WHERE level = $1)", ONE_FOR_ALL];

/// All who heard a channel become one source, number 0; a line that was counted beyond their coverage becomes the
/// millisecond in which it was said. Files stay what they are: one that has grown must not find its own time covered.
const ONE_FOR_ALL: &str = "WITH bound AS (SELECT start_time FROM retained_from WHERE level = $1),
    intervals AS (
        DELETE FROM coverage v USING bound b WHERE v.until <= b.start_time AND v.instance <> 0
        AND NOT EXISTS (SELECT FROM import_file f WHERE f.file = v.instance)
        RETURNING v.channel_id, v.shard, tstzrange(v.since, v.until) AS time
    ),
    lines AS (
        DELETE FROM uncovered_line u USING bound b WHERE u.sent_at < b.start_time
        RETURNING u.channel_id, u.shard, tstzrange(u.sent_at, u.sent_at + interval '1 ms') AS time
    ),
    heard AS (
        SELECT s.channel_id, min(s.shard) AS shard, unnest(range_agg(s.time)) AS time
        FROM (TABLE intervals UNION ALL TABLE lines) s GROUP BY s.channel_id
    )
    INSERT INTO coverage AS t (channel_id, instance, connection, since, until, shard)
    SELECT channel_id, 0, 0, lower(time), upper(time), shard FROM heard
    ON CONFLICT (channel_id, since, instance, connection) DO UPDATE SET until = greatest(t.until, excluded.until)";

struct Dropped {
    partitions: usize,
    more: bool,
    /// Whether the level is kept from a later time on now.
    moved: bool,
}

/// Up to where the level may be dropped: the cutoff, but nothing dirty and not before the level below.
async fn bound(
    connection: &mut PgConnection,
    kept: Kept,
    cutoff: Stamp,
    retained: &Retained,
) -> Result<Stamp, sqlx::Error> {
    let (levels, below): (&[&str], Stamp) = match kept {
        // Nothing is summed from these.
        Kept::MinuteChatters | Kept::Event => (&[], Stamp::FOREVER),
        Kept::Minute => (&["hour"], Stamp::FOREVER),
        Kept::Hour => (&["hour", "hour_uniques", "day"], retained.from(Kept::Minute)),
        Kept::Day => (&["hour", "hour_uniques", "day", "day_uniques"], retained.from(Kept::Hour)),
    };
    let dirty: Option<Stamp> = query_scalar("SELECT min(window_start) FROM dirty WHERE level = ANY($1)")
        .bind(levels)
        .fetch_one(connection)
        .await?;
    let first = cutoff.min(below).min(dirty.unwrap_or(Stamp::FOREVER));
    // Down to the start of a period; -infinity stays what it is.
    Ok(if first == Stamp::NEVER { first } else { kept.period(first).start() })
}

async fn drop_period(connection: &mut PgConnection, period: Period) -> Result<usize, sqlx::Error> {
    if period.kept == Kept::Day {
        for family in Family::ALL {
            query(family.statements(Level::Day).fold.as_str())
                .bind(period.start())
                .bind(period.end())
                .execute(&mut *connection)
                .await?;
        }
    }
    for table in period.kept.tables() {
        // The name is made of our own constants and of digits.
        let sql = format!("DROP TABLE {}", period.partition(table));
        connection.execute(AssertSqlSafe(sql)).await?;
    }
    Ok(period.kept.tables().len())
}
