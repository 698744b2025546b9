//! The commit: counts and position in one transaction, once.
//!
//! Order: 1. `shard_group` moves from the old sequence to the new one under our epoch (no row: the shard is not ours),
//! 2. upserts, each table once, sorted, in one order, the dirty windows last, 3. COMMIT. If its outcome is unknown, our
//! backend is ended and the row is read on another connection: the new sequence means done, the old one do it again.

use super::connect::Store;
use super::dictionary::Dictionary;
use super::error::{CommitError, StoreError, Trying, is_broken, is_data_error, is_missing_partition};
use super::lease::{Claim, numbers};
use super::partition::Retained;
use super::rows::Context;
use super::value::{Stamp, sequence, text};
use super::write::{RefusedRow, Write};
use super::{fast, slow};
use crate::aggregate::delta::{FastDelta, Group, Position, SlowDelta};
use sqlx::pool::PoolConnection;
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Postgres, Transaction, query, query_as, query_scalar};
use std::future::Future;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

/// A transaction that takes longer is given up; Postgres cancels each statement at 60 s.
const TRANSACTION_LIMIT: Duration = Duration::from_secs(90);
/// A COMMIT that is not answered by then has an unknown outcome.
const COMMIT_LIMIT: Duration = Duration::from_secs(30);
/// Attempts within one call: stale connections of the pool, changes of retention, a backend that the lease does not
/// name yet. More than that is an outage, which is the caller's to wait for.
const ATTEMPTS: usize = 12;

/// What a commit did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Committed {
    /// Rows inserted or updated, dictionaries included.
    pub rows: u64,
    /// How long it took, in ms.
    pub millis: u64,
    /// Rows that can never be stored: for the dead letters. All others are committed.
    pub refused: Vec<RefusedRow>,
}

/// One group's part of a commit.
#[derive(Debug, Clone, Copy)]
pub enum Flush<'a> {
    /// The fast group.
    Fast {
        /// Its sequence before.
        from_seq: u64,
        /// What is added.
        delta: &'a FastDelta,
    },
    /// A slice of the slow tables.
    Slow {
        /// The slice.
        slice: u8,
        /// Its sequence before.
        from_seq: u64,
        /// What is added.
        delta: &'a SlowDelta,
    },
}

impl Flush<'_> {
    fn group(&self) -> Group {
        match self {
            Self::Fast { .. } => Group::Fast,
            Self::Slow { slice, .. } => Group::Slow(*slice),
        }
    }

    fn begins_at(&self) -> u64 {
        match self {
            Self::Fast { from_seq, .. } | Self::Slow { from_seq, .. } => *from_seq,
        }
    }
}

/// What is committed at once.
struct Commit<'a> {
    claim: &'a Claim,
    flushes: &'a [Flush<'a>],
    to: &'a Position,
    /// Empty: what is stored stays.
    stream_created: &'a str,
}

/// All writes of a commit, made for what retention had left when they were made.
struct Prepared {
    context: Context,
    writes: Vec<Write>,
}

/// How an attempt ended without an error of the database.
enum Ended {
    Committed {
        rows: u64,
        refused: Vec<RefusedRow>,
    },
    /// An earlier call did it, whose outcome was not known.
    Before,
    Fenced,
    /// Retention has moved on: prepare again.
    Retention(Retained),
    /// The lease does not name this backend yet.
    Unnamed,
    /// COMMIT was not answered.
    Unknown {
        pid: i32,
        error: StoreError,
    },
}

/// What an unknown outcome turned out to be.
enum Outcome {
    Done,
    Again,
    Fenced,
}

impl Store {
    /// Commits one flush of the fast group: moves it from `from_seq` to `to`.
    ///
    /// A delta whose `to.seq` is `from_seq` must add nothing: only what is written absolutely may be in it, since such
    /// a commit cannot be told from the one before it.
    ///
    /// # Errors
    /// [`CommitError::Fenced`]: give the shard up. [`CommitError::Unavailable`]: the same call again, with back-off; if
    /// the first had come through after all, nothing is counted twice.
    pub async fn commit_fast(
        &self,
        claim: &Claim,
        from_seq: u64,
        to: &Position,
        stream_created: &str,
        delta: &FastDelta,
    ) -> Result<Committed, CommitError> {
        self.commit(claim, &[Flush::Fast { from_seq, delta }], to, stream_created)
            .await
    }

    /// Commits one flush of a slice of the slow tables.
    ///
    /// # Errors
    /// As [`Store::commit_fast`].
    pub async fn commit_slow(
        &self,
        claim: &Claim,
        slice: u8,
        from_seq: u64,
        to: &Position,
        delta: &SlowDelta,
    ) -> Result<Committed, CommitError> {
        self.commit(claim, &[Flush::Slow { slice, from_seq, delta }], to, "")
            .await
    }

    /// Commits several groups in one transaction, all to the same position: where a count depends on what another group
    /// writes, and where the stream was re-created. In the order of the groups.
    ///
    /// # Errors
    /// As [`Store::commit_fast`].
    pub async fn commit(
        &self,
        claim: &Claim,
        flushes: &[Flush<'_>],
        to: &Position,
        stream_created: &str,
    ) -> Result<Committed, CommitError> {
        let begun = Instant::now();
        let commit = Commit {
            claim,
            flushes,
            to,
            stream_created,
        };
        let dictionary = self.write_dictionary(&commit).await?;
        let mut committed = Box::pin(self.commit_counts(&commit)).await?;
        committed.rows += dictionary.rows;
        committed.refused.extend(dictionary.refused);
        committed.millis = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(committed)
    }

    async fn write_dictionary(&self, commit: &Commit<'_>) -> Result<Committed, StoreError> {
        let mut dictionary = Dictionary::default();
        {
            let known = self.inner.known_channels.lock().unwrap_or_else(PoisonError::into_inner);
            for flush in commit.flushes {
                match flush {
                    Flush::Fast { delta, .. } => dictionary.add_fast(delta, commit.claim.shard_number(), &known),
                    Flush::Slow { delta, .. } => dictionary.add_slow(delta, commit.claim.shard_number(), &known),
                }
            }
        }
        let mut done = Committed::default();
        for write in dictionary.writes.iter().filter(|write| write.rows > 0) {
            let (rows, refused) = self.write_alone(write).await?;
            done.rows += rows;
            done.refused.extend(refused);
        }
        done.refused.append(&mut dictionary.refused);
        self.inner
            .known_channels
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(dictionary.channels);
        Ok(done)
    }

    /// One statement that commits by itself; idempotent, so it is repeated on a fresh connection if one breaks.
    async fn write_alone(&self, write: &Write) -> Result<(u64, Vec<RefusedRow>), StoreError> {
        let action = "write a dictionary";
        let mut attempt = 0;
        loop {
            attempt += 1;
            let mut connection = self.acquire().await?;
            match limited(TRANSACTION_LIMIT, action, write.execute(&mut connection)).await {
                Ok(rows) => return Ok((rows, Vec::new())),
                Err(StoreError::Sql { source, .. }) if is_data_error(&source) => {
                    let mut refused = Vec::new();
                    let mut transaction = connection.begin().await.trying(action)?;
                    let rows = write
                        .execute_carefully(&mut transaction, &mut refused)
                        .await
                        .trying(action)?;
                    transaction.commit().await.trying(action)?;
                    return Ok((rows, refused));
                }
                Err(error) => {
                    let broken = discard_if_broken(connection, &error);
                    if !broken || attempt == ATTEMPTS {
                        return Err(error);
                    }
                }
            }
        }
    }

    async fn commit_counts(&self, commit: &Commit<'_>) -> Result<Committed, CommitError> {
        let mut prepared = self.prepare(commit);
        let mut careful = false;
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let periods = prepared.context.periods.iter().copied();
            if let Err(error) = self.inner.partitions.ensure(&self.inner.pool, periods).await {
                last = Some(error);
                continue;
            }
            let mut connection = self.acquire().await?;
            match self.attempt(&mut connection, commit, &prepared, careful).await {
                Ok(Ended::Committed { rows, mut refused }) => {
                    refused.append(&mut prepared.context.refused);
                    return Ok(Committed {
                        rows,
                        millis: 0,
                        refused,
                    });
                }
                Ok(Ended::Before) => return Ok(Committed::default()),
                Ok(Ended::Fenced) => return Err(CommitError::Fenced),
                Ok(Ended::Retention(retained)) => {
                    *self.inner.retained.lock().unwrap_or_else(PoisonError::into_inner) = retained;
                    prepared = self.prepare(commit);
                }
                Ok(Ended::Unnamed) => {
                    drop(connection);
                    if !self.renew(commit.claim).await? {
                        return Err(CommitError::Fenced);
                    }
                }
                Ok(Ended::Unknown { pid, error }) => {
                    tracing::warn!(%error, shard = commit.claim.shard, "the outcome of a commit is unknown, looking");
                    drop(connection.detach());
                    match self.outcome(commit, pid).await? {
                        Outcome::Done => {
                            let rows = prepared.writes.iter().map(|write| write.rows as u64).sum();
                            return Ok(Committed {
                                rows,
                                millis: 0,
                                refused: prepared.context.refused,
                            });
                        }
                        Outcome::Again => last = Some(error),
                        Outcome::Fenced => return Err(CommitError::Fenced),
                    }
                }
                Err(StoreError::Sql { source, .. }) if is_data_error(&source) && !careful => careful = true,
                Err(StoreError::Sql { source, action }) if is_missing_partition(&source) => {
                    self.inner.partitions.forget();
                    last = Some(StoreError::Sql { source, action });
                }
                Err(error) => {
                    // Before COMMIT an error means that nothing was written. A connection that broke while it lay in
                    // the pool is replaced at once; what else there is, is the caller's to wait for.
                    if !discard_if_broken(connection, &error) {
                        return Err(error.into());
                    }
                    last = Some(error);
                }
            }
        }
        Err(last
            .unwrap_or(StoreError::TimedOut {
                action: "commit",
                seconds: 0,
            })
            .into())
    }

    fn prepare(&self, commit: &Commit<'_>) -> Prepared {
        let retained = *self.inner.retained.lock().unwrap_or_else(PoisonError::into_inner);
        let shard = commit.claim.shard_number();
        let mut context = Context::new(retained);
        let mut writes = Vec::new();
        for flush in commit.flushes {
            match flush {
                Flush::Fast { delta, .. } => writes.extend(fast::writes(delta, shard, &mut context)),
                Flush::Slow { delta, .. } => writes.extend(slow::writes(delta, &mut context)),
            }
        }
        writes.push(context.dirty_write(shard));
        Prepared { context, writes }
    }

    /// One transaction. An error means that it was not committed.
    async fn attempt(
        &self,
        connection: &mut PoolConnection<Postgres>,
        commit: &Commit<'_>,
        prepared: &Prepared,
        careful: bool,
    ) -> Result<Ended, StoreError> {
        let work = self.work(connection, commit, prepared, careful);
        let worked = tokio::time::timeout(TRANSACTION_LIMIT, Box::pin(work)).await;
        let timed_out = |_| StoreError::TimedOut {
            action: "commit",
            seconds: TRANSACTION_LIMIT.as_secs(),
        };
        let (transaction, pid, rows, refused) = match worked.map_err(timed_out)?? {
            Worked::Ready(ready) => ready,
            Worked::Ended(ended) => return Ok(ended),
        };
        match limited(COMMIT_LIMIT, "commit", transaction.commit()).await {
            Ok(()) => Ok(Ended::Committed { rows, refused }),
            Err(error) => Ok(Ended::Unknown { pid, error }),
        }
    }

    /// Everything but COMMIT.
    async fn work<'c>(
        &self,
        connection: &'c mut PoolConnection<Postgres>,
        commit: &Commit<'_>,
        prepared: &Prepared,
        careful: bool,
    ) -> Result<Worked<'c>, StoreError> {
        let mut transaction = connection.begin().await.trying("begin")?;
        let mut pid = 0;
        for flush in commit.flushes {
            match move_on(&mut transaction, commit, flush).await? {
                Some(backend) => pid = backend,
                None => {
                    let ended = self.refused_at_statement_1(&mut transaction, commit, flush).await?;
                    transaction.rollback().await.trying("roll back")?;
                    return Ok(Worked::Ended(ended));
                }
            }
        }
        if !commit.claim.names(pid) {
            transaction.rollback().await.trying("roll back")?;
            return Ok(Worked::Ended(Ended::Unnamed));
        }
        // After statement 1: retention holds the rows of shard_group while it moves on.
        let retained = Retained::read(&mut transaction).await.trying("read retained_from")?;
        if retained != prepared.context.retained {
            transaction.rollback().await.trying("roll back")?;
            return Ok(Worked::Ended(Ended::Retention(retained)));
        }
        let mut refused = Vec::new();
        let mut rows = 0;
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
                        // At once: the row of shard_group is locked until then.
                        transaction.rollback().await.trying("roll back")?;
                    }
                    return Err(StoreError::Sql {
                        action: "write counts",
                        source,
                    });
                }
            }
        }
        Ok(Worked::Ready((transaction, pid, rows, refused)))
    }

    /// Statement 1 found no row: the shard is not ours, or an earlier call with the same delta came through.
    async fn refused_at_statement_1(
        &self,
        connection: &mut PgConnection,
        commit: &Commit<'_>,
        flush: &Flush<'_>,
    ) -> Result<Ended, StoreError> {
        let (epoch, seq) = standing(connection, commit, flush).await?;
        let done_before =
            epoch == commit.claim.epoch && seq == sequence(commit.to.seq) && commit.to.seq != flush.begins_at();
        Ok(if done_before { Ended::Before } else { Ended::Fenced })
    }

    /// Looks whether a transaction whose COMMIT was not answered came through.
    async fn outcome(&self, commit: &Commit<'_>, pid: i32) -> Result<Outcome, StoreError> {
        let Some(flush) = commit.flushes.first() else {
            return Ok(Outcome::Done);
        };
        let mut connection = self.acquire().await?;
        // The old backend may still be waiting for a COMMIT that was lost on the way, and holds its row meanwhile.
        if let Some(started) = self.inner.backends.started(pid) {
            query("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE pid = $1 AND backend_start = $2")
                .bind(pid)
                .bind(started)
                .execute(&mut *connection)
                .await
                .trying("end our backend")?;
            self.inner.backends.forget(pid);
        }
        let (epoch, seq) = standing(&mut connection, commit, flush).await?;
        Ok(if epoch != commit.claim.epoch {
            Outcome::Fenced
        } else if seq == sequence(flush.begins_at()) {
            Outcome::Again
        } else if seq == sequence(commit.to.seq) {
            Outcome::Done
        } else {
            Outcome::Fenced
        })
    }
}

/// How the work of a transaction ended: ready to commit, or over.
enum Worked<'c> {
    Ready((Transaction<'c, Postgres>, i32, u64, Vec<RefusedRow>)),
    Ended(Ended),
}

/// Statement 1 of a group. Returns our backend's pid; none: no row.
async fn move_on(
    connection: &mut PgConnection,
    commit: &Commit<'_>,
    flush: &Flush<'_>,
) -> Result<Option<i32>, StoreError> {
    let Commit {
        claim,
        flushes: _,
        to,
        stream_created,
    } = commit;
    let (instances, numbers) = numbers(to);
    let judged_until = match flush {
        Flush::Fast { delta, .. } if delta.judged_until_ms > 0 => Some(Stamp::saturating(delta.judged_until_ms)),
        Flush::Fast { .. } | Flush::Slow { .. } => None,
    };
    query_scalar(
        "UPDATE shard_group SET seq = $5, stream_time = $6, msg_id = $7, instances = $8, numbers = $9, plan = $10, \
         stream_created = coalesce(nullif($11, ''), stream_created), judged_until = coalesce($12, judged_until), \
         committed_at = now() \
         WHERE shard = $1 AND grp = $2 AND epoch = $3 AND seq = $4 RETURNING pg_backend_pid()",
    )
    .bind(claim.shard_number())
    .bind(flush.group().number())
    .bind(claim.epoch)
    .bind(sequence(flush.begins_at()))
    .bind(sequence(to.seq))
    .bind(Stamp::saturating(to.stream_time_ms))
    .bind(text(&to.msg_id).into_owned())
    .bind(instances)
    .bind(numbers)
    .bind(text(&to.plan).into_owned())
    .bind((*stream_created).to_owned())
    .bind(judged_until)
    .fetch_optional(connection)
    .await
    .trying("move the shard's sequence on")
}

/// A group's epoch and sequence, after whoever holds its row has ended.
async fn standing(
    connection: &mut PgConnection,
    commit: &Commit<'_>,
    flush: &Flush<'_>,
) -> Result<(i64, i64), StoreError> {
    let row: Option<(i64, i64)> =
        query_as("SELECT epoch, seq FROM shard_group WHERE shard = $1 AND grp = $2 FOR UPDATE")
            .bind(commit.claim.shard_number())
            .bind(flush.group().number())
            .fetch_optional(connection)
            .await
            .trying("read the shard's sequence")?;
    // No row is nobody's epoch.
    Ok(row.unwrap_or((-1, -1)))
}

/// An action of the database, within a limit.
pub(super) async fn limited<T>(
    limit: Duration,
    action: &'static str,
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout(limit, work).await {
        Ok(done) => done.trying(action),
        Err(_) => Err(StoreError::TimedOut {
            action,
            seconds: limit.as_secs(),
        }),
    }
}

/// Closes a connection that must not go back to the pool; returns whether it was such.
fn discard_if_broken(connection: PoolConnection<Postgres>, error: &StoreError) -> bool {
    let broken = match error {
        StoreError::Sql { source, .. } => is_broken(source),
        StoreError::TimedOut { .. } => true,
        _ => false,
    };
    if broken {
        drop(connection.detach());
    }
    broken
}
