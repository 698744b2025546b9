//! One namespace at work: observes, plans, writes, again and again, until nothing is left of it.
//!
//! Level-triggered: a turn looks at everything and writes what differs, so what failed is done by a later turn. A turn that
//! changes nothing writes nothing.

use crate::apply::{ApplyError, Writer};
use crate::caches::Caches;
use crate::config::Config;
use crate::events::Events;
use crate::leader::Leadership;
use crate::metrics::Metrics;
use crate::pace::Pace;
use crate::pipeline::Planning;
use crate::plan::{self, Judged, Objects, Wanted};
use crate::status::{self, Heard, Silence};
use crate::write::{Write, Written};
use clamor_crds::tracked_channel::TrackedChannelStatus;
use clamor_planner::control::View;
use clamor_process::health::Health;
use clamor_process::retry::backoff;
use futures::StreamExt as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::{Client, ResourceExt as _};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How often everything is looked at without a cause: a minute unheard has to be noticed.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// Changes that come so close together are one.
const TOGETHER: Duration = Duration::from_millis(20);
/// Statuses that are written at once.
const WRITES_AT_ONCE: usize = 16;
/// Statuses of one turn: what it saw grows old while they are written.
const WRITES_IN_A_TURN: usize = 150;
/// One turn may have to wait for some dozens of requests, of 15 s each, that nobody answers.
const TURN_LIMIT: Duration = Duration::from_secs(900);

/// What all namespaces share.
#[derive(Clone)]
pub struct Context {
    /// To the API server.
    pub client: Client,
    /// What it has.
    pub caches: Arc<Caches>,
    /// The operator's configuration.
    pub config: Arc<Config>,
    /// Whether we lead.
    pub leadership: Leadership,
    /// Takes events.
    pub events: Events,
    /// The operator's metrics.
    pub metrics: Metrics,
    /// Whether its loops turn.
    pub health: Health,
    /// How fast it writes.
    pub pace: Pace,
    /// Clamor is being removed: every pipeline is taken as suspended, and no status says so.
    pub retiring: bool,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Works on a namespace until nothing is left of it; false: shutdown or another leader came first. `poked` changes when
/// something there did.
pub async fn run(context: Context, name: String, mut poked: watch::Receiver<u64>, shutdown: CancellationToken) -> bool {
    let (turning, health) = (format!("namespace {name}"), context.health.clone());
    health.register_loop(turning.clone(), TURN_LIMIT);
    let is_done = turns(Namespace::new(context, name), &mut poked, &shutdown, || health.beat(&turning)).await;
    health.end_loop(&turning);
    is_done
}

async fn turns(
    mut namespace: Namespace,
    poked: &mut watch::Receiver<u64>,
    shutdown: &CancellationToken,
    beat: impl Fn(),
) -> bool {
    let mut waits = backoff();
    let mut wake = Instant::now();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return false,
            changed = poked.changed() => if changed.is_err() { return false },
            () = namespace.planned() => {}
            () = tokio::time::sleep_until(wake.into()) => {}
        }
        tokio::time::sleep(TOGETHER).await;
        poked.mark_unchanged();
        beat();
        let began = Instant::now();
        let outcome = namespace.turn().await;
        namespace.context.metrics.took.observe(began.elapsed().as_secs_f64());
        wake = match outcome {
            Ok(Turn::Nothing) => return true,
            Ok(turn @ (Turn::Done | Turn::More)) => {
                waits = backoff();
                namespace.count("success");
                Instant::now() + if turn == Turn::More { Duration::ZERO } else { LOOK_AGAIN }
            }
            Ok(Turn::Again) => {
                namespace.count("requeue");
                Instant::now() + waits.next().unwrap_or(LOOK_AGAIN)
            }
            Err(ApplyError::Deposed) => return false,
            Err(error) => {
                tracing::warn!(namespace = namespace.name, "{error}; trying again");
                namespace.count("error");
                namespace.context.metrics.errors.with_label_values(&["namespace"]).inc();
                Instant::now() + waits.next().unwrap_or(LOOK_AGAIN)
            }
        };
    }
}

/// What became of a turn, or of a part of it; of two the greater one holds for both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    /// All is as it should be, or was written.
    Done,
    /// There is more to write than one turn does.
    More,
    /// Something had changed under it.
    Again,
    /// Nothing is left of the namespace.
    Nothing,
}

struct Namespace {
    context: Context,
    name: String,
    writer: Writer,
    planning: Option<Planning>,
    judged: BTreeMap<String, Judged>,
    /// Deployments that the API server refused in this turn, and its words.
    refused: BTreeMap<String, String>,
    /// For how long nobody has heard each login.
    silence: Silence,
    /// By an object's uid: what was written last, until the watch tells it.
    written: HashMap<String, Written>,
}

impl Namespace {
    fn new(context: Context, name: String) -> Self {
        let writer = Writer::new(context.client.clone(), name.clone(), context.leadership.clone());
        Self {
            context,
            name,
            writer,
            planning: None,
            judged: BTreeMap::new(),
            refused: BTreeMap::new(),
            silence: Silence::default(),
            written: HashMap::new(),
        }
    }

    fn count(&self, result: &str) {
        self.context.metrics.reconciles.with_label_values(&["namespace", result]).inc();
    }

    /// Waits until the planner says something new.
    async fn planned(&mut self) {
        let Some(planning) = &mut self.planning else { return std::future::pending().await };
        tokio::select! {
            changed = planning.view.changed() => if changed.is_err() { std::future::pending::<()>().await },
            changed = planning.problem.changed() => if changed.is_err() { std::future::pending::<()>().await },
        }
    }

    async fn turn(&mut self) -> Result<Turn, ApplyError> {
        let mut objects = self.context.caches.objects(&self.name, &mut self.judged);
        if self.context.retiring {
            objects.suspend();
        }
        if objects.are_undecidable() {
            return Ok(Turn::Done);
        }
        let wanted = plan::wanted(&objects, &self.context.config);
        let before = self.planning.take();
        self.planning = Planning::follow(before, &wanted, &objects, &self.context.config, &self.context.leadership);
        if objects.is_empty() {
            return Ok(Turn::Nothing);
        }
        let view = self.planning.as_mut().and_then(|planning| {
            planning.view.mark_unchanged();
            planning.problem.mark_unchanged();
            planning.standing()
        });
        let deployed = self.deploy(&objects, &wanted, view.as_deref()).await;
        objects.refused = std::mem::take(&mut self.refused);
        let told =
            if self.context.retiring { Ok(Turn::Done) } else { self.tell(&objects, &wanted, view.as_deref()).await };
        Ok(deployed?.max(told?))
    }

    /// Makes the Deployments what they should be.
    async fn deploy(&mut self, objects: &Objects, wanted: &Wanted, view: Option<&View>) -> Result<Turn, ApplyError> {
        let plan = plan::plan(objects, wanted, &self.context.config, view);
        let found = |name: &str| objects.deployments.iter().find(|deployment| deployment.name_any() == name);
        let (mut turn, mut failed) = (Turn::Done, None);
        self.writer.forget_all_but(&objects.deployments);
        let may_start = self.planning.as_ref().is_some_and(Planning::is_connected);
        for (name, value) in &plan.deployments {
            // Nobody is to write into streams of which it is not known that they are ours.
            if !may_start && !found(name).is_some_and(|found| plan::deployment::is_on_its_bus(found, value)) {
                continue;
            }
            match self.writer.deployment(value, found(name).map(Arc::as_ref)).await {
                Ok(true) => self.context.metrics.writes.with_label_values(&["Deployment", "apply"]).inc(),
                Ok(false) => {}
                Err(error) if error.is_outdated() => turn = Turn::Again,
                Err(error) => {
                    self.refused.extend(error.refusal().map(|words| (name.clone(), words.to_owned())));
                    failed = Some(error);
                }
            }
        }
        for name in &plan.surplus {
            let Some(found) = found(name).filter(|found| found.metadata.deletion_timestamp.is_none()) else { continue };
            match self.writer.delete(found).await {
                Ok(()) => self.context.metrics.writes.with_label_values(&["Deployment", "delete"]).inc(),
                Err(error) if error.is_outdated() => turn = Turn::Again,
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(turn), Err)
    }

    /// Writes the statuses that differ, as many as one turn does.
    async fn tell(&mut self, objects: &Objects, wanted: &Wanted, view: Option<&View>) -> Result<Turn, ApplyError> {
        let mut writes = self.statuses(objects, wanted, view);
        // While there is much to say, what is under way is not said: it will have become something else.
        writes.sort_by_key(Write::is_under_way);
        let mut turn = if writes.len() > WRITES_IN_A_TURN { Turn::More } else { Turn::Done };
        writes.truncate(WRITES_IN_A_TURN);
        let mut failed = None;
        let (writer, context) = (&self.writer, &self.context);
        let outcomes = futures::stream::iter(writes)
            .map(|write| async move {
                context.pace.write().await;
                let outcome = write.execute(writer).await;
                (write, outcome)
            })
            .buffer_unordered(WRITES_AT_ONCE);
        let mut outcomes = std::pin::pin!(outcomes);
        let mut written = Vec::new();
        while let Some((write, outcome)) = outcomes.next().await {
            match outcome {
                Ok(()) => {
                    context.metrics.writes.with_label_values(&[write.kind(), "status"]).inc();
                    write.announce(&context.events);
                    written.extend(write.version().map(|(uid, version)| {
                        (uid, Written { version, status: write.status_hash(), at: Instant::now() })
                    }));
                }
                Err(error) if error.is_outdated() => turn = Turn::Again,
                Err(error) => failed = Some(error),
            }
        }
        self.written.extend(written);
        failed.map_or(Ok(turn), Err)
    }

    fn statuses(&mut self, objects: &Objects, wanted: &Wanted, view: Option<&View>) -> Vec<Write> {
        let (now, at) = (Time(Timestamp::now()), Instant::now());
        let heard = view.map(Heard::of);
        // A bus that does not answer says nothing about channels.
        let seen = view.filter(|view| view.problem.is_none()).zip(heard.as_ref());
        self.silence.note(seen.map(|(_, heard)| heard), at);
        let problem = self.planning.as_ref().and_then(|planning| planning.problem.borrow().clone());
        let mut writes = Vec::new();
        if let Some(pipeline) = &wanted.pipeline {
            let status = status::pipeline(objects, wanted, &self.context.config, view, problem.as_ref(), &now);
            let status = status.filter(|status| pipeline.status.as_ref() != Some(status));
            writes.extend(status.map(|status| Write::Pipeline(Arc::clone(pipeline), Box::new(status))));
            for idle in &wanted.idle {
                let status = status::idle(idle, pipeline, &now);
                if idle.status.as_ref() != Some(&status) {
                    writes.push(Write::Pipeline(Arc::clone(idle), Box::new(status)));
                }
            }
        }
        for phrase in &wanted.phrases {
            let status = status::phrase(phrase, view, &now);
            let status = status.filter(|status| phrase.object.status.as_ref() != Some(status));
            writes.extend(status.map(|status| Write::Phrase(Arc::clone(&phrase.object), Box::new(status))));
        }
        for channel in &wanted.channels {
            let unheard = self.silence.of(&channel.object.spec.channel, at);
            let Some(status) = status::channel(channel, seen, unheard, &now) else { continue };
            if self.is_news(channel.object.status.as_ref(), &status, at) {
                writes.push(Write::Channel(Arc::clone(&channel.object), Box::new(status)));
            }
        }
        self.silence.retain(|login| wanted.desired.is_active(login));
        let is_written = |write: &Write| {
            let written = write.version().and_then(|(uid, version)| Some((self.written.get(&uid)?, version)));
            written.is_some_and(|(written, version)| written.covers(&version, write.status_hash()))
        };
        writes.retain(|write| !is_written(write));
        self.forget_written(objects);
        writes
    }

    /// Whether it differs. One that differs only in its rate may have to wait.
    fn is_news(&self, before: Option<&TrackedChannelStatus>, status: &TrackedChannelStatus, at: Instant) -> bool {
        let Some(before) = before else { return true };
        if before == status {
            return false;
        }
        let mut same_rate = status.clone();
        same_rate.messages_per_minute = before.messages_per_minute;
        same_rate != *before || self.context.pace.may_tell_rate(at)
    }

    /// Objects that are gone.
    fn forget_written(&mut self, objects: &Objects) {
        let most = objects.channels.len() + objects.phrases.len() + objects.pipelines.len();
        if self.written.len() > 2 * most + 16 {
            self.written.clear();
        }
    }
}
