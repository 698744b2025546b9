//! The planner's loop: observes manifests and reports, plans, and writes to the bus what differs.
//!
//! Level-triggered: every turn compares what should be with what the bus has, so that a failed write is simply done by
//! a later turn, and what somebody lost or removed is written again at the next look.
//!
//! ```text
//! manifests ─► desired ─┐
//! bus ─► reports ───────┼─► plan() ─► assignments, sets, directives ─► bus
//! bus ─► what it has ───┘
//! ```

use crate::desired::Desired;
use crate::placement::Placement;
use crate::plan::{Observed, Plan, Seen, plan};
use crate::reports::Reports;
use crate::silence::SilentSlots;
use clamor_bus::assignment::Assignment;
use clamor_bus::set::{Plan as ShardPlan, WantedChannel};
use clamor_bus::{Bus, BusError, SetError, StreamLimits};
use clamor_chat::wire::Directive;
use clamor_process::health::Health;
use clamor_process::retry::backoff;
use futures::{FutureExt, StreamExt};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use thiserror::Error;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const LOOP: &str = "planner";
/// A turn may wait for some requests of 5 s each.
const LOOP_LIMIT: Duration = Duration::from_secs(120);
/// A shard's plan changes at most twice a second. The first two changes after a rest wait for nothing: an edit must
/// count within a second, also right after another one.
const DIRECTIVES: usize = 2;
/// In which so many directives may be written.
const DIRECTIVES_WITHIN: Duration = Duration::from_secs(1);
/// How often what the bus has is read back.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// How long slots of other processes have to report themselves before channels are placed: they do so every 5 s.
const SETTLE: Duration = Duration::from_secs(6);

/// What the planner works with.
#[derive(Debug)]
pub struct ControlOptions {
    /// The bus; its streams are made.
    pub bus: Bus,
    /// Of the pipeline.
    pub shards: u16,
    /// For streams that must be made again.
    pub limits: StreamLimits,
    /// The slots to plan for.
    pub slots: BTreeSet<String>,
    /// The slots' workers are processes of their own, which may be reading already.
    pub elsewhere: bool,
    /// What the manifests ask for.
    pub desired: watch::Receiver<Arc<Desired>>,
    /// Where the reports go on to, for whoever shows them.
    pub seen: watch::Sender<Arc<Vec<Seen>>>,
}

/// A turn that did not get through.
#[derive(Debug, Error)]
pub enum ControlError {
    /// The bus did not do it.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The object store did not answer.
    #[error(transparent)]
    Set(#[from] SetError),
    /// Two planners.
    #[error("somebody else writes directives into shard {shard}: is another planner running for this pipeline?")]
    OtherPlanner {
        /// Where.
        shard: u16,
    },
}

/// What a shard's stream says last.
#[derive(Debug, Default, Clone)]
struct Last {
    seq: u64,
    revision: u64,
    planner: u64,
    name: String,
    /// Absent: there is no directive, or its plan is lost.
    plan: Option<ShardPlan>,
}

/// The planner's memory. Lost at its end: everything in it is found again on the bus.
struct Planner {
    bus: Bus,
    shards: u16,
    limits: StreamLimits,
    slots: BTreeSet<String>,
    id: u64,
    assigned: BTreeMap<String, Assignment>,
    last: Vec<Last>,
    looked: Option<Instant>,
    placed: Placement,
    asked_ms: BTreeMap<String, u64>,
    /// The phrase set that was stored last, by its content.
    phrases: Option<(clamor_bus::set::PhraseSet, String)>,
    /// When the last directives were written, the oldest first; at most [`DIRECTIVES`].
    directed: VecDeque<Instant>,
    warned: BTreeSet<String>,
}

/// Plans until shutdown.
pub async fn run(options: ControlOptions, health: Health, shutdown: CancellationToken) {
    let ControlOptions { bus, shards, limits, slots, elsewhere, mut desired, seen } = options;
    health.register_loop(LOOP, LOOP_LIMIT);
    health.waiting_for(LOOP, "the first plan is not written yet");
    let mut changes = bus.watch_reports();
    let mut reports = Reports::default();
    let mut silence = elsewhere.then(|| SilentSlots::of(slots.clone()));
    let mut planner = Planner::new(bus, shards, limits, slots);
    let mut pace = Pace::new(if elsewhere { SETTLE } else { Duration::ZERO });
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            changed = desired.changed() => if changed.is_err() { break },
            Some(change) = changes.next() => reports.take(change, Instant::now(), now_ms()),
            () = tokio::time::sleep_until(pace.wake.into()) => {}
        }
        while let Some(Some(change)) = changes.next().now_or_never() {
            reports.take(change, Instant::now(), now_ms());
        }
        health.beat(LOOP);
        let now = Instant::now();
        let lately = Arc::new(reports.seen(now));
        seen.send_replace(Arc::clone(&lately));
        if now < pace.not_before && !(pace.settling && planner.is_settled(&reports)) {
            continue;
        }
        pace.settling = false;
        if let Some(silence) = &mut silence {
            silence.look(&lately, &health);
        }
        let wanted = Arc::clone(&desired.borrow_and_update());
        match planner.turn(&wanted, &lately).await {
            Ok(next) => {
                pace.worked(next);
                health.ready(LOOP);
            }
            Err(error) => pace.failed(&error, &health),
        }
    }
    health.end_loop(LOOP);
}

/// When the next turn is.
struct Pace {
    /// No turn before.
    not_before: Instant,
    /// A turn then, at the latest.
    wake: Instant,
    /// Still in the time that workers elsewhere have to report themselves.
    settling: bool,
    waits: Box<dyn Iterator<Item = Duration> + Send>,
    logged: String,
}

impl Pace {
    fn new(settle: Duration) -> Self {
        let first = Instant::now() + settle;
        let waits = Box::new(backoff());
        Self { not_before: first, wake: first, settling: !settle.is_zero(), waits, logged: String::new() }
    }

    fn worked(&mut self, next: Instant) {
        self.not_before = Instant::now();
        self.wake = next;
        if !std::mem::take(&mut self.logged).is_empty() {
            tracing::info!("planning works again");
            self.waits = Box::new(backoff());
        }
    }

    fn failed(&mut self, error: &ControlError, health: &Health) {
        let error = error.to_string();
        if error != self.logged {
            tracing::warn!("{error}; trying again");
        }
        health.waiting_for(LOOP, error.clone());
        self.logged = error;
        self.not_before = Instant::now() + self.waits.next().unwrap_or(LOOK_AGAIN);
        self.wake = self.not_before;
    }
}

impl Planner {
    fn new(bus: Bus, shards: u16, limits: StreamLimits, slots: BTreeSet<String>) -> Self {
        Self {
            bus,
            shards,
            limits,
            slots,
            id: rand::random(),
            assigned: BTreeMap::new(),
            last: Vec::new(),
            looked: None,
            placed: Placement::new(),
            asked_ms: BTreeMap::new(),
            phrases: None,
            directed: VecDeque::with_capacity(DIRECTIVES),
            warned: BTreeSet::new(),
        }
    }

    /// Every slot has said what it reads, so nothing can be placed twice.
    fn is_settled(&self, reports: &Reports) -> bool {
        self.slots.iter().all(|slot| reports.has(slot))
    }

    /// One turn. Gives when the next one must be.
    async fn turn(&mut self, desired: &Desired, seen: &[Seen]) -> Result<Instant, ControlError> {
        self.note_asked(desired);
        let outcome = self.observe_and_apply(desired, seen).await;
        if outcome.is_err() {
            // Whatever failed, what the bus has now is not what we remember.
            self.looked = None;
        }
        outcome
    }

    async fn observe_and_apply(&mut self, desired: &Desired, seen: &[Seen]) -> Result<Instant, ControlError> {
        if self.looked.is_none_or(|looked| looked.elapsed() >= LOOK_AGAIN) {
            self.look().await?;
        }
        let last: Vec<Option<ShardPlan>> = self.last.iter().map(|last| last.plan.clone()).collect();
        let planned = plan(Observed {
            desired,
            slots: &self.slots,
            assigned: &self.assigned,
            reports: seen,
            placed: &self.placed,
            asked_ms: &self.asked_ms,
            last: &last,
            now_ms: now_ms(),
        });
        self.warn(&planned);
        self.assign(&planned).await?;
        self.placed.clone_from(&planned.placed);
        let next_look = self.looked.unwrap_or_else(Instant::now) + LOOK_AGAIN;
        Ok(self.direct(desired, planned.wanted).await?.map_or(next_look, |soon| soon.min(next_look)))
    }

    fn note_asked(&mut self, desired: &Desired) {
        self.asked_ms.retain(|login, _| desired.is_active(login));
        for (login, _) in desired.active() {
            self.asked_ms.entry(login.clone()).or_insert_with(now_ms);
        }
    }

    /// Reads what the bus has, and makes again what it lost.
    async fn look(&mut self) -> Result<(), ControlError> {
        self.bus.ensure(self.shards, &self.limits).await?;
        let mut assigned = BTreeMap::new();
        for slot in self.slots.iter().chain(self.assigned.keys()) {
            match self.bus.assignment(slot).await {
                Ok(Some(assignment)) => drop(assigned.insert(slot.clone(), assignment)),
                Ok(None) => {}
                Err(error @ BusError::Undecodable { .. }) => {
                    tracing::warn!(%error, slot, "writing the assignment anew");
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.assigned = assigned;
        let mut last = Vec::with_capacity(usize::from(self.shards));
        for shard in 0..self.shards {
            let found = self.look_at_directive(shard).await?;
            let ours = self.last.get(usize::from(shard)).is_some_and(|known| known.planner == self.id);
            if ours && found.plan.is_some() && found.planner != self.id {
                tracing::warn!("{}", ControlError::OtherPlanner { shard });
            }
            last.push(found);
        }
        self.last = last;
        // The sets may be gone as well: what is named next is stored again, which changes nothing where it is there.
        self.phrases = None;
        self.looked = Some(Instant::now());
        Ok(())
    }

    async fn look_at_directive(&self, shard: u16) -> Result<Last, ControlError> {
        let (seq, directive) = self.bus.last_directive(shard).await?;
        let Some(Directive { plan: name, revision, planner }) = directive else {
            return Ok(Last { seq, ..Last::default() });
        };
        let known = self.last.get(usize::from(shard)).filter(|known| known.name == name && known.plan.is_some());
        let plan = match known {
            Some(known) => known.plan.clone(),
            None => match self.bus.get_set(&name).await {
                Ok(plan) => Some(plan),
                Err(error @ SetError::Unreachable { .. }) => return Err(error.into()),
                Err(error) => {
                    tracing::warn!(%error, shard, "the shard's plan is lost: its channels are wanted from now on");
                    None
                }
            },
        };
        Ok(Last { seq, revision, planner, name, plan })
    }

    async fn assign(&mut self, planned: &Plan) -> Result<(), ControlError> {
        for (slot, assignment) in &planned.assignments {
            self.bus.put_assignment(slot, assignment).await?;
            let (channels, revision) = (assignment.channels.len(), assignment.revision);
            tracing::debug!(slot, channels, revision, "assigned");
            self.assigned.insert(slot.clone(), assignment.clone());
        }
        Ok(())
    }

    /// Writes the directives that are due. Gives when to come back, where it is too early for one.
    async fn direct(
        &mut self,
        desired: &Desired,
        wanted: Vec<Vec<WantedChannel>>,
    ) -> Result<Option<Instant>, ControlError> {
        let phrases = self.store_phrases(desired).await?;
        let mut due = Vec::new();
        for (shard, wanted) in (0..self.shards).zip(wanted) {
            let plan = ShardPlan { wanted, phrases: phrases.clone() };
            if self.last[usize::from(shard)].plan.as_ref() != Some(&plan) {
                due.push((shard, plan));
            }
        }
        if due.is_empty() {
            return Ok(None);
        }
        if self.directed.len() == DIRECTIVES {
            let soon = self.directed[0] + DIRECTIVES_WITHIN;
            if soon > Instant::now() {
                return Ok(Some(soon));
            }
            self.directed.pop_front();
        }
        self.directed.push_back(Instant::now());
        for (shard, plan) in due {
            self.publish(shard, plan).await?;
        }
        Ok(None)
    }

    async fn publish(&mut self, shard: u16, plan: ShardPlan) -> Result<(), ControlError> {
        let name = self.bus.put_set("plan", &plan).await?;
        let before = &self.last[usize::from(shard)];
        let directive = Directive { plan: name.clone(), revision: before.revision + 1, planner: self.id };
        let (revision, wanted) = (directive.revision, plan.wanted.len());
        let seq = match self.bus.publish_directive(shard, &directive, before.seq).await {
            Ok(seq) => seq,
            Err(BusError::Conflict { .. }) => return Err(ControlError::OtherPlanner { shard }),
            Err(error) => return Err(error.into()),
        };
        tracing::debug!(shard, seq, revision, wanted, "directed");
        self.last[usize::from(shard)] = Last { seq, revision, planner: self.id, name, plan: Some(plan) };
        Ok(())
    }

    async fn store_phrases(&mut self, desired: &Desired) -> Result<Option<String>, ControlError> {
        if desired.phrases.phrases.is_empty() {
            return Ok(None);
        }
        if let Some((_, name)) = self.phrases.as_ref().filter(|(phrases, _)| *phrases == desired.phrases) {
            return Ok(Some(name.clone()));
        }
        let name = self.bus.put_set("phrases", &desired.phrases).await?;
        self.phrases = Some((desired.phrases.clone(), name.clone()));
        Ok(Some(name))
    }

    /// Says each warning once, for as long as it holds.
    fn warn(&mut self, planned: &Plan) {
        for warning in planned.warnings.difference(&self.warned) {
            tracing::warn!("{warning}");
        }
        self.warned.clone_from(&planned.warnings);
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
