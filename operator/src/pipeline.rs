//! The planner of one pipeline, kept running beside the namespace that it plans for.
//!
//! Invariants:
//! - The planner ends with what it was started for: another bus, shard count or object of the name begins a new one.
//! - A pipeline that is deleted has its slots emptied, for as long as that takes or half a minute, or until another one of
//!   its name is planned for. A planner that has not had its first look cannot tell such a one from the leader before it,
//!   and gives way to both: then the workers leave with their Deployments.

use crate::config::Config;
use crate::leader::Leadership;
use crate::plan::{Objects, Wanted, names};
use clamor_bus::{Bus, BusConfig, StreamLimits};
use clamor_crds::ChatPipeline;
use clamor_planner::control::{self, ControlOptions, Problem, Slots, View};
use clamor_planner::desired::Desired;
use clamor_process::health::Health;
use clamor_process::retry::backoff;
use kube::ResourceExt as _;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// After the start workers have so long to say what they read; without all of them nothing is added before.
const SETTLE: Duration = Duration::from_secs(30);
/// How long the slots of a deleted pipeline have to be emptied.
const FAREWELL: Duration = Duration::from_secs(30);

/// What a planner was started for.
#[derive(Debug, Clone, PartialEq)]
struct Key {
    uid: Option<String>,
    bus: BusKey,
    shards: u16,
    limits: (Duration, u64),
}

#[derive(Debug, Clone, PartialEq)]
struct BusKey {
    url: String,
    pipeline: String,
}

/// A planner that runs.
#[derive(Debug)]
pub struct Planning {
    key: Key,
    desired: watch::Sender<Arc<Desired>>,
    slots: watch::Sender<Slots>,
    /// How it stands.
    pub view: watch::Receiver<Arc<View>>,
    /// Why it does not run yet.
    pub problem: watch::Receiver<Option<Problem>>,
    /// Whether the streams are there, and ours.
    connected: Arc<AtomicBool>,
    leaving: CancellationToken,
    shutdown: CancellationToken,
}

impl Planning {
    /// The planner for what is wanted: the one that runs where it still fits, or a new one.
    pub fn follow(
        before: Option<Self>,
        wanted: &Wanted,
        objects: &Objects,
        config: &Config,
        leader: &Leadership,
    ) -> Option<Self> {
        let pipeline = wanted.pipeline.as_deref().filter(|_| wanted.refused.is_none());
        let pipeline_uid = wanted.pipeline.as_ref().and_then(|pipeline| pipeline.uid());
        let key = pipeline.and_then(|pipeline| Some((key(pipeline, config)?, pipeline)));
        let Some((key, pipeline)) = key else {
            if let Some(before) = before {
                before.leave(pipeline_uid.as_deref());
            }
            return None;
        };
        let slots = Slots { shared: wanted.shared.clone(), running: running(objects, &pipeline.name_any()) };
        let planning = match before {
            Some(before) if before.key == key => before,
            before => {
                if let Some(before) = before {
                    before.leave(pipeline_uid.as_deref());
                }
                let bus = config.buses.get(&pipeline.spec.bus.name)?.to_config(&key.bus.pipeline);
                Self::start(key, bus, Arc::clone(&wanted.desired), slots.clone(), leader.clone())
            }
        };
        planning.desired.send_if_modified(|desired| {
            let differs = *desired != wanted.desired;
            desired.clone_from(&wanted.desired);
            differs
        });
        planning.slots.send_if_modified(|known| {
            let differs = *known != slots;
            *known = slots;
            differs
        });
        Some(planning)
    }

    /// How it stands, once it has had a word from the bus.
    #[must_use]
    pub fn standing(&self) -> Option<Arc<View>> {
        let view = Arc::clone(&self.view.borrow());
        (view.in_force.is_some() || view.problem.is_some()).then_some(view)
    }

    /// Whether the streams are there, and ours: before that no worker is started, who might write into another's.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Acquire)
    }

    fn start(key: Key, bus: BusConfig, desired: Arc<Desired>, slots: Slots, leader: Leadership) -> Self {
        let (leaving, shutdown) = (CancellationToken::new(), CancellationToken::new());
        let (desired, wishes) = watch::channel(desired);
        let (slots, places) = watch::channel(slots);
        let (views, view) = watch::channel(Arc::default());
        let (problems, problem) = watch::channel(None);
        let name = key.bus.pipeline.clone();
        let limits = StreamLimits { max_age: key.limits.0, max_bytes: key.limits.1 };
        let (shards, leaves, stop) = (key.shards, leaving.clone(), shutdown.clone());
        let connected = Arc::new(AtomicBool::new(false));
        let has_connected = Arc::clone(&connected);
        tokio::spawn(async move {
            let connecting = connect(&bus, shards, &limits, &problems, &leader);
            let bus = tokio::select! {
                () = stop.cancelled() => return,
                bus = connecting => bus,
            };
            has_connected.store(true, Ordering::Release);
            problems.send_replace(None);
            let options = ControlOptions {
                name,
                bus,
                shards,
                limits,
                slots: places,
                settle: SETTLE,
                take_over: true,
                may_write: Some(Arc::new(move || leader.holds())),
                leaving: leaves,
                watch_silence: false,
                desired: wishes,
                view: views,
            };
            // What it waits for is the pipeline's to say, not this process's readiness.
            control::run(options, Health::default(), stop).await;
        });
        Self { key, desired, slots, view, problem, connected, leaving, shutdown }
    }

    /// Ends. Of a pipeline that is gone the slots are emptied; of one that can't be planned for now, or is planned for on
    /// another bus, the workers keep what they read.
    fn leave(self, now: Option<&str>) {
        if self.key.uid.as_deref() == now {
            return;
        }
        self.leaving.cancel();
        let nothing = Arc::new(Desired::default());
        self.desired.send_replace(Arc::clone(&nothing));
        self.slots.send_replace(Slots::default());
        tokio::spawn(async move {
            let ended = self;
            let mut view = ended.view.clone();
            let emptied =
                view.wait_for(|view| view.in_force.as_ref().is_some_and(|in_force| Arc::ptr_eq(in_force, &nothing)));
            let _ = tokio::time::timeout(FAREWELL, emptied).await;
        });
    }
}

// [`Planning::leave`] keeps it until its slots are empty.
impl Drop for Planning {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

fn key(pipeline: &ChatPipeline, config: &Config) -> Option<Key> {
    let bus = &pipeline.spec.bus;
    let url = config.buses.get(&bus.name)?.url.clone();
    let name = names::on_bus(&config.cluster_name, &pipeline.namespace().unwrap_or_default(), &pipeline.name_any());
    let limits = (bus.retention.duration().ok()?, bus.bytes_per_shard.whole()?);
    Some(Key { uid: pipeline.uid(), bus: BusKey { url, pipeline: name }, shards: pipeline.spec.shards, limits })
}

/// Slots that a pod runs in.
fn running(objects: &Objects, pipeline: &str) -> BTreeSet<String> {
    let pods = objects.pods.iter().filter(|pod| pod.running && pod.pipeline == pipeline);
    pods.filter_map(|pod| pod.slot.clone()).collect()
}

/// Connects and makes the streams, for as long as it takes.
async fn connect(
    config: &BusConfig,
    shards: u16,
    limits: &StreamLimits,
    problems: &watch::Sender<Option<Problem>>,
    leader: &Leadership,
) -> Bus {
    let mut waits = backoff();
    loop {
        let attempt = async {
            let bus = Bus::connect(config).await?;
            bus.ensure(shards, limits).await?;
            Ok::<_, clamor_bus::BusError>(bus)
        };
        if leader.holds() {
            match attempt.await {
                Ok(bus) => return bus,
                Err(error) => {
                    let problem = Problem { reason: error.reason(), message: error.to_string() };
                    if problems.borrow().as_ref() != Some(&problem) {
                        tracing::warn!(pipeline = config.pipeline, "{error}; trying again");
                    }
                    problems.send_if_modified(|known| {
                        let differs = known.as_ref() != Some(&problem);
                        *known = Some(problem);
                        differs
                    });
                }
            }
        }
        tokio::time::sleep(waits.next().unwrap_or(SETTLE)).await;
    }
}
