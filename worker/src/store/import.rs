//! What an import asks the store: how far a file is, what others have heard, from when on live counting is concerned.

use super::connect::Store;
use super::error::{StoreError, Trying};
use super::partition::{Kept, Retained};
use super::value::{Key, Stamp, sequence, text};
use crate::aggregate::dedupe::horizon_start;
use crate::aggregate::delta::{ChannelId, Group, Millis};
use crate::import::covered::{Covered, Span};
use clamor_chat::shard::bucket;
use sqlx::Postgres;
use sqlx::pool::PoolConnection;
use sqlx::postgres::PgConnection;
use sqlx::{query, query_as, query_scalar};

/// Postgres's own name of an import's lock: one at a time, as two would only undo each other's look at coverage.
const LOCK: &str = "SELECT pg_try_advisory_lock(hashtextextended('clamor import into ' || current_schema(), 0))";

/// How many parts a file's channels are in, each with a place of its own in the file.
pub const LANES: usize = 2;

/// The lane of a channel. Channels of one shard are in one lane, where there is more than one shard.
#[must_use]
pub fn lane(channel_id: ChannelId) -> usize {
    usize::from(bucket(channel_id)) % LANES
}

/// How far a lane of a file is imported.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of its content.
    pub bytes: u64,
    /// Their hash.
    pub hash: u128,
    /// Lines in them.
    pub lines: u64,
    /// Events of the lane that were counted.
    pub counted: u64,
}

/// From when on the levels are kept; 0: for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptFrom {
    /// Minutes.
    pub minutes_ms: Millis,
    /// Hours.
    pub hours_ms: Millis,
    /// Of the time before, the store does not know what was heard.
    pub heard_ms: Millis,
    /// Chat events and logged matches.
    pub events_ms: Millis,
}

/// The right to import, until it is dropped.
#[derive(Debug)]
pub struct ImportLock(PoolConnection<Postgres>);

impl Drop for ImportLock {
    fn drop(&mut self) {
        // The lock goes with its session.
        self.0.close_on_drop();
    }
}

impl Store {
    /// The number of shards; none: no pipeline has used the store yet.
    ///
    /// # Errors
    /// The database cannot be used now.
    pub async fn shards(&self) -> Result<Option<u16>, StoreError> {
        let mut connection = self.acquire().await?;
        let shards: Option<i16> = query_scalar("SELECT shards FROM store_meta")
            .fetch_optional(&mut *connection)
            .await
            .trying("read the number of shards")?;
        Ok(shards.map(i16::cast_unsigned))
    }

    /// The right to import; none: another process has it.
    ///
    /// # Errors
    /// The database cannot be used now.
    pub async fn import_lock(&self) -> Result<Option<ImportLock>, StoreError> {
        let mut connection = self.acquire().await?;
        let locked: bool = query_scalar(LOCK).fetch_one(&mut *connection).await.trying("take the lock of imports")?;
        Ok(locked.then(|| ImportLock(connection)))
    }

    /// How far the file's lanes are imported.
    ///
    /// # Errors
    /// The database cannot be used now.
    pub async fn import_progress(&self, file: u64) -> Result<[Progress; LANES], StoreError> {
        let mut connection = self.acquire().await?;
        let rows: Vec<(i16, i64, Key, i64, i64)> =
            query_as("SELECT lane, bytes, hash, lines, counted FROM import_place WHERE file = $1")
                .bind(file.cast_signed())
                .fetch_all(&mut *connection)
                .await
                .trying("read how far a file is imported")?;
        let mut lanes = [Progress::default(); LANES];
        for (lane, bytes, hash, lines, counted) in rows {
            if let Some(progress) = usize::try_from(lane).ok().and_then(|lane| lanes.get_mut(lane)) {
                *progress = Progress {
                    bytes: bytes.cast_unsigned(),
                    hash: hash.0,
                    lines: lines.cast_unsigned(),
                    counted: counted.cast_unsigned(),
                };
            }
        }
        Ok(lanes)
    }

    /// Notes that an import of the file begins or goes on.
    ///
    /// # Errors
    /// The database cannot be used now.
    pub async fn begin_import(&self, file: u64, name: &str, whole: Option<Span>) -> Result<(), StoreError> {
        let mut connection = self.acquire().await?;
        query(
            "WITH file AS (\
                INSERT INTO import_file AS t (file, name, whole_from, whole_until) VALUES ($1, $2, $3, $4) \
                ON CONFLICT (file) DO UPDATE SET name = excluded.name RETURNING t.file\
             ) \
             INSERT INTO import_place (file, lane, hash) SELECT f.file, l.lane, $5 FROM file f, (VALUES (0), (1)) AS l (lane) \
             ON CONFLICT DO NOTHING",
        )
        .bind(file.cast_signed())
        .bind(text(name).into_owned())
        .bind(whole.map(|(from, _)| Stamp::saturating(from)))
        .bind(whole.map(|(_, until)| Stamp::saturating(until)))
        .bind(Key(0))
        .execute(&mut *connection)
        .await
        .trying("begin an import")?;
        Ok(())
    }

    /// From when on live counting may still be concerned with what was said: the start of the generation before the one
    /// that the slowest shard's stream was read up to. Where no stream was ever read, that of `now_ms`.
    ///
    /// # Errors
    /// The database cannot be used now.
    pub async fn import_horizon(&self, now_ms: Millis) -> Result<Millis, StoreError> {
        let mut connection = self.acquire().await?;
        let read: Option<Stamp> = query_scalar("SELECT min(stream_time) FROM shard_group WHERE grp = $1 AND seq > 0")
            .bind(Group::Fast.number())
            .fetch_one(&mut *connection)
            .await
            .trying("read how far the streams are read")?;
        Ok(horizon_start(read.map_or(now_ms, |read| read.millis().min(now_ms))))
    }

    /// Until when the shard's owner has it; none: nobody ever had it.
    ///
    /// # Errors
    /// The database cannot be used now; the shard has no row.
    pub async fn leased_until(&self, shard: u16) -> Result<Option<Millis>, StoreError> {
        let mut connection = self.acquire().await?;
        let until: Option<Stamp> = query_scalar("SELECT lease_until FROM shard WHERE shard = $1")
            .bind(shard.cast_signed())
            .fetch_one(&mut *connection)
            .await
            .trying("read a lease")?;
        Ok(until.map(Stamp::millis))
    }

    /// From when on what is kept.
    ///
    /// # Errors
    /// The database cannot be used now.
    pub async fn kept_from(&self) -> Result<KeptFrom, StoreError> {
        let mut connection = self.acquire().await?;
        let retained = Retained::read(&mut connection).await.trying("read retained_from")?;
        let heard: Option<Stamp> = query_scalar("SELECT start_time FROM retained_from WHERE level = 'heard'")
            .fetch_optional(&mut *connection)
            .await
            .trying("read retained_from")?;
        Ok(KeptFrom {
            minutes_ms: retained.from(Kept::Minute).millis(),
            hours_ms: retained.from(Kept::Hour).millis(),
            heard_ms: heard.map_or(0, Stamp::millis),
            events_ms: retained.from(Kept::Event).millis(),
        })
    }

    /// What sources other than the file have counted of the channels within that time.
    ///
    /// # Errors
    /// The database cannot be used now.
    pub async fn covered(&self, file: u64, channels: &[ChannelId], span: Span) -> Result<Covered, StoreError> {
        let mut connection = self.acquire().await?;
        covered(&mut connection, file, channels, span).await
    }
}

/// The same, in a transaction.
pub(super) async fn covered(
    connection: &mut PgConnection,
    file: u64,
    channels: &[ChannelId],
    span: Span,
) -> Result<Covered, StoreError> {
    let channels: Vec<i64> = channels.iter().map(|&channel| sequence(channel)).collect();
    let (from, until) = (Stamp::saturating(span.0), Stamp::saturating(span.1));
    let mut found = Covered::default();
    // Lines first: retention makes coverage of them.
    let lines: Vec<(Key, i64, Stamp)> = query_as(
        "SELECT key, channel_id, sent_at FROM uncovered_line WHERE sent_at >= $2 AND sent_at < $3 AND channel_id = ANY($1)",
    )
    .bind(&channels)
    .bind(from)
    .bind(until)
    .fetch_all(&mut *connection)
    .await
    .trying("read what was counted beyond coverage")?;
    for (key, channel, at) in lines {
        found.add_line(key.0, channel.cast_unsigned(), at.millis());
    }
    let heard: Vec<(i64, Stamp, Stamp)> = query_as(HEARD)
        .bind(&channels)
        .bind(file.cast_signed())
        .bind(from)
        .bind(until)
        .fetch_all(connection)
        .await
        .trying("read what others have heard")?;
    for (channel, since, until) in heard {
        found.add_heard(channel.cast_unsigned(), (since.millis(), until.millis()));
    }
    Ok(found)
}

/// Stretches within `$3` to `$4` that sources other than `$2` have heard.
const HEARD: &str = "SELECT s.channel_id, lower(s.time), upper(s.time) FROM (
        SELECT v.channel_id, unnest(range_agg(
            tstzrange(v.since, greatest(v.since, coalesce(v.until, h.until, v.since))) * tstzrange($3, $4)
        )) AS time
        FROM coverage v
        LEFT JOIN heard h
        ON v.until IS NULL AND h.shard = v.shard AND h.instance = v.instance AND h.connection = v.connection
        WHERE v.channel_id = ANY($1) AND v.instance <> $2 AND v.since < $4 AND coalesce(v.until, h.until, v.since) > $3
        GROUP BY v.channel_id
    ) s
    ORDER BY s.channel_id, lower(s.time)";
