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
use crate::published::{LOOK_AGAIN, Published};
use crate::reports::Reports;
use crate::silence::SilentSlots;
use clamor_bus::assignment::Assignment;
use clamor_bus::{Bus, BusError, SetError, StreamLimits};
use clamor_process::health::Health;
use clamor_process::retry::backoff;
use futures::{FutureExt, StreamExt};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use thiserror::Error;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How long workers elsewhere have to report themselves: they do so every 5 s.
const SETTLE: Duration = Duration::from_secs(6);
/// A turn may wait for some requests of 5 s each.
const LOOP_LIMIT: Duration = Duration::from_secs(120);

/// The slots to plan for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Slots {
    /// Those that share the channels.
    pub shared: BTreeSet<String>,
    /// Those that a worker runs in, as far as is known. Where such a slot has no assignment, it is not planned for before
    /// its worker has said what it reads.
    pub running: BTreeSet<String>,
}

/// Whether this process may write.
pub type MayWrite = Arc<dyn Fn() -> bool + Send + Sync>;

/// What the planner works with.
pub struct ControlOptions {
    /// Its name, among the loops and conditions of the process.
    pub name: String,
    /// The bus; its streams are made.
    pub bus: Bus,
    /// Of the pipeline.
    pub shards: u16,
    /// For streams that must be made again.
    pub limits: StreamLimits,
    /// The slots to plan for.
    pub slots: watch::Receiver<Slots>,
    /// How long running workers have to report themselves before channels are placed.
    pub settle: Duration,
    /// Somebody else may have planned before, and may not know yet that it is over.
    pub take_over: bool,
    /// Asked before each turn: whether this process may write at all. Absent: it may.
    pub may_write: Option<MayWrite>,
    /// Cancelled when what it plans for is gone: it goes on until everybody knows that nothing is asked for any more, and
    /// ends where another planner has begun to write.
    pub leaving: CancellationToken,
    /// Says of slots that nobody serves that they are silent.
    pub watch_silence: bool,
    /// What is asked for.
    pub desired: watch::Receiver<Arc<Desired>>,
    /// How it stands, for whoever shows it.
    pub view: watch::Sender<Arc<View>>,
}

impl fmt::Debug for ControlOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ControlOptions").field("name", &self.name).field("shards", &self.shards).finish_non_exhaustive()
    }
}

impl ControlOptions {
    /// For slots that stay the same, of workers in this process or `elsewhere`: those may be reading already. Gives how
    /// planning stands, too.
    #[must_use]
    pub fn fixed(
        bus: Bus,
        shards: u16,
        limits: StreamLimits,
        slots: BTreeSet<String>,
        elsewhere: bool,
        desired: watch::Receiver<Arc<Desired>>,
    ) -> (Self, watch::Receiver<Arc<View>>) {
        let (view, views) = watch::channel(Arc::default());
        let running = if elsewhere { slots.clone() } else { BTreeSet::new() };
        let (_, slots) = watch::channel(Slots { shared: slots, running });
        let options = Self {
            name: "planner".to_owned(),
            bus,
            shards,
            limits,
            slots,
            settle: if elsewhere { SETTLE } else { Duration::ZERO },
            take_over: false,
            may_write: None,
            leaving: CancellationToken::new(),
            watch_silence: elsewhere,
            desired,
            view,
        };
        (options, views)
    }
}

/// How planning stands.
#[derive(Debug, Default)]
pub struct View {
    /// What instances say.
    pub seen: Vec<Seen>,
    /// What each slot is told.
    pub assigned: BTreeMap<String, Assignment>,
    /// Where each channel belongs.
    pub placed: Placement,
    /// What was asked for when all of it was last in force: placed, assigned and directed.
    pub in_force: Option<Arc<Desired>>,
    /// What the last turn did not get through; none: it did.
    pub problem: Option<Problem>,
}

/// What a turn did not get through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// A constant: of [`BusError::reason`], `set` or `other_planner`.
    pub reason: &'static str,
    /// For people.
    pub message: String,
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
    #[error("somebody else writes {what}: is another planner running for this pipeline?")]
    OtherPlanner {
        /// What is written.
        what: String,
    },
}

impl ControlError {
    fn to_problem(&self) -> Problem {
        let reason = match self {
            Self::Bus(error) => error.reason(),
            Self::Set(_) => "set",
            Self::OtherPlanner { .. } => "other_planner",
        };
        Problem { reason, message: self.to_string() }
    }
}

/// The planner's memory. Lost at its end: everything in it is found again on the bus.
struct Planner {
    published: Published,
    placed: Placement,
    asked_ms: BTreeMap<String, u64>,
    in_force: Option<Arc<Desired>>,
    warned: BTreeSet<String>,
}

/// Plans until shutdown.
pub async fn run(options: ControlOptions, health: Health, shutdown: CancellationToken) {
    let ControlOptions {
        name,
        bus,
        shards,
        limits,
        mut slots,
        settle,
        take_over,
        may_write,
        leaving,
        watch_silence,
        mut desired,
        view,
    } = options;
    health.register_loop(name.clone(), LOOP_LIMIT);
    health.waiting_for(name.clone(), "the first plan is not written yet");
    let mut changes = bus.watch_reports();
    let mut reports = Reports::default();
    let mut silence = watch_silence.then(SilentSlots::default);
    let mut planner = Planner::new(Published::new(bus, shards, limits, take_over, leaving.clone()));
    let mut pace = Pace::new(settle);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            changed = desired.changed() => if changed.is_err() { break },
            () = changed(&mut slots) => {}
            Some(change) = changes.next() => reports.take(change, Instant::now(), now_ms()),
            () = tokio::time::sleep_until(pace.wake.into()) => {}
        }
        while let Some(Some(change)) = changes.next().now_or_never() {
            reports.take(change, Instant::now(), now_ms());
        }
        health.beat(&name);
        let now = Instant::now();
        let seen = reports.seen(now);
        let slots = slots.borrow_and_update().clone();
        let settled = now >= pace.settled || slots.running.iter().all(|slot| reports.has(slot));
        let may_write = may_write.as_ref().is_none_or(|may_write| may_write());
        if now < pace.not_before || !settled || !may_write {
            if !may_write {
                // Whoever may not write asks again, and does not turn all the time.
                pace.wake = now + LOOK_AGAIN;
            }
            view.send_modify(|view| *view = planner.view(seen, view.problem.clone()));
            continue;
        }
        if let Some(silence) = &mut silence {
            silence.look(&slots.running, &seen, &health);
        }
        let wanted = Arc::clone(&desired.borrow_and_update());
        let problem = match planner.turn(&wanted, &slots, &seen).await {
            Ok(next) => {
                pace.worked(next);
                health.ready(name.clone());
                None
            }
            Err(error @ ControlError::OtherPlanner { .. }) if leaving.is_cancelled() => {
                tracing::info!("{error} This one, whose pipeline is gone, ends");
                break;
            }
            Err(error) => {
                pace.failed(&error, &health, &name);
                Some(error.to_problem())
            }
        };
        view.send_replace(planner.view(seen, problem));
    }
    health.end_loop(&name);
    health.forget(&name);
}

/// A change; never, where nobody is left to make one.
async fn changed<T>(watched: &mut watch::Receiver<T>) {
    if watched.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// When the next turn is.
struct Pace {
    /// No turn before.
    not_before: Instant,
    /// A turn then, at the latest.
    wake: Instant,
    /// Until then workers may still report themselves for the first time.
    settled: Instant,
    waits: Box<dyn Iterator<Item = Duration> + Send>,
    logged: String,
}

impl Pace {
    fn new(settle: Duration) -> Self {
        let now = Instant::now();
        let waits = Box::new(backoff());
        Self { not_before: now, wake: now + settle, settled: now + settle, waits, logged: String::new() }
    }

    fn worked(&mut self, next: Instant) {
        self.not_before = Instant::now();
        self.wake = next;
        if !std::mem::take(&mut self.logged).is_empty() {
            tracing::info!("planning works again");
            self.waits = Box::new(backoff());
        }
    }

    fn failed(&mut self, error: &ControlError, health: &Health, name: &str) {
        let error = error.to_string();
        if error != self.logged {
            tracing::warn!("{error}; trying again");
        }
        health.waiting_for(name.to_owned(), error.clone());
        self.logged = error;
        self.not_before = Instant::now() + self.waits.next().unwrap_or(LOOK_AGAIN);
        self.wake = self.not_before;
    }
}

impl Planner {
    fn new(published: Published) -> Self {
        Self { published, placed: Placement::new(), asked_ms: BTreeMap::new(), in_force: None, warned: BTreeSet::new() }
    }

    fn view(&self, seen: Vec<Seen>, problem: Option<Problem>) -> Arc<View> {
        Arc::new(View {
            seen,
            assigned: self.published.assignments(),
            placed: self.placed.clone(),
            in_force: self.in_force.clone(),
            problem,
        })
    }

    /// One turn. Gives when the next one must be.
    async fn turn(&mut self, desired: &Arc<Desired>, slots: &Slots, seen: &[Seen]) -> Result<Instant, ControlError> {
        self.note_asked(desired);
        let outcome = self.observe_and_apply(desired, slots, seen).await;
        if outcome.is_err() {
            // Whatever failed, what the bus has now is not what we remember.
            self.published.doubt();
        }
        outcome
    }

    async fn observe_and_apply(
        &mut self,
        desired: &Arc<Desired>,
        slots: &Slots,
        seen: &[Seen],
    ) -> Result<Instant, ControlError> {
        let known: BTreeSet<String> = slots.shared.union(&slots.running).cloned().collect();
        self.published.look(&known).await?;
        let planned = plan(Observed {
            desired,
            slots: &slots.shared,
            mute: &self.mute(slots, seen),
            assigned: &self.published.assignments(),
            reports: seen,
            placed: &self.placed,
            asked_ms: &self.asked_ms,
            last: &self.published.plans(),
            now_ms: now_ms(),
        });
        self.warn(&planned);
        self.published.assign(&planned).await?;
        self.placed.clone_from(&planned.placed);
        let next_look = self.published.next_look();
        match self.published.direct(desired, planned.wanted).await? {
            Some(soon) => Ok(soon.min(next_look)),
            None => {
                self.in_force = Some(Arc::clone(desired));
                Ok(next_look)
            }
        }
    }

    /// Slots in which something runs of which nothing is known: neither what it was told nor what it reads.
    fn mute(&self, slots: &Slots, seen: &[Seen]) -> BTreeSet<String> {
        let is_mute =
            |slot: &&String| self.published.lacks(slot) && !seen.iter().any(|seen| seen.report.slot == **slot);
        slots.running.iter().filter(is_mute).cloned().collect()
    }

    fn note_asked(&mut self, desired: &Desired) {
        self.asked_ms.retain(|login, _| desired.is_active(login));
        for (login, _) in desired.active() {
            self.asked_ms.entry(login.clone()).or_insert_with(now_ms);
        }
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
