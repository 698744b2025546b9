//! One shard from claim to release: look at the stream, warm up, work, hand over.

use super::commit::{Committer, Done, Standing};
use super::delta::Millis;
use super::delta::{FastDelta, Group, Position, Restored, SlowDelta};
use super::history::{self, Known};
use super::metrics::{AggregateMetrics, Alarm};
use super::plan::ActivePlan;
use super::session::{Begin, End, Session};
use super::sets::PlanLoader;
use super::shard::{FastFlush, Shard, WholeFlush, lowest, slices, warm_up_from};
use super::trouble::StoreTrouble;
use crate::health::Health;
use crate::protection::Protection;
use crate::retry::backoff;
use crate::store::{Claim, Store};
use clamor_bus::{Bus, BusError, Start, StreamState};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::{CancellationToken, DropGuard};

/// A commit renews the lease every 5 s. Where none does (a warm-up, a commit that takes long), a lease of 15 s is renewed
/// at this age, and can be tried again three times.
const RENEW: Duration = Duration::from_secs(7);
const RENEW_AGAIN: Duration = Duration::from_secs(2);
/// What a hand-over may take; a pod's grace is longer.
const DRAIN: Duration = Duration::from_secs(25);
/// A session's loop turns at least every 5 s.
const TURN_LIMIT: Duration = Duration::from_secs(60);

/// What every shard of the process needs.
#[derive(Debug, Clone)]
pub(super) struct Owner {
    /// The process's random id.
    pub(super) id: u64,
    /// The bus.
    pub(super) bus: Bus,
    /// The store.
    pub(super) store: Store,
    /// Loads plans.
    pub(super) plans: PlanLoader,
    /// The role's metrics.
    pub(super) metrics: AggregateMetrics,
    /// The process's health.
    pub(super) health: Health,
    /// Where it is told whether the store works.
    pub(super) trouble: StoreTrouble,
}

/// A stream's state at a take-over, and where to go on in it.
#[derive(Debug)]
struct TakeOver {
    restored: Restored,
    state: StreamState,
    lowest: Position,
    start: Start,
    /// Nothing before the lowest position can be read any more.
    cold: bool,
}

impl Owner {
    /// Owns the shard until `stop`, or until it is lost. Ends with the lease released, unless it was lost.
    pub(super) async fn own(self, mut claim: Claim, stop: CancellationToken) {
        let shard = claim.shard;
        let condition = format!("shard {shard}");
        let mut before = None;
        loop {
            self.health.waiting_for(condition.clone(), "warming up");
            let end = self.own_once(claim, &mut before, &stop).await;
            match end {
                End::Stopped => break,
                End::Lost => {
                    tracing::warn!(shard, "the shard is another's now");
                    break;
                }
                End::OtherHistory => match self.store.claim(shard, self.id, false).await {
                    Ok(Some(again)) => claim = again,
                    Ok(None) => break,
                    Err(error) => {
                        tracing::warn!(shard, "{error}; the shard is claimed again later");
                        break;
                    }
                },
            }
        }
        self.health.forget(&condition);
        self.metrics.forget_shard(shard);
    }

    /// `before` is what a session of the same claim's shard remembered whose stream is gone, before and after.
    async fn own_once(&self, claim: Claim, before: &mut Option<Shard>, stop: &CancellationToken) -> End {
        let claim = Arc::new(claim);
        let lost = CancellationToken::new();
        let _renewing = self.renew(&claim, lost.clone());
        let begun = tokio::select! {
            () = stop.cancelled() => None,
            () = lost.cancelled() => return End::Lost,
            begun = self.begin(&claim, before) => match begun {
                Some(session) => Some(session),
                None => return End::Lost,
            },
        };
        let end = match begun {
            None => End::Stopped,
            Some(session) => self.work(session, before, stop, &lost).await,
        };
        if end == End::Stopped {
            self.release(&claim).await;
        }
        end
    }

    async fn work(
        &self,
        mut session: Session,
        before: &mut Option<Shard>,
        stop: &CancellationToken,
        lost: &CancellationToken,
    ) -> End {
        let shard = session.shard_number();
        let name = format!("shard {shard}");
        self.health.register_loop(name.clone(), TURN_LIMIT);
        let end = session.work(stop, lost, || self.health.beat(&name)).await;
        self.health.end_loop(&name);
        session.report();
        if end == End::Lost {
            return end;
        }
        if end == End::OtherHistory {
            session.settle();
        }
        match tokio::time::timeout(DRAIN, session.drain()).await {
            Ok(Ok(())) => {
                *before = (end == End::OtherHistory).then(|| session.into_shard());
                end
            }
            Ok(Err(())) => End::Lost,
            Err(_) => {
                tracing::warn!(
                    shard,
                    "not all that was counted could be committed in time; the next owner counts it again"
                );
                end
            }
        }
    }

    /// Rolls up all that is dirty, open windows too, and gives the shard back.
    async fn release(&self, claim: &Claim) {
        let released = async {
            loop {
                match self.store.roll_up(claim, Millis::MAX).await {
                    Ok(0) => break,
                    Ok(_) => {}
                    Err(error) => {
                        tracing::info!(shard = claim.shard, "roll-up is left to the next owner: {error}");
                        break;
                    }
                }
            }
            self.store.release(claim).await
        };
        match tokio::time::timeout(DRAIN, released).await {
            Ok(Ok(())) => tracing::info!(shard = claim.shard, "released the shard"),
            Ok(Err(error)) => tracing::warn!(shard = claim.shard, "failed to release the shard: {error}"),
            Err(_) => tracing::warn!(shard = claim.shard, "failed to release the shard in time"),
        }
    }

    /// Renews the lease for as long as the guard lives, whenever no commit has. A store that is away does not end it:
    /// nobody else can claim there either, and who has claimed elsewhere has raised the epoch.
    fn renew(&self, claim: &Arc<Claim>, lost: CancellationToken) -> DropGuard {
        let ended = CancellationToken::new();
        let (store, claim, stop) = (self.store.clone(), Arc::clone(claim), ended.clone());
        tokio::spawn(async move {
            let mut due = claim.renewed() + RENEW;
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep_until(due.into()) => {}
                }
                due = claim.renewed() + RENEW;
                if due > Instant::now() {
                    continue;
                }
                match store.renew(&claim).await {
                    Ok(true) => due = claim.renewed() + RENEW,
                    Ok(false) => return lost.cancel(),
                    Err(error) => {
                        tracing::debug!(shard = claim.shard, "failed to renew the lease: {error}");
                        due = Instant::now() + RENEW_AGAIN;
                    }
                }
            }
        });
        ended.drop_guard()
    }

    /// Takes the shard over; none: it was lost on the way.
    async fn begin(&self, claim: &Arc<Claim>, before: &mut Option<Shard>) -> Option<Session> {
        let TakeOver { restored, state, lowest, start, cold } = self.take_over(claim).await?;
        let plan = self.plan(&lowest.plan).await;
        let mut shard = Shard::restore(&restored, plan);
        if cold {
            shard.begin_cold(&lowest);
        }
        if let Some(before) = before.take() {
            shard.inherit(before);
        }
        // What was purged is not there to be read.
        let unread = state.last_seq.saturating_sub(lowest.seq.max(state.first_seq.saturating_sub(1)));
        let (health, condition) = (self.health.clone(), format!("shard {}", claim.shard));
        tracing::info!(shard = claim.shard, epoch = claim.epoch, seq = lowest.seq, unread, "took the shard over");
        Some(Session::begin(Begin {
            bus: self.bus.clone(),
            committer: self.committer(claim, &state.created),
            plans: self.plans.clone(),
            unread,
            positions: restored.positions,
            shard,
            lowest,
            start,
            on_caught_up: Box::new(move || health.ready(condition)),
        }))
    }

    fn committer(&self, claim: &Arc<Claim>, created: &str) -> Committer {
        Committer {
            store: self.store.clone(),
            claim: Arc::clone(claim),
            stream_created: created.into(),
            metrics: self.metrics.clone(),
            trouble: self.trouble.clone(),
        }
    }

    async fn plan(&self, name: &str) -> Arc<ActivePlan> {
        if name.is_empty() {
            return Arc::default();
        }
        self.plans.load(name).await.unwrap_or_default()
    }

    /// Finds the place to read from; tries until the bus answers.
    async fn take_over(&self, claim: &Arc<Claim>) -> Option<TakeOver> {
        let known = Known::of(&claim.restored);
        let mut waits = backoff();
        let mut said = false;
        loop {
            let error = match self.look(claim, &known).await {
                Ok((take_over, None)) => return Some(take_over),
                Ok((take_over, Some(alarm))) => {
                    return self.rebase(claim, &take_over, alarm).await.then_some(take_over);
                }
                Err(error) => error,
            };
            if !std::mem::replace(&mut said, true) {
                tracing::warn!(shard = claim.shard, "{error}; trying again");
            }
            tokio::time::sleep(waits.next().unwrap_or_default()).await;
        }
    }

    async fn look(&self, claim: &Claim, known: &Known) -> Result<(TakeOver, Option<Alarm>), BusError> {
        let shard = claim.shard;
        let (state, alarm) = history::look(&self.bus, shard, known).await?;
        let restored = match alarm {
            None => claim.restored.clone(),
            Some(_) => {
                let seq = history::read_on_after(&self.bus, known, &state, shard).await?;
                let found = if seq > 0 { self.bus.message_id_at(shard, seq).await? } else { None };
                let msg_id = found.map(|found| found.msg_id).unwrap_or_default();
                history::rebase(&claim.restored, &state.created, seq, &msg_id)
            }
        };
        let lowest = lowest(&restored);
        let (start, cold) = self.start(shard, &lowest, &state).await?;
        Ok((TakeOver { restored, state, lowest, start, cold }, alarm))
    }

    /// Where to read from, and whether there is nothing to warm up with.
    async fn start(&self, shard: u16, lowest: &Position, state: &StreamState) -> Result<(Start, bool), BusError> {
        let Some(horizon_ms) = warm_up_from(lowest) else {
            return Ok((Start::Sequence(1), false));
        };
        if state.first_seq > lowest.seq || !Protection::WarmUp.is_on() {
            return Ok((Start::Sequence(lowest.seq + 1), true));
        }
        // Stream time is a running maximum: after a clock ran ahead, the message itself may be older.
        let start = match self.bus.message_id_at(shard, lowest.seq).await? {
            Some(found) => Start::Time(horizon_ms.min(super::dedupe::horizon_start(found.stream_time_ms))),
            None => Start::Sequence(state.first_seq),
        };
        Ok((start, false))
    }

    /// The stream has another history: every group that stands beyond what is left of it is moved back, and all coverage
    /// closed, in one transaction, before anything is counted. False: the shard is lost.
    async fn rebase(&self, claim: &Arc<Claim>, take_over: &TakeOver, alarm: Alarm) -> bool {
        self.metrics.alarm(alarm);
        let shard = claim.shard;
        let position = take_over.restored.positions.get(&Group::Fast.number()).cloned().unwrap_or_default();
        tracing::error!(
            shard,
            alarm = alarm.reason(),
            seq = position.seq,
            "the stream is not the one that was counted: coverage ends"
        );
        let standing = Standing::of(&claim.restored.positions);
        let moved = slices().into_iter().filter(|slice| standing.slow[usize::from(*slice)].0 > position.seq);
        let mut coverage = super::coverage::Coverage::restore(&claim.restored.open_coverage, &claim.restored.heard);
        coverage.end_all();
        let (coverage, heard) = coverage.take();
        let flush = WholeFlush {
            slow: moved.map(|slice| (slice, SlowDelta::default())).collect(),
            fast: FastFlush {
                position,
                delta: FastDelta { coverage, heard, ..FastDelta::default() },
                sent_ms: Vec::new(),
            },
            late: Vec::new(),
        };
        let committer = self.committer(claim, &take_over.state.created);
        !matches!(committer.whole(standing, flush).await, Done::Fenced)
    }
}
