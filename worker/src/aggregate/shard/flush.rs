//! What the shard gives out: flushes, each with the position that its group stands at with it.
//!
//! Invariants:
//! - what a flush holds is gone from the shard, so that it is committed once;
//! - a group has no flush while that is read which it has already.

use super::{Shard, slices};
use crate::aggregate::delta::{ChannelId, FastDelta, Millis, Position, SlowDelta};
use crate::aggregate::late::LateLine;

/// What one Fast commit writes.
#[derive(Debug)]
pub struct FastFlush {
    /// Where the group stands with it.
    pub position: Position,
    /// The additions.
    pub delta: FastDelta,
    /// When the messages in it were sent, and where: for the commit's lag.
    pub sent_ms: Vec<(ChannelId, Millis)>,
}

/// What one Slow commit writes.
#[derive(Debug)]
pub struct SlowFlush {
    /// Where the group stands with it.
    pub position: Position,
    /// The additions.
    pub delta: SlowDelta,
}

/// What a commit of all groups writes.
#[derive(Debug)]
pub struct WholeFlush {
    /// What the Fast group adds.
    pub fast: FastFlush,
    /// What the slices add that do not have it yet.
    pub slow: Vec<(u8, SlowDelta)>,
    /// Lines that the commit decides on.
    pub late: Vec<LateLine>,
}

impl Shard {
    /// What the next Fast commit writes; none while it is read what the group has already.
    pub fn take_fast(&mut self, judged_until_ms: Millis) -> Option<FastFlush> {
        if self.seq < self.fast_has {
            return None;
        }
        let mut delta = std::mem::take(&mut self.counter.fast);
        (delta.uniques, delta.settled) = self.uniques.take();
        (delta.coverage, delta.heard) = self.coverage.take();
        delta.judged_until_ms = judged_until_ms;
        Some(FastFlush { position: self.position(), delta, sent_ms: std::mem::take(&mut self.sent_ms) })
    }

    /// What the next commit of that slice writes; none while it is read what the group has already.
    pub fn take_slow(&mut self, slice: u8) -> Option<SlowFlush> {
        let index = usize::from(slice);
        if self.seq < self.slow_has[index] {
            return None;
        }
        let delta = std::mem::take(&mut self.counter.slow[index]);
        Some(SlowFlush { position: self.position(), delta })
    }

    /// Whether the next commit must be one of all groups: it decides on late lines, or what was decided depends on where
    /// the Fast group stands.
    #[must_use]
    pub fn has_late(&self) -> bool {
        self.has_late
    }

    /// What the next commit of all groups writes; none while it is read what the Fast group has already.
    pub fn take_whole(&mut self, judged_until_ms: Millis) -> Option<WholeFlush> {
        let fast = self.take_fast(judged_until_ms)?;
        let slow = slices().into_iter().filter_map(|slice| Some((slice, self.take_slow(slice)?.delta))).collect();
        self.has_late = false;
        Some(WholeFlush { fast, slow, late: std::mem::take(&mut self.late) })
    }

    /// Where the shard stands. Before the first message: where its lowest group does.
    fn position(&self) -> Position {
        Position {
            seq: self.seq.max(self.lowest),
            stream_time_ms: self.stream_time_ms,
            msg_id: self.msg_id.clone(),
            numbers: self.numbers.snapshot(),
            plan: self.plan.name.clone(),
        }
    }

    /// Rows that wait for the next Fast commit; marks and the position alone are none.
    #[must_use]
    pub fn fast_rows(&self) -> usize {
        let FastDelta {
            channels,
            uniques: _,
            settled: _,
            emotes,
            phrases,
            phrase_matches,
            chat_events,
            wanted,
            coverage: _,
            heard: _,
            uncovered,
            channel_names: _,
            emote_names: _,
            phrase_names,
            judged_until_ms: _,
        } = &self.counter.fast;
        channels.len()
            + emotes.len()
            + phrases.len()
            + phrase_matches.len()
            + chat_events.len()
            + wanted.len()
            + phrase_names.len()
            + uncovered.len()
            + self.late.len()
            + self.uniques.pending()
            + self.coverage.pending()
    }

    /// Rows that wait for the next commit of that slice.
    #[must_use]
    pub fn slow_rows(&self, slice: u8) -> usize {
        let SlowDelta { chatters, chatter_emotes, chatter_names } = &self.counter.slow[usize::from(slice)];
        chatters.len() + chatter_emotes.len() + chatter_names.len()
    }
}
