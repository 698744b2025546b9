//! When a shard commits, and when it does what else it does now and then: soon at low load, in larger bites under load,
//! nearly never at rest.
//!
//! Pure: the time and what waits are told. Invariants:
//! - at most one commit of the Fast group is under way, and one of a slice;
//! - while late lines wait, nothing begins but a commit of all groups;
//! - at rest there is one commit every [`REST`]; a slice without rows has none of its own, and moves on with all others
//!   every [`SLOW_REST`].
//!
//! ```text
//!  rows of the Fast group  ──► Fast, after 0.1 to 2 s     late lines, or a slice that ──► Whole in place of Fast
//!  nothing, for REST       ──► Fast                       stood still for SLOW_REST
//!  rows of a slice, its turn within SLOW ──► Slice
//! ```

use super::delta::SLICES;
use super::metrics::CommitKind;
use std::time::Duration;
use tokio::time::Instant;

/// At low load a line waits this long at most before its commit begins.
const SOON: Duration = Duration::from_millis(100);

/// Under load rows merge: the same minute's row is written once for many messages.
const LATE: Duration = Duration::from_secs(2);

/// Stream messages that are not read yet: from here on there is load.
const BACKLOG: u64 = 200;

/// Rows of one commit that take about as long as [`LATE`]; there is no use in waiting for more.
const ROWS_ENOUGH: usize = 20_000;

/// The same for a slice of the slow tables, for which nobody waits. Under a backlog the same chatters come again and
/// again: at 20,000 a flush, a minute of 60,000 messages a second takes 2.2 million rows, at 50,000 it takes 1.7 million.
const SLOW_ROWS_ENOUGH: usize = 50_000;

/// Rows that wait while a commit cannot end (the store is away): here reading stops, the stream is the buffer.
pub const ROWS_MAX: usize = 100_000;

/// At rest: marks and how far gaps may be judged, in one commit.
const REST: Duration = Duration::from_secs(5);

/// The slow tables' rhythm; each slice a quarter of it after the one before.
const SLOW: Duration = Duration::from_secs(30);

/// A slice without rows moves on only so often, in a commit of all groups: it bounds what a take-over reads again.
const SLOW_REST: Duration = Duration::from_secs(120);

/// Gauges, and the look at what else is due.
const LOOK: Duration = Duration::from_secs(5);

/// A window is due two minutes after its end: no hurry.
const ROLL_UP: Duration = Duration::from_secs(30);

/// A stream fills slowly against this.
const PURGE: Duration = Duration::from_secs(60);

/// What is to be begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// A commit of the Fast group.
    Fast,
    /// A commit of all groups.
    Whole,
    /// A commit of one slice.
    Slice(u8),
    /// A roll-up.
    RollUp,
    /// A look whether the stream is full.
    Purge,
}

/// What waits in the shard.
#[derive(Debug, Clone, Copy, Default)]
pub struct Waiting {
    /// Rows of the Fast group.
    pub fast_rows: usize,
    /// Rows of each slice.
    pub slow_rows: [usize; SLICES as usize],
    /// Which slices are committed up to less than what was read.
    pub behind: [bool; SLICES as usize],
    /// Whether all groups have to commit together.
    pub has_late: bool,
    /// Messages in the stream that are not read yet.
    pub unread: u64,
}

impl Waiting {
    /// Whether another message may be read: rows that wait are bounded.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.fast_rows < ROWS_MAX && self.slow_rows.iter().all(|rows| *rows < ROWS_MAX)
    }
}

#[derive(Debug)]
struct Fast {
    under_way: bool,
    /// When the first row came that waits.
    pending_since: Option<Instant>,
    last: Instant,
    last_took: Duration,
}

#[derive(Debug)]
struct Slice {
    /// Its turn.
    due: Instant,
    /// When it last moved on.
    last: Instant,
}

/// What is under way in a shard, and when what is due next.
#[derive(Debug)]
pub struct Rhythm {
    fast: Fast,
    slices: [Slice; SLICES as usize],
    slice_under_way: bool,
    roll_up_under_way: bool,
    roll_up_due: Instant,
    purge_due: Instant,
    look_due: Instant,
}

impl Rhythm {
    /// Begins: the slices a quarter of [`SLOW`] after one another.
    #[must_use]
    pub fn begin(now: Instant) -> Self {
        let mut turn = 0;
        let slices = std::array::from_fn(|_| {
            turn += 1;
            Slice { due: now + SLOW * turn / u32::from(SLICES), last: now }
        });
        Self {
            fast: Fast { under_way: false, pending_since: None, last: now, last_took: Duration::ZERO },
            slices,
            slice_under_way: false,
            roll_up_under_way: false,
            roll_up_due: now + ROLL_UP,
            purge_due: now + PURGE,
            look_due: now + LOOK,
        }
    }

    /// Whether a row of the Fast group is known to wait.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.fast.pending_since.is_some()
    }

    /// The Fast group's first row since its last commit has come.
    pub fn pending(&mut self, now: Instant) {
        self.fast.pending_since.get_or_insert(now);
    }

    /// When to ask again what is due.
    #[must_use]
    pub fn next(&self, waiting: &Waiting) -> Instant {
        let mut next = self.look_due.min(self.purge_due);
        if !self.fast_waits(waiting) {
            next = next.min(self.fast_due(waiting));
        }
        if !self.slices_wait(waiting) {
            let slices = (0..SLICES).map(|slice| self.slice_due(slice, waiting));
            next = slices.fold(next, Instant::min);
        }
        if !self.roll_up_under_way {
            next = next.min(self.roll_up_due);
        }
        next
    }

    /// The next thing that is due now; it is under way from then on, until [`Rhythm::ended`]. None: nothing more.
    pub fn due(&mut self, now: Instant, waiting: &Waiting) -> Option<Due> {
        if self.look_due <= now {
            self.look_due = now + LOOK;
        }
        self.fast_or_whole(now, waiting)
            .or_else(|| self.slice(now, waiting))
            .or_else(|| self.roll_up(now))
            .or_else(|| self.purge(now))
    }

    fn fast_or_whole(&mut self, now: Instant, waiting: &Waiting) -> Option<Due> {
        if self.fast_waits(waiting) || self.fast_due(waiting) > now {
            return None;
        }
        (self.fast.under_way, self.fast.last, self.fast.pending_since) = (true, now, None);
        let stands_still = (0..SLICES).any(|slice| self.stands_still(slice, now, waiting));
        if !waiting.has_late && (self.slice_under_way || !stands_still) {
            return Some(Due::Fast);
        }
        self.slice_under_way = true;
        self.slices.iter_mut().for_each(|slice| slice.last = now);
        Some(Due::Whole)
    }

    /// One slice at a time, so that none of their commits is long.
    fn slice(&mut self, now: Instant, waiting: &Waiting) -> Option<Due> {
        for slice in 0..SLICES {
            if self.slices_wait(waiting) || self.slice_due(slice, waiting) > now {
                continue;
            }
            let turn = &mut self.slices[usize::from(slice)];
            turn.due = now + SLOW;
            if waiting.slow_rows[usize::from(slice)] > 0 {
                turn.last = now;
                self.slice_under_way = true;
                return Some(Due::Slice(slice));
            }
        }
        None
    }

    fn roll_up(&mut self, now: Instant) -> Option<Due> {
        if self.roll_up_under_way || self.roll_up_due > now {
            return None;
        }
        (self.roll_up_under_way, self.roll_up_due) = (true, now + ROLL_UP);
        Some(Due::RollUp)
    }

    fn purge(&mut self, now: Instant) -> Option<Due> {
        if self.purge_due > now {
            return None;
        }
        self.purge_due = now + PURGE;
        Some(Due::Purge)
    }

    /// A commit has ended, or there was nothing to commit.
    pub fn ended(&mut self, kind: CommitKind, took: Duration) {
        match kind {
            CommitKind::Fast => (self.fast.under_way, self.fast.last_took) = (false, took),
            CommitKind::Slow => self.slice_under_way = false,
            CommitKind::All => {
                (self.fast.under_way, self.fast.last_took) = (false, took);
                self.slice_under_way = false;
            }
            CommitKind::RollUp => self.roll_up_under_way = false,
        }
    }

    fn fast_waits(&self, waiting: &Waiting) -> bool {
        self.fast.under_way || (waiting.has_late && self.slice_under_way)
    }

    fn slices_wait(&self, waiting: &Waiting) -> bool {
        self.slice_under_way || waiting.has_late
    }

    fn fast_due(&self, waiting: &Waiting) -> Instant {
        match self.fast.pending_since {
            Some(since) => since + fast_interval(self.fast.last_took, waiting.unread, waiting.fast_rows),
            None => self.fast.last + REST,
        }
    }

    fn slice_due(&self, slice: u8, waiting: &Waiting) -> Instant {
        let Slice { due, last } = &self.slices[usize::from(slice)];
        if waiting.slow_rows[usize::from(slice)] >= SLOW_ROWS_ENOUGH { *last } else { *due }
    }

    /// Whether nothing but a commit of all groups would move the slice on soon.
    fn stands_still(&self, slice: u8, now: Instant, waiting: &Waiting) -> bool {
        let index = usize::from(slice);
        waiting.slow_rows[index] == 0 && waiting.behind[index] && now >= self.slices[index].last + SLOW_REST
    }
}

/// How long the first pending row waits, given what the last commit took and how much is unread.
fn fast_interval(last_commit: Duration, unread: u64, rows: usize) -> Duration {
    if rows >= ROWS_ENOUGH {
        Duration::ZERO
    } else if unread > BACKLOG {
        LATE
    } else {
        // At most a third of the time is spent in commits.
        (last_commit * 2).clamp(SOON, LATE)
    }
}

#[cfg(test)]
mod tests;
