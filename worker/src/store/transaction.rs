//! The transaction of a commit: statement 1, the writes, COMMIT, and looking what became of it.

use super::commit::Flush;
use super::connect::Store;
use super::elsewhere::read_elsewhere;
use super::error::{StoreError, Trying, failed, is_broken};
use super::lease::{Claim, numbers};
use super::partition::Retained;
use super::rows::Context;
use super::value::{Stamp, sequence, text};
use super::write::{RefusedRow, Write};
use super::{fast, slow};
use crate::aggregate::delta::Position;
use crate::aggregate::late::{self, Elsewhere, LateLine};
use crate::aggregate::tally::Tally;
use crate::protection::Protection;
use sqlx::pool::PoolConnection;
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Postgres, Transaction, query, query_as, query_scalar};
use std::future::Future;
use std::sync::PoisonError;
use std::time::Duration;

/// A transaction that takes longer is given up; Postgres cancels each statement at 60 s.
pub(super) const TRANSACTION_LIMIT: Duration = Duration::from_secs(90);
/// A COMMIT that is not answered by then has an unknown outcome.
pub(super) const COMMIT_LIMIT: Duration = Duration::from_secs(30);

/// What is committed at once.
pub(super) struct Commit<'a> {
    pub(super) claim: &'a Claim,
    pub(super) flushes: &'a [Flush<'a>],
    /// Lines that count where nobody else covers their time.
    pub(super) late: &'a [LateLine],
    pub(super) to: &'a Position,
    /// Empty: what is stored stays.
    pub(super) stream_created: &'a str,
}

/// All writes of a commit, made for what retention had left, and others had covered, when they were made.
pub(super) struct Prepared {
    pub(super) context: Context,
    pub(super) elsewhere: Elsewhere,
    /// What became of the late lines.
    pub(super) late: Tally,
    pub(super) writes: Vec<Write>,
}

/// How an attempt ended without an error of the database.
pub(super) enum Ended {
    Committed {
        rows: u64,
        refused: Vec<RefusedRow>,
    },
    /// An earlier call did it, whose outcome was not known.
    Before,
    Fenced,
    /// Retention has moved on: prepare again.
    Retention(Retained),
    /// Others cover what they did not when it was prepared: again.
    Elsewhere(Elsewhere),
    /// The lease does not name this backend yet.
    Unnamed,
    /// COMMIT was not answered.
    Unknown {
        pid: i32,
        error: StoreError,
        rows: u64,
        refused: Vec<RefusedRow>,
    },
}

/// What an unknown outcome turned out to be.
pub(super) enum Outcome {
    Done,
    Again,
    Fenced,
}

impl Store {
    pub(super) fn prepare(&self, commit: &Commit<'_>, elsewhere: Elsewhere) -> Prepared {
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
        let mut tally = Tally::default();
        if !commit.late.is_empty() {
            let late = late::count(commit.late, &elsewhere);
            tally = late.tally;
            writes.extend(fast::writes(&late.fast, shard, &mut context));
            writes.extend(late.slow.iter().flat_map(|slice| slow::writes(slice, &mut context)));
        }
        writes.push(context.dirty_write(shard));
        Prepared { context, elsewhere, late: tally, writes }
    }

    /// One transaction. An error means that it was not committed.
    pub(super) async fn attempt(
        &self,
        connection: &mut PoolConnection<Postgres>,
        commit: &Commit<'_>,
        prepared: &Prepared,
        careful: bool,
    ) -> Result<Ended, StoreError> {
        let work = self.work(connection, commit, prepared, careful);
        let worked = tokio::time::timeout(TRANSACTION_LIMIT, Box::pin(work)).await;
        let timed_out = |_| StoreError::TimedOut { action: "commit", seconds: TRANSACTION_LIMIT.as_secs() };
        let (transaction, pid, rows, refused, renewed) = match worked.map_err(timed_out)?? {
            Worked::Ready(ready) => ready,
            Worked::Ended(ended) => return Ok(ended),
        };
        match limited(COMMIT_LIMIT, "commit", transaction.commit()).await {
            Ok(()) => {
                renewed.into_iter().for_each(|pids| commit.claim.publish(pids));
                Ok(Ended::Committed { rows, refused })
            }
            Err(error) => Ok(Ended::Unknown { pid, error, rows, refused }),
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
        if !commit.claim.names(pid) && Protection::Epoch.is_on() {
            transaction.rollback().await.trying("roll back")?;
            return Ok(Worked::Ended(Ended::Unnamed));
        }
        // After statement 1: retention holds the rows of shard_group while it moves on.
        let retained = Retained::read(&mut transaction).await.trying("read retained_from")?;
        if retained != prepared.context.retained {
            transaction.rollback().await.trying("roll back")?;
            return Ok(Worked::Ended(Ended::Retention(retained)));
        }
        // After statement 1, too: an import holds the rows of shard_group while it covers.
        if !commit.late.is_empty() {
            let elsewhere =
                read_elsewhere(&mut transaction, commit.late, &retained).await.trying("read who covers late lines")?;
            if elsewhere != prepared.elsewhere {
                transaction.rollback().await.trying("roll back")?;
                return Ok(Worked::Ended(Ended::Elsewhere(elsewhere)));
            }
        }
        if !Protection::SequenceInTransaction.is_on() {
            sqlx::raw_sql("COMMIT; BEGIN").execute(&mut *transaction).await.trying("move the sequence on alone")?;
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
                    return Err(failed("write counts", source));
                }
            }
        }
        // Last, so that the lease's row is locked for as short as can be.
        let fast = commit.flushes.iter().any(|flush| matches!(flush, Flush::Fast { .. }));
        let renewed = if fast && commit.claim.is_old() {
            match self.renew_in(&mut transaction, commit.claim).await? {
                Some(pids) => Some(pids),
                None => return Ok(Worked::Ended(Ended::Fenced)),
            }
        } else {
            None
        };
        Ok(Worked::Ready((transaction, pid, rows, refused, renewed)))
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
    pub(super) async fn outcome(&self, commit: &Commit<'_>, pid: i32) -> Result<Outcome, StoreError> {
        let Some(flush) = commit.flushes.first() else {
            return Ok(Outcome::Done);
        };
        self.end_backend(pid).await?;
        let mut connection = self.acquire().await?;
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

    /// Ends one of our own backends, and waits for it: it may still be waiting for a COMMIT that was lost on the way, and
    /// holds its rows meanwhile.
    pub(super) async fn end_backend(&self, pid: i32) -> Result<(), StoreError> {
        let Some(started) = self.inner.backends.started(pid) else { return Ok(()) };
        let mut connection = self.acquire().await?;
        query("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE pid = $1 AND backend_start = $2")
            .bind(pid)
            .bind(started)
            .execute(&mut *connection)
            .await
            .trying("end our backend")?;
        self.inner.backends.forget(pid);
        Ok(())
    }
}

/// How the work of a transaction ended: ready to commit, or over.
enum Worked<'c> {
    /// The transaction, its backend, rows written and refused, and what the lease names if it was renewed.
    Ready((Transaction<'c, Postgres>, i32, u64, Vec<RefusedRow>, Option<Vec<i32>>)),
    Ended(Ended),
}

/// Statement 1 of a group. Returns our backend's pid; none: no row.
async fn move_on(
    connection: &mut PgConnection,
    commit: &Commit<'_>,
    flush: &Flush<'_>,
) -> Result<Option<i32>, StoreError> {
    let Commit { claim, flushes: _, late: _, to, stream_created } = commit;
    let (instances, numbers) = numbers(to);
    let epoch = if Protection::Epoch.is_on() { claim.epoch } else { standing(connection, commit, flush).await?.0 };
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
    .bind(epoch)
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
        Err(_) => Err(StoreError::TimedOut { action, seconds: limit.as_secs() }),
    }
}

/// After an error: closes a connection that must not go back to the pool. `Ok` with the error where only the connection
/// had broken, so that another may do at once.
pub(super) fn discard_if_broken(
    connection: PoolConnection<Postgres>,
    error: StoreError,
) -> Result<StoreError, StoreError> {
    match &error {
        StoreError::Sql { source, .. } if is_broken(source) => {
            drop(connection.detach());
            Ok(error)
        }
        StoreError::TimedOut { .. } => {
            drop(connection.detach());
            Err(error)
        }
        _ => Err(error),
    }
}
