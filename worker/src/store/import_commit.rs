//! The transaction of an import: its place in the file, the shards' rows locked, coverage read again, the counts, COMMIT.
//!
//! Invariants:
//! - The file's place moves in the transaction of its counts, or not at all.
//! - All groups of the shards that it touches are locked, in the order in which retention and claims lock them: no live
//!   commit is under way, and the coverage that is read after that is what the counts rest on. Where it is not what they
//!   were made with, nothing is written.

use super::commit::Committed;
use super::connect::Store;
use super::dictionary::Dictionary;
use super::error::{StoreError, Trying, is_broken, is_data_error, is_missing_partition};
use super::import::covered;
use super::partition::{Kept, Retained};
use super::rows::Context;
use super::transaction::{COMMIT_LIMIT, TRANSACTION_LIMIT, discard_if_broken, limited};
use super::value::{Key, Stamp, number, sequence, text};
use super::write::{Column, RefusedRow, Write};
use super::{fast, slow};
use crate::aggregate::delta::{ChannelId, ChatterId, FastDelta, Millis, SLICES, SlowDelta};
use crate::import::covered::{Covered, Span};
use clamor_chat::shard::shard;
use rustc_hash::FxHashSet;
use sqlx::pool::PoolConnection;
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Postgres, Transaction, query, query_scalar};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;
use std::time::Instant;

/// As many as a live commit has.
const ATTEMPTS: usize = 12;

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
    fn shard_of(&self, channel_id: ChannelId) -> i16 {
        shard(channel_id, self.shards).cast_signed()
    }
}

/// How the commit of a step ended.
#[derive(Debug)]
pub enum ImportOutcome {
    /// The counts are in.
    Committed(Committed),
    /// Others have heard something else by now: count again with this.
    Covered(Covered),
    /// Another process has moved the file's place.
    Elsewhere,
}

/// How an attempt ended.
enum Ended {
    Committed { rows: u64, refused: Vec<RefusedRow> },
    Covered(Covered),
    Elsewhere,
    Retention(Retained),
    Unknown { pid: i32, error: StoreError, rows: u64, refused: Vec<RefusedRow> },
}

/// How the work of a transaction ended.
enum Worked<'c> {
    Ready(Transaction<'c, Postgres>, i32, u64, Vec<RefusedRow>),
    Ended(Ended),
}

/// All writes of a step, made for what retention had left then.
struct Prepared {
    context: Context,
    writes: Vec<Write>,
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
        let began = Instant::now();
        let names = self.write_names(step, delta).await?;
        let outcome = Box::pin(self.commit_step(step, delta)).await?;
        Ok(match outcome {
            ImportOutcome::Committed(mut committed) => {
                committed.rows += names.rows;
                committed.refused.extend(names.refused);
                committed.millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
                ImportOutcome::Committed(committed)
            }
            other => other,
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
        let mut done = Committed { refused: dictionary.refused, ..Committed::default() };
        for write in writes.iter().filter(|write| write.rows > 0) {
            let (rows, refused) = self.write_alone(write).await?;
            done.rows += rows;
            done.refused.extend(refused);
        }
        Ok(done)
    }

    fn prepare_import(&self, step: &ImportStep<'_>, delta: &mut ImportDelta) -> Prepared {
        let retained = *self.inner.retained.lock().unwrap_or_else(PoisonError::into_inner);
        delta.settle(&retained);
        let mut context = Context::new(retained);
        let mut writes = fast::writes(&delta.fast, 0, &mut context);
        for slice in &delta.slow {
            writes.extend(slow::writes(slice, &mut context));
        }
        writes.push(coverage_write(step, delta, &mut context));
        let shards: BTreeSet<i16> = step.channels.iter().map(|&channel| step.shard_of(channel)).collect();
        writes.extend(shards.into_iter().map(|shard| context.dirty_write(shard)));
        writes.retain(|write| write.rows > 0);
        Prepared { context, writes }
    }

    async fn commit_step(&self, step: &ImportStep<'_>, delta: &mut ImportDelta) -> Result<ImportOutcome, StoreError> {
        let mut prepared = self.prepare_import(step, delta);
        let mut careful = false;
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let periods = prepared.context.periods.iter().copied();
            self.inner.partitions.ensure(&self.inner.pool, periods).await?;
            let mut connection = self.acquire().await?;
            match self.attempt_import(&mut connection, step, &prepared, careful).await {
                Ok(Ended::Committed { rows, refused }) => return Ok(prepared.committed(rows, refused)),
                Ok(Ended::Covered(covered)) => return Ok(ImportOutcome::Covered(covered)),
                // Where an earlier call came through whose outcome could not be looked up, it is done.
                Ok(Ended::Elsewhere) => {
                    drop(connection);
                    let is_done = self.standing(step).await? == step.to_bytes;
                    return Ok(if is_done { prepared.committed(0, Vec::new()) } else { ImportOutcome::Elsewhere });
                }
                Ok(Ended::Retention(retained)) => {
                    *self.inner.retained.lock().unwrap_or_else(PoisonError::into_inner) = retained;
                    prepared = self.prepare_import(step, delta);
                }
                Ok(Ended::Unknown { pid, error, rows, refused }) => {
                    tracing::warn!(%error, "the outcome of a commit is unknown, looking");
                    drop(connection.detach());
                    match self.place_after(step, pid).await? {
                        place if place == step.to_bytes => return Ok(prepared.committed(rows, refused)),
                        place if place == step.from_bytes => last = Some(error),
                        _ => return Ok(ImportOutcome::Elsewhere),
                    }
                }
                Err(StoreError::Sql { source, .. }) if is_data_error(&source) && !careful => careful = true,
                Err(StoreError::Sql { source, action }) if is_missing_partition(&source) => {
                    self.inner.partitions.forget();
                    last = Some(StoreError::Sql { source, action });
                }
                Err(error) => last = Some(discard_if_broken(connection, error)?),
            }
        }
        Err(last.unwrap_or(StoreError::TimedOut { action: "commit", seconds: 0 }))
    }

    async fn attempt_import(
        &self,
        connection: &mut PoolConnection<Postgres>,
        step: &ImportStep<'_>,
        prepared: &Prepared,
        careful: bool,
    ) -> Result<Ended, StoreError> {
        let work = work(connection, step, prepared, careful);
        let worked = tokio::time::timeout(TRANSACTION_LIMIT, Box::pin(work)).await;
        let timed_out = |_| StoreError::TimedOut { action: "commit", seconds: TRANSACTION_LIMIT.as_secs() };
        let (transaction, pid, rows, refused) = match worked.map_err(timed_out)?? {
            Worked::Ready(transaction, pid, rows, refused) => (transaction, pid, rows, refused),
            Worked::Ended(ended) => return Ok(ended),
        };
        match limited(COMMIT_LIMIT, "commit", transaction.commit()).await {
            Ok(()) => Ok(Ended::Committed { rows, refused }),
            Err(error) => Ok(Ended::Unknown { pid, error, rows, refused }),
        }
    }

    /// The file's place, after whoever may still hold its row has ended.
    async fn place_after(&self, step: &ImportStep<'_>, pid: i32) -> Result<u64, StoreError> {
        self.end_backend(pid).await?;
        self.standing(step).await
    }

    async fn standing(&self, step: &ImportStep<'_>) -> Result<u64, StoreError> {
        let mut connection = self.acquire().await?;
        let bytes: i64 = query_scalar("SELECT bytes FROM import_file WHERE file = $1 FOR UPDATE")
            .bind(step.file.cast_signed())
            .fetch_one(&mut *connection)
            .await
            .trying("read how far a file is imported")?;
        Ok(bytes.cast_unsigned())
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

impl Prepared {
    fn committed(self, rows: u64, mut refused: Vec<RefusedRow>) -> ImportOutcome {
        refused.extend(self.context.refused);
        ImportOutcome::Committed(Committed { rows, refused, ..Committed::default() })
    }
}

/// Everything but COMMIT.
async fn work<'c>(
    connection: &'c mut PoolConnection<Postgres>,
    step: &ImportStep<'_>,
    prepared: &Prepared,
    careful: bool,
) -> Result<Worked<'c>, StoreError> {
    let mut transaction = connection.begin().await.trying("begin")?;
    let Some(pid) = move_on(&mut transaction, step).await? else {
        transaction.rollback().await.trying("roll back")?;
        return Ok(Worked::Ended(Ended::Elsewhere));
    };
    if let Some(ended) = look_again(&mut transaction, step, prepared).await? {
        transaction.rollback().await.trying("roll back")?;
        return Ok(Worked::Ended(ended));
    }
    let (mut rows, mut refused) = (0, Vec::new());
    for write in &prepared.writes {
        let written = if careful {
            write.execute_carefully(&mut transaction, &mut refused).await
        } else {
            write.execute(&mut transaction).await
        };
        match written {
            Ok(written) => rows += written,
            Err(source) => {
                if !is_broken(&source) {
                    // At once: the shards' rows are locked until then.
                    transaction.rollback().await.trying("roll back")?;
                }
                return Err(StoreError::Sql { action: "write counts", source });
            }
        }
    }
    Ok(Worked::Ready(transaction, pid, rows, refused))
}

/// Moves the file's place. Returns our backend's pid; none: the file is not where the caller left it.
async fn move_on(connection: &mut PgConnection, step: &ImportStep<'_>) -> Result<Option<i32>, StoreError> {
    query_scalar(
        "UPDATE import_file SET bytes = $3, hash = $4, lines = $5, counted = counted + $6, committed_at = now() \
         WHERE file = $1 AND bytes = $2 RETURNING pg_backend_pid()",
    )
    .bind(step.file.cast_signed())
    .bind(sequence(step.from_bytes))
    .bind(sequence(step.to_bytes))
    .bind(Key(step.hash))
    .bind(sequence(step.lines))
    .bind(sequence(step.counted))
    .fetch_optional(connection)
    .await
    .trying("move a file's place on")
}

/// Locks the shards and looks whether all is as it was when the lines were counted; none: it is.
async fn look_again(
    connection: &mut PgConnection,
    step: &ImportStep<'_>,
    prepared: &Prepared,
) -> Result<Option<Ended>, StoreError> {
    let shards: BTreeSet<i16> = step.channels.iter().map(|&channel| step.shard_of(channel)).collect();
    query("SELECT FROM shard_group WHERE shard = ANY($1) ORDER BY shard, grp FOR UPDATE")
        .bind(shards.into_iter().collect::<Vec<_>>())
        .execute(&mut *connection)
        .await
        .trying("lock the shards")?;
    let now = covered(connection, step.file, step.channels, step.span).await?;
    if now != *step.covered {
        return Ok(Some(Ended::Covered(now)));
    }
    let retained = Retained::read(connection).await.trying("read retained_from")?;
    Ok((retained != prepared.context.retained).then_some(Ended::Retention(retained)))
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
