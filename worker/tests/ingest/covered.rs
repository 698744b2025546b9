//! What the streams say was covered, read as the aggregator reads them, and held against what was said.

use crate::harness::Published;
use clamor_chat::wire::{Batch, Event, event::Kind};
use clamor_simulator::{Ledger, MessageRow};
use std::collections::{BTreeMap, BTreeSet};

/// One connection of one instance, as the stream of one shard (the second) tells of it: no stream knows the others'.
type Source = (u64, u16, u32);

/// The intervals in which a channel was heard by somebody (ms), open ones up to the last mark.
#[derive(Debug, Default)]
pub(crate) struct Covered {
    intervals: BTreeMap<u64, Vec<(u64, u64)>>,
    open: BTreeMap<(Source, u64), u64>,
    heard_until: BTreeMap<Source, u64>,
    numbers: BTreeMap<(u64, u16), u64>,
}

impl Covered {
    /// Of these streams.
    pub(crate) fn by(published: &Published) -> Self {
        let mut covered = Self::default();
        for (shard, batch) in &published.batches {
            covered.read(*shard, batch);
        }
        covered.close_where(|_| true);
        covered
    }

    /// Whether somebody heard the channel then. Of the millisecond of a JOIN nobody knows what came first.
    pub(crate) fn covers(&self, channel: u64, at_ms: u64) -> bool {
        let intervals = self.intervals.get(&channel).into_iter().flatten();
        intervals.into_iter().any(|(since, until)| *since < at_ms && at_ms < *until)
    }

    /// The times between `from` and `to` in which nobody heard the channel.
    pub(crate) fn gaps(&self, channel: u64, from: u64, to: u64) -> Vec<(u64, u64)> {
        let mut intervals = self.intervals.get(&channel).cloned().unwrap_or_default();
        intervals.sort_unstable();
        let (mut gaps, mut reached) = (Vec::new(), from);
        for (since, until) in intervals {
            if since > reached && reached < to {
                gaps.push((reached, since.min(to)));
            }
            reached = reached.max(until);
        }
        if reached < to {
            gaps.push((reached, to));
        }
        gaps
    }

    fn read(&mut self, shard: u16, batch: &Batch) {
        let last = self.numbers.entry((batch.instance, shard)).or_default();
        if batch.number <= *last {
            return;
        }
        let jumped = batch.number > *last + 1 && *last > 0;
        *last = batch.number;
        if jumped {
            self.close_where(|(instance, of, _)| (instance, of) == (batch.instance, shard));
        }
        for event in &batch.events {
            self.apply((batch.instance, shard), event);
        }
    }

    fn apply(&mut self, (instance, shard): (u64, u16), event: &Event) {
        let (source, at_ms) = ((instance, shard, event.connection), event.sent_at_ms);
        match &event.kind {
            Some(Kind::Joined(_)) => self.hear(source, event.channel_id, at_ms),
            Some(Kind::Parted(_)) => self.close(source, event.channel_id, Some(at_ms)),
            Some(Kind::Snapshot(snapshot)) => {
                snapshot.channel_ids.iter().for_each(|channel| self.hear(source, *channel, at_ms));
            }
            Some(Kind::Marks(marks)) => {
                for mark in &marks.marks {
                    let until = self.heard_until.entry((instance, shard, mark.connection)).or_default();
                    *until = (*until).max(mark.heard_until_ms);
                }
            }
            Some(Kind::ConnectionEnded(_)) => self.close_where(|of| of == source),
            Some(_) if event.key() != 0 && event.connection != 0 => self.hear(source, event.channel_id, at_ms),
            _ => {}
        }
    }

    fn hear(&mut self, source: Source, channel: u64, at_ms: u64) {
        self.open.entry((source, channel)).or_insert(at_ms);
    }

    fn close_where(&mut self, closes: impl Fn(Source) -> bool) {
        let open: Vec<_> = self.open.keys().copied().filter(|(source, _)| closes(*source)).collect();
        for (source, channel) in open {
            self.close(source, channel, None);
        }
    }

    fn close(&mut self, source: Source, channel: u64, at_ms: Option<u64>) {
        let Some(since) = self.open.remove(&(source, channel)) else { return };
        let heard_until = self.heard_until.get(&source).copied().unwrap_or_default();
        let until = at_ms.unwrap_or(heard_until);
        if until > since {
            self.intervals.entry(channel).or_default().push((since, until));
        }
    }
}

/// Every message that was said and is in no stream was said when nobody claims to have listened. Returns those.
pub(crate) fn assert_exact<'a>(published: &Published, ledger: &'a Ledger) -> Vec<&'a MessageRow> {
    assert!(!ledger.messages.is_empty(), "the ledger has no messages: is its detail Messages?");
    let covered = Covered::by(published);
    let there: BTreeSet<String> = published.distinct().map(|event| format!("{:032x}", event.key())).collect();
    let missing: Vec<_> = ledger.messages.iter().filter(|message| !there.contains(&message.id)).collect();
    let claimed: Vec<_> =
        missing.iter().filter(|message| covered.covers(message.channel_id, message.sent_at_ms)).take(5).collect();
    assert!(claimed.is_empty(), "of {} messages missing these are said to have been heard: {claimed:?}", missing.len());
    missing
}
