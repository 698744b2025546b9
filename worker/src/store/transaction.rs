//! The transaction of counts, whoever moves on by it: a shard's groups, or a file that is imported.
//!
//! Statement 1 moves the place on, the writes follow, then COMMIT. Invariants:
//! - What the writes were made for (what retention has left, who has heard what) is read again after statement 1: who
//!   changes it holds the same rows. Where it is not the same any more, nothing is written, and they are made anew.
//! - A COMMIT without an answer is looked into: our backend is ended first, so that it cannot commit afterwards, and the
//!   place says whether it did before.
//! - A row that Postgres refuses is left out; the others are committed.

use super::commit::Committed;
use super::connect::Store;
use super::error::{StoreError, Trying, failed, is_broken, is_data_error, is_missing_partition};
use super::lease::Claim;
use super::partition::Retained;
use super::rows::Context;
use super::write::{RefusedRow, Write};
use crate::aggregate::tally::Tally;
use crate::import::covered::Covered;
use crate::protection::Protection;
use sqlx::pool::PoolConnection;
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Postgres, Transaction, query};
use std::future::Future;
use std::sync::PoisonError;
use std::time::Duration;

/// Attempts within one call: stale connections of the pool, a missing partition, a backend that the lease does not name
/// yet. More than that is an outage, which is the caller's to wait for.
pub(super) const ATTEMPTS: usize = 12;
/// A transaction that takes longer is given up; Postgres cancels each statement at 60 s.
pub(super) const TRANSACTION_LIMIT: Duration = Duration::from_secs(90);
/// A COMMIT that is not answered by then has an unknown outcome.
const COMMIT_LIMIT: Duration = Duration::from_secs(30);

/// What differs between those who commit counts.
pub(super) trait Counts: Sync {
    /// All writes, for what retention has left.
    fn prepare(&mut self, retained: Retained) -> Prepared;

    /// Statement 1, and the locks that go with it. Returns our backend's pid, or where the place is instead.
    fn move_on(
        &self,
        connection: &mut PgConnection,
    ) -> impl Future<Output = Result<Result<i32, Place>, StoreError>> + Send;

    /// Whether others have heard what the writes were made for, after statement 1.
    fn look_again(
        &mut self,
        connection: &mut PgConnection,
        retained: &Retained,
    ) -> impl Future<Output = Result<Heard, StoreError>> + Send;

    /// Where the place is, after whoever holds its row has ended.
    fn place(&self, connection: &mut PgConnection) -> impl Future<Output = Result<Place, StoreError>> + Send;

    /// The lease that must name our backends, and whether the transaction renews it where it is old.
    fn lease(&self) -> Option<(&Claim, bool)>;
}

/// Where a place is that was to be moved on.
pub(super) enum Place {
    /// Where it was to be moved to: it is done.
    Moved,
    /// Where it was before.
    Left,
    /// Elsewhere, or another's.
    Lost,
}

/// What others have heard.
pub(super) enum Heard {
    /// What they had heard before.
    Same,
    /// Something else, as is noted: the writes are to be made anew.
    Changed,
    /// Something else: the caller counts again.
    Covered(Covered),
}

/// Why nothing is committed.
pub(super) enum Refusal {
    /// The place is not where it was left: another has it.
    Lost,
    /// Others have heard something else by now.
    Covered(Covered),
}

/// All writes of a commit, made for what retention had left, and others had covered, when they were made.
pub(super) struct Prepared {
    pub(super) context: Context,
    /// What became of late lines.
    pub(super) late: Tally,
    pub(super) writes: Vec<Write>,
}

impl Prepared {
    /// What the caller learns: rows refused before the transaction, and in it.
    fn committed(self, Written { rows, mut refused, .. }: Written) -> Committed {
        refused.extend(self.context.refused);
        Committed { rows, millis: 0, refused, late: self.late }
    }
}

/// What a transaction has written.
#[derive(Default)]
struct Written {
    /// Our backend.
    pid: i32,
    rows: u64,
    refused: Vec<RefusedRow>,
    /// Whom the lease names with it, if it is renewed.
    renewed: Option<Vec<i32>>,
}

/// How an attempt ended without an error of the database.
enum Ended {
    Committed(Written),
    Refused(Refusal),
    /// The writes are to be made anew, for what retention has left now.
    Changed(Retained),
    /// The lease does not name this backend yet.
    Unnamed,
    /// The place was left where it was.
    Again,
    /// COMMIT was not answered.
    Unknown(Written, StoreError),
}

impl Store {
    /// Commits counts once. An error means that nothing was committed, or that it is not known: the same call again
    /// finds out.
    pub(super) async fn commit_once(&self, counts: &mut impl Counts) -> Result<Result<Committed, Refusal>, StoreError> {
        let retained = *self.inner.retained.lock().unwrap_or_else(PoisonError::into_inner);
        let mut prepared = counts.prepare(retained);
        let mut careful = false;
        let mut last = None;
        let mut attempts = 0;
        while attempts < ATTEMPTS {
            attempts += 1;
            let periods = prepared.context.periods.iter().copied();
            self.inner.partitions.ensure(&self.inner.pool, periods).await?;
            let mut connection = self.acquire().await?;
            match self.attempt(&mut connection, counts, &prepared, careful).await {
                Ok(Ended::Committed(written)) => return Ok(Ok(prepared.committed(written))),
                Ok(Ended::Refused(refusal)) => return Ok(Err(refusal)),
                Ok(Ended::Again) => {}
                Ok(Ended::Changed(retained)) => {
                    // We waited for who changed it, and may wait for its next step again: it gets on, and so comes to an
                    // end. A sweep of retention takes more steps than we have attempts.
                    attempts -= 1;
                    *self.inner.retained.lock().unwrap_or_else(PoisonError::into_inner) = retained;
                    prepared = counts.prepare(retained);
                }
                Ok(Ended::Unnamed) => {
                    drop(connection);
                    if let Some((claim, _)) = counts.lease()
                        && !self.renew(claim).await?
                    {
                        return Ok(Err(Refusal::Lost));
                    }
                }
                Ok(Ended::Unknown(written, error)) => {
                    tracing::warn!(%error, "the outcome of a commit is unknown, looking");
                    drop(connection.detach());
                    self.end_backend(written.pid).await?;
                    let mut connection = self.acquire().await?;
                    match counts.place(&mut connection).await? {
                        Place::Moved => return Ok(Ok(prepared.committed(written))),
                        Place::Left => last = Some(error),
                        Place::Lost => return Ok(Err(Refusal::Lost)),
                    }
                }
                Err(StoreError::Sql { source, .. }) if is_data_error(&source) && !careful => careful = true,
                Err(StoreError::Sql { source, action }) if is_missing_partition(&source) => {
                    self.inner.partitions.forget();
                    last = Some(StoreError::Sql { source, action });
                }
                // Before COMMIT an error means that nothing was written. A connection that broke while it lay in the
                // pool is replaced at once; what else there is, is the caller's to wait for.
                Err(error) => last = Some(discard_if_broken(connection, error)?),
            }
        }
        Err(last.unwrap_or(StoreError::TimedOut { action: "commit", seconds: 0 }))
    }

    /// One transaction. An error means that it was not committed.
    async fn attempt(
        &self,
        connection: &mut PoolConnection<Postgres>,
        counts: &mut impl Counts,
        prepared: &Prepared,
        careful: bool,
    ) -> Result<Ended, StoreError> {
        let mut transaction = limited(COMMIT_LIMIT, "begin", connection.begin()).await?;
        let work = Box::pin(self.write(&mut transaction, counts, prepared, careful));
        let timed_out = |_| StoreError::TimedOut { action: "commit", seconds: TRANSACTION_LIMIT.as_secs() };
        let written = match tokio::time::timeout(TRANSACTION_LIMIT, work).await.map_err(timed_out)? {
            Ok(Ok(written)) => written,
            // At once: the rows of shard_group are locked until then.
            Ok(Err(ended)) => {
                roll_back(transaction).await?;
                return Ok(ended);
            }
            Err(error) => {
                if !matches!(&error, StoreError::Sql { source, .. } if is_broken(source)) {
                    roll_back(transaction).await?;
                }
                return Err(error);
            }
        };
        match limited(COMMIT_LIMIT, "commit", transaction.commit()).await {
            Ok(()) => {
                if let (Some(pids), Some((claim, _))) = (&written.renewed, counts.lease()) {
                    claim.publish(pids.clone());
                }
                Ok(Ended::Committed(written))
            }
            Err(error) => Ok(Ended::Unknown(written, error)),
        }
    }

    /// Everything but COMMIT; otherwise nothing is to be committed.
    async fn write(
        &self,
        transaction: &mut Transaction<'_, Postgres>,
        counts: &mut impl Counts,
        prepared: &Prepared,
        careful: bool,
    ) -> Result<Result<Written, Ended>, StoreError> {
        let mut written = Written::default();
        written.pid = match counts.move_on(transaction).await? {
            Ok(pid) => pid,
            // An earlier call did it, whose outcome was not known.
            Err(Place::Moved) => return Ok(Err(Ended::Committed(written))),
            Err(Place::Left) => return Ok(Err(Ended::Again)),
            Err(Place::Lost) => return Ok(Err(Ended::Refused(Refusal::Lost))),
        };
        if counts.lease().is_some_and(|(claim, _)| !claim.names(written.pid)) && Protection::Epoch.is_on() {
            return Ok(Err(Ended::Unnamed));
        }
        let retained = Retained::read(transaction).await.trying("read retained_from")?;
        match counts.look_again(transaction, &retained).await? {
            Heard::Same if retained == prepared.context.retained => {}
            Heard::Same | Heard::Changed => return Ok(Err(Ended::Changed(retained))),
            Heard::Covered(covered) => return Ok(Err(Ended::Refused(Refusal::Covered(covered)))),
        }
        if !Protection::SequenceInTransaction.is_on() {
            sqlx::raw_sql("COMMIT; BEGIN").execute(&mut **transaction).await.trying("move the sequence on alone")?;
        }
        for write in &prepared.writes {
            let rows = if careful {
                write.execute_carefully(transaction, &mut written.refused).await
            } else {
                write.execute(transaction).await
            };
            written.rows += rows.map_err(|source| failed("write counts", source))?;
        }
        // Last, so that the lease's row is locked for as short as can be.
        if let Some((claim, true)) = counts.lease()
            && claim.is_old()
        {
            match self.renew_in(transaction, claim).await? {
                Some(pids) => written.renewed = Some(pids),
                None => return Ok(Err(Ended::Refused(Refusal::Lost))),
            }
        }
        Ok(Ok(written))
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

async fn roll_back(transaction: Transaction<'_, Postgres>) -> Result<(), StoreError> {
    limited(COMMIT_LIMIT, "roll back", transaction.rollback()).await
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
