//! Where the connections leave their events and the publishers fetch batches: per shard an open batch, the batches that
//! wait, and which connection hears which channels.
//!
//! ```text
//!   listeners ──► open batch ──► waiting (bounded) ──────────────────────► publisher
//!                                   └──► spill on disk ──► read back ──────────▲
//! ```
//!
//! Invariants:
//! - Nothing that a socket calls waits, or touches the disk. A socket is read whatever bus and disk do; beyond the bound
//!   the oldest batch of the fullest shard is dropped and counted, and as its number is used up, the reader of the
//!   stream sees the hole.
//! - Batches of a shard leave in the order of their numbers: what is on disk before what waits.
//! - Coverage is written under the lock under which it is known: a snapshot never contradicts the stream before it, and a
//!   mark comes after all lines that it covers.

mod shard;
mod spilling;
#[cfg(test)]
mod tests;

use super::metrics::IngestMetrics;
use super::packer::{Identity, Sealed};
use super::spill::Spill;
use clamor_chat::shard::shard;
use clamor_chat::wire::{ConnectionEnded, Joined, Mark, Parted, event::Kind};
use shard::{Change, Shard, State, Taken, coverage, marks};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// All shards of this process.
pub(super) struct Outlet {
    shards: Vec<Shard>,
    count: u16,
    limit_bytes: u64,
    linger: Duration,
    closed: AtomicBool,
    spill: Option<Arc<Spill>>,
    /// Told when more waits than shall stay in memory.
    spill_due: Notify,
    metrics: Arc<IngestMetrics>,
}

impl Outlet {
    pub(super) fn new(
        identity: Identity,
        shards: u16,
        limit_bytes: u64,
        linger: Duration,
        spill: Option<Arc<Spill>>,
        metrics: Arc<IngestMetrics>,
    ) -> Self {
        let identity = Arc::new(identity);
        let snapshot_every = spill.as_ref().map_or(u64::MAX, |spill| spill.snapshot_every());
        let count = shards.max(1);
        let shards = (0..count).map(|_| Shard::new(&identity, snapshot_every)).collect();
        let (closed, spill_due) = (AtomicBool::new(false), Notify::new());
        Self { shards, count, limit_bytes, linger, closed, spill, spill_due, metrics }
    }

    /// How many shards there are.
    pub(super) fn shards(&self) -> u16 {
        self.count
    }

    /// The shard of a channel.
    pub(super) fn shard_of(&self, channel_id: u64) -> u16 {
        shard(channel_id, self.count)
    }

    /// Adds events of one shard, each as [`super::packer::encode`] makes it, one after the other.
    pub(super) fn push<'a>(&self, shard: u16, encoded: impl Iterator<Item = &'a [u8]>) {
        self.change(shard, |change| encoded.for_each(|event| change.push(event)));
    }

    /// From now on, a connection hears a channel.
    pub(super) fn joined(&self, connection: u32, channel_id: u64, now_ms: u64) {
        self.change(self.shard_of(channel_id), |change| {
            change.event(&coverage(connection, channel_id, now_ms, Kind::Joined(Joined {})));
            change.state.heard.entry(connection).or_default().insert(channel_id);
        });
    }

    /// From then on, it does not.
    pub(super) fn parted(&self, connection: u32, channel_id: u64, until_ms: u64) {
        self.change(self.shard_of(channel_id), |change| {
            change.event(&coverage(connection, channel_id, until_ms, Kind::Parted(Parted {})));
            if let Some(channels) = change.state.heard.get_mut(&connection) {
                channels.remove(&channel_id);
            }
        });
    }

    /// A connection is gone; it had surely heard everything until then.
    pub(super) fn ended(&self, connection: u32, heard_until_ms: Option<u64>, now_ms: u64) {
        for shard in 0..self.count {
            self.change(shard, |change| {
                if change.state.heard.remove(&connection).is_none() {
                    return;
                }
                if let Some(heard_until_ms) = heard_until_ms {
                    change.event(&marks(vec![Mark { connection, heard_until_ms }], now_ms));
                }
                change.event(&coverage(connection, 0, now_ms, Kind::ConnectionEnded(ConnectionEnded {})));
            });
        }
    }

    /// Says of all connections that hear something of this shard until when they surely did, and with `snapshot` (or
    /// after a drop) also what. The marks must have been taken before: all lines that they cover are here already.
    pub(super) fn mark(&self, shard: u16, heard_until: &BTreeMap<u32, u64>, snapshot: bool, now_ms: u64) {
        self.change(shard, |change| {
            let snapshot = std::mem::take(&mut change.state.snapshot_due) || snapshot;
            let mut events = if snapshot { change.state.snapshots(now_ms) } else { Vec::new() };
            let mark =
                |connection: u32| heard_until.get(&connection).map(|until| Mark { connection, heard_until_ms: *until });
            let marked: Vec<_> = change.state.hearing().filter_map(|(connection, _)| mark(*connection)).collect();
            if !marked.is_empty() {
                events.push(marks(marked, now_ms));
            }
            events.iter().for_each(|event| change.event(event));
        });
    }

    /// The next batch of a shard, when it is due; it counts as waiting until [`Self::published`]. `None`: the outlet is
    /// closed and this shard is empty.
    pub(super) async fn next(self: &Arc<Self>, number: u16) -> Option<Sealed> {
        let shard = &self.shards[usize::from(number)];
        loop {
            match self.take(shard) {
                Taken::Batch(batch) => return Some(batch),
                Taken::Spilled => {
                    let outlet = Arc::clone(self);
                    // Fails where the process ends, or by a panic: then this shard's publisher ends, too.
                    tokio::task::spawn_blocking(move || outlet.read_back(number)).await.ok()?;
                }
                Taken::At(due) => {
                    tokio::select! {
                        () = shard.wake.notified() => {}
                        () = tokio::time::sleep_until(due.into()) => {}
                    }
                }
                Taken::Nothing if self.closed.load(Ordering::Acquire) => return None,
                Taken::Nothing => shard.wake.notified().await,
            }
        }
    }

    /// The stream has the batch that was given last.
    pub(super) fn published(&self, shard: u16) {
        self.shards[usize::from(shard)].with(State::published);
    }

    /// Nothing more will come: what is here is due at once.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        for shard in &self.shards {
            shard.wake.notify_one();
        }
    }

    /// What waits in memory: (batches, bytes).
    pub(super) fn depth(&self) -> (usize, u64) {
        let batches = self.shards.iter().map(|shard| shard.with(|state| state.waiting.len())).sum();
        (batches, self.waiting_bytes())
    }

    /// Gives up what is in memory, at the end of a drain that took too long. Returns how many events were lost.
    pub(super) fn abandon(&self) -> usize {
        let left = self.shards.iter().flat_map(|shard| shard.with(State::take_all));
        left.map(|batch| self.dropped("shutdown", &batch)).sum()
    }

    fn take(&self, shard: &Shard) -> Taken {
        let closed = self.closed.load(Ordering::Acquire);
        let linger = if closed { Duration::ZERO } else { self.linger };
        shard.with(|state| state.take(Instant::now(), linger))
    }

    /// Changes one shard under its lock; wakes its publisher and holds the bound afterwards.
    fn change(&self, shard: u16, apply: impl FnOnce(&mut Change<'_>)) {
        let shard = &self.shards[usize::from(shard)];
        let (filled, wake) = shard.change(apply);
        if filled {
            self.hold_bound();
        }
        if wake {
            shard.wake.notify_one();
        }
    }

    /// Drops the oldest batch of the fullest shard until the rest fits. With a spill, the disk is asked long before.
    fn hold_bound(&self) {
        if self.spill.is_some() && self.waiting_bytes() > self.spill_beyond() {
            self.spill_due.notify_one();
        }
        while self.waiting_bytes() > self.limit_bytes {
            let Some(oldest) = self.shards[usize::from(self.fullest())].with(State::drop_oldest) else {
                return;
            };
            self.dropped("overflow", &oldest);
        }
    }

    fn waiting_bytes(&self) -> u64 {
        self.shards.iter().map(Shard::waiting_bytes).sum()
    }

    fn fullest(&self) -> u16 {
        (0..self.count).max_by_key(|shard| self.shards[usize::from(*shard)].waiting_bytes()).unwrap_or_default()
    }

    fn dropped(&self, reason: &'static str, batch: &Sealed) -> usize {
        self.metrics.batches_dropped.with_label_values(&[reason]).inc();
        self.metrics.events_dropped.with_label_values(&[reason]).inc_by(batch.events as u64);
        batch.events
    }
}
