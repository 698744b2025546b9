//! The commit: counts and position in one transaction, once.
//!
//! Order: 1. `shard_group` moves from the old sequence to the new one under our epoch (no row: the shard is not ours),
//! 2. upserts, each table once, sorted, in one order, the dirty windows last, 3. COMMIT. If its outcome is unknown, our
//! backend is ended and the row is read on another connection: the new sequence means done, the old one do it again.

use super::connect::Store;
use super::dictionary::Dictionary;
use super::error::{CommitError, StoreError, Trying, is_data_error, is_missing_partition};
use super::lease::Claim;
use super::transaction::{Commit, Ended, Outcome, Prepared, TRANSACTION_LIMIT, discard_if_broken, limited};
use super::write::{RefusedRow, Write};
use crate::aggregate::delta::{FastDelta, Group, Position, SlowDelta};
use crate::aggregate::late::{self, Elsewhere, LateLine};
use crate::aggregate::tally::Tally;
use sqlx::Connection;
use std::sync::PoisonError;
use std::time::Instant;

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
    /// What became of the late lines.
    pub late: Tally,
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
    pub(super) fn group(&self) -> Group {
        match self {
            Self::Fast { .. } => Group::Fast,
            Self::Slow { slice, .. } => Group::Slow(*slice),
        }
    }

    pub(super) fn begins_at(&self) -> u64 {
        match self {
            Self::Fast { from_seq, .. } | Self::Slow { from_seq, .. } => *from_seq,
        }
    }
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
        self.commit(claim, &[Flush::Fast { from_seq, delta }], to, stream_created).await
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
        self.commit(claim, &[Flush::Slow { slice, from_seq, delta }], to, "").await
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
        self.commit_with_late(claim, flushes, &[], to, stream_created).await
    }

    /// Commits several groups with late lines, which count where nobody else covers their time.
    ///
    /// # Errors
    /// As [`Store::commit_fast`].
    pub async fn commit_with_late(
        &self,
        claim: &Claim,
        flushes: &[Flush<'_>],
        late: &[LateLine],
        to: &Position,
        stream_created: &str,
    ) -> Result<Committed, CommitError> {
        let begun = Instant::now();
        // Retention and claims lock the groups' rows in this order, too.
        let mut flushes = flushes.to_vec();
        flushes.sort_by_key(Flush::group);
        let flushes = flushes.as_slice();
        let commit = Commit { claim, flushes, late, to, stream_created };
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
            if !commit.late.is_empty() {
                // Names are harmless: all of them, whoever counts in the end.
                let late = late::count(commit.late, &Elsewhere::default());
                dictionary.add_fast(&late.fast, commit.claim.shard_number(), &known);
                late.slow.iter().for_each(|slice| dictionary.add_slow(slice, commit.claim.shard_number(), &known));
            }
        }
        let mut done = Committed::default();
        for write in dictionary.writes.iter().filter(|write| write.rows > 0) {
            let (rows, refused) = self.write_alone(write).await?;
            done.rows += rows;
            done.refused.extend(refused);
        }
        done.refused.append(&mut dictionary.refused);
        self.inner.known_channels.lock().unwrap_or_else(PoisonError::into_inner).extend(dictionary.channels);
        Ok(done)
    }

    /// One statement that commits by itself; idempotent, so it is repeated on a fresh connection if one breaks.
    pub(super) async fn write_alone(&self, write: &Write) -> Result<(u64, Vec<RefusedRow>), StoreError> {
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
                    let rows = write.execute_carefully(&mut transaction, &mut refused).await.trying(action)?;
                    transaction.commit().await.trying(action)?;
                    return Ok((rows, refused));
                }
                Err(error) => {
                    let broken = discard_if_broken(connection, error)?;
                    if attempt == ATTEMPTS {
                        return Err(broken);
                    }
                }
            }
        }
    }

    async fn commit_counts(&self, commit: &Commit<'_>) -> Result<Committed, CommitError> {
        let mut prepared = self.prepare(commit, Elsewhere::default());
        let mut careful = false;
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let periods = prepared.context.periods.iter().copied();
            self.inner.partitions.ensure(&self.inner.pool, periods).await?;
            let mut connection = self.acquire().await?;
            match self.attempt(&mut connection, commit, &prepared, careful).await {
                Ok(Ended::Committed { rows, refused }) => return Ok(prepared.committed(rows, refused)),
                Ok(Ended::Before) => return Ok(prepared.committed(0, Vec::new())),
                Ok(Ended::Fenced) => return Err(CommitError::Fenced),
                Ok(Ended::Retention(retained)) => {
                    *self.inner.retained.lock().unwrap_or_else(PoisonError::into_inner) = retained;
                    prepared = self.prepare(commit, prepared.elsewhere);
                }
                Ok(Ended::Elsewhere(elsewhere)) => prepared = self.prepare(commit, elsewhere),
                Ok(Ended::Unnamed) => {
                    drop(connection);
                    if !self.renew(commit.claim).await? {
                        return Err(CommitError::Fenced);
                    }
                }
                Ok(Ended::Unknown { pid, error, rows, refused }) => {
                    tracing::warn!(%error, shard = commit.claim.shard, "the outcome of a commit is unknown, looking");
                    drop(connection.detach());
                    match self.outcome(commit, pid).await? {
                        Outcome::Done => return Ok(prepared.committed(rows, refused)),
                        Outcome::Again => last = Some(error),
                        Outcome::Fenced => return Err(CommitError::Fenced),
                    }
                }
                Err(StoreError::Sql { source, .. }) if is_data_error(&source) && !careful => careful = true,
                Err(StoreError::Sql { source, action }) if is_missing_partition(&source) => {
                    self.inner.partitions.forget();
                    last = Some(StoreError::Sql { source, action });
                }
                // Before COMMIT an error means that nothing was written. A connection that broke while it lay in the
                // pool is replaced at once; what else there is, is the caller's to wait for.
                Err(error) => match discard_if_broken(connection, error) {
                    Ok(broken) => last = Some(broken),
                    Err(error) => return Err(error.into()),
                },
            }
        }
        Err(last.unwrap_or(StoreError::TimedOut { action: "commit", seconds: 0 }).into())
    }
}

impl Prepared {
    /// What the caller learns: rows refused before the transaction, and in it.
    fn committed(self, rows: u64, mut refused: Vec<RefusedRow>) -> Committed {
        refused.extend(self.context.refused);
        Committed { rows, millis: 0, refused, late: self.late }
    }
}
