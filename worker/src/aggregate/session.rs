//! One owned shard at work: reads, applies, and commits each group in its rhythm.
//!
//! A single task holds the shard's state; commits run beside it, at most one of a group at a time. While a commit
//! cannot end, reading goes on until the maps are full; then the stream is the buffer.

use super::commit::{Committer, Done, Standing, now_ms};
use super::delta::{Group, Millis, Position, SLICES};
use super::flush::{self, ROWS_ENOUGH, ROWS_MAX};
use super::history::Known;
use super::metrics::{AggregateMetrics, Alarm, Dropped};
use super::plan::ActivePlan;
use super::purge::{Beginnings, FULL};
use super::sets::PlanLoader;
use super::shard::{Arrival, Shard, slices};
use super::source::{Input, Source};
use clamor_bus::{Bus, Start, StreamMessage};
use clamor_chat::subject::Kind;
use clamor_chat::wire::{check_schema, decode_batch, decode_directive, encode_batch};
use futures::FutureExt;
use futures::future::BoxFuture;
use rustc_hash::FxHashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Messages that are applied before the timers are looked at again.
const BURST: usize = 32;
/// Gaps are judged up to so long ago: marks of live connections are younger.
const JUDGED_BEHIND_MS: Millis = 5_000;
/// Gauges, and the look at what else is due.
const TICK: Duration = Duration::from_secs(5);
/// A window is due two minutes after its end: no hurry.
const ROLL_UP: Duration = Duration::from_secs(30);
/// A stream fills slowly against this.
const PURGE: Duration = Duration::from_secs(60);
/// A dead letter must not hold up the living.
const DEAD_LETTER_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It was told to stop; what it has counted is to be flushed.
    Stopped,
    /// Another owner has the shard.
    Lost,
    /// The stream is not the one that was read; what was counted is to be flushed, and the shard to be taken anew.
    OtherHistory,
}

/// The rhythm of the Fast group.
#[derive(Debug)]
struct Fast {
    /// What the store has.
    committed: (u64, Millis),
    in_flight: bool,
    /// When the first row came that waits.
    pending_since: Option<Instant>,
    /// When it was looked at last.
    last: Instant,
    last_took: Duration,
}

/// The rhythm of one slice.
#[derive(Debug)]
struct Slow {
    committed: (u64, Millis),
    due: Instant,
    last: Instant,
}

/// A directive whose plan is being fetched and built; the shard waits for it.
struct Loading {
    message: StreamMessage,
    plan: BoxFuture<'static, Option<Arc<ActivePlan>>>,
}

/// One owned shard.
pub(super) struct Session {
    bus: Bus,
    committer: Committer,
    plans: PlanLoader,
    metrics: AggregateMetrics,
    source: Source,
    start: Start,
    lowest: Position,
    shard: Shard,
    loading: Option<Loading>,
    jobs: JoinSet<Done>,
    fast: Fast,
    slow: [Slow; SLICES as usize],
    slow_in_flight: bool,
    roll_up_in_flight: bool,
    roll_up_due: Instant,
    purge_due: Instant,
    tick_due: Instant,
    unread: u64,
    beginnings: Beginnings,
    began: Instant,
    /// Called once, when the shard has read all that its stream had.
    on_caught_up: Option<Box<dyn FnOnce() + Send>>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("source", &self.source).field("unread", &self.unread).finish_non_exhaustive()
    }
}

/// What a session begins with.
pub(super) struct Begin {
    /// The bus.
    pub(super) bus: Bus,
    /// Commits for the claim.
    pub(super) committer: Committer,
    /// Loads plans.
    pub(super) plans: PlanLoader,
    /// Restored.
    pub(super) shard: Shard,
    /// The position of the group that is furthest behind.
    pub(super) lowest: Position,
    /// Where the store stands: of each group by number.
    pub(super) positions: FxHashMap<i16, Position>,
    /// Reads from there.
    pub(super) start: Start,
    /// Messages that the stream had after the lowest position.
    pub(super) unread: u64,
    /// Called once the shard has read all that its stream had.
    pub(super) on_caught_up: Box<dyn FnOnce() + Send>,
}

impl std::fmt::Debug for Begin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Begin").field("start", &self.start).field("unread", &self.unread).finish_non_exhaustive()
    }
}

impl Session {
    /// Begins to read.
    #[must_use]
    pub(super) fn begin(begin: Begin) -> Self {
        let Begin { bus, committer, plans, shard, lowest, positions, start, unread, on_caught_up } = begin;
        let now = Instant::now();
        let number = committer.claim.shard;
        let known = Known { created: committer.stream_created.to_string(), ..Known::default() };
        let committed = |group: Group| {
            let position = positions.get(&group.number());
            position.map_or((0, 0), |position| (position.seq, position.stream_time_ms))
        };
        let slow = slices().map(|slice| Slow {
            committed: committed(Group::Slow(slice)),
            due: now + flush::SLOW * (u32::from(slice) + 1) / u32::from(SLICES),
            last: now,
        });
        let fast = Fast {
            committed: committed(Group::Fast),
            in_flight: false,
            pending_since: None,
            last: now,
            last_took: Duration::ZERO,
        };
        Self {
            source: Source::open(bus.clone(), number, known, start),
            metrics: committer.metrics.clone(),
            bus,
            committer,
            plans,
            start,
            lowest,
            shard,
            loading: None,
            jobs: JoinSet::new(),
            fast,
            slow,
            slow_in_flight: false,
            roll_up_in_flight: false,
            roll_up_due: now + ROLL_UP,
            purge_due: now + PURGE,
            tick_due: now + TICK,
            unread,
            beginnings: Beginnings::default(),
            began: now,
            on_caught_up: Some(on_caught_up),
        }
    }

    /// Its shard.
    #[must_use]
    pub(super) fn shard_number(&self) -> u16 {
        self.committer.claim.shard
    }

    /// Works until it is told to stop, or cannot go on. `turn` is called with every turn of the loop.
    pub(super) async fn work(&mut self, stop: &CancellationToken, lost: &CancellationToken, turn: impl Fn()) -> End {
        self.look_whether_caught_up();
        loop {
            turn();
            let due = self.next_due();
            let has_room = self.has_room();
            tokio::select! {
                biased;
                () = stop.cancelled() => return End::Stopped,
                () = lost.cancelled() => return End::Lost,
                Some(done) = self.jobs.join_next(), if !self.jobs.is_empty() => {
                    if self.finish(done).await.is_err() {
                        return End::Lost;
                    }
                }
                () = tokio::time::sleep_until(due) => self.begin_due(),
                plan = loaded(&mut self.loading), if self.loading.is_some() => self.directive(plan),
                input = self.source.next(), if has_room && self.loading.is_none() => {
                    if let Some(alarm) = self.take(input).await {
                        self.metrics.alarm(alarm);
                        let shard = self.committer.claim.shard;
                        tracing::error!(shard, alarm = alarm.reason(), "the stream is not the one that was read before");
                        return End::OtherHistory;
                    }
                }
            }
        }
    }

    /// Takes one input, and what else is there already.
    async fn take(&mut self, input: Input) -> Option<Alarm> {
        let mut next = Some(input);
        let mut taken = 0;
        while let Some(input) = next {
            match input {
                Input::Message(message) => self.apply(message).await,
                Input::OtherHistory(alarm) => return Some(alarm),
                Input::Interrupted(error) => self.read_on(&error.to_string()),
            }
            taken += 1;
            next = if taken < BURST && self.loading.is_none() { self.source.next().now_or_never() } else { None };
        }
        None
    }

    fn read_on(&mut self, error: &str) {
        let shard = self.committer.claim.shard;
        tracing::info!(shard, "the reader was interrupted, reading on: {error}");
        let known = Known {
            created: self.committer.stream_created.to_string(),
            seq: self.shard.seq(),
            msg_id: self.shard.msg_id().to_owned(),
            stream_time_ms: self.shard.stream_time_ms(),
        };
        let start = if known.seq == 0 { self.start } else { Start::Sequence(known.seq + 1) };
        self.source.reopen(known, start);
    }

    async fn apply(&mut self, message: StreamMessage) {
        self.unread = message.pending;
        match message.kind {
            Kind::Batch => self.batch(&message).await,
            Kind::Directive => {
                match check_schema(message.schema.as_deref()).and_then(|()| decode_directive(&message.payload)) {
                    Ok(directive) => return self.load(message, directive.plan),
                    Err(error) => {
                        tracing::error!(
                            seq = message.seq,
                            "a directive is not understood, the last plan stays: {error}"
                        );
                        self.refuse(&message, Dropped::UndecodableDirective, error.reason()).await;
                    }
                }
            }
            Kind::Other => {
                self.refuse(&message, Dropped::UnknownMessage, Dropped::UnknownMessage.reason()).await;
            }
        }
        self.applied();
    }

    async fn batch(&mut self, message: &StreamMessage) {
        match check_schema(message.schema.as_deref()).and_then(|()| decode_batch(&message.payload)) {
            Ok(batch) => {
                if let Some(refused) = self.shard.apply_batch(arrival(message), &batch) {
                    self.bury(Dropped::RefusedEvent.reason(), encode_batch(&refused)).await;
                }
            }
            Err(error) => self.refuse(message, Dropped::UndecodableBatch, error.reason()).await,
        }
    }

    /// A message that nothing can be done with: to the dead letters, where it is not known already.
    async fn refuse(&mut self, message: &StreamMessage, dropped: Dropped, reason: &'static str) {
        if self.shard.pass(arrival(message)) {
            self.metrics.drop(dropped, 1);
            self.bury(reason, message.payload.to_vec()).await;
        }
    }

    async fn bury(&mut self, reason: &'static str, payload: Vec<u8>) {
        let shard = self.committer.claim.shard;
        let sent = tokio::time::timeout(DEAD_LETTER_TIMEOUT, self.bus.dead_letter(shard, reason, payload.into())).await;
        match sent {
            Ok(Ok(())) => self.metrics.dead_letter(reason),
            Ok(Err(error)) => tracing::error!(shard, reason, "failed to send a dead letter: {error}"),
            Err(_) => tracing::error!(shard, reason, "failed to send a dead letter in time"),
        }
    }

    /// At a directive the shard waits until its set is fetched and built. What all groups have needs none.
    fn load(&mut self, message: StreamMessage, name: String) {
        let current = self.shard.plan();
        if !self.shard.is_above_lowest(message.seq) {
            self.shard.pass(arrival(&message));
            self.applied();
        } else if current.name == name {
            let plan = Arc::clone(current);
            self.shard.apply_directive(arrival(&message), Some(plan));
            self.applied();
        } else {
            let plans = self.plans.clone();
            let plan = async move { plans.load(&name).await }.boxed();
            self.loading = Some(Loading { message, plan });
        }
    }

    fn directive(&mut self, plan: Option<Arc<ActivePlan>>) {
        if let Some(Loading { message, plan: _ }) = self.loading.take() {
            if let Some(plan) = &plan {
                let shard = self.committer.claim.shard;
                tracing::info!(shard, plan = plan.name, channels = plan.channels.len(), "a plan comes into force");
            }
            self.shard.apply_directive(arrival(&message), plan);
            self.applied();
        }
    }

    /// After each message.
    fn applied(&mut self) {
        self.beginnings.note(self.shard.seq(), self.shard.stream_time_ms());
        if self.unread == 0 && !self.shard.is_warm() {
            // What came between is gone from the stream: there is nothing more to warm up with.
            self.shard.begin_cold(&self.lowest);
        }
        if self.fast.pending_since.is_none() && self.shard.fast_rows() > 0 {
            self.fast.pending_since = Some(Instant::now());
        }
        self.look_whether_caught_up();
    }

    fn look_whether_caught_up(&mut self) {
        if self.unread == 0
            && self.shard.is_warm()
            && let Some(on_caught_up) = self.on_caught_up.take()
        {
            on_caught_up();
            let took = self.began.elapsed();
            self.metrics.warm(took);
            let shard = self.committer.claim.shard;
            tracing::info!(shard, seq = self.shard.seq(), took_ms = took.as_millis(), "the shard is caught up");
        }
    }

    /// Whether another message may be read: rows that wait are bounded.
    fn has_room(&self) -> bool {
        self.shard.fast_rows() < ROWS_MAX && (0..SLICES).all(|slice| self.shard.slow_rows(slice) < ROWS_MAX)
    }

    /// When something is due that is not under way.
    fn next_due(&self) -> Instant {
        let mut due = self.tick_due.min(self.purge_due);
        let whole = self.shard.has_late();
        let waits = self.fast.in_flight || (whole && self.slow_in_flight);
        if !waits {
            due = due.min(self.fast_due());
        }
        if !self.slow_in_flight && !whole {
            let slices = (0..SLICES).map(|slice| self.slow_due(slice));
            due = slices.min().map_or(due, |slow| due.min(slow));
        }
        if !self.roll_up_in_flight {
            due = due.min(self.roll_up_due);
        }
        due
    }

    fn fast_due(&self) -> Instant {
        match self.fast.pending_since {
            Some(since) => since + flush::fast_interval(self.fast.last_took, self.unread, self.shard.fast_rows()),
            None => self.fast.last + flush::REST,
        }
    }

    fn slow_due(&self, slice: u8) -> Instant {
        let slow = &self.slow[usize::from(slice)];
        if self.shard.slow_rows(slice) >= ROWS_ENOUGH { slow.last } else { slow.due }
    }

    fn begin_due(&mut self) {
        let now = Instant::now();
        if self.shard.has_late() {
            if !self.fast.in_flight && !self.slow_in_flight && self.fast_due() <= now {
                self.begin_whole(now);
            }
        } else {
            self.begin_groups(now);
        }
        if !self.roll_up_in_flight && self.roll_up_due <= now {
            self.roll_up_due = now + ROLL_UP;
            self.roll_up_in_flight = true;
            self.jobs.spawn(self.committer.clone().roll_up());
        }
        if self.purge_due <= now {
            self.purge_due = now + PURGE;
            self.begin_purge();
        }
        if self.tick_due <= now {
            self.tick_due = now + TICK;
        }
        self.report();
    }

    /// Each group by itself.
    fn begin_groups(&mut self, now: Instant) {
        if !self.fast.in_flight && self.fast_due() <= now {
            self.begin_fast(now);
        }
        for slice in 0..SLICES {
            if !self.slow_in_flight && self.slow_due(slice) <= now {
                self.begin_slow(slice, now);
            }
        }
    }

    /// Drains the counters into the metrics.
    pub(super) fn report(&mut self) {
        self.metrics.add(&self.shard.take_tally());
        self.metrics.shard(self.committer.claim.shard, self.unread, self.shard.keys());
    }

    fn begin_fast(&mut self, now: Instant) {
        self.fast.last = now;
        self.fast.pending_since = None;
        if let Some(flush) = self.shard.take_fast(self.judged_until_ms()) {
            self.fast.in_flight = true;
            self.jobs.spawn(self.committer.clone().fast(self.fast.committed.0, flush));
        }
    }

    /// All groups at once.
    fn begin_whole(&mut self, now: Instant) {
        self.fast.last = now;
        self.fast.pending_since = None;
        if let Some(flush) = self.shard.take_whole(self.judged_until_ms()) {
            (self.fast.in_flight, self.slow_in_flight) = (true, true);
            let standing = Standing {
                fast: self.fast.committed.0,
                slow: std::array::from_fn(|slice| self.slow[slice].committed.0),
            };
            self.jobs.spawn(self.committer.clone().whole(standing, flush));
        }
    }

    fn judged_until_ms(&self) -> Millis {
        let caught_up = self.unread == 0 && self.source.is_reading() && self.shard.is_warm();
        if caught_up { now_ms().saturating_sub(JUDGED_BEHIND_MS) } else { self.shard.stream_time_ms() }
    }

    fn begin_slow(&mut self, slice: u8, now: Instant) {
        let rows = self.shard.slow_rows(slice);
        let slow = &mut self.slow[usize::from(slice)];
        slow.due = now + flush::SLOW;
        let behind = self.shard.seq() > slow.committed.0 && now >= slow.last + flush::SLOW_REST;
        if rows == 0 && !behind {
            return;
        }
        slow.last = now;
        let from = slow.committed.0;
        if let Some(flush) = self.shard.take_slow(slice) {
            self.slow_in_flight = true;
            self.jobs.spawn(self.committer.clone().slow(slice, from, flush));
        }
    }

    /// A job ended. An error: the shard is another's.
    async fn finish(&mut self, done: Result<Done, tokio::task::JoinError>) -> Result<(), ()> {
        let done = match done {
            Ok(done) => done,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_cancelled) => return Err(()),
            },
        };
        match done {
            Done::Fenced => return Err(()),
            Done::RolledUp => self.roll_up_in_flight = false,
            Done::Purged => {}
            Done::Committed { groups, at, took, refused } => {
                groups.into_iter().for_each(|group| self.committed(group, at, took));
                for row in refused {
                    self.metrics.drop(Dropped::RefusedRow, 1);
                    tracing::error!(table = row.table, "Postgres refuses a row: {}", row.reason);
                    self.bury(Dropped::RefusedRow.reason(), row.payload()).await;
                }
            }
        }
        Ok(())
    }

    fn committed(&mut self, group: Group, at: (u64, Millis), took: Duration) {
        match group {
            Group::Fast => {
                self.fast.in_flight = false;
                self.fast.committed = at;
                self.fast.last_took = took;
            }
            Group::Slow(slice) => {
                self.slow_in_flight = false;
                self.slow[usize::from(slice)].committed = at;
            }
            Group::RollUp => {}
        }
    }

    fn begin_purge(&mut self) {
        let committed = self.slow.iter().map(|slow| slow.committed).chain([self.fast.committed]);
        let (seqs, times): (Vec<u64>, Vec<Millis>) = committed.unzip();
        let lowest_seq = seqs.into_iter().min().unwrap_or(0);
        let lowest_ms = times.into_iter().min().unwrap_or(0);
        if let Some(behind) = self.beginnings.behind(lowest_ms) {
            self.jobs.spawn(purge(self.bus.clone(), self.committer.claim.shard, behind.min(lowest_seq)));
        }
    }

    /// The stream is gone that what is in memory could be rebuilt from.
    pub(super) fn settle(&mut self) {
        self.shard.settle();
    }

    /// What it remembers, once it is drained.
    pub(super) fn into_shard(self) -> Shard {
        self.shard
    }

    /// Commits all that was counted, until it is done or the shard is another's.
    pub(super) async fn drain(&mut self) -> Result<(), ()> {
        self.loading = None;
        while let Some(done) = self.jobs.join_next().await {
            self.finish(done).await?;
        }
        self.report();
        if self.shard.has_late() {
            self.begin_whole(Instant::now());
        } else {
            self.begin_fast(Instant::now());
            for slice in 0..SLICES {
                if let Some(flush) = self.shard.take_slow(slice) {
                    let from = self.slow[usize::from(slice)].committed.0;
                    self.jobs.spawn(self.committer.clone().slow(slice, from, flush));
                }
            }
        }
        while let Some(done) = self.jobs.join_next().await {
            self.finish(done).await?;
        }
        Ok(())
    }
}

async fn loaded(loading: &mut Option<Loading>) -> Option<Arc<ActivePlan>> {
    match loading {
        Some(loading) => (&mut loading.plan).await,
        None => std::future::pending().await,
    }
}

fn arrival(message: &StreamMessage) -> Arrival<'_> {
    Arrival { seq: message.seq, stream_time_ms: message.stream_time_ms, msg_id: message.msg_id.as_deref() }
}

/// Makes room in a stream that is nearly full.
async fn purge(bus: Bus, shard: u16, up_to_seq: u64) -> Done {
    let full = match bus.stream_state(shard).await {
        Ok(state) => {
            state.max_bytes > 0 && state.bytes as f64 > FULL * state.max_bytes as f64 && up_to_seq >= state.first_seq
        }
        Err(_) => false,
    };
    if full {
        match bus.purge(shard, up_to_seq).await {
            Ok(purged) => {
                tracing::info!(shard, up_to_seq, purged, "purged what is committed from a stream that was nearly full");
            }
            Err(error) => tracing::warn!(shard, "{error}"),
        }
    }
    Done::Purged
}
