//! Roll-up: hours from minutes, days from hours, and their unique chatters from the hours of chatters.
//!
//! One transaction a window: statement 1, delete the dirty row, sum. Commits upsert dirty rows last, so either the
//! commit's row is there to be deleted and its counts to be summed, or it writes a new one afterwards. A sum is written
//! absolutely: summing twice is harmless.

use super::connect::Store;
use super::error::{CommitError, StoreError, Trying};
use super::family::{Family, Level};
use super::lease::Claim;
use super::partition::{Kept, Retained};
use super::rows::Dirty;
use super::value::Stamp;
use crate::aggregate::delta::{Group, Millis};
use sqlx::postgres::PgConnection;
use sqlx::{Connection, query, query_as};
use std::sync::PoisonError;

/// How long after its end a window is summed first: what is late by less needs no second sum.
const AFTER_END_MS: Millis = 120_000;
const HOUR_MS: Millis = 3_600_000;
const DAY_MS: Millis = 24 * HOUR_MS;
/// Windows summed in one call, so that the caller's loop turns.
const WINDOWS_PER_CALL: i64 = 100;

/// How the roll-up of one window ended.
enum Ended {
    Summed,
    /// Another has summed it, or it must wait for its hours.
    Skipped,
    Fenced,
}

impl Store {
    /// Sums the shard's windows that are dirty and ended 2 minutes before `now_ms` (ask [`Store::now_ms`] for the
    /// database's clock). `Millis::MAX`: all that are dirty, for a drain. Returns how many were summed; up to 100 a call.
    ///
    /// # Errors
    /// [`CommitError::Fenced`]: give the shard up. [`CommitError::Unavailable`]: again later.
    pub async fn roll_up(&self, claim: &Claim, now_ms: Millis) -> Result<usize, CommitError> {
        let due = self.due(claim, now_ms).await?;
        let mut summed = 0;
        for (level, window) in due {
            match Box::pin(self.roll_up_window(claim, level, window)).await? {
                Ended::Summed => summed += 1,
                Ended::Skipped => {}
                Ended::Fenced => return Err(CommitError::Fenced),
            }
        }
        Ok(summed)
    }

    /// Hours before days: a day is summed from hours that are up to date.
    async fn due(&self, claim: &Claim, now_ms: Millis) -> Result<Vec<(Dirty, Stamp)>, StoreError> {
        let ended = now_ms.saturating_sub(AFTER_END_MS);
        let mut connection = self.acquire().await?;
        let rows: Vec<(String, Stamp)> = query_as(
            "SELECT level, window_start FROM dirty WHERE shard = $1 \
             AND window_start <= CASE WHEN level LIKE 'hour%' THEN $2 ELSE $3 END \
             ORDER BY level LIKE 'day%', window_start LIMIT $4",
        )
        .bind(claim.shard_number())
        .bind(Stamp::saturating(ended.saturating_sub(HOUR_MS)))
        .bind(Stamp::saturating(ended.saturating_sub(DAY_MS)))
        .bind(WINDOWS_PER_CALL)
        .fetch_all(&mut *connection)
        .await
        .trying("look for dirty windows")?;
        Ok(rows.into_iter().filter_map(|(level, window)| Some((Dirty::named(&level)?, window))).collect())
    }

    async fn roll_up_window(&self, claim: &Claim, level: Dirty, window: Stamp) -> Result<Ended, StoreError> {
        self.ensure_targets(level, window).await?;
        let shard = claim.shard_number();
        let mut connection = self.acquire().await?;
        let mut transaction = connection.begin().await.trying("begin a roll-up")?;
        // A day of a big shard may take longer than any statement of a commit.
        query("SET LOCAL statement_timeout = '10min'").execute(&mut *transaction).await.trying("begin a roll-up")?;
        if !own(&mut transaction, claim).await? {
            return Ok(Ended::Fenced);
        }
        let deleted = query("DELETE FROM dirty WHERE shard = $1 AND level = $2 AND window_start = $3")
            .bind(shard)
            .bind(level.name())
            .bind(window)
            .execute(&mut *transaction)
            .await
            .trying("take a dirty window")?
            .rows_affected();
        if deleted == 0 || waits_for_hours(&mut transaction, shard, level, window).await? {
            transaction.rollback().await.trying("leave a dirty window")?;
            return Ok(Ended::Skipped);
        }
        let retained = Retained::read(&mut transaction).await.trying("read retained_from")?;
        sum(&mut transaction, shard, level, window, &retained).await?;
        transaction.commit().await.trying("commit a roll-up")?;
        Ok(Ended::Summed)
    }

    async fn ensure_targets(&self, level: Dirty, window: Stamp) -> Result<(), StoreError> {
        let kept = match level {
            Dirty::Hour | Dirty::HourUniques => Kept::Hour,
            Dirty::Day | Dirty::DayUniques => Kept::Day,
        };
        let period = kept.period(window);
        let dropped = !self.inner.retained.lock().unwrap_or_else(PoisonError::into_inner).has(kept, period.start());
        if dropped { Ok(()) } else { self.inner.partitions.ensure(&self.inner.pool, [period]).await }
    }
}

/// Statement 1 of the roll-up's group.
async fn own(connection: &mut PgConnection, claim: &Claim) -> Result<bool, StoreError> {
    let moved = query(
        "UPDATE shard_group SET seq = seq + 1, committed_at = now() WHERE shard = $1 AND grp = $2 AND epoch = $3",
    )
    .bind(claim.shard_number())
    .bind(Group::RollUp.number())
    .bind(claim.epoch)
    .execute(connection)
    .await
    .trying("move the roll-up's sequence on")?;
    Ok(moved.rows_affected() == 1)
}

/// Whether a day has dirty hours. Looked at after its own row is ours: who makes an hour dirty marks the day, too, and
/// waits for that row.
async fn waits_for_hours(
    connection: &mut PgConnection,
    shard: i16,
    level: Dirty,
    day: Stamp,
) -> Result<bool, StoreError> {
    if level != Dirty::Day {
        return Ok(false);
    }
    let dirty: Option<(i16,)> = query_as(
        "SELECT shard FROM dirty WHERE shard = $1 AND level = 'hour' AND window_start >= $2 AND window_start < $3 LIMIT 1",
    )
    .bind(shard)
    .bind(day)
    .bind(plus(day, DAY_MS))
    .fetch_optional(connection)
    .await
    .trying("look for dirty hours")?;
    Ok(dirty.is_some())
}

fn plus(window: Stamp, ms: Millis) -> Stamp {
    Stamp::saturating(window.millis().saturating_add(ms))
}

async fn sum(
    connection: &mut PgConnection,
    shard: i16,
    level: Dirty,
    window: Stamp,
    retained: &Retained,
) -> Result<(), StoreError> {
    let (target, source, length, families): (_, _, _, &[Family]) = match level {
        Dirty::Hour => (Level::Hour, Kept::Minute, HOUR_MS, &[Family::Channel, Family::Emote, Family::Phrase]),
        Dirty::Day => {
            (Level::Day, Kept::Hour, DAY_MS, &[Family::Channel, Family::Emote, Family::Phrase, Family::Chatter])
        }
        Dirty::HourUniques => (Level::Hour, Kept::Hour, HOUR_MS, &[]),
        Dirty::DayUniques => (Level::Day, Kept::Day, DAY_MS, &[]),
    };
    let target_kept = if target == Level::Hour { Kept::Hour } else { Kept::Day };
    // Retention leaves no dirty window behind; were there one, its sum must not overwrite what is right.
    if !retained.has(source, window) || !retained.has(target_kept, window) {
        return Ok(());
    }
    let end = plus(window, length);
    for family in families {
        run(connection, &family.statements(target).roll_up, shard, window, end).await?;
    }
    let uniques = match level {
        Dirty::Hour | Dirty::HourUniques => HOUR_UNIQUES,
        Dirty::Day => DAY_UNIQUES,
        Dirty::DayUniques => DAY_UNIQUES_FROM_DAY,
    };
    run(connection, uniques, shard, window, end).await?;
    if level == Dirty::Hour {
        // The hour has changed, so its day has, too. Days come after hours wherever dirty rows are locked.
        query(
            "INSERT INTO dirty AS t (shard, level, window_start) VALUES ($1, 'day', date_trunc('day', $2, 'UTC')) \
             ON CONFLICT (shard, level, window_start) DO UPDATE SET window_start = excluded.window_start",
        )
        .bind(shard)
        .bind(window)
        .execute(connection)
        .await
        .trying("mark the day")?;
    }
    Ok(())
}

async fn run(
    connection: &mut PgConnection,
    sql: &'static str,
    shard: i16,
    from: Stamp,
    to: Stamp,
) -> Result<(), StoreError> {
    query(sql).bind(shard).bind(from).bind(to).execute(connection).await.trying("sum a window")?;
    Ok(())
}

/// Distinct chatters of the hour: `$1` shard, `$2` start, `$3` end.
const HOUR_UNIQUES: &str = "INSERT INTO channel_hour AS t (channel_id, hour, unique_chatters) \
    SELECT s.channel_id, $2, count(*) FROM channel c JOIN chatter_hour s USING (channel_id) \
    WHERE c.shard = $1 AND s.hour >= $2 AND s.hour < $3 AND s.messages > 0 GROUP BY s.channel_id ORDER BY s.channel_id \
    ON CONFLICT (channel_id, hour) DO UPDATE SET unique_chatters = excluded.unique_chatters \
    WHERE t.unique_chatters <> excluded.unique_chatters";

/// Distinct chatters of the day, from its hours.
const DAY_UNIQUES: &str = "INSERT INTO channel_day AS t (channel_id, day, unique_chatters) \
    SELECT s.channel_id, $2, count(DISTINCT s.chatter_id) FROM channel c JOIN chatter_hour s USING (channel_id) \
    WHERE c.shard = $1 AND s.hour >= $2 AND s.hour < $3 AND s.messages > 0 GROUP BY s.channel_id ORDER BY s.channel_id \
    ON CONFLICT (channel_id, day) DO UPDATE SET unique_chatters = excluded.unique_chatters \
    WHERE t.unique_chatters <> excluded.unique_chatters";

/// Distinct chatters of a day whose hours retention has dropped.
const DAY_UNIQUES_FROM_DAY: &str = "INSERT INTO channel_day AS t (channel_id, day, unique_chatters) \
    SELECT s.channel_id, $2, count(*) FROM channel c JOIN chatter_day s USING (channel_id) \
    WHERE c.shard = $1 AND s.day >= $2 AND s.day < $3 AND s.messages > 0 GROUP BY s.channel_id ORDER BY s.channel_id \
    ON CONFLICT (channel_id, day) DO UPDATE SET unique_chatters = excluded.unique_chatters \
    WHERE t.unique_chatters <> excluded.unique_chatters";
