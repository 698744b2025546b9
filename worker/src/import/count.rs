//! From a chunk of events and what others have heard to what the store is to add. Pure: counting it again with other
//! coverage gives what would have been counted with that from the beginning.

use super::chunk::Chunk;
use super::covered::{Covered, Span};
use super::phrases::Phrases;
use super::recent::Recent;
use crate::aggregate::counting::{Counter, Groups, unique_chatter};
use crate::aggregate::delta::{ChannelId, ChatterId, Millis, SLICES};
use crate::aggregate::plan::ActivePlan;
use crate::store::{ImportDelta, MinuteChatters};
use clamor_chat::window::{self, MINUTE_MS};
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::BTreeMap;
use std::sync::Arc;

/// All groups count what is imported.
const ALL: Groups = Groups { fast: true, slow: [true; SLICES as usize] };

/// What became of events that are new to the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Judged {
    /// Counted, by channel.
    pub counted: BTreeMap<ChannelId, u64>,
    /// Counted by others.
    pub heard: u64,
}

impl Judged {
    /// All that were counted.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counted.values().sum()
    }

    /// Adds what became of others.
    pub fn add(&mut self, other: &Self) {
        for (&channel, &count) in &other.counted {
            *self.counted.entry(channel).or_default() += count;
        }
        self.heard += other.heard;
    }
}

/// What the file covers of a channel so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Own {
    /// Its first moment.
    lowest_ms: Millis,
    /// Since when the row reaches that is being extended.
    since_ms: Millis,
    until_ms: Millis,
}

/// What has been counted so far.
#[derive(Debug, Default)]
pub struct Counting {
    counter: Counter,
    phrases: Phrases,
    own: FxHashMap<ChannelId, Own>,
    recent: Recent,
}

/// A chunk, counted.
#[derive(Debug)]
pub struct Counted {
    /// What it adds.
    pub delta: ImportDelta,
    /// What became of its events.
    pub judged: Judged,
    own: FxHashMap<ChannelId, Own>,
}

/// The channels of a chunk, sorted, and the whole minutes of its time: what others have heard there decides.
#[must_use]
pub fn question(chunk: &Chunk) -> (Vec<ChannelId>, Span) {
    let channels: FxHashSet<ChannelId> = chunk.events.iter().map(|event| event.channel_id).collect();
    let mut channels: Vec<ChannelId> = channels.into_iter().collect();
    channels.sort_unstable();
    let (from, until) = chunk.span;
    (channels, (window::minute(from), window::minute(until.saturating_sub(1)) + MINUTE_MS))
}

impl Counting {
    /// Nothing is counted yet.
    #[must_use]
    pub fn new(phrases: Phrases) -> Self {
        Self { counter: Counter::default(), phrases, own: FxHashMap::default(), recent: Recent::default() }
    }

    /// Counts a chunk. Nothing of it is kept until [`Counting::keep`] is told that it is committed.
    pub fn count(&mut self, chunk: &Chunk, covered: &Covered) -> Counted {
        if let Some(recent) = &chunk.recent {
            self.recent = recent.clone();
        }
        let plan = self.phrases.plan(&chunk.logins, chunk.events.iter().map(|event| event.channel_id));
        let mut judged = Judged::default();
        let mut minutes: BTreeMap<(ChannelId, Millis), Vec<ChatterId>> = BTreeMap::new();
        let mut stretches: FxHashMap<ChannelId, Span> = FxHashMap::default();
        for event in &chunk.events {
            let (channel_id, at_ms) = (event.channel_id, event.sent_at_ms);
            let (from, until) = stretches.entry(channel_id).or_insert((at_ms, at_ms + 1));
            (*from, *until) = ((*from).min(at_ms), (*until).max(at_ms + 1));
            if covered.has(channel_id, at_ms, event.key()) {
                judged.heard += 1;
                continue;
            }
            *judged.counted.entry(channel_id).or_default() += 1;
            self.counter.count(event, at_ms, ALL, &plan);
            let chatter = unique_chatter(event);
            if chatter != 0 {
                minutes.entry((channel_id, window::minute(at_ms))).or_default().push(chatter);
            }
        }
        let (coverage, own) = self.cover(stretches, &chunk.since_ms);
        let mut delta = self.take(&plan);
        delta.fast.channel_names.clone_from(&chunk.logins);
        delta.minutes = minutes.into_iter().map(|minute| self.minute(minute, covered)).collect();
        delta.coverage = coverage;
        Counted { delta, judged, own }
    }

    /// What was counted is committed.
    pub fn keep(&mut self, counted: Counted) {
        let Counted { delta, judged: _, own } = counted;
        self.own.extend(own);
        for MinuteChatters { channel_id, minute_ms, chatters, all: _ } in delta.minutes {
            self.recent.add(channel_id, minute_ms, chatters);
        }
    }

    fn take(&mut self, plan: &Arc<ActivePlan>) -> ImportDelta {
        let mut fast = std::mem::take(&mut self.counter.fast);
        if !fast.phrases.is_empty() {
            let names = plan.phrases.phrases.iter().map(|phrase| (phrase.id, phrase.name.clone()));
            fast.phrase_names.extend(names);
        }
        ImportDelta { fast, slow: std::mem::take(&mut self.counter.slow), ..ImportDelta::default() }
    }

    fn minute(
        &self,
        ((channel_id, minute_ms), mut chatters): ((ChannelId, Millis), Vec<ChatterId>),
        covered: &Covered,
    ) -> MinuteChatters {
        chatters.sort_unstable();
        chatters.dedup();
        let is_free = covered.is_free(channel_id, (minute_ms, minute_ms + MINUTE_MS));
        let all = if is_free { self.recent.count_with(channel_id, minute_ms, &chatters) } else { None };
        MinuteChatters { channel_id, minute_ms, chatters, all: all.map(|all| u32::try_from(all).unwrap_or(u32::MAX)) }
    }

    /// What the file covers with this chunk: rows, and how it stands then.
    fn cover(
        &self,
        stretches: FxHashMap<ChannelId, Span>,
        since_ms: &FxHashMap<ChannelId, Millis>,
    ) -> (Vec<(ChannelId, Span)>, FxHashMap<ChannelId, Own>) {
        let (mut rows, mut after) = (Vec::new(), FxHashMap::default());
        for (channel_id, (from_ms, until_ms)) in stretches {
            let own = self.own.get(&channel_id).copied().unwrap_or_else(|| {
                let since_ms = since_ms.get(&channel_id).copied().unwrap_or(from_ms).min(from_ms);
                Own { lowest_ms: since_ms, since_ms, until_ms: since_ms }
            });
            let (lowest_ms, until_ms) = (own.lowest_ms.min(from_ms), own.until_ms.max(until_ms));
            if lowest_ms < own.lowest_ms {
                rows.push((channel_id, (lowest_ms, own.lowest_ms)));
            }
            rows.push((channel_id, (own.since_ms, until_ms)));
            after.insert(channel_id, Own { lowest_ms, until_ms, ..own });
        }
        (rows, after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clamor_chat::event::{Parsed, parse};

    const T0: Millis = 1_700_000_040_000;

    fn chunk(times: &[Millis]) -> Chunk {
        let mut chunk = Chunk { span: (T0, T0 + 60_000), ..Chunk::default() };
        for (index, at) in times.iter().enumerate() {
            let line = format!("@room-id=7;user-id={};tmi-sent-ts={} :a!a@a PRIVMSG #room :hi", index + 1, T0 + at);
            let Ok(Parsed::Chat { event, .. }) = parse(line.as_bytes(), 0) else { panic!("{line}") };
            chunk.events.push(event);
        }
        chunk
    }

    fn messages(counted: &Counted) -> u64 {
        counted.delta.fast.channels.values().map(|counts| counts.messages).sum()
    }

    fn spans(counted: &Counted) -> Vec<Span> {
        let mut spans: Vec<Span> = counted.delta.coverage.iter().map(|row| row.1).collect();
        spans.sort_unstable();
        spans
    }

    #[test]
    fn a_channel_is_covered_from_its_first_to_its_last_line() {
        let mut counting = Counting::new(Phrases::default());
        let first = counting.count(&chunk(&[20, 0, 9_000]), &Covered::default());
        assert_eq!((messages(&first), spans(&first)), (3, vec![(T0, T0 + 9_001)]));
        counting.keep(first);
        let second = counting.count(&chunk(&[30_000]), &Covered::default());
        assert_eq!(spans(&second), vec![(T0, T0 + 30_001)], "the row is extended");
        counting.keep(second);
        let earlier = counting.count(&chunk(&[30_500]), &Covered::default());
        assert_eq!(earlier.delta.minutes[0].all, Some(3), "chatters 1 to 3 are known");
    }

    #[test]
    fn what_others_have_counted_is_left_out_and_covered_all_the_same() {
        let lines = chunk(&[0, 10_000, 15_000, 21_000, 25_000]);
        let mut covered = Covered::default();
        covered.add_heard(7, (T0 + 10_000, T0 + 20_000));
        covered.add_line(lines.events[3].key(), 7, T0 + 21_000);
        let counted = Counting::new(Phrases::default()).count(&lines, &covered);
        assert_eq!((messages(&counted), counted.judged.heard), (2, 3));
        assert_eq!(spans(&counted), vec![(T0, T0 + 25_001)]);
        assert_eq!(counted.delta.minutes[0].all, None, "others have counted in the minute");
    }

    #[test]
    fn counting_again_with_other_coverage_is_counting_with_it() {
        let mut covered = Covered::default();
        covered.add_heard(7, (T0, T0 + 10_000));
        let lines = chunk(&[0, 5_000, 15_000]);
        let mut counting = Counting::new(Phrases::default());
        assert_eq!(messages(&counting.count(&lines, &Covered::default())), 3);
        let again = counting.count(&lines, &covered);
        assert_eq!(messages(&again), 1);
        assert_eq!(again.delta.minutes[0].chatters, vec![3]);
        assert_eq!(spans(&again), spans(&Counting::new(Phrases::default()).count(&lines, &covered)));
    }
}
