//! The commit: counts and position in one transaction, once.
//!
//! Order: 1. `shard_group` moves from the old sequence to the new one under our epoch (no row: the shard is not ours),
//! 2. upserts, each table once, sorted, in one order, the dirty windows last, 3. COMMIT. If its outcome is unknown, our
//! backend is ended and the row is read on another connection: the new sequence means done, the old one do it again.

use super::connect::Store;
use super::dictionary::Dictionary;
use super::elsewhere::read_elsewhere;
use super::error::{CommitError, StoreError, Trying, is_data_error};
use super::lease::{Claim, numbers};
use super::partition::Retained;
use super::rows::Context;
use super::transaction::{
    ATTEMPTS, Counts, Heard, Place, Prepared, Refusal, TRANSACTION_LIMIT, discard_if_broken, limited,
};
use super::value::{Stamp, sequence, text};
use super::write::{RefusedRow, Write};
use super::{fast, slow};
use crate::aggregate::delta::{FastDelta, Group, Position, SlowDelta};
use crate::aggregate::late::{self, Elsewhere, LateLine};
use crate::aggregate::tally::Tally;
use crate::protection::Protection;
use sqlx::postgres::PgConnection;
use sqlx::{Connection, query_as, query_scalar};
use std::sync::PoisonError;
use std::time::Instant;

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

impl Committed {
    /// With what was written before it, from then on.
    pub(super) fn with(mut self, before: Self, begun: Instant) -> Self {
        self.rows += before.rows;
        self.refused.extend(before.refused);
        self.millis = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self
    }
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
        let mut counts = GroupCounts { claim, flushes, late, to, stream_created, elsewhere: Elsewhere::default() };
        let dictionary = self.write_dictionary(&counts).await?;
        match Box::pin(self.commit_once(&mut counts)).await? {
            Ok(committed) => Ok(committed.with(dictionary, begun)),
            Err(Refusal::Lost | Refusal::Covered(_)) => Err(CommitError::Fenced),
        }
    }

    async fn write_dictionary(&self, commit: &GroupCounts<'_>) -> Result<Committed, StoreError> {
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
        let mut done = self.write_each(&dictionary.writes).await?;
        done.refused.append(&mut dictionary.refused);
        self.inner.known_channels.lock().unwrap_or_else(PoisonError::into_inner).extend(dictionary.channels);
        Ok(done)
    }

    /// Statements that commit by themselves, one after another.
    pub(super) async fn write_each(&self, writes: &[Write]) -> Result<Committed, StoreError> {
        let mut done = Committed::default();
        for write in writes.iter().filter(|write| write.rows > 0) {
            let (rows, refused) = self.write_alone(write).await?;
            done.rows += rows;
            done.refused.extend(refused);
        }
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
}

/// What a shard's groups commit at once.
struct GroupCounts<'a> {
    claim: &'a Claim,
    flushes: &'a [Flush<'a>],
    /// Lines that count where nobody else covers their time.
    late: &'a [LateLine],
    to: &'a Position,
    /// Empty: what is stored stays.
    stream_created: &'a str,
    /// What others cover, as far as is known.
    elsewhere: Elsewhere,
}

impl Counts for GroupCounts<'_> {
    fn prepare(&mut self, retained: Retained) -> Prepared {
        let shard = self.claim.shard_number();
        let mut context = Context::new(retained);
        let mut writes = Vec::new();
        for flush in self.flushes {
            match flush {
                Flush::Fast { delta, .. } => writes.extend(fast::writes(delta, shard, &mut context)),
                Flush::Slow { delta, .. } => writes.extend(slow::writes(delta, &mut context)),
            }
        }
        let mut tally = Tally::default();
        if !self.late.is_empty() {
            let late = late::count(self.late, &self.elsewhere);
            tally = late.tally;
            writes.extend(fast::writes(&late.fast, shard, &mut context));
            writes.extend(late.slow.iter().flat_map(|slice| slow::writes(slice, &mut context)));
        }
        writes.push(context.dirty_write(shard));
        Prepared { context, late: tally, writes }
    }

    async fn move_on(&self, connection: &mut PgConnection) -> Result<Result<i32, Place>, StoreError> {
        let mut pid = 0;
        for flush in self.flushes {
            match self.move_group(connection, flush).await? {
                Some(backend) => pid = backend,
                None => return self.place_of(connection, flush).await.map(Err),
            }
        }
        Ok(Ok(pid))
    }

    /// An import holds the rows of `shard_group` while it covers. What an open connection covers, the shard knows better.
    async fn look_again(&mut self, connection: &mut PgConnection, retained: &Retained) -> Result<Heard, StoreError> {
        if self.late.is_empty() {
            return Ok(Heard::Same);
        }
        let now = read_elsewhere(connection, self.late, retained).await.trying("read who covers late lines")?;
        let before = std::mem::replace(&mut self.elsewhere, now);
        Ok(if self.elsewhere == before { Heard::Same } else { Heard::Changed })
    }

    /// All groups were moved, or none: one that moves tells.
    async fn place(&self, connection: &mut PgConnection) -> Result<Place, StoreError> {
        let moves = self.flushes.iter().find(|flush| flush.begins_at() != self.to.seq);
        match moves.or(self.flushes.first()) {
            Some(flush) => self.place_of(connection, flush).await,
            None => Ok(Place::Moved),
        }
    }

    fn lease(&self) -> Option<(&Claim, bool)> {
        Some((self.claim, self.flushes.iter().any(|flush| matches!(flush, Flush::Fast { .. }))))
    }
}

impl GroupCounts<'_> {
    /// Statement 1 of a group. Returns our backend's pid; none: the shard is not ours, or the group is not there.
    async fn move_group(&self, connection: &mut PgConnection, flush: &Flush<'_>) -> Result<Option<i32>, StoreError> {
        let (instances, numbers) = numbers(self.to);
        let epoch =
            if Protection::Epoch.is_on() { self.claim.epoch } else { self.standing(connection, flush).await?.0 };
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
        .bind(self.claim.shard_number())
        .bind(flush.group().number())
        .bind(epoch)
        .bind(sequence(flush.begins_at()))
        .bind(sequence(self.to.seq))
        .bind(Stamp::saturating(self.to.stream_time_ms))
        .bind(text(&self.to.msg_id).into_owned())
        .bind(instances)
        .bind(numbers)
        .bind(text(&self.to.plan).into_owned())
        .bind(self.stream_created.to_owned())
        .bind(judged_until)
        .fetch_optional(connection)
        .await
        .trying("move the shard's sequence on")
    }

    async fn place_of(&self, connection: &mut PgConnection, flush: &Flush<'_>) -> Result<Place, StoreError> {
        Ok(match self.standing(connection, flush).await? {
            (epoch, _) if epoch != self.claim.epoch => Place::Lost,
            (_, seq) if seq == sequence(flush.begins_at()) => Place::Left,
            (_, seq) if seq == sequence(self.to.seq) => Place::Moved,
            _ => Place::Lost,
        })
    }

    /// A group's epoch and sequence, after whoever holds its row has ended.
    async fn standing(&self, connection: &mut PgConnection, flush: &Flush<'_>) -> Result<(i64, i64), StoreError> {
        let row: Option<(i64, i64)> =
            query_as("SELECT epoch, seq FROM shard_group WHERE shard = $1 AND grp = $2 FOR UPDATE")
                .bind(self.claim.shard_number())
                .bind(flush.group().number())
                .fetch_optional(connection)
                .await
                .trying("read the shard's sequence")?;
        // No row is nobody's epoch.
        Ok(row.unwrap_or((-1, -1)))
    }
}
