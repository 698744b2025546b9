//! One owned shard at work: reads, applies, and begins what its rhythm says is due.
//!
//! Invariants:
//! - a single task holds the shard's state; commits run beside it, and their ends come back to it;
//! - while a commit cannot end, reading goes on until the maps are full; then the stream is the buffer;
//! - what follows a directive is not read before its plan is there.

use super::commit::{Committer, Done, Standing};
use super::delta::Position;
use super::history::Known;
use super::metrics::{AggregateMetrics, Alarm, Dropped};
use super::plan::ActivePlan;
use super::purge::Beginnings;
use super::rhythm::Rhythm;
use super::sets::PlanLoader;
use super::shard::{Arrival, Shard};
use super::source::{Input, Source};
use crate::protection::Protection;
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

mod jobs;

/// Messages that are applied before the timers are looked at again.
const BURST: usize = 32;
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
    rhythm: Rhythm,
    /// What the store has.
    standing: Standing,
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
            rhythm: Rhythm::begin(now),
            standing: Standing::of(&positions),
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
            let waiting = self.waiting();
            let due = self.rhythm.next(&waiting);
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
                input = self.source.next(), if waiting.has_room() && !self.waits_for_plan() => {
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
            next = if taken < BURST && !self.waits_for_plan() { self.source.next().now_or_never() } else { None };
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
            if !Protection::SetDirectives.is_on() {
                self.shard.pass(arrival(&message));
            }
            let plans = self.plans.clone();
            let plan = async move { plans.load(&name).await }.boxed();
            self.loading = Some(Loading { message, plan });
        }
    }

    /// What follows a directive is matched with its plan, and so is not read before that is there.
    fn waits_for_plan(&self) -> bool {
        self.loading.is_some() && Protection::SetDirectives.is_on()
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
        if !self.rhythm.is_pending() && self.shard.fast_rows() > 0 {
            self.rhythm.pending(Instant::now());
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

    /// Drains the counters into the metrics.
    pub(super) fn report(&mut self) {
        self.metrics.add(&self.shard.take_tally());
        self.metrics.shard(self.committer.claim.shard, self.unread, self.shard.keys());
    }

    /// The stream is gone that what is in memory could be rebuilt from.
    pub(super) fn settle(&mut self) {
        self.shard.settle();
    }

    /// What it remembers, once it is drained.
    pub(super) fn into_shard(self) -> Shard {
        self.shard
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
