//! The role: claims its fair share of the shards, and owns each until it is told to stop.
//!
//! ```text
//! every second: sign of life, fair share ──► too few: claim a free shard ──► one task per shard (owner.rs)
//!                                        └─► too many: hand the newest over
//! ```

use super::lags::ChannelLags;
use super::metrics::AggregateMetrics;
use super::owner::Owner;
use super::sets::PlanLoader;
use super::trouble::{StoreTrouble, TaskTrouble};
use crate::health::Health;
use crate::retry::backoff;
use crate::store::{Class, FairShare, Retention, Store, StoreError};
use clamor_bus::{Bus, BusError};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

/// Who joins an aggregator that was alone is seen within this time.
const LOOK: Duration = Duration::from_secs(5);
/// While shards are missing to the fair share, or others may leave some: nobody counts a shard that waits for this.
const LOOK_SOON: Duration = Duration::from_secs(1);
/// Partitions are made days ahead, and retention is counted in days.
const UPKEEP: Duration = Duration::from_secs(10 * 60);
/// The claims' loop must turn; a claim waits up to 5 s for the previous owner's backends to end.
const TURN_LIMIT: Duration = Duration::from_secs(120);
const LOOP: &str = "claims";
const CONDITION: &str = "shards";

/// What the role is told.
#[derive(Debug)]
pub struct AggregateOptions {
    /// The bus.
    pub bus: Bus,
    /// The store, migrated.
    pub store: Store,
    /// Whether leases of others are taken at once: only for who knows that their owners are dead (standalone, which
    /// holds its folder's lock).
    pub force_claim: bool,
    /// What is kept for how long.
    pub retention: Retention,
    /// Where each channel's lag is told to whoever looks on.
    pub lags: Option<ChannelLags>,
    /// Where it is told whether the store works.
    pub trouble: StoreTrouble,
}

/// Why the role ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum AggregateError {
    /// The bus cannot be used.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A metric was registered twice.
    #[error("failed to register the metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// Counts until `shutdown`, then flushes, hands its shards over and leaves.
///
/// # Errors
/// What does not pass by itself: streams and store of different pipelines, a newer store.
pub async fn run(
    options: AggregateOptions,
    registry: &prometheus::Registry,
    health: Health,
    shutdown: CancellationToken,
) -> Result<(), AggregateError> {
    let AggregateOptions { bus, store, force_claim, retention, lags, trouble } = options;
    let metrics = AggregateMetrics::new(registry)?.with_lags(lags);
    health.waiting_for(CONDITION, "no shard is claimed yet");
    let Some(shards) = shards(&bus, &health, &shutdown).await? else {
        return Ok(());
    };
    init(&store, shards, &trouble, &health, &shutdown).await?;
    let plans = PlanLoader::new(bus.clone(), metrics.clone());
    let owner = Owner { id: rand::random(), plans, bus, store, metrics, health, trouble };
    let upkeep = tokio::spawn(upkeep(owner.store.clone(), retention, shutdown.clone()));
    let ended = Claims {
        trouble: owner.trouble.of_a_task(),
        owner,
        shards,
        alone: force_claim,
        force: force_claim,
        owned: BTreeMap::new(),
        tasks: JoinSet::new(),
    }
    .hold(&shutdown)
    .await;
    upkeep.abort();
    ended
}

/// How many shards the pipeline has, as its streams say; none: shutdown came first.
async fn shards(bus: &Bus, health: &Health, shutdown: &CancellationToken) -> Result<Option<u16>, AggregateError> {
    let mut waiting = Waiting::on("streams");
    loop {
        let problem = match bus.shards().await {
            Ok(Some(shards)) => {
                waiting.end(health);
                return Ok(Some(shards));
            }
            Ok(None) => "the pipeline's streams are not there yet".to_owned(),
            Err(error) if error.is_transient() => error.to_string(),
            Err(error) => return Err(error.into()),
        };
        if !waiting.pause(problem, health, shutdown).await {
            return Ok(None);
        }
    }
}

async fn init(
    store: &Store,
    shards: u16,
    trouble: &StoreTrouble,
    health: &Health,
    shutdown: &CancellationToken,
) -> Result<(), AggregateError> {
    let mut waiting = Waiting::on("store");
    let mut trouble = trouble.of_a_task();
    loop {
        let outcome = store.init_shards(shards).await;
        trouble.note(outcome.as_ref().err());
        let problem = match outcome {
            Ok(()) => {
                waiting.end(health);
                return Ok(());
            }
            Err(error) if error.class() == Class::Retry => error.to_string(),
            Err(error) => return Err(error.into()),
        };
        if !waiting.pause(problem, health, shutdown).await {
            return Ok(());
        }
    }
}

/// Waits for what is not there yet: readiness shows why, the log says it once.
struct Waiting {
    condition: &'static str,
    said: String,
    waits: Box<dyn Iterator<Item = Duration> + Send>,
}

impl Waiting {
    fn on(condition: &'static str) -> Self {
        Self { condition, said: String::new(), waits: Box::new(backoff()) }
    }

    /// False: shutdown came first.
    async fn pause(&mut self, problem: String, health: &Health, shutdown: &CancellationToken) -> bool {
        if problem != self.said {
            tracing::warn!("{problem}; trying again");
        }
        health.waiting_for(self.condition, problem.clone());
        self.said = problem;
        tokio::select! {
            () = shutdown.cancelled() => false,
            () = tokio::time::sleep(self.waits.next().unwrap_or_default()) => true,
        }
    }

    fn end(&self, health: &Health) {
        health.ready(self.condition);
    }
}

/// Makes partitions ahead and drops what retention has given up. Any aggregator may: the store takes its own locks.
async fn upkeep(store: Store, retention: Retention, shutdown: CancellationToken) {
    loop {
        let now_ms = super::commit::now_ms();
        if let Err(error) = store.maintain_partitions(now_ms).await {
            tracing::warn!("failed to make partitions ahead (they are made on demand, too): {error}");
        }
        if let Err(error) = store.apply_retention(&retention, now_ms).await {
            tracing::warn!("failed to apply the retention: {error}");
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(UPKEEP) => {}
        }
    }
}

/// One owned shard.
#[derive(Debug)]
struct Owned {
    task: Id,
    stop: CancellationToken,
}

/// The shards that this process owns.
#[derive(Debug)]
struct Claims {
    owner: Owner,
    /// The share is asked for every few seconds, whatever there is to count: that shows whether the store works.
    trouble: TaskTrouble,
    /// Of the pipeline.
    shards: u16,
    /// Nobody else is alive: whoever signed on a moment ago is dead, and its share is ours.
    alone: bool,
    /// The first claims take leases that have not run out.
    force: bool,
    owned: BTreeMap<u16, Owned>,
    tasks: JoinSet<()>,
}

impl Claims {
    async fn hold(mut self, shutdown: &CancellationToken) -> Result<(), AggregateError> {
        self.owner.health.register_loop(LOOP, TURN_LIMIT);
        let mut look = tokio::time::Instant::now();
        let ended = loop {
            self.owner.health.beat(LOOP);
            tokio::select! {
                () = shutdown.cancelled() => break Ok(()),
                Some(ended) = self.tasks.join_next_with_id(), if !self.tasks.is_empty() => {
                    self.ended(ended);
                    // It may be free at once.
                    look = look.min(tokio::time::Instant::now() + LOOK_SOON);
                }
                () = tokio::time::sleep_until(look) => {
                    let turned = self.turn(shutdown).await;
                    self.trouble.note(turned.as_ref().err());
                    match turned {
                        Ok(next) => look = tokio::time::Instant::now() + next,
                        Err(error) if error.class() == Class::Stop => break Err(error.into()),
                        Err(error) => {
                            tracing::warn!("{error}; claiming shards is tried again");
                            look = tokio::time::Instant::now() + LOOK;
                        }
                    }
                }
            }
        };
        self.leave().await;
        ended
    }

    /// Comes nearer to the fair share. Returns when to look again.
    async fn turn(&mut self, shutdown: &CancellationToken) -> Result<Duration, StoreError> {
        let FairShare { share, aggregators, free } = self.owner.store.fair_share(self.owner.id).await?;
        let share = usize::from(if self.alone { self.shards } else { share });
        self.hand_over(share);
        let mut missing = share.saturating_sub(self.owned.len());
        let candidates: Vec<u16> = if self.force { (0..self.shards).collect() } else { free };
        let mut free = 0;
        for shard in candidates {
            if self.owned.contains_key(&shard) {
                continue;
            }
            if missing == 0 || shutdown.is_cancelled() {
                break;
            }
            if self.claim(shard).await? {
                missing -= 1;
            } else {
                free += 1;
            }
        }
        self.force = false;
        self.owner.metrics.own(self.owned.len());
        if !self.owned.is_empty() || free == 0 {
            self.owner.health.ready(CONDITION);
        }
        Ok(if missing > 0 || aggregators > 1 { LOOK_SOON } else { LOOK })
    }

    async fn claim(&mut self, shard: u16) -> Result<bool, StoreError> {
        let Some(claim) = self.owner.store.claim(shard, self.owner.id, self.force).await? else {
            return Ok(false);
        };
        // Before anybody can see this aggregator as ready.
        self.owner.health.waiting_for(format!("shard {shard}"), "warming up");
        let stop = CancellationToken::new();
        let task = self.tasks.spawn(self.owner.clone().own(claim, stop.clone())).id();
        self.owned.insert(shard, Owned { task, stop });
        Ok(true)
    }

    /// Gives shards back that others should own now: one at a time, so that little stands still.
    fn hand_over(&mut self, share: usize) {
        let leaving = self.owned.values().any(|owned| owned.stop.is_cancelled());
        if self.owned.len() > share
            && !leaving
            && let Some((shard, owned)) = self.owned.last_key_value()
        {
            tracing::info!(shard, "handing a shard over: others should own it now");
            owned.stop.cancel();
        }
    }

    fn ended(&mut self, ended: Result<(Id, ()), JoinError>) {
        let id = match ended {
            Ok((id, ())) => id,
            Err(error) => match error.try_into_panic() {
                // A bug must not leave a shard uncounted in a process that looks alive.
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(cancelled) => cancelled.id(),
            },
        };
        self.owned.retain(|_, owned| owned.task != id);
        self.owner.metrics.own(self.owned.len());
    }

    /// All shards drain at once, each with its own deadline.
    async fn leave(mut self) {
        self.owner.health.end_loop(LOOP);
        for owned in self.owned.values() {
            owned.stop.cancel();
        }
        while let Some(ended) = self.tasks.join_next_with_id().await {
            self.ended(ended);
        }
        if let Err(error) = self.owner.store.leave(self.owner.id).await {
            tracing::info!("failed to sign off, the others will notice: {error}");
        }
    }
}
