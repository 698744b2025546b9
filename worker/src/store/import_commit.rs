//! The transaction of an import: its place in the file, the shards' rows locked, coverage read again, the counts, COMMIT.
//!
//! Invariants:
//! - A lane's place in the file moves in the transaction of its counts, or not at all.
//! - All groups of the shards that it touches are locked, in the order in which retention and claims lock them: no live
//!   commit is under way, and the coverage that is read after that is what the counts rest on. Where it is not what they
//!   were made with, nothing is written.

use super::commit::Committed;
use super::connect::Store;
use super::dictionary::Dictionary;
use super::error::{StoreError, Trying};
use super::import::covered;
use super::lease::Claim;
use super::partition::{Kept, Retained};
use super::rows::Context;
use super::transaction::{Counts, Heard, Place, Prepared, Refusal};
use super::value::{Key, Stamp, number, sequence, text};
use super::write::{Column, Write};
use super::{fast, slow};
use crate::aggregate::delta::{ChannelId, ChatterId, FastDelta, Millis, SLICES, SlowDelta};
use crate::aggregate::tally::Tally;
use crate::import::covered::{Covered, Span};
use clamor_chat::shard::shard;
use rustc_hash::FxHashSet;
use sqlx::postgres::PgConnection;
use sqlx::{query, query_scalar};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// What some lines of a file add to the store.
#[derive(Debug, Default)]
pub struct ImportDelta {
    /// Minutes, events and names; without unique chatters and coverage.
    pub fast: FastDelta,
    /// Per-chatter tables.
    pub slow: [SlowDelta; SLICES as usize],
    /// Who wrote in which minute.
    pub minutes: Vec<MinuteChatters>,
    /// What the file covers.
    pub coverage: Vec<(ChannelId, Span)>,
}

/// Who wrote in a minute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MinuteChatters {
    /// Where.
    pub channel_id: ChannelId,
    /// When.
    pub minute_ms: Millis,
    /// Sorted.
    pub chatters: Vec<ChatterId>,
    /// How many there are in all, earlier lines included, where nobody else has counted in the minute: written where the
    /// list of its chatters is no longer kept.
    pub all: Option<u32>,
}

/// Where in the file the counts belong, and what they rest on.
#[derive(Debug, Clone, Copy)]
pub struct ImportStep<'a> {
    /// The file.
    pub file: u64,
    /// Which part of its channels.
    pub lane: usize,
    /// Its place before.
    pub from_bytes: u64,
    /// Its place after.
    pub to_bytes: u64,
    /// Hash of the content up to there.
    pub hash: u128,
    /// Lines up to there.
    pub lines: u64,
    /// Events that are counted now.
    pub counted: u64,
    /// Shards of the pipeline.
    pub shards: u16,
    /// Channels that there are lines of.
    pub channels: &'a [ChannelId],
    /// The time that was asked about.
    pub span: Span,
    /// What others had heard then.
    pub covered: &'a Covered,
}

impl ImportStep<'_> {
    fn lane(&self) -> i16 {
        i16::try_from(self.lane).unwrap_or(i16::MAX)
    }

    fn shard_of(&self, channel_id: ChannelId) -> i16 {
        shard(channel_id, self.shards).cast_signed()
    }

    /// Those that have a channel in it.
    fn shards(&self) -> BTreeSet<i16> {
        self.channels.iter().map(|&channel| self.shard_of(channel)).collect()
    }
}

/// How the commit of a step ended.
#[derive(Debug)]
pub enum ImportOutcome {
    /// The counts are in.
    Committed(Committed),
    /// Others have heard something else by now: count again with this.
    Covered(Covered),
    /// Another process has moved the lane's place.
    Elsewhere,
}

impl Store {
    /// Commits what a step adds.
    ///
    /// # Errors
    /// The database cannot be used now: the same call again, with back-off; nothing is counted twice.
    pub async fn commit_import(
        &self,
        step: &ImportStep<'_>,
        delta: &mut ImportDelta,
    ) -> Result<ImportOutcome, StoreError> {
        let begun = Instant::now();
        let names = self.write_names(step, delta).await?;
        let mut counts = FileCounts { step, delta };
        Ok(match Box::pin(self.commit_once(&mut counts)).await? {
            Ok(committed) => ImportOutcome::Committed(committed.with(names, begun)),
            Err(Refusal::Covered(covered)) => ImportOutcome::Covered(covered),
            Err(Refusal::Lost) => ImportOutcome::Elsewhere,
        })
    }

    /// Channels, chatters, emotes and phrases: before the counts, each table by itself.
    async fn write_names(&self, step: &ImportStep<'_>, delta: &mut ImportDelta) -> Result<Committed, StoreError> {
        let logins = std::mem::take(&mut delta.fast.channel_names);
        let mut channels: BTreeSet<ChannelId> = logins.keys().copied().collect();
        channels.extend(delta.coverage.iter().map(|row| row.0));
        let mut known: FxHashSet<ChannelId> = FxHashSet::default();
        known.extend(&channels);
        known.extend(delta.fast.channels.keys().map(|key| key.0));
        let mut dictionary = Dictionary::default();
        dictionary.add_fast(&delta.fast, 0, &known);
        for slice in &delta.slow {
            dictionary.add_slow(slice, 0, &known);
        }
        delta.fast.channel_names = logins;
        let mut writes = vec![channel_write(step, delta, channels)];
        writes.append(&mut dictionary.writes);
        let mut done = self.write_each(&writes).await?;
        done.refused.append(&mut dictionary.refused);
        Ok(done)
    }
}

/// What some lines of a file add.
struct FileCounts<'a> {
    step: &'a ImportStep<'a>,
    delta: &'a mut ImportDelta,
}

impl Counts for FileCounts<'_> {
    fn prepare(&mut self, retained: Retained) -> Prepared {
        let Self { step, delta } = self;
        delta.settle(&retained);
        let mut context = Context::new(retained);
        let mut writes = fast::writes(&delta.fast, 0, &mut context);
        for slice in &delta.slow {
            writes.extend(slow::writes(slice, &mut context));
        }
        writes.push(coverage_write(step, delta, &mut context));
        writes.extend(step.shards().into_iter().map(|shard| context.dirty_write(shard)));
        Prepared { context, late: Tally::default(), writes }
    }

    /// Moves the lane's place in the file, and locks the shards.
    async fn move_on(&self, connection: &mut PgConnection) -> Result<Result<i32, Place>, StoreError> {
        let step = self.step;
        let pid: Option<i32> = query_scalar(
            "UPDATE import_place SET bytes = $4, hash = $5, lines = $6, counted = counted + $7, committed_at = now() \
             WHERE file = $1 AND lane = $2 AND bytes = $3 RETURNING pg_backend_pid()",
        )
        .bind(step.file.cast_signed())
        .bind(step.lane())
        .bind(sequence(step.from_bytes))
        .bind(sequence(step.to_bytes))
        .bind(Key(step.hash))
        .bind(sequence(step.lines))
        .bind(sequence(step.counted))
        .fetch_optional(&mut *connection)
        .await
        .trying("move a file's place on")?;
        let Some(pid) = pid else { return self.place(connection).await.map(Err) };
        query("SELECT FROM shard_group WHERE shard = ANY($1) ORDER BY shard, grp FOR UPDATE")
            .bind(step.shards().into_iter().collect::<Vec<_>>())
            .execute(connection)
            .await
            .trying("lock the shards")?;
        Ok(Ok(pid))
    }

    async fn look_again(&mut self, connection: &mut PgConnection, _: &Retained) -> Result<Heard, StoreError> {
        let now = covered(connection, self.step.file, self.step.channels, self.step.span).await?;
        Ok(if now == *self.step.covered { Heard::Same } else { Heard::Covered(now) })
    }

    async fn place(&self, connection: &mut PgConnection) -> Result<Place, StoreError> {
        let bytes: i64 = query_scalar("SELECT bytes FROM import_place WHERE file = $1 AND lane = $2 FOR UPDATE")
            .bind(self.step.file.cast_signed())
            .bind(self.step.lane())
            .fetch_one(connection)
            .await
            .trying("read how far a file is imported")?;
        Ok(match bytes.cast_unsigned() {
            bytes if bytes == self.step.from_bytes => Place::Left,
            bytes if bytes == self.step.to_bytes => Place::Moved,
            _ => Place::Lost,
        })
    }

    /// A file is nobody's.
    fn lease(&self) -> Option<(&Claim, bool)> {
        None
    }
}

impl ImportDelta {
    /// Unique chatters: merged with the store's lists, or where those are no longer kept, written as they are.
    fn settle(&mut self, retained: &Retained) {
        self.fast.settled.clear();
        self.fast.uniques.clear();
        for MinuteChatters { channel_id, minute_ms, chatters, all } in &self.minutes {
            if retained.has(Kept::MinuteChatters, Stamp::saturating(*minute_ms)) {
                self.fast.settled.push((*channel_id, *minute_ms, chatters.clone()));
            } else if let Some(all) = all {
                self.fast.uniques.insert((*channel_id, *minute_ms), *all);
            }
        }
    }
}

/// Channels with their shards: those that the file names, and those that it covers.
fn channel_write(step: &ImportStep<'_>, delta: &ImportDelta, channels: BTreeSet<ChannelId>) -> Write {
    let storable = channels.into_iter().filter_map(|channel| Some((channel, number("channel_id", channel).ok()?)));
    let rows: Vec<_> = storable.map(|(channel, id)| (id, delta.fast.channel_names.get(&channel), channel)).collect();
    Write {
        table: "channel",
        sql: "INSERT INTO channel AS t (channel_id, login, login_at, shard) \
              SELECT n.a, n.b, n.c, n.d::smallint \
              FROM unnest($1::bigint[], $2::text[], $3::timestamptz[], $4::bigint[]) AS n (a, b, c, d) \
              ON CONFLICT (channel_id) DO UPDATE SET login = excluded.login, login_at = excluded.login_at \
              WHERE excluded.login_at > coalesce(t.login_at, '-infinity')",
        rows: rows.len(),
        columns: vec![
            ("channel_id", Column::Numbers(rows.iter().map(|row| row.0).collect())),
            ("login", Column::OptionalTexts(rows.iter().map(|row| row.1.map(|(l, _)| text(l).into_owned())).collect())),
            (
                "login_at",
                Column::OpenTimes(rows.iter().map(|row| row.1.map(|&(_, at)| Stamp::saturating(at))).collect()),
            ),
            ("shard", Column::Numbers(rows.iter().map(|row| i64::from(step.shard_of(row.2))).collect())),
        ],
        shard: None,
    }
}

/// What the file covers, as that of a source with one connection.
fn coverage_write(step: &ImportStep<'_>, delta: &ImportDelta, context: &mut Context) -> Write {
    let mut rows: BTreeMap<(i64, Stamp), (Stamp, i16)> = BTreeMap::new();
    for &(channel, (since, until)) in &delta.coverage {
        let row = fast::window(channel, since);
        let Some(id) = context.accept("coverage", row, &[channel, since, until]).filter(|_| since < until) else {
            continue;
        };
        let until = Stamp::saturating(until);
        let entry = rows.entry((id, Stamp::saturating(since))).or_insert((until, step.shard_of(channel)));
        entry.0 = entry.0.max(until);
    }
    let file = step.file.cast_signed();
    Write {
        table: "coverage",
        sql: "INSERT INTO coverage AS t (channel_id, since, until, shard, instance, connection) \
              SELECT n.a, n.b, n.c, n.d::smallint, n.e, 0 \
              FROM unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[], $4::bigint[], $5::bigint[]) \
              AS n (a, b, c, d, e) \
              ON CONFLICT (channel_id, since, instance, connection) \
              DO UPDATE SET until = greatest(t.until, excluded.until)",
        rows: rows.len(),
        columns: vec![
            ("channel_id", Column::Numbers(rows.keys().map(|key| key.0).collect())),
            ("since", Column::Times(rows.keys().map(|key| key.1).collect())),
            ("until", Column::Times(rows.values().map(|row| row.0).collect())),
            ("shard", Column::Numbers(rows.values().map(|row| i64::from(row.1)).collect())),
            ("instance", Column::Numbers(vec![file; rows.len()])),
        ],
        shard: None,
    }
}
