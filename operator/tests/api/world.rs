//! A namespace with an operator for it alone, its bus and its Twitch.

use clamor_testkit::kube::{Cluster, Identity};
use clamor_testkit::{Needs, Servers, SimulatorOptions, SimulatorProcess, WorkerOptions, WorkerProcess, eventually};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Event;
use kube::Api;
use serde_json::Value;
use std::path::PathBuf;
use std::time::Duration;

/// Others build and test on the machine, too.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
const CHANNELS: u64 = 20;

pub(crate) struct World {
    pub(crate) operator: WorkerProcess,
    pub(crate) simulator: SimulatorProcess,
    pub(crate) servers: Servers,
    pub(crate) cluster: Cluster,
}

impl World {
    /// An operator that leads, in a namespace without objects.
    pub(crate) async fn start() -> Self {
        let servers = Servers::start_with(Needs::Nats, |_, _| {}).await.unwrap();
        let options = SimulatorOptions::new(servers.folder()).program(program("clamor-simulator"));
        let simulator = SimulatorProcess::start(options.flag("--channels", &CHANNELS)).await.unwrap();
        let cluster = Cluster::shared().await.unwrap();
        let operator = operator(&cluster, &servers, "operator").await;
        operator.ready(LIMIT).await;
        Self { operator, simulator, servers, cluster }
    }

    /// The same with a ChatPipeline `main` of two shards.
    pub(crate) async fn with_pipeline() -> Self {
        let world = Self::start().await;
        world.apply(PIPELINE).await;
        world.deployment("main-ingest-0").await;
        world
    }

    pub(crate) async fn apply(&self, manifests: &str) {
        self.cluster.apply(manifests).await.unwrap();
    }

    /// Runs kubectl, which must succeed.
    pub(crate) async fn kubectl(&self, args: &[&str]) -> String {
        let output = self.cluster.kubectl(args, "").await.unwrap();
        assert!(output.success, "kubectl {args:?}: {}", output.stderr);
        output.stdout
    }

    pub(crate) async fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.kubectl(&[args, &["-o", "json"]].concat()).await).unwrap()
    }

    /// Waits as a user would.
    pub(crate) async fn wait(&self, object: &str, condition: &str) {
        let (condition, limit) = (format!("--for=condition={condition}"), format!("--timeout={}s", LIMIT.as_secs()));
        let output = self.cluster.kubectl(&["wait", object, &condition, &limit], "").await.unwrap();
        let now = self.kubectl(&["get", object, "-o", "yaml"]).await;
        assert!(output.success, "{}: {now}\n{}", output.stderr, self.operator.log_tail());
    }

    /// Awaits that `Ready` of an object has this status and reason.
    pub(crate) async fn ready(&self, object: &str, status: &str, reason: &str) {
        eventually(&format!("{object} is Ready={status}/{reason}"), LIMIT, async || {
            let found = self.json(&["get", object]).await;
            let conditions = found["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let ready = conditions.iter().find(|condition| condition["type"] == "Ready").cloned().unwrap_or_default();
            if ready["status"] == status && ready["reason"] == reason { Ok(()) } else { Err(ready.to_string()) }
        })
        .await;
    }

    /// Awaits a Deployment.
    pub(crate) async fn deployment(&self, name: &str) -> Deployment {
        let api = self.deployments();
        eventually(&format!("Deployment {name} is there"), LIMIT, async || {
            api.get_opt(name).await.map_err(|error| error.to_string())?.ok_or_else(|| self.operator.log_tail())
        })
        .await
    }

    /// Awaits that these are all Deployments of the namespace.
    pub(crate) async fn only_deployments(&self, names: &[&str]) {
        let api = self.deployments();
        eventually(&format!("the Deployments are {names:?}"), LIMIT, async || {
            let mut found: Vec<String> = api
                .list(&Default::default())
                .await
                .map_err(|e| e.to_string())?
                .iter()
                .map(kube::ResourceExt::name_any)
                .collect();
            found.sort();
            if found == names { Ok(()) } else { Err(format!("{found:?}")) }
        })
        .await;
    }

    pub(crate) fn deployments(&self) -> Api<Deployment> {
        Api::namespaced(self.cluster.admin(), self.cluster.namespace())
    }

    /// Awaits an event with this reason about an object of this name.
    pub(crate) async fn event(&self, name: &str, reason: &str) -> Event {
        let api: Api<Event> = Api::namespaced(self.cluster.admin(), self.cluster.namespace());
        eventually(&format!("an event {reason} about {name}"), LIMIT, async || {
            let events = api.list(&Default::default()).await.map_err(|error| error.to_string())?;
            let is_it = |event: &&Event| {
                event.involved_object.name.as_deref() == Some(name) && event.reason.as_deref() == Some(reason)
            };
            events.iter().find(is_it).cloned().ok_or_else(|| format!("{} others", events.items.len()))
        })
        .await
    }

    /// What the pipeline `main` is called on the bus.
    pub(crate) fn on_bus(&self) -> String {
        format!("test_{}_main", self.cluster.namespace())
    }

    /// A worker in a slot of the pipeline `main`.
    pub(crate) fn ingest(&self, slot: &str) -> WorkerProcess {
        let options =
            WorkerOptions::ingest(program("clamor-worker").to_str().unwrap(), slot, &self.servers, &self.simulator);
        WorkerProcess::start(options.env("PIPELINE", self.on_bus())).unwrap()
    }

    /// The logins that somebody has joined.
    pub(crate) async fn joined(&self) -> Vec<String> {
        let ledger: Value = self.simulator.ledger().await.unwrap();
        let channels = ledger["channels"].as_array().unwrap().iter();
        let joined = channels.filter(|channel| channel["listeners"].as_u64() > Some(0));
        let mut joined: Vec<String> = joined.map(|channel| channel["login"].as_str().unwrap().to_owned()).collect();
        joined.sort();
        joined
    }

    /// Awaits that these are the joined logins.
    pub(crate) async fn are_joined(&self, logins: &[&str]) {
        eventually(&format!("{logins:?} are joined"), LIMIT, async || {
            let joined = self.joined().await;
            if joined == logins { Ok(()) } else { Err(format!("{joined:?}\n{}", self.operator.log_tail())) }
        })
        .await;
    }
}

/// A pipeline on the test's bus.
pub(crate) const PIPELINE: &str = "\
apiVersion: clamor.dev/v1alpha1
kind: ChatPipeline
metadata: {name: main}
spec:
  shards: 2
  store: {secretRef: {name: clamor-store}}
  ingest: {workers: 1}
";

/// A TrackedChannel of this login and name, with what else its spec says.
pub(crate) fn channel(name: &str, login: &str, more: &str) -> String {
    format!(
        "apiVersion: clamor.dev/v1alpha1\nkind: TrackedChannel\nmetadata: {{name: {name}}}\nspec: {{channel: {login}{more}}}\n---\n"
    )
}

/// An operator for the namespace of the test.
pub(crate) async fn operator(cluster: &Cluster, servers: &Servers, name: &str) -> WorkerProcess {
    start_as(cluster, servers, name, &Identity::admin()).await
}

/// The same as this user.
pub(crate) async fn start_as(cluster: &Cluster, servers: &Servers, name: &str, identity: &Identity) -> WorkerProcess {
    let config = servers.folder().join("operator.yaml");
    let text = format!(
        "clusterName: test\nworkers: {{image: 'localhost/clamor:test'}}\nbuses: {{default: {{url: '{}'}}}}\n",
        servers.nats_url()
    );
    std::fs::write(&config, text).unwrap();
    let kubeconfig = cluster.kubeconfig_of(identity).await.unwrap();
    let options = WorkerOptions::new(env!("CARGO_BIN_EXE_clamor-operator"), name, &[], servers)
        .env("CONFIG", config.to_str().unwrap())
        .env("KUBECONFIG", kubeconfig.to_str().unwrap())
        .env("WATCH_NAMESPACES", cluster.namespace())
        .env("POD_NAMESPACE", cluster.namespace())
        .env("POD_NAME", name)
        .env("LOG", "info,clamor_operator=debug,clamor_planner=debug");
    WorkerProcess::start(options).unwrap()
}

/// A program of the workspace, beside the operator's.
fn program(name: &str) -> PathBuf {
    clamor_testkit::program_beside_tests(name).unwrap()
}
