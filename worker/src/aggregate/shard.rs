//! One shard's state: applies the stream's messages in order (`apply`), and gives out what the next commits will write
//! (`flush`).
//!
//! Invariants:
//! - no I/O and no clock: the state, and so every commit, is a function of the stream and of the position it began at;
//! - a message at or below the last applied sequence changes nothing (an ordered consumer may be made anew);
//! - each group counts exactly the messages above its own position.
//!
//! ```text
//!  horizon's start        lowest position      Fast's position
//!        │                       │                    │
//!  ──────┼───────────────────────┼────────────────────┼──────────────► stream
//!        │  warm-up: duplicates  │ numbers, and the   │ all groups,
//!        │  and uniques only     │ groups behind      │ coverage, wanted
//! ```

mod apply;
mod flush;

pub use apply::{Arrival, TWITCH_BEGAN_MS};
pub use flush::{FastFlush, SlowFlush, WholeFlush};

use super::counting::Counter;
use super::coverage::Coverage;
use super::dedupe::{Dedupe, horizon_start};
use super::delta::{ChannelId, Group, Millis, Position, Restored, SLICES};
use super::late::LateLine;
use super::numbers::Numbers;
use super::plan::ActivePlan;
use super::tails::Tails;
use super::tally::Tally;
use super::uniques::Uniques;
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// The state of one shard.
#[derive(Debug)]
pub struct Shard {
    /// Last applied sequence; 0: none.
    seq: u64,
    stream_time_ms: Millis,
    msg_id: String,
    /// What every group has.
    lowest: u64,
    fast_has: u64,
    slow_has: [u64; SLICES as usize],
    /// Whether anything was counted of this stream, or read.
    has_history: bool,
    /// The horizon that a take-over should read again; none: nothing was counted, or the first message was read.
    horizon_ms: Option<Millis>,
    dedupe: Dedupe,
    numbers: Numbers,
    uniques: Uniques,
    coverage: Coverage,
    wanted: FxHashMap<ChannelId, Millis>,
    plan: Arc<ActivePlan>,
    counter: Counter,
    tails: Tails,
    /// Late lines that wait for the next commit to decide on them.
    late: Vec<LateLine>,
    /// Whether a late line was seen since the last flush: all groups commit together then.
    has_late: bool,
    sent_ms: Vec<(ChannelId, Millis)>,
    /// Newest line of each connection in the batch at hand, in Twitch time.
    newest_lines: Vec<(u32, Millis)>,
    tally: Tally,
}

impl Shard {
    /// Begins where the store stands. `plan` is the one that the lowest position names.
    #[must_use]
    pub fn restore(restored: &Restored, plan: Arc<ActivePlan>) -> Self {
        let lowest = lowest(restored);
        let has = |group: Group| restored.positions.get(&group.number()).map_or(0, |position| position.seq);
        let fast = restored.positions.get(&Group::Fast.number());
        let fast_time_ms = fast.map_or(0, |position| position.stream_time_ms);
        Self {
            seq: 0,
            stream_time_ms: 0,
            msg_id: String::new(),
            lowest: lowest.seq,
            fast_has: has(Group::Fast),
            slow_has: slices().map(|slice| has(Group::Slow(slice))),
            has_history: has(Group::Fast) > 0,
            horizon_ms: (fast_time_ms > 0).then(|| horizon_start(fast_time_ms)),
            dedupe: Dedupe::default(),
            numbers: Numbers::restore(&lowest.numbers, lowest.stream_time_ms),
            uniques: Uniques::default(),
            coverage: Coverage::restore(&restored.open_coverage, &restored.heard),
            wanted: restored.wanted.clone(),
            plan,
            counter: Counter::default(),
            tails: Tails::default(),
            late: Vec::new(),
            has_late: false,
            sent_ms: Vec::new(),
            newest_lines: Vec::new(),
            tally: Tally::default(),
        }
    }

    /// Goes on at the lowest position without a warm-up: nothing before it can be read any more.
    pub fn begin_cold(&mut self, lowest: &Position) {
        self.seq = self.seq.max(lowest.seq);
        self.stream_time_ms = self.stream_time_ms.max(lowest.stream_time_ms);
        self.msg_id.clone_from(&lowest.msg_id);
        self.horizon_ms = None;
        self.uniques.begin_partial(self.stream_time_ms);
        if self.dedupe.advance(self.stream_time_ms) {
            self.uniques.rotate(self.stream_time_ms, false);
        }
    }

    /// Goes on with what an earlier shard of this process remembers, all of which is committed: its stream is gone, and
    /// no warm-up brings it back.
    pub fn inherit(&mut self, before: Self) {
        self.stream_time_ms = before.stream_time_ms;
        self.horizon_ms = None;
        self.dedupe = before.dedupe;
        self.uniques = before.uniques;
        self.tails = before.tails;
    }

    /// The next flush carries the chatters of all minutes in memory: the stream that would bring them back is gone.
    pub fn settle(&mut self) {
        self.uniques.settle();
    }

    /// What happened since the last call, for the metrics.
    pub fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    /// Last applied sequence; 0: none.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Running maximum of JetStream's timestamps.
    #[must_use]
    pub fn stream_time_ms(&self) -> Millis {
        self.stream_time_ms
    }

    /// The last message's `Nats-Msg-Id`; empty: it had none.
    #[must_use]
    pub fn msg_id(&self) -> &str {
        &self.msg_id
    }

    /// Whether what all groups have is behind: the warm-up is over.
    #[must_use]
    pub fn is_warm(&self) -> bool {
        self.seq >= self.lowest
    }

    /// Whether any group might not have this message yet.
    #[must_use]
    pub fn is_above_lowest(&self, seq: u64) -> bool {
        seq > self.lowest
    }

    /// The plan in force.
    #[must_use]
    pub fn plan(&self) -> &Arc<ActivePlan> {
        &self.plan
    }

    /// Event keys in memory.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.dedupe.len()
    }
}

/// The slices of the slow tables.
#[must_use]
pub fn slices() -> [u8; SLICES as usize] {
    let mut next = 0..SLICES;
    std::array::from_fn(|_| next.next().unwrap_or_default())
}

/// The position of the group that is furthest behind: reading goes on after it.
#[must_use]
pub fn lowest(restored: &Restored) -> Position {
    let groups = std::iter::once(Group::Fast).chain((0..SLICES).map(Group::Slow));
    groups
        .map(|group| restored.positions.get(&group.number()).cloned().unwrap_or_default())
        .min_by_key(|position| position.seq)
        .unwrap_or_default()
}

/// From when on a take-over reads again; none: from the stream's beginning.
#[must_use]
pub fn warm_up_from(lowest: &Position) -> Option<Millis> {
    (lowest.seq > 0).then(|| horizon_start(lowest.stream_time_ms))
}

#[cfg(test)]
mod tests;
