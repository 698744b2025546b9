//! The operator on a real API server: 10,000 channels applied at once, at rest, and one more after the other.
//!
//! There is no node: its workers are processes in the slots of the pipeline.

use crate::budget::{Bar, Figure};
use crate::crowd::precise;
use crate::fleet::{self, LIMIT};
use crate::pipeline::megabytes;
use anyhow::{Context as _, Result, bail, ensure};
use clamor_simulator::ConnectionInfo;
use clamor_testkit::kube::{Cluster, ControlPlane, ControlPlaneOptions, Identity};
use clamor_testkit::{Needs, Servers, SimulatorOptions, SimulatorProcess, WorkerOptions, WorkerProcess, eventually};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, PostParams, WatchEvent, WatchParams};
use serde_json::json;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use tokio_util::task::AbortOnDropHandle;

const CHANNELS: u64 = 10_000;
const SLOTS: u64 = 6;
/// Channels that are applied one after the other.
const APPLIED: u64 = 100;
/// How many are created at once, as a GitOps controller does.
const AT_ONCE: usize = 32;
/// Longer than anything that the operator does by time.
const REST: Duration = Duration::from_secs(60);
const CONVERGED_LIMIT: Duration = Duration::from_secs(600);
/// Between two looks for a JOIN.
const LOOK: Duration = Duration::from_millis(2);

/// Everything that runs.
struct Fleet {
    operator: WorkerProcess,
    _ingest: Vec<WorkerProcess>,
    simulator: SimulatorProcess,
    cluster: Cluster,
    _plane: ControlPlane,
    _servers: Servers,
}

/// What 10,000 TrackedChannels take until all are Ready, and the operator's memory; its writes at rest; how long one more
/// takes from `kubectl apply` to its JOIN.
///
/// # Errors
/// When a program is missing or fails.
pub async fn operator() -> Result<Vec<Figure>> {
    let fleet = Fleet::start().await?;
    let converged = fleet.converge().await?;
    let memory = fleet.operator.memory_bytes()?;
    let writes = fleet.writes_at_rest().await?;
    let joined = fleet.joins().await?;
    let most = fleet.operator.memory_bytes()?.max(memory);
    let figure = |name, bar, measured, unit| Figure { name, bar: Bar::AtMost(bar), measured, unit, flink: "" };
    Ok(vec![
        figure("10,000 TrackedChannels Ready", 60.0, converged.as_secs_f64(), "s"),
        figure("operator memory, 10,000 TrackedChannels", 100.0, megabytes(most), "MB"),
        figure("operator at rest, writes but the Lease in a minute", 0.0, precise(writes), "writes"),
        figure("kubectl apply to JOIN, p99", 1_000.0, joined.as_secs_f64() * 1_000.0, "ms"),
    ])
}

impl Fleet {
    async fn start() -> Result<Self> {
        let servers = fleet::servers(Needs::Nats).await?;
        let options = SimulatorOptions::new(servers.folder()).program(fleet::program("clamor-simulator")?);
        let simulator = SimulatorProcess::start(options.flag("--channels", &(CHANNELS + APPLIED))).await?;
        let plane = ControlPlane::start(ControlPlaneOptions::new(servers.folder().join("kubernetes"))).await?;
        let cluster = plane.cluster().await?;
        let operator = operator_of(&cluster, &servers).await?;
        operator.ready(LIMIT).await;
        let capacity = (CHANNELS + APPLIED).div_ceil(SLOTS - 1);
        let pipeline = format!(
            "apiVersion: clamor.dev/v1alpha1\nkind: ChatPipeline\nmetadata: {{name: main}}\nspec:\n  \
             store: {{secretRef: {{name: clamor-store}}}}\n  \
             ingest: {{workers: {SLOTS}, capacity: {{channels: {capacity}}}}}\n"
        );
        cluster.apply(&pipeline).await?;
        let on_bus = format!("bench_{}_main", cluster.namespace());
        let slots = (0..SLOTS).map(|number| format!("main-ingest-{number}"));
        let ingest: Vec<_> = slots.map(|slot| ingest(&slot, &on_bus, &servers, &simulator)).collect::<Result<_>>()?;
        for worker in &ingest {
            eventually("ingest answers", LIMIT, async || worker.get("/livez").await.map(drop)).await;
        }
        Ok(Self { operator, _ingest: ingest, simulator, cluster, _plane: plane, _servers: servers })
    }

    fn channels(&self) -> Api<DynamicObject> {
        let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("clamor.dev", "v1alpha1", "TrackedChannel"));
        Api::namespaced_with(self.cluster.admin(), self.cluster.namespace(), &kind)
    }

    /// Creates all; from the first creation until all are Ready.
    async fn converge(&self) -> Result<Duration> {
        let (api, began) = (self.channels(), Instant::now());
        let all_ready = AbortOnDropHandle::new(tokio::spawn(all_ready(api.clone())));
        let objects = stream::iter(0..CHANNELS).map(|number| {
            let api = api.clone();
            async move {
                api.create(&PostParams::default(), &serde_json::from_value(channel(number))?).await.context("create")
            }
        });
        objects.buffer_unordered(AT_ONCE).try_for_each(async |_| Ok(())).await?;
        println!("{CHANNELS} TrackedChannels created in {:.1?}", began.elapsed());
        eventually("all channels are joined", CONVERGED_LIMIT, async || {
            let joined = self.joined().await.map_err(|error| format!("{error:#}"))?;
            if joined >= CHANNELS { Ok(()) } else { Err(format!("{joined}")) }
        })
        .await;
        println!("all joined after {:.1?}", began.elapsed());
        let ended = tokio::time::timeout(CONVERGED_LIMIT, all_ready).await;
        ended.with_context(|| format!("not all are Ready\n{}", self.operator.log_tail()))???;
        println!("all Ready after {:.1?}", began.elapsed());
        Ok(began.elapsed())
    }

    /// In a minute, once nothing is left to be done.
    async fn writes_at_rest(&self) -> Result<u64> {
        let username = Identity::admin().username();
        let writes = async |rest: Duration| -> Result<u64> {
            let mark = self.cluster.audit_mark().await?;
            tokio::time::sleep(rest).await;
            let asked = self.cluster.audit_since(mark, &username).await?;
            let writes = asked.iter().filter(|entry| entry.is_write() && entry.resource != "leases");
            Ok(writes.count() as u64)
        };
        // Rates and events of the convergence are written a little later.
        eventually("the operator comes to rest", CONVERGED_LIMIT, async || {
            match writes(Duration::from_secs(10)).await {
                Ok(0) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        writes(REST).await
    }

    /// The 99th percentile over a hundred channels.
    async fn joins(&self) -> Result<Duration> {
        let mut times = Vec::new();
        for number in CHANNELS..CHANNELS + APPLIED {
            let before = self.joined().await?;
            let manifest = channel(number).to_string();
            let began = Instant::now();
            let joined = async {
                while self.joined().await? == before {
                    ensure!(began.elapsed() < LIMIT, "no JOIN after {LIMIT:?}\n{}", self.operator.log_tail());
                    tokio::time::sleep(LOOK).await;
                }
                Ok(began.elapsed())
            };
            let applied = async { self.cluster.apply(&manifest).await };
            let (took, ()) = tokio::try_join!(joined, applied)?;
            times.push(took);
        }
        times.sort();
        println!(
            "kubectl apply to JOIN: median {:.0?}, at most {:.0?}",
            times[times.len() / 2],
            times[times.len() - 1]
        );
        Ok(times[times.len() * 99 / 100 - 1])
    }

    /// How many channels are joined, over all connections.
    async fn joined(&self) -> Result<u64> {
        let connections: Vec<ConnectionInfo> = self.simulator.connections().await?;
        Ok(connections.iter().map(|connection| connection.channels).sum())
    }
}

fn channel(number: u64) -> serde_json::Value {
    json!({
        "apiVersion": "clamor.dev/v1alpha1",
        "kind": "TrackedChannel",
        "metadata": {"name": format!("sim-{number}")},
        "spec": {"channel": format!("sim_{number}")},
    })
}

/// Follows them until all are Ready: to list them again and again would keep the API server busier than what is measured.
async fn all_ready(api: Api<DynamicObject>) -> Result<()> {
    let mut ready = BTreeSet::new();
    loop {
        // The API server ends a watch that falls behind; a new one begins with all that is there.
        let mut events = api.watch(&WatchParams::default(), "0").await?.boxed();
        while let Some(event) = events.try_next().await? {
            match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) if is_ready(&object) => {
                    ready.extend(object.metadata.name);
                }
                WatchEvent::Error(error) => bail!("the watch failed: {}", error.message),
                _ => {}
            }
            if ready.len() as u64 == CHANNELS {
                return Ok(());
            }
        }
    }
}

fn is_ready(object: &DynamicObject) -> bool {
    let conditions = object.data["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

async fn operator_of(cluster: &Cluster, servers: &Servers) -> Result<WorkerProcess> {
    let config = servers.folder().join("operator.yaml");
    let text = format!(
        "clusterName: bench\nworkers: {{image: 'localhost/clamor:bench'}}\nbuses: {{default: {{url: '{}'}}}}\n",
        servers.nats_url()
    );
    std::fs::write(&config, text)?;
    let kubeconfig = cluster.kubeconfig_of(&Identity::admin()).await?;
    let options = WorkerOptions::new(&fleet::program("clamor-operator")?, "operator", &[], servers)
        .env("CONFIG", config.to_string_lossy())
        .env("KUBECONFIG", kubeconfig.to_string_lossy())
        .env("WATCH_NAMESPACES", cluster.namespace())
        .env("POD_NAMESPACE", cluster.namespace())
        .env("POD_NAME", "operator")
        .env(fleet::ONE_HEAP.0, fleet::ONE_HEAP.1);
    WorkerProcess::start(options)
}

fn ingest(slot: &str, on_bus: &str, servers: &Servers, simulator: &SimulatorProcess) -> Result<WorkerProcess> {
    let spill = servers.folder().join(format!("spill-{slot}"));
    let options = WorkerOptions::ingest(&fleet::program("clamor-worker")?, slot, servers, simulator);
    WorkerProcess::start(
        options
            .env("PIPELINE", on_bus)
            .env("SPILL_DIR", spill.to_string_lossy())
            .env(fleet::ONE_HEAP.0, fleet::ONE_HEAP.1),
    )
}
