//! Starts the parts, turns the hub's loop, and drains.

use super::connection::Connections;
use super::dial::{Dialer, DialerError};
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

/// Reads chat until `shutdown`, then drains: reading stops, what was heard is published within the drain limit, the
/// report is deleted.
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
    let (mut role, news) = Role::start(options, &registry, health)?;
    let result = role.follow(news, &shutdown).await;
    role.drain().await;
    result
}

/// The running parts.
struct Role {
    options: IngestOptions,
    health: Health,
    shared: Arc<Shared>,
    hub: Hub,
    speaker: Speaker,
    reports: watch::Sender<Option<Report>>,
    reporter: JoinSet<()>,
    publishers: JoinSet<()>,
    /// Marks and JOINs: until the drain.
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
        let shared = Arc::new(share(&options, instance, registry, news)?);
        tracing::info!(slot = options.slot, instance = format!("{instance:016x}"), "ingest started");
        health.waiting_for(CONDITION, "no assignment yet");
        health.register_loop(LOOP, LOOP_LIMIT);
        health.register_loop(marks::LOOP, LOOP_LIMIT);

        let (reports, to_write) = watch::channel(None);
        let role = Self {
            hub: Hub::new(Arc::clone(&shared), &options.twitch),
            reporter: one(reporter::run(options.bus.clone(), speaker.clone(), to_write)),
            publishers: publishers(&options, &shared, instance),
            tasks: tasks(&shared, &health),
            options,
            health,
            shared,
            speaker,
            reports,
        };
        Ok((role, waiting_news))
    }

    /// The hub's loop.
    async fn follow(
        &mut self,
        mut waiting_news: mpsc::Receiver<News>,
        shutdown: &CancellationToken,
    ) -> Result<(), IngestError> {
        let mut assignments = self.options.bus.watch_assignment(&self.options.slot);
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut news = Vec::with_capacity(NEWS_AT_ONCE);
        let mut report_at = Instant::now();
        let mut ready = false;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
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
                    self.report(false);
                    report_at = Instant::now() + REPORT_EVERY;
                }
                _ = self.tasks.join_next() => return Err(IngestError::Ended { part: "marks or JOINs" }),
                _ = self.publishers.join_next() => return Err(IngestError::Ended { part: "publishers" }),
                _ = self.reporter.join_next() => return Err(IngestError::Ended { part: "reporter" }),
            }
            if self.hub.take_changed() {
                report_at = report_at.min(Instant::now() + REPORT_AFTER);
            }
            ready = ready || self.judge_readiness();
        }
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

    fn report(&mut self, draining: bool) {
        let report = self.speaker.report(wall_ms(), draining, self.hub.report());
        self.reports.send_replace(Some(report));
    }

    async fn drain(mut self) {
        let started = Instant::now();
        self.report(true);
        self.hub.leave();
        if tokio::time::timeout(CLOSE_LIMIT, self.shared.connections.all_ended()).await.is_err() {
            tracing::warn!(connections = self.shared.connections.len(), "connections did not end in time");
        }
        self.tasks.shutdown().await;
        self.shared.outlet.close();
        let rest = self.options.drain_limit.saturating_sub(started.elapsed());
        if tokio::time::timeout(rest, all(&mut self.publishers)).await.is_err() {
            self.publishers.shutdown().await;
            let events = self.shared.outlet.abandon();
            tracing::error!(events, "the bus did not take everything in time: chat is lost, and shows as a gap");
        }
        drop(self.reports);
        all(&mut self.reporter).await;
        self.health.end_loop(LOOP);
        self.health.end_loop(marks::LOOP);
        tracing::info!(milliseconds = started.elapsed().as_millis(), "ingest drained");
    }
}

fn share(
    options: &IngestOptions,
    instance: u64,
    registry: &Registry,
    news: mpsc::Sender<News>,
) -> Result<Shared, IngestError> {
    let metrics = Arc::new(IngestMetrics::new(registry)?);
    let identity = Identity { slot: options.slot.clone(), instance };
    let linger = options.linger.min(IngestOptions::MAX_LINGER);
    let outlet = Outlet::new(identity, options.shards, options.queue_bytes, linger, Arc::clone(&metrics));
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

fn publishers(options: &IngestOptions, shared: &Shared, instance: u64) -> JoinSet<()> {
    let publisher = |shard| Publisher {
        bus: options.bus.clone(),
        outlet: Arc::clone(&shared.outlet),
        metrics: Arc::clone(&shared.metrics),
        instance,
        shard,
    };
    (0..shared.outlet.shards()).map(|shard| publisher(shard).run()).collect()
}

fn tasks(shared: &Shared, health: &Health) -> JoinSet<()> {
    let connections: Arc<Connections> = Arc::clone(&shared.connections);
    let mut tasks = one(marks::run(
        Arc::clone(&connections),
        Arc::clone(&shared.outlet),
        Arc::clone(&shared.metrics),
        health.clone(),
    ));
    tasks.spawn(Arc::clone(&shared.joins).run(connections, shared.news.clone(), Arc::clone(&shared.metrics)));
    tasks
}

fn one(task: impl Future<Output = ()> + Send + 'static) -> JoinSet<()> {
    std::iter::once(task).collect()
}

async fn all(tasks: &mut JoinSet<()>) {
    while tasks.join_next().await.is_some() {}
}
