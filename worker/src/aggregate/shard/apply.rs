//! What a message of the stream does to the shard.
//!
//! Invariants:
//! - a group counts an event only where the message is above its position;
//! - event keys, and the chatters of minutes in memory, are noted whether any group counts or not: a warm-up, which counts
//!   nothing, makes the same of them;
//! - only the Fast group knows coverage and what is wanted.

use super::Shard;
use crate::aggregate::counting::{Groups, unique_chatter};
use crate::aggregate::coverage::{self, DOUBT_MS, Source};
use crate::aggregate::dedupe::horizon_start;
use crate::aggregate::delta::{Millis, SLICES};
use crate::aggregate::late::{LateLine, is_late};
use crate::aggregate::numbers::Step;
use crate::aggregate::plan::ActivePlan;
use crate::aggregate::uniques::AHEAD_MS;
use crate::protection::Protection;
use clamor_chat::window;
use clamor_chat::wire::event::Kind;
use clamor_chat::wire::{Batch, Event};
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

impl Shard {
    /// Applies a batch. Returns the events that nothing can be done with, as a batch for the dead letters.
    pub fn apply_batch(&mut self, arrival: Arrival<'_>, batch: &Batch) -> Option<Batch> {
        let groups = self.advance(arrival)?;
        let step = if groups.any() && Protection::BatchNumbers.is_on() {
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
        let groups = match self.advance(arrival) {
            Some(groups) => groups,
            None if Protection::SetDirectives.is_on() => return,
            None => Groups { fast: true, slow: [true; SLICES as usize] },
        };
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
        if key != 0 && !self.dedupe.insert(key) && Protection::Dedupe.is_on() {
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
        let since_ms = coverage::proven_since(event).min(self.stream_time_ms);
        let since_ms = self.coverage.hear((instance, event.connection), event.channel_id, since_ms);
        match self.newest_lines.iter_mut().rev().find(|(connection, _)| *connection == event.connection) {
            Some((_, newest)) => *newest = at_ms.max(*newest),
            None => self.newest_lines.push((event.connection, at_ms)),
        }
        since_ms <= at_ms
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
}
