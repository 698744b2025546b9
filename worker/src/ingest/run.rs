//! Starts the parts, turns the hub's loop, and drains.

use super::connection::Connections;
use super::dial::{Dialer, DialerError};
use super::hand_over::{Sign, TakeOver, Until};
use super::hub::Hub;
use super::joins::Joins;
use super::metrics::IngestMetrics;
use super::news::{News, WAITING_NEWS};
use super::options::IngestOptions;
use super::outlet::Outlet;
use super::packer::Identity;
use super::publisher::Publisher;
use super::reporter::{self, Speaker};
use super::shared::{Account, Shared};
use super::spill::{Spill, SpillError, mover};
use super::{marks, wall_ms};
use crate::health::Health;
use clamor_bus::report::Report;
use futures::StreamExt as _;
use prometheus::Registry;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

/// The hub's loop, for `/livez`.
const LOOP: &str = "ingest_hub";
/// What `/readyz` waits for.
const CONDITION: &str = "channels";
/// A loop that has not turned for so long hangs; it turns every second.
const LOOP_LIMIT: Duration = Duration::from_secs(15);
/// Reports are written when nothing has changed, too: a planner tells the living by them.
const REPORT_EVERY: Duration = Duration::from_secs(5);
/// Changes are collected for so long.
const REPORT_AFTER: Duration = Duration::from_millis(100);
/// Connections that are dropped end at once; this is for tasks that wait for their turn.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);
/// News taken at once.
const NEWS_AT_ONCE: usize = 256;

/// Why ingest cannot run, or stopped.
#[derive(Debug, Error)]
pub enum IngestError {
    /// A Twitch setting is unusable.
    #[error(transparent)]
    Twitch(#[from] DialerError),
    /// The folder of the spill is unusable.
    #[error(transparent)]
    Spill(#[from] SpillError),
    /// Two roles of one registry.
    #[error("failed to register metrics")]
    Metrics(#[from] prometheus::Error),
    /// A part of the role ended that must not.
    #[error("failed to keep the {part} running")]
    Ended {
        /// Which one.
        part: &'static str,
    },
}

/// Reads chat until `shutdown`, and within the drain limit until a successor does; then drains: reading stops, what was
/// heard is published within the publish limit, or spilled, and the report is deleted.
///
/// # Errors
/// A setting that cannot work, or a part that ended unexpectedly. Twitch or the bus being away is no error: it is
/// tried again for as long as it takes.
pub async fn run(
    options: IngestOptions,
    registry: Registry,
    health: Health,
    shutdown: CancellationToken,
) -> Result<(), IngestError> {
    let (mut role, mut news) = Role::start(options, &registry, health)?;
    let mut result = role.follow(&mut news, Until::Shutdown(&shutdown)).await;
    let stopped_at = Instant::now();
    if result.is_ok() && !role.options.drain_limit.is_zero() {
        result = role.hand_over(&mut news).await;
    }
    role.drain(stopped_at).await;
    result
}

/// The running parts.
struct Role {
    options: IngestOptions,
    health: Health,
    shared: Arc<Shared>,
    hub: Hub,
    spill: Option<Arc<Spill>>,
    speaker: Speaker,
    draining: bool,
    reports: watch::Sender<Option<Report>>,
    reporter: JoinSet<()>,
    publishers: JoinSet<()>,
    /// Marks, JOINs and the spill: until the drain.
    tasks: JoinSet<()>,
}

impl Role {
    fn start(
        options: IngestOptions,
        registry: &Registry,
        health: Health,
    ) -> Result<(Self, mpsc::Receiver<News>), IngestError> {
        let instance = rand::random();
        let speaker = Speaker::new(&options, instance, wall_ms());
        let (news, waiting_news) = mpsc::channel(WAITING_NEWS);
        let metrics = Arc::new(IngestMetrics::new(registry)?);
        let spill = open_spill(&options, instance, &metrics)?;
        let shared = Arc::new(share(&options, instance, spill.clone(), metrics, news)?);
        tracing::info!(slot = options.slot, instance = format!("{instance:016x}"), "ingest started");
        health.waiting_for(CONDITION, "no assignment yet");
        health.register_loop(LOOP, LOOP_LIMIT);
        health.register_loop(marks::LOOP, LOOP_LIMIT);

        let (reports, to_write) = watch::channel(None);
        let role = Self {
            hub: Hub::new(Arc::clone(&shared), &options.twitch),
            reporter: one(reporter::run(options.bus.clone(), speaker.clone(), to_write)),
            publishers: publishers(&options, &shared),
            tasks: tasks(&shared, spill.as_ref(), &health),
            spill,
            draining: false,
            options,
            health,
            shared,
            speaker,
            reports,
        };
        Ok((role, waiting_news))
    }

    /// Reads on until a successor does, or the limit is reached.
    async fn hand_over(&mut self, waiting_news: &mut mpsc::Receiver<News>) -> Result<(), IngestError> {
        tracing::info!(limit_s = self.options.drain_limit.as_secs(), "told to stop: reading on until a successor does");
        self.draining = true;
        let take_over = TakeOver {
            succession: self.speaker.succession(),
            reports: self.options.bus.watch_reports(),
            deadline: Instant::now() + self.options.drain_limit,
        };
        self.follow(waiting_news, Until::TakenOver(take_over)).await
    }

    /// The hub's loop.
    async fn follow(
        &mut self,
        waiting_news: &mut mpsc::Receiver<News>,
        mut until: Until<'_>,
    ) -> Result<(), IngestError> {
        let mut assignments = self.options.bus.watch_assignment(&self.options.slot);
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut news = Vec::with_capacity(NEWS_AT_ONCE);
        let mut report_at = Instant::now();
        let mut ready = false;
        while !until.is_over(&self.hub, &self.shared.connections) {
            tokio::select! {
                sign = until.next() => match sign {
                    Sign::Now => return Ok(()),
                    Sign::Said(change) => until.hear(&change, &self.hub),
                },
                assignment = assignments.next() => match assignment {
                    Some(assignment) => self.hub.follow(&assignment),
                    None => return Err(IngestError::Ended { part: "watch of the assignment" }),
                },
                _ = waiting_news.recv_many(&mut news, NEWS_AT_ONCE) => {
                    news.drain(..).for_each(|news| self.hub.hear(news));
                }
                _ = ticks.tick() => {
                    self.health.beat(LOOP);
                    self.hub.tick();
                }
                () = tokio::time::sleep_until(report_at) => {
                    self.report();
                    report_at = Instant::now() + REPORT_EVERY;
                }
                _ = self.tasks.join_next() => return Err(IngestError::Ended { part: "marks, JOINs or spill" }),
                _ = self.publishers.join_next() => return Err(IngestError::Ended { part: "publishers" }),
                _ = self.reporter.join_next() => return Err(IngestError::Ended { part: "reporter" }),
            }
            if self.hub.take_changed() {
                report_at = report_at.min(Instant::now() + REPORT_AFTER);
            }
            ready = ready || self.judge_readiness();
        }
        Ok(())
    }

    /// Ready once every channel is classified; and stays so, whatever is assigned later.
    fn judge_readiness(&self) -> bool {
        match self.hub.waits() {
            Some(reason) => self.health.waiting_for(CONDITION, reason),
            None => {
                self.health.ready(CONDITION);
                return true;
            }
        }
        false
    }

    fn report(&mut self) {
        let report = self.speaker.report(wall_ms(), self.draining, self.hub.report());
        self.reports.send_replace(Some(report));
    }

    async fn drain(mut self, stopped_at: Instant) {
        let started = Instant::now();
        self.draining = true;
        self.report();
        self.hub.leave();
        if tokio::time::timeout(CLOSE_LIMIT, self.shared.connections.all_ended()).await.is_err() {
            tracing::warn!(connections = self.shared.connections.len(), "connections did not end in time");
        }
        self.tasks.shutdown().await;
        self.shared.outlet.close();
        let deadline = (stopped_at + self.options.publish_limit)
            .max(stopped_at + self.options.drain_limit + IngestOptions::PUBLISH_LIMIT_AFTER_HAND_OVER);
        if tokio::time::timeout_at(deadline, all(&mut self.publishers)).await.is_err() {
            self.publishers.shutdown().await;
            self.keep_the_rest().await;
        }
        drop(self.reports);
        all(&mut self.reporter).await;
        self.health.end_loop(LOOP);
        self.health.end_loop(marks::LOOP);
        tracing::info!(milliseconds = started.elapsed().as_millis(), "ingest drained");
    }

    /// What the bus did not take: onto the disk, where there is one, for the next instance; else it is lost.
    async fn keep_the_rest(&self) {
        let outlet = Arc::clone(&self.shared.outlet);
        if let Some(spill) = self.spill.clone() {
            let spilled = tokio::task::spawn_blocking(move || {
                outlet.spill_all(&spill);
                spill.sync();
                spill.show();
                spill.bytes()
            });
            let bytes = spilled.await.unwrap_or_default();
            tracing::warn!(
                bytes,
                "the bus did not take everything in time: the rest stays in SPILL_DIR for the next instance"
            );
        }
        let events = self.shared.outlet.abandon();
        if events > 0 {
            tracing::error!(events, "the bus did not take everything in time: chat is lost, and shows as a gap");
        }
    }
}

fn open_spill(
    options: &IngestOptions,
    instance: u64,
    metrics: &Arc<IngestMetrics>,
) -> Result<Option<Arc<Spill>>, IngestError> {
    let Some(spill) = &options.spill else { return Ok(None) };
    let pipeline = options.bus.names().pipeline();
    Ok(Spill::open(spill, pipeline, (instance, options.shards.max(1)), metrics)?.map(Arc::new))
}

fn share(
    options: &IngestOptions,
    instance: u64,
    spill: Option<Arc<Spill>>,
    metrics: Arc<IngestMetrics>,
    news: mpsc::Sender<News>,
) -> Result<Shared, IngestError> {
    let identity = Identity { slot: options.slot.clone(), instance };
    let linger = options.linger.min(IngestOptions::MAX_LINGER);
    let outlet = Outlet::new(identity, options.shards, options.queue_bytes, linger, spill, Arc::clone(&metrics));
    Ok(Shared {
        account: Account::new(&options.twitch),
        dialer: Dialer::new(&options.twitch)?,
        connections: Arc::default(),
        joins: Arc::new(Joins::new(options.twitch.join_rate)),
        outlet: Arc::new(outlet),
        metrics,
        news,
    })
}

fn publishers(options: &IngestOptions, shared: &Shared) -> JoinSet<()> {
    let publisher = |shard| Publisher {
        bus: options.bus.clone(),
        outlet: Arc::clone(&shared.outlet),
        metrics: Arc::clone(&shared.metrics),
        shard,
    };
    (0..shared.outlet.shards()).map(|shard| publisher(shard).run()).collect()
}

fn tasks(shared: &Shared, spill: Option<&Arc<Spill>>, health: &Health) -> JoinSet<()> {
    let connections: Arc<Connections> = Arc::clone(&shared.connections);
    let mut tasks = one(marks::run(
        Arc::clone(&connections),
        Arc::clone(&shared.outlet),
        Arc::clone(&shared.metrics),
        health.clone(),
    ));
    if let Some(spill) = spill {
        tasks.spawn(mover::run(Arc::clone(&shared.outlet), Arc::clone(spill)));
    }
    tasks.spawn(Arc::clone(&shared.joins).run(connections, shared.news.clone(), Arc::clone(&shared.metrics)));
    tasks
}

fn one(task: impl Future<Output = ()> + Send + 'static) -> JoinSet<()> {
    std::iter::once(task).collect()
}

async fn all(tasks: &mut JoinSet<()>) {
    while tasks.join_next().await.is_some() {}
}
