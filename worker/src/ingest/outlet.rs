//! Where the connections leave their events and the publishers fetch batches: per shard an open batch, the batches that
//! wait, and which connection hears which channels.
//!
//! Invariants:
//! - Nothing here waits. A socket is read whatever the bus does; beyond the bound the oldest batch of the fullest shard
//!   is dropped and counted, and as its number is used up, the reader of the stream sees the hole.
//! - Coverage is written under the lock under which it is known: a snapshot never contradicts the stream before it, and a
//!   mark comes after all lines that it covers.
//!
//! A spill to disk will take batches from the waiting ones before they are dropped, and give them back in front.

use super::locked;
use super::metrics::IngestMetrics;
use super::packer::{Identity, Packer, Sealed, encode};
use clamor_chat::shard;
use clamor_chat::wire::{ConnectionEnded, Event, Joined, Mark, Marks, Parted, Snapshot, event::Kind};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// All shards of this process.
pub(super) struct Outlet {
    shards: Vec<Shard>,
    count: u16,
    limit_bytes: u64,
    linger: Duration,
    closed: AtomicBool,
    metrics: Arc<IngestMetrics>,
}

struct Shard {
    state: Mutex<State>,
    /// Told when there is something to publish after there was nothing, or a batch was filled.
    wake: Notify,
    /// Of the batches that wait.
    waiting_bytes: AtomicU64,
}

struct State {
    open: Packer,
    waiting: VecDeque<Sealed>,
    /// The channels of this shard that each connection hears.
    heard: BTreeMap<u32, BTreeSet<u64>>,
    /// A batch was dropped: the stream's reader must be told again what is heard.
    snapshot_due: bool,
    last_taken: Option<Instant>,
}

/// What a publisher is given.
enum Taken {
    Batch(Sealed),
    /// The open batch is due then.
    At(Instant),
    Nothing,
}

impl Outlet {
    pub(super) fn new(
        identity: Identity,
        shards: u16,
        limit_bytes: u64,
        linger: Duration,
        metrics: Arc<IngestMetrics>,
    ) -> Self {
        let identity = Arc::new(identity);
        let shard = |_| Shard {
            state: Mutex::new(State {
                open: Packer::new(Arc::clone(&identity)),
                waiting: VecDeque::new(),
                heard: BTreeMap::new(),
                snapshot_due: false,
                last_taken: None,
            }),
            wake: Notify::new(),
            waiting_bytes: AtomicU64::new(0),
        };
        let shards: Vec<_> = (0..shards.max(1)).map(shard).collect();
        let count = u16::try_from(shards.len()).unwrap_or(u16::MAX);
        Self { shards, count, limit_bytes, linger, closed: AtomicBool::new(false), metrics }
    }

    /// How many shards there are.
    pub(super) fn shards(&self) -> u16 {
        self.count
    }

    /// The shard of a channel.
    pub(super) fn shard_of(&self, channel_id: u64) -> u16 {
        shard::shard(channel_id, self.count)
    }

    /// Adds events of one shard, each as [`encode`] makes it, one after the other.
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

    /// From now on, it does not.
    pub(super) fn parted(&self, connection: u32, channel_id: u64, now_ms: u64) {
        self.change(self.shard_of(channel_id), |change| {
            change.event(&coverage(connection, channel_id, now_ms, Kind::Parted(Parted {})));
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
            let hearing = || change.state.heard.iter().filter(|(_, channels)| !channels.is_empty());
            let mark = |(connection, _): (&u32, _)| {
                heard_until.get(connection).map(|until| Mark { connection: *connection, heard_until_ms: *until })
            };
            let mut events = Vec::new();
            if snapshot {
                events.extend(hearing().map(|(connection, channels)| {
                    let snapshot = Snapshot { channel_ids: channels.iter().copied().collect() };
                    coverage(*connection, 0, now_ms, Kind::Snapshot(snapshot))
                }));
            }
            let marked: Vec<_> = hearing().filter_map(mark).collect();
            if !marked.is_empty() {
                events.push(marks(marked, now_ms));
            }
            events.iter().for_each(|event| change.event(event));
        });
    }

    /// The next batch of a shard, when it is due. `None`: the outlet is closed and this shard is empty.
    pub(super) async fn next(&self, shard: u16) -> Option<Sealed> {
        let shard = &self.shards[usize::from(shard)];
        loop {
            match self.take(shard) {
                Taken::Batch(batch) => return Some(batch),
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

    /// Nothing more will come: what is here is due at once.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        for shard in &self.shards {
            shard.wake.notify_one();
        }
    }

    /// What waits: (batches, bytes).
    pub(super) fn depth(&self) -> (usize, u64) {
        let batches = self.shards.iter().map(|shard| locked(&shard.state).waiting.len()).sum();
        let bytes = self.shards.iter().map(|shard| shard.waiting_bytes.load(Ordering::Relaxed)).sum();
        (batches, bytes)
    }

    /// Gives up what waits, at the end of a drain that took too long. Returns how many events were lost.
    pub(super) fn abandon(&self) -> usize {
        let mut lost = 0;
        for shard in &self.shards {
            let mut state = locked(&shard.state);
            let open = state.open.seal();
            lost += state.waiting.drain(..).chain(open).map(|batch| self.dropped("shutdown", &batch)).sum::<usize>();
            shard.waiting_bytes.store(0, Ordering::Relaxed);
        }
        lost
    }

    fn take(&self, shard: &Shard) -> Taken {
        let mut state = locked(&shard.state);
        if let Some(batch) = state.waiting.pop_front() {
            shard.waiting_bytes.fetch_sub(batch.payload.len() as u64, Ordering::Relaxed);
            state.last_taken = Some(Instant::now());
            return Taken::Batch(batch);
        }
        if state.open.is_empty() {
            return Taken::Nothing;
        }
        let now = Instant::now();
        let due = state.last_taken.map_or(now, |last| last + self.linger);
        if now < due && !self.closed.load(Ordering::Acquire) {
            return Taken::At(due);
        }
        state.last_taken = Some(now);
        state.open.seal().map_or(Taken::Nothing, Taken::Batch)
    }

    /// Changes one shard under its lock; wakes its publisher and holds the bound afterwards.
    fn change(&self, shard: u16, apply: impl FnOnce(&mut Change<'_>)) {
        let shard = &self.shards[usize::from(shard)];
        let mut change = Change { state: locked(&shard.state), filled_bytes: 0 };
        let was_empty = change.state.open.is_empty();
        apply(&mut change);
        let filled_bytes = change.filled_bytes;
        let wake = filled_bytes > 0 || (was_empty && !change.state.open.is_empty());
        drop(change);
        if filled_bytes > 0 {
            shard.waiting_bytes.fetch_add(filled_bytes, Ordering::Relaxed);
            self.hold_bound();
        }
        if wake {
            shard.wake.notify_one();
        }
    }

    /// Drops the oldest batch of the fullest shard until the rest fits.
    fn hold_bound(&self) {
        let bytes = |shard: &Shard| shard.waiting_bytes.load(Ordering::Relaxed);
        while self.shards.iter().map(bytes).sum::<u64>() > self.limit_bytes {
            let Some(fullest) = self.shards.iter().max_by_key(|shard| bytes(shard)) else {
                return;
            };
            let mut state = locked(&fullest.state);
            let Some(oldest) = state.waiting.pop_front() else {
                return;
            };
            fullest.waiting_bytes.fetch_sub(oldest.payload.len() as u64, Ordering::Relaxed);
            state.snapshot_due = true;
            self.dropped("overflow", &oldest);
        }
    }

    fn dropped(&self, reason: &'static str, batch: &Sealed) -> usize {
        self.metrics.batches_dropped.with_label_values(&[reason]).inc();
        self.metrics.events_dropped.with_label_values(&[reason]).inc_by(batch.events as u64);
        batch.events
    }
}

/// One shard under its lock.
struct Change<'a> {
    state: MutexGuard<'a, State>,
    filled_bytes: u64,
}

impl Change<'_> {
    fn push(&mut self, encoded: &[u8]) {
        if let Some(filled) = self.state.open.push(encoded) {
            self.filled_bytes += filled.payload.len() as u64;
            self.state.waiting.push_back(filled);
        }
    }

    fn event(&mut self, event: &Event) {
        let mut encoded = Vec::new();
        encode(event, &mut encoded);
        self.push(&encoded);
    }
}

fn coverage(connection: u32, channel_id: u64, now_ms: u64, kind: Kind) -> Event {
    Event { channel_id, sent_at_ms: now_ms, received_at_ms: now_ms, connection, kind: Some(kind), ..Event::default() }
}

fn marks(marks: Vec<Mark>, now_ms: u64) -> Event {
    coverage(0, 0, now_ms, Kind::Marks(Marks { marks }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clamor_chat::wire::{self, Batch, ClearMessage};

    const NOW_MS: u64 = 1_700_000_000_000;

    fn outlet(limit_bytes: u64) -> Outlet {
        let metrics = Arc::new(IngestMetrics::new(&prometheus::Registry::new()).unwrap());
        let identity = Identity { slot: "slot".to_owned(), instance: 1 };
        Outlet::new(identity, 1, limit_bytes, Duration::from_millis(20), metrics)
    }

    fn chat(bytes: usize) -> Vec<u8> {
        let kind = Kind::ClearMessage(ClearMessage { target_message_id: "x".repeat(bytes), login: String::new() });
        let mut encoded = Vec::new();
        encode(&Event { channel_id: 1, kind: Some(kind), ..Event::default() }, &mut encoded);
        encoded
    }

    async fn drain(outlet: &Outlet) -> Vec<Batch> {
        outlet.close();
        let mut batches = Vec::new();
        while let Some(batch) = outlet.next(0).await {
            batches.push(wire::decode_batch(&batch.payload).unwrap());
        }
        batches
    }

    fn kinds(batches: Vec<Batch>) -> Vec<Kind> {
        batches.into_iter().flat_map(|batch| batch.events).filter_map(|event| event.kind).collect()
    }

    #[tokio::test]
    async fn the_first_event_leaves_at_once_and_the_next_in_company() {
        let outlet = outlet(1 << 20);
        outlet.push(0, [chat(1).as_slice()].into_iter());
        assert_eq!(outlet.next(0).await.unwrap().events, 1);
        outlet.push(0, [chat(1).as_slice(), chat(1).as_slice()].into_iter());
        outlet.push(0, [chat(1).as_slice()].into_iter());
        assert_eq!(outlet.next(0).await.unwrap().events, 3);
    }

    #[tokio::test]
    async fn marks_and_snapshots_say_what_each_connection_hears() {
        let outlet = outlet(1 << 20);
        outlet.joined(1, 10, NOW_MS);
        outlet.joined(1, 11, NOW_MS);
        outlet.joined(2, 10, NOW_MS);
        outlet.parted(2, 10, NOW_MS);
        outlet.mark(0, &BTreeMap::from([(1, 500), (2, 600), (3, 700)]), true, NOW_MS);
        outlet.ended(1, Some(550), NOW_MS);
        outlet.ended(3, Some(700), NOW_MS);
        outlet.mark(0, &BTreeMap::from([(1, 500)]), true, NOW_MS);
        let mark = |connection, heard_until_ms| Kind::Marks(Marks { marks: vec![Mark { connection, heard_until_ms }] });
        assert_eq!(
            kinds(drain(&outlet).await),
            [
                Kind::Joined(Joined {}),
                Kind::Joined(Joined {}),
                Kind::Joined(Joined {}),
                Kind::Parted(Parted {}),
                Kind::Snapshot(Snapshot { channel_ids: vec![10, 11] }),
                mark(1, 500),
                mark(1, 550),
                Kind::ConnectionEnded(ConnectionEnded {}),
            ]
        );
    }

    #[tokio::test]
    async fn at_rest_without_a_connection_nothing_is_said() {
        let outlet = outlet(1 << 20);
        outlet.mark(0, &BTreeMap::from([(1, 500)]), true, NOW_MS);
        assert!(drain(&outlet).await.is_empty());
    }

    #[tokio::test]
    async fn beyond_the_bound_the_oldest_is_dropped_the_hole_shows_and_a_snapshot_follows() {
        let outlet = outlet(200_000);
        outlet.joined(1, 10, NOW_MS);
        for _ in 0..30 {
            outlet.push(0, [chat(30_000).as_slice()].into_iter());
        }
        assert!(outlet.depth().1 <= 200_000);
        outlet.mark(0, &BTreeMap::new(), false, NOW_MS);
        let batches = drain(&outlet).await;
        let numbers: Vec<_> = batches.iter().map(|batch| batch.number).collect();
        assert!(numbers[0] > 1, "{numbers:?}");
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
        assert!(matches!(kinds(batches).last(), Some(Kind::Snapshot(_))));
        assert_eq!(outlet.metrics.batches_dropped.with_label_values(&["overflow"]).get(), numbers[0] - 1);
    }
}
