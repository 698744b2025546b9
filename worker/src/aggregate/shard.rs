//! One shard's state: applies the stream's messages in order and holds what the next commits will write.
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

use super::counting::{Counter, Groups, unique_chatter};
use super::coverage::{self, Coverage, DOUBT_MS, Source};
use super::dedupe::{Dedupe, horizon_start};
use super::delta::{ChannelId, FastDelta, Group, Millis, Position, Restored, SLICES, SlowDelta};
use super::late::{LateLine, is_late};
use super::numbers::{Numbers, Step};
use super::plan::ActivePlan;
use super::tails::Tails;
use super::tally::Tally;
use super::uniques::{AHEAD_MS, Uniques};
use crate::protection::Protection;
use clamor_chat::window;
use clamor_chat::wire::event::Kind;
use clamor_chat::wire::{Batch, Event};
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// 2011-06-01: Twitch's start. What claims to be older is not chat.
pub const TWITCH_BEGAN_MS: Millis = 1_306_886_400_000;

/// Messages whose lag a flush observes; more in one flush are a sample of it.
const MAX_LAG_SAMPLES: usize = 64 * 1024;

/// Where a message stands in the stream.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    /// Stream sequence.
    pub seq: u64,
    /// JetStream's timestamp.
    pub stream_time_ms: Millis,
    /// Its `Nats-Msg-Id`.
    pub msg_id: Option<&'a str>,
}

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

    /// Applies a batch. Returns the events that nothing can be done with, as a batch for the dead letters.
    pub fn apply_batch(&mut self, arrival: Arrival<'_>, batch: &Batch) -> Option<Batch> {
        let groups = self.advance(arrival)?;
        let step = if groups.any() {
            self.numbers.observe(batch.instance, batch.number, self.stream_time_ms)
        } else {
            Step::Next
        };
        match step {
            Step::Next => {}
            Step::Repeated => self.tally.repeated_batches += 1,
            Step::Jump => self.jump(batch, groups),
        }
        // The keys of a repeated batch are noted all the same: a warm-up, which ignores numbers, does so too.
        let counts = if step == Step::Repeated { Groups::NONE } else { groups };
        let mut refused = Vec::new();
        for event in &batch.events {
            self.apply_event(batch.instance, event, counts, &mut refused);
        }
        if counts.fast {
            self.mark_lines(batch.instance);
        }
        self.newest_lines.clear();
        (!refused.is_empty()).then(|| Batch {
            slot: batch.slot.clone(),
            instance: batch.instance,
            number: batch.number,
            events: refused,
        })
    }

    /// Applies a directive; none where its plan is absent or cannot be read: the last good one stays.
    pub fn apply_directive(&mut self, arrival: Arrival<'_>, plan: Option<Arc<ActivePlan>>) {
        let Some(groups) = self.advance(arrival) else { return };
        let Some(plan) = plan.filter(|_| groups.any()) else {
            return;
        };
        if groups.fast {
            let changes = plan.want(&mut self.wanted, self.stream_time_ms);
            self.counter.fast.wanted.extend(changes);
            if plan.name != self.plan.name {
                let names = plan.phrases.phrases.iter().map(|phrase| (phrase.id, phrase.name.clone()));
                self.counter.fast.phrase_names.extend(names);
                let logins =
                    plan.channels.iter().map(|(id, channel)| (*id, (channel.login.clone(), self.stream_time_ms)));
                self.counter.fast.channel_names.extend(logins);
            }
        }
        self.plan = plan;
    }

    /// Passes a message that is neither, or that could not be decoded; true where it was not known before.
    pub fn pass(&mut self, arrival: Arrival<'_>) -> bool {
        self.advance(arrival).is_some_and(|groups| groups.fast)
    }

    /// Moves to the message's place; none where it was here before.
    fn advance(&mut self, arrival: Arrival<'_>) -> Option<Groups> {
        if arrival.seq <= self.seq {
            self.tally.redelivered += 1;
            return None;
        }
        let hole = self.has_history && arrival.seq > self.seq.max(self.lowest) + 1;
        let fast_hole = self.has_history && arrival.seq > self.seq.max(self.fast_has) + 1;
        self.has_history = true;
        self.seq = arrival.seq;
        self.stream_time_ms = self.stream_time_ms.max(arrival.stream_time_ms);
        self.msg_id.clear();
        self.msg_id.push_str(arrival.msg_id.unwrap_or_default());
        if self.horizon_ms.take().is_some_and(|horizon_ms| arrival.stream_time_ms > horizon_ms) {
            self.uniques.begin_partial(arrival.stream_time_ms);
        }
        let groups = Groups {
            fast: arrival.seq > self.fast_has,
            slow: std::array::from_fn(|slice| arrival.seq > self.slow_has[slice]),
        };
        if hole {
            // Overrun or purged under us: what was in there, nobody knows.
            self.tally.stream_holes += 1;
            if fast_hole {
                self.coverage.end_all();
            }
        }
        if self.dedupe.advance(self.stream_time_ms) {
            self.uniques.rotate(self.stream_time_ms, groups.fast);
            self.leave_tails(groups.fast);
            if groups.any() {
                self.numbers.forget(self.stream_time_ms);
            }
            if groups.fast {
                self.coverage.expire(self.stream_time_ms);
            }
        }
        Some(groups)
    }

    fn jump(&mut self, batch: &Batch, groups: Groups) {
        self.tally.number_jumps += 1;
        if groups.fast {
            self.coverage.end_instance(batch.instance);
        }
    }

    fn apply_event(&mut self, instance: u64, event: &Event, counts: Groups, refused: &mut Vec<Event>) {
        match &event.kind {
            Some(Kind::Joined(_) | Kind::Parted(_) | Kind::Snapshot(_) | Kind::Marks(_) | Kind::ConnectionEnded(_)) => {
                if counts.fast {
                    self.mark_lines(instance);
                    self.cover(instance, event);
                }
            }
            Some(_) => self.apply_chat(instance, event, counts, refused),
            None => self.tally.unknown_events += u64::from(counts.fast),
        }
    }

    fn apply_chat(&mut self, instance: u64, event: &Event, counts: Groups, refused: &mut Vec<Event>) {
        let sane = event.sent_at_ms >= TWITCH_BEGAN_MS && event.channel_id != 0;
        let covered = !counts.fast || !sane || self.hear_line(instance, event);
        let key = event.key();
        if key != 0 && !self.dedupe.insert(key) {
            self.tally.duplicates += u64::from(counts.fast);
            return;
        }
        if !sane {
            if counts.fast {
                self.tally.refused_events += 1;
                refused.push(event.clone());
            }
            return;
        }
        let at_ms = event.sent_at_ms.min(self.stream_time_ms + AHEAD_MS);
        let chatter = unique_chatter(event);
        let late = counts.fast && is_late(event, self.stream_time_ms) && Protection::LateSpill.is_on();
        // A set in memory takes its chatters whether the line counts or not: they wrote, and a warm-up cannot know.
        if chatter != 0 && (!late || self.uniques.is_young(window::minute(at_ms))) {
            self.uniques.add(event.channel_id, window::minute(at_ms), chatter, counts.fast);
        }
        if late {
            self.set_aside((instance, event.connection), event, at_ms, counts);
        }
        if event.connection != 0 && key != 0 {
            let source = (instance, event.connection);
            self.tails.add(source, key, event.channel_id, event.sent_at_ms, self.stream_time_ms);
            if !covered {
                self.counter.fast.uncovered.insert(key, (event.channel_id, event.sent_at_ms));
            }
        }
        if late {
            return;
        }
        if counts.any() {
            let Self { counter, plan, .. } = self;
            counter.count(event, at_ms, counts, plan);
        }
        if counts.fast {
            self.tally.count(event);
            if self.sent_ms.len() < MAX_LAG_SAMPLES {
                self.sent_ms.push((event.channel_id, event.sent_at_ms));
            }
        }
    }

    /// A line that came late is left to the next commit, unless its place in the stream tells already.
    fn set_aside(&mut self, source: Source, event: &Event, at_ms: Millis, groups: Groups) {
        self.has_late = true;
        let known = self.counter.fast.uncovered.contains_key(&event.key())
            || self.coverage.covers_elsewhere(source, event.channel_id, event.sent_at_ms);
        if known {
            self.tally.late_covered += 1;
            return;
        }
        let chatter = unique_chatter(event);
        let settles = if self.uniques.is_young(window::minute(at_ms)) { 0 } else { chatter };
        let (event, plan) = (event.clone(), Arc::clone(&self.plan));
        self.late.push(LateLine { source, event, at_ms, groups, plan, settles });
    }

    /// Keys have left memory: those of lines that no coverage reaches go to the store.
    fn leave_tails(&mut self, counted: bool) {
        for (source, line) in self.tails.leave(horizon_start(self.stream_time_ms)) {
            if counted && !self.coverage.covers(source, line.channel_id, line.sent_ms) {
                self.counter.fast.uncovered.insert(line.key, (line.channel_id, line.sent_ms));
            }
        }
    }

    /// A line is heard by its connection: after a jump its channel resumes here. False: the connection covers the
    /// channel only since a later time.
    fn hear_line(&mut self, instance: u64, event: &Event) -> bool {
        if event.connection == 0 {
            return true;
        }
        let at_ms = event.sent_at_ms.min(self.stream_time_ms);
        let covered = self.coverage.hear((instance, event.connection), event.channel_id, at_ms);
        match self.newest_lines.iter_mut().rev().find(|(connection, _)| *connection == event.connection) {
            Some((_, newest)) => *newest = at_ms.max(*newest),
            None => self.newest_lines.push((event.connection, at_ms)),
        }
        covered
    }

    /// A batch is a mark for its connections up to their newest lines, less the doubt.
    fn mark_lines(&mut self, instance: u64) {
        for (connection, newest_ms) in self.newest_lines.drain(..) {
            self.coverage.mark((instance, connection), newest_ms.saturating_sub(DOUBT_MS));
        }
    }

    fn cover(&mut self, instance: u64, event: &Event) {
        let source = (instance, event.connection);
        let clamp = |at_ms| coverage::clamp(at_ms, self.stream_time_ms);
        let at_ms = clamp(event.sent_at_ms);
        match &event.kind {
            Some(Kind::Joined(_)) if event.channel_id != 0 => {
                self.coverage.hear(source, event.channel_id, at_ms);
            }
            Some(Kind::Parted(_)) => self.coverage.part(source, event.channel_id, at_ms),
            Some(Kind::Snapshot(snapshot)) => self.coverage.snapshot(source, &snapshot.channel_ids, at_ms),
            Some(Kind::ConnectionEnded(_)) => self.coverage.end_connection(source),
            Some(Kind::Marks(marks)) => {
                for mark in &marks.marks {
                    self.coverage.mark((instance, mark.connection), clamp(mark.heard_until_ms));
                }
            }
            _ => {}
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
