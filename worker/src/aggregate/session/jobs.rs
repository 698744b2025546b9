//! What a session begins beside its reading: commits, roll-ups and purges, and how their ends come back.

use super::Session;
use crate::aggregate::commit::{Done, now_ms};
use crate::aggregate::delta::{Millis, SLICES};
use crate::aggregate::metrics::{CommitKind, Dropped};
use crate::aggregate::purge::purge;
use crate::aggregate::rhythm::{Due, Waiting};
use crate::aggregate::shard::slices;
use std::time::Duration;
use tokio::time::Instant;

/// Gaps are judged up to so long ago: marks of live connections are younger.
const JUDGED_BEHIND_MS: Millis = 5_000;

impl Session {
    pub(super) fn waiting(&self) -> Waiting {
        let slow = slices();
        Waiting {
            fast_rows: self.shard.fast_rows(),
            slow_rows: slow.map(|slice| self.shard.slow_rows(slice)),
            behind: slow.map(|slice| self.shard.seq() > self.standing.slow[usize::from(slice)].0),
            has_late: self.shard.has_late(),
            unread: self.unread,
        }
    }

    /// Begins all that is due now.
    pub(super) fn begin_due(&mut self) {
        let now = Instant::now();
        while let Some(due) = self.rhythm.due(now, &self.waiting()) {
            self.begin_one(due);
        }
        self.report();
    }

    fn begin_one(&mut self, due: Due) {
        match due {
            Due::Fast => self.begin_fast(),
            Due::Whole => self.begin_whole(),
            Due::Slice(slice) => self.begin_slow(slice),
            Due::RollUp => drop(self.jobs.spawn(self.committer.clone().roll_up())),
            Due::Purge => self.begin_purge(),
        }
    }

    fn begin_fast(&mut self) {
        match self.shard.take_fast(self.judged_until_ms()) {
            Some(flush) => drop(self.jobs.spawn(self.committer.clone().fast(self.standing.fast.0, flush))),
            None => self.rhythm.ended(CommitKind::Fast, Duration::ZERO),
        }
    }

    /// All groups at once.
    fn begin_whole(&mut self) {
        match self.shard.take_whole(self.judged_until_ms()) {
            Some(flush) => drop(self.jobs.spawn(self.committer.clone().whole(self.standing, flush))),
            None => self.rhythm.ended(CommitKind::All, Duration::ZERO),
        }
    }

    fn begin_slow(&mut self, slice: u8) {
        let (from_seq, _) = self.standing.slow[usize::from(slice)];
        match self.shard.take_slow(slice) {
            Some(flush) => drop(self.jobs.spawn(self.committer.clone().slow(slice, from_seq, flush))),
            None => self.rhythm.ended(CommitKind::Slow, Duration::ZERO),
        }
    }

    fn judged_until_ms(&self) -> Millis {
        let caught_up = self.unread == 0 && self.source.is_reading() && self.shard.is_warm();
        if caught_up { now_ms().saturating_sub(JUDGED_BEHIND_MS) } else { self.shard.stream_time_ms() }
    }

    /// A job ended. An error: the shard is another's.
    pub(super) async fn finish(&mut self, done: Result<Done, tokio::task::JoinError>) -> Result<(), ()> {
        let done = match done {
            Ok(done) => done,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_cancelled) => return Err(()),
            },
        };
        match done {
            Done::Fenced => return Err(()),
            Done::RolledUp => self.rhythm.ended(CommitKind::RollUp, Duration::ZERO),
            Done::Purged => {}
            Done::Committed { kind, groups, at, took, refused } => {
                self.rhythm.ended(kind, took);
                groups.into_iter().for_each(|group| self.standing.move_on(group, at));
                for row in refused {
                    self.metrics.drop(Dropped::RefusedRow, 1);
                    tracing::error!(table = row.table, "Postgres refuses a row: {}", row.reason);
                    self.bury(Dropped::RefusedRow.reason(), row.payload()).await;
                }
            }
        }
        Ok(())
    }

    fn begin_purge(&mut self) {
        let (lowest_seq, lowest_ms) = self.standing.lowest();
        if let Some(behind) = self.beginnings.behind(lowest_ms) {
            let (bus, shard) = (self.bus.clone(), self.committer.claim.shard);
            self.jobs.spawn(async move {
                purge(&bus, shard, behind.min(lowest_seq)).await;
                Done::Purged
            });
        }
    }

    /// Commits all that was counted, until it is done or the shard is another's.
    pub(in crate::aggregate) async fn drain(&mut self) -> Result<(), ()> {
        self.loading = None;
        while let Some(done) = self.jobs.join_next().await {
            self.finish(done).await?;
        }
        self.report();
        if self.shard.has_late() {
            self.begin_whole();
        } else {
            self.begin_fast();
            (0..SLICES).for_each(|slice| self.begin_slow(slice));
        }
        while let Some(done) = self.jobs.join_next().await {
            self.finish(done).await?;
        }
        Ok(())
    }
}
