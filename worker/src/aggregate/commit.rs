//! One commit as a task of its own: the same flush is tried until the store has it, or has given the shard to another.

use super::delta::{Group, Millis, Position, SLICES};
use super::metrics::{AggregateMetrics, CommitKind};
use super::shard::{FastFlush, SlowFlush, WholeFlush, slices};
use super::trouble::{StoreTrouble, TaskTrouble};
use crate::retry::backoff;
use crate::store::{Claim, CommitError, Committed, Flush, RefusedRow, Store};
use rustc_hash::FxHashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How a job of a shard ended.
#[derive(Debug)]
pub enum Done {
    /// Groups stand further on.
    Committed {
        /// Which commit it was.
        kind: CommitKind,
        /// Which ones.
        groups: Vec<Group>,
        /// Where they stand now.
        at: Place,
        /// How long the commit took, retries included.
        took: Duration,
        /// Rows that Postgres refuses, for the dead letters.
        refused: Vec<RefusedRow>,
    },
    /// Windows were summed up, or it is to be tried again later.
    RolledUp,
    /// The stream was looked at, and purged if it was nearly full.
    Purged,
    /// The shard belongs to another owner.
    Fenced,
}

/// What every commit of a shard needs.
#[derive(Debug, Clone)]
pub struct Committer {
    /// The store.
    pub store: Store,
    /// The owned shard.
    pub claim: Arc<Claim>,
    /// When the stream was created that the positions refer to.
    pub stream_created: Arc<str>,
    /// The role's metrics.
    pub metrics: AggregateMetrics,
    /// Where it is told whether the store works.
    pub trouble: StoreTrouble,
}

impl Committer {
    /// Commits a Fast flush.
    pub async fn fast(self, from_seq: u64, flush: FastFlush) -> Done {
        let FastFlush { position, delta, sent_ms } = flush;
        let mut tries = Tries::of(&self, vec![Group::Fast], CommitKind::Fast);
        loop {
            let created = &self.stream_created;
            let outcome = self.store.commit_fast(&self.claim, from_seq, &position, created, &delta).await;
            if let Some(done) = tries.judge(outcome, &position).await {
                if matches!(done, Done::Committed { .. }) {
                    self.metrics.lag(&sent_ms, now_ms());
                }
                return done;
            }
        }
    }

    /// Commits a flush of one slice.
    pub async fn slow(self, slice: u8, from_seq: u64, flush: SlowFlush) -> Done {
        let SlowFlush { position, delta } = flush;
        let mut tries = Tries::of(&self, vec![Group::Slow(slice)], CommitKind::Slow);
        loop {
            let outcome = self.store.commit_slow(&self.claim, slice, from_seq, &position, &delta).await;
            if let Some(done) = tries.judge(outcome, &position).await {
                return done;
            }
        }
    }

    /// Commits a flush of all groups, which stand where `from` says, in one transaction.
    pub async fn whole(self, from: Standing, flush: WholeFlush) -> Done {
        let WholeFlush { fast: FastFlush { position, delta, sent_ms }, slow, late } = flush;
        let mut flushes = vec![Flush::Fast { from_seq: from.fast.0, delta: &delta }];
        flushes.extend(slow.iter().map(|(slice, delta)| {
            let (from_seq, _) = from.slow[usize::from(*slice)];
            Flush::Slow { slice: *slice, from_seq, delta }
        }));
        let groups = slow.iter().map(|(slice, _)| Group::Slow(*slice)).chain([Group::Fast]).collect();
        let mut tries = Tries::of(&self, groups, CommitKind::All);
        loop {
            let created = &self.stream_created;
            let outcome = self.store.commit_with_late(&self.claim, &flushes, &late, &position, created).await;
            if let Ok(Committed { late, .. }) = &outcome {
                self.metrics.add(late);
            }
            if let Some(done) = tries.judge(outcome, &position).await {
                if matches!(done, Done::Committed { .. }) {
                    self.metrics.lag(&sent_ms, now_ms());
                }
                return done;
            }
        }
    }

    /// Sums up the windows that are due.
    pub async fn roll_up(self) -> Done {
        let began = Instant::now();
        match self.store.roll_up(&self.claim, now_ms()).await {
            Ok(0) => Done::RolledUp,
            Ok(windows) => {
                self.metrics.committed(CommitKind::RollUp, windows, began.elapsed());
                Done::RolledUp
            }
            Err(CommitError::Fenced) => Done::Fenced,
            Err(CommitError::Unavailable(error)) => {
                self.metrics.retried(CommitKind::RollUp);
                tracing::debug!(shard = self.claim.shard, "roll-up is tried again later: {error}");
                Done::RolledUp
            }
        }
    }
}

/// Where a group stands: sequence and stream time.
pub type Place = (u64, Millis);

/// Where the store has the groups.
#[derive(Debug, Clone, Copy)]
pub struct Standing {
    /// The Fast group.
    pub fast: Place,
    /// Each slice.
    pub slow: [Place; SLICES as usize],
}

impl Standing {
    /// As a claim found it.
    #[must_use]
    pub fn of(positions: &FxHashMap<i16, Position>) -> Self {
        let place = |group: Group| {
            positions.get(&group.number()).map_or((0, 0), |position| (position.seq, position.stream_time_ms))
        };
        Self { fast: place(Group::Fast), slow: slices().map(|slice| place(Group::Slow(slice))) }
    }

    /// A group was committed up to there.
    pub fn move_on(&mut self, group: Group, to: Place) {
        match group {
            Group::Fast => self.fast = to,
            Group::Slow(slice) => self.slow[usize::from(slice)] = to,
            Group::RollUp => {}
        }
    }

    /// What all groups have.
    #[must_use]
    pub fn lowest(&self) -> Place {
        self.slow.iter().fold(self.fast, |lowest, slow| (lowest.0.min(slow.0), lowest.1.min(slow.1)))
    }
}

/// The tries of one commit.
struct Tries {
    metrics: AggregateMetrics,
    shard: u16,
    groups: Vec<Group>,
    kind: CommitKind,
    began: Instant,
    waits: Box<dyn Iterator<Item = Duration> + Send>,
    said: bool,
    trouble: TaskTrouble,
}

impl Tries {
    fn of(committer: &Committer, groups: Vec<Group>, kind: CommitKind) -> Self {
        Self {
            metrics: committer.metrics.clone(),
            shard: committer.claim.shard,
            groups,
            kind,
            began: Instant::now(),
            waits: Box::new(backoff()),
            said: false,
            trouble: committer.trouble.of_a_task(),
        }
    }

    /// How the commit ended; none: try again, the wait is over.
    async fn judge(&mut self, outcome: Result<Committed, CommitError>, to: &Position) -> Option<Done> {
        match outcome {
            Ok(Committed { rows, millis: _, refused, late: _ }) => {
                let took = self.began.elapsed();
                self.metrics.committed(self.kind, usize::try_from(rows).unwrap_or(usize::MAX), took);
                if self.said {
                    tracing::info!(shard = self.shard, "the store is back");
                }
                Some(Done::Committed {
                    kind: self.kind,
                    groups: std::mem::take(&mut self.groups),
                    at: (to.seq, to.stream_time_ms),
                    took,
                    refused,
                })
            }
            Err(CommitError::Fenced) => Some(Done::Fenced),
            Err(CommitError::Unavailable(error)) => {
                self.metrics.retried(self.kind);
                self.trouble.note(Some(&error));
                if !std::mem::replace(&mut self.said, true) {
                    tracing::warn!(shard = self.shard, "{error}; the stream is the buffer, trying again");
                }
                tokio::time::sleep(self.waits.next().unwrap_or_default()).await;
                None
            }
        }
    }
}

/// The wall clock, for what is judged by it: lag, roll-up, how far gaps are known.
#[must_use]
pub fn now_ms() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
