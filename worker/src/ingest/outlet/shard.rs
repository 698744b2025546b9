//! One shard under its lock: what is packed, what waits, what is under way. Never waits itself.

use crate::ingest::packer::{Identity, Packer, Sealed, encode};
use crate::ingest::{locked, wall_ms};
use clamor_chat::wire::{Event, Mark, Marks, Snapshot, event::Kind};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// A shard and who waits for it.
pub(super) struct Shard {
    state: Mutex<State>,
    /// Told when there is something to publish after there was nothing, or a batch was filled.
    pub(super) wake: Notify,
    /// [`State::waiting_bytes`], for who holds the bound over all shards.
    waiting_bytes: AtomicU64,
}

pub(super) struct State {
    open: Packer,
    pub(super) waiting: VecDeque<Sealed>,
    waiting_bytes: u64,
    /// Read back from disk, before anything that is still there.
    front: VecDeque<Sealed>,
    /// Given to the publisher and not yet in the stream.
    in_flight: Option<InFlight>,
    /// Number of the newest batch of ours that is in the stream.
    published: u64,
    /// Something on disk comes before what waits.
    pub(super) spilled: bool,
    /// The channels of this shard that each connection hears.
    pub(super) heard: BTreeMap<u32, BTreeSet<u64>>,
    /// Something was dropped: the stream's reader must be told again what is heard.
    pub(super) snapshot_due: bool,
    /// While something waits, a snapshot every so many bytes: what comes after it can do without what came before.
    snapshot_every: u64,
    since_snapshot: u64,
    last_taken: Option<Instant>,
}

struct InFlight {
    batch: Sealed,
    since: Instant,
    on_disk: bool,
}

/// A publish under way for so long will not succeed at once.
const STALLED_AFTER: Duration = Duration::from_secs(1);

/// What a publisher is given.
pub(super) enum Taken {
    Batch(Sealed),
    /// The next one is on disk.
    Spilled,
    /// The open batch is due then.
    At(Instant),
    Nothing,
}

impl Shard {
    pub(super) fn new(identity: &Arc<Identity>, snapshot_every: u64) -> Self {
        let state = State {
            open: Packer::new(Arc::clone(identity)),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            front: VecDeque::new(),
            in_flight: None,
            published: 0,
            spilled: false,
            heard: BTreeMap::new(),
            snapshot_due: false,
            snapshot_every,
            since_snapshot: 0,
            last_taken: None,
        };
        Self { state: Mutex::new(state), wake: Notify::new(), waiting_bytes: AtomicU64::new(0) }
    }

    /// Does something under the lock.
    pub(super) fn with<T>(&self, apply: impl FnOnce(&mut State) -> T) -> T {
        let mut state = locked(&self.state);
        let result = apply(&mut state);
        self.waiting_bytes.store(state.waiting_bytes, Ordering::Relaxed);
        result
    }

    /// Bytes of the batches that wait in memory.
    pub(super) fn waiting_bytes(&self) -> u64 {
        self.waiting_bytes.load(Ordering::Relaxed)
    }

    /// Adds events; (whether a batch was filled, whether the publisher must be told).
    pub(super) fn change(&self, apply: impl FnOnce(&mut Change<'_>)) -> (bool, bool) {
        self.with(|state| {
            let was_empty = state.open.is_empty();
            let mut change = Change { state, filled: false };
            apply(&mut change);
            let filled = change.filled;
            (filled, filled || (was_empty && !state.open.is_empty()))
        })
    }
}

impl State {
    /// The next batch, when it is due. An open batch is due `linger` after the last one.
    pub(super) fn take(&mut self, now: Instant, linger: Duration) -> Taken {
        while let Some(batch) = self.front.pop_front() {
            // The one that was under way when the shard began to spill is on disk, too.
            let known = batch.instance == self.open.instance() && batch.number <= self.published;
            if !known {
                return self.give(batch, now, true);
            }
        }
        if self.spilled {
            return Taken::Spilled;
        }
        if let Some(batch) = self.pop_waiting() {
            self.last_taken = Some(now);
            return self.give(batch, now, false);
        }
        if self.open.is_empty() {
            return Taken::Nothing;
        }
        let due = self.last_taken.map_or(now, |last| last + linger);
        if now < due {
            return Taken::At(due);
        }
        self.last_taken = Some(now);
        match self.open.seal() {
            Some(batch) => self.give(batch, now, false),
            None => Taken::Nothing,
        }
    }

    fn give(&mut self, batch: Sealed, since: Instant, on_disk: bool) -> Taken {
        self.in_flight = Some(InFlight { batch: batch.clone(), since, on_disk });
        Taken::Batch(batch)
    }

    /// The stream has what was given last.
    pub(super) fn published(&mut self) {
        if let Some(InFlight { batch, .. }) = self.in_flight.take()
            && batch.instance == self.open.instance()
        {
            self.published = batch.number;
        }
    }

    /// Batches that were on disk.
    pub(super) fn read_back(&mut self, batches: Vec<Sealed>) {
        self.spilled = !batches.is_empty();
        self.front.extend(batches);
    }

    /// Takes the oldest of what waits to bring it to disk, about so many bytes of it. First the batch that is under way:
    /// not even that shall a kill cost. Where there is something on disk before, also what is still being packed.
    pub(super) fn begin_spill(&mut self, bytes: u64) -> VecDeque<Sealed> {
        let mut moving = VecDeque::new();
        let mut taken_bytes = 0;
        // What is on disk before it is an ended instance's, for it was taken from memory.
        if let Some(in_flight) = self.in_flight.as_mut().filter(|in_flight| !in_flight.on_disk) {
            in_flight.on_disk = true;
            moving.push_back(in_flight.batch.clone());
        }
        while taken_bytes < bytes {
            let Some(batch) = self.pop_waiting().or_else(|| if self.spilled { self.open.seal() } else { None }) else {
                break;
            };
            taken_bytes += batch.payload.len() as u64;
            moving.push_back(batch);
        }
        self.spilled |= !moving.is_empty();
        moving
    }

    /// The disk did not take these. `spilled`: there still is something on it.
    pub(super) fn return_unspilled(&mut self, batches: VecDeque<Sealed>, spilled: bool) {
        self.spilled = spilled;
        for batch in batches.into_iter().rev() {
            match &mut self.in_flight {
                Some(in_flight)
                    if in_flight.batch.number == batch.number && in_flight.batch.instance == batch.instance =>
                {
                    in_flight.on_disk = false;
                }
                _ if batch.instance == self.open.instance() && batch.number <= self.published => {}
                _ => {
                    self.waiting_bytes += batch.payload.len() as u64;
                    self.waiting.push_front(batch);
                }
            }
        }
    }

    /// Whether there is anything that comes after what is on disk.
    pub(super) fn has_unspilled(&self) -> bool {
        !self.waiting.is_empty() || !self.open.is_empty()
    }

    /// Whether the bus takes nothing of this shard at the moment.
    pub(super) fn is_stalled(&self) -> bool {
        self.in_flight.as_ref().is_some_and(|in_flight| in_flight.since.elapsed() >= STALLED_AFTER)
    }

    /// Whether a kill would cost anything.
    pub(super) fn is_only_in_memory(&self) -> bool {
        self.has_unspilled() || self.in_flight.as_ref().is_some_and(|in_flight| !in_flight.on_disk)
    }

    /// Gives the oldest up.
    pub(super) fn drop_oldest(&mut self) -> Option<Sealed> {
        let oldest = self.pop_waiting()?;
        self.snapshot_due = true;
        Some(oldest)
    }

    /// Takes out all that is nowhere but in memory.
    pub(super) fn take_all(&mut self) -> Vec<Sealed> {
        let under_way = self.in_flight.take().filter(|in_flight| !in_flight.on_disk).map(|in_flight| in_flight.batch);
        let waiting = std::iter::from_fn(|| self.pop_waiting()).collect::<Vec<_>>();
        under_way.into_iter().chain(waiting).chain(self.open.seal()).collect()
    }

    /// The connections that hear something of this shard, and what.
    pub(super) fn hearing(&self) -> impl Iterator<Item = (&u32, &BTreeSet<u64>)> {
        self.heard.iter().filter(|(_, channels)| !channels.is_empty())
    }

    /// Events that say what each connection hears.
    pub(super) fn snapshots(&self, now_ms: u64) -> Vec<Event> {
        let snapshot = |(connection, channels): (&u32, &BTreeSet<u64>)| {
            let snapshot = Snapshot { channel_ids: channels.iter().copied().collect() };
            coverage(*connection, 0, now_ms, Kind::Snapshot(snapshot))
        };
        self.hearing().map(snapshot).collect()
    }

    fn pop_waiting(&mut self) -> Option<Sealed> {
        let batch = self.waiting.pop_front()?;
        self.waiting_bytes -= batch.payload.len() as u64;
        Some(batch)
    }

    fn push_waiting(&mut self, batch: Sealed) {
        let bytes = batch.payload.len() as u64;
        self.waiting_bytes += bytes;
        self.since_snapshot += bytes;
        self.waiting.push_back(batch);
    }
}

/// Events are being added to a shard.
pub(super) struct Change<'a> {
    pub(super) state: &'a mut State,
    filled: bool,
}

impl Change<'_> {
    pub(super) fn push(&mut self, encoded: &[u8]) {
        if let Some(filled) = self.state.open.push(encoded) {
            self.state.push_waiting(filled);
            self.filled = true;
            let backlog = self.state.spilled || self.state.waiting.len() > 1;
            if backlog && self.state.since_snapshot >= self.state.snapshot_every {
                self.begin_with_snapshot();
            }
        }
    }

    pub(super) fn event(&mut self, event: &Event) {
        let mut encoded = Vec::new();
        encode(event, &mut encoded);
        self.push(&encoded);
    }

    /// Ends the open batch and begins the next one with what is heard.
    fn begin_with_snapshot(&mut self) {
        if let Some(open) = self.state.open.seal() {
            self.state.push_waiting(open);
        }
        self.state.since_snapshot = 0;
        self.state.open.begin_with_snapshot();
        for event in self.state.snapshots(wall_ms()) {
            self.event(&event);
        }
    }
}

/// An event of the worker's own.
pub(super) fn coverage(connection: u32, channel_id: u64, now_ms: u64, kind: Kind) -> Event {
    Event { channel_id, sent_at_ms: now_ms, received_at_ms: now_ms, connection, kind: Some(kind), ..Event::default() }
}

/// Until when each connection was surely heard.
pub(super) fn marks(marks: Vec<Mark>, now_ms: u64) -> Event {
    coverage(0, 0, now_ms, Kind::Marks(Marks { marks }))
}
