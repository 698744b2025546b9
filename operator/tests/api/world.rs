//! A namespace with an operator for it alone, its bus and its Twitch.
//!
//! The operator asks as the service account of the chart, under the very Role that ships: whatever test it is, a request
//! that is refused for want of a right fails it.

use crate::helm::template;
use clamor_bus::{Bus, BusConfig};
use clamor_operator::plan::names::{MANAGED_BY, PIPELINE_LABEL, SLOT_LABEL};
use clamor_testkit::kube::{AuditEntry, AuditMark, Cluster, ControlPlane, FaultyWay, Identity};
use clamor_testkit::{
    NatsAuth, Needs, Servers, SimulatorOptions, SimulatorProcess, WorkerOptions, WorkerProcess, eventually,
};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Event;
use kube::Api;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Others build and test on the machine, too.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
const CHANNELS: u64 = 40;
/// In the servers' folder, where NATS asks for a login.
const OPERATOR_PASSWORD: &str = "operator-password";

pub(crate) struct World {
    pub(crate) operator: WorkerProcess,
    pub(crate) simulator: SimulatorProcess,
    pub(crate) servers: Servers,
    pub(crate) cluster: Cluster,
    began: AuditMark,
}

impl World {
    /// An operator that leads, in a namespace without objects.
    pub(crate) async fn start() -> Self {
        Self::start_on(async |cluster| cluster.kubeconfig_of(&account(cluster)).await.unwrap()).await
    }

    /// The same, with faults on the operator's way to the API server once they are set; chosen by this seed.
    pub(crate) async fn start_faulty(seed: u64) -> (Self, FaultyWay) {
        let mut way = None;
        let world = Self::start_on(async |cluster| {
            let started = way.insert(FaultyWay::start(cluster, &account(cluster), seed).await.unwrap());
            started.kubeconfig().to_path_buf()
        })
        .await;
        (world, way.unwrap())
    }

    /// The same on a NATS that lets in only whom the block for this pipeline does, among them `operator` with this
    /// password; and with a database.
    pub(crate) async fn start_with_logins(password: &str, block: impl FnOnce(&str) -> String) -> Self {
        let cluster = Cluster::shared().await.unwrap();
        let block = block(&on_bus(&cluster));
        let servers = Servers::start_with(Needs::Both, |nats, _| nats.auth = NatsAuth::Block(block)).await.unwrap();
        std::fs::write(servers.folder().join(OPERATOR_PASSWORD), password).unwrap();
        Self::start_in(cluster, servers, async |cluster| cluster.kubeconfig_of(&account(cluster)).await.unwrap()).await
    }

    /// The same with a database.
    pub(crate) async fn start_with_store() -> Self {
        let servers = Servers::start_with(Needs::Both, |_, _| {}).await.unwrap();
        let cluster = Cluster::shared().await.unwrap();
        Self::start_in(cluster, servers, async |cluster| cluster.kubeconfig_of(&account(cluster)).await.unwrap()).await
    }

    /// The same in a control plane of the test's own.
    pub(crate) async fn start_at(plane: &ControlPlane) -> Self {
        let world = Self::begin_at(plane).await;
        world.operator.ready(LIMIT).await;
        world
    }

    /// The same, where the operator may have to wait for something.
    pub(crate) async fn begin_at(plane: &ControlPlane) -> Self {
        let servers = Servers::start_with(Needs::Nats, |_, _| {}).await.unwrap();
        let cluster = plane.cluster().await.unwrap();
        Self::begin_in(cluster, servers, async |cluster| cluster.kubeconfig_of(&account(cluster)).await.unwrap()).await
    }

    async fn start_on(kubeconfig: impl AsyncFnOnce(&Cluster) -> PathBuf) -> Self {
        let servers = Servers::start_with(Needs::Nats, |_, _| {}).await.unwrap();
        Self::start_in(Cluster::shared().await.unwrap(), servers, kubeconfig).await
    }

    async fn start_in(cluster: Cluster, servers: Servers, kubeconfig: impl AsyncFnOnce(&Cluster) -> PathBuf) -> Self {
        let world = Self::begin_in(cluster, servers, kubeconfig).await;
        world.operator.ready(LIMIT).await;
        world
    }

    async fn begin_in(cluster: Cluster, servers: Servers, kubeconfig: impl AsyncFnOnce(&Cluster) -> PathBuf) -> Self {
        let options = SimulatorOptions::new(servers.folder()).program(program("clamor-simulator"));
        let simulator = SimulatorProcess::start(options.flag("--channels", &CHANNELS)).await.unwrap();
        cluster.apply(&rights(cluster.namespace())).await.unwrap();
        let began = cluster.audit_mark().await.unwrap();
        let kubeconfig = kubeconfig(&cluster).await;
        let operator = start_with(&cluster, &servers, "operator", &kubeconfig);
        Self { operator, simulator, servers, cluster, began }
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

    /// Awaits that an object of this name is not ready for this reason, and an event that warns of it; gives its words.
    pub(crate) async fn warned(&self, object: &str, reason: &str) -> String {
        self.ready(object, "False", reason).await;
        let name = object.split_once('/').map_or(object, |(_, name)| name);
        let event = self.event(name, reason).await;
        assert_eq!(event.type_.as_deref(), Some("Warning"), "{object}: {reason}");
        event.message.unwrap()
    }

    /// What the pipeline `main` is called on the bus.
    pub(crate) fn on_bus(&self) -> String {
        on_bus(&self.cluster)
    }

    /// The bus, as the pipeline `main` has it.
    pub(crate) async fn bus(&self) -> Bus {
        Bus::connect(&BusConfig::open(self.servers.nats_url(), &self.on_bus(), "test")).await.unwrap()
    }

    /// A worker in a slot of the pipeline `main`.
    pub(crate) fn ingest(&self, slot: &str) -> WorkerProcess {
        WorkerProcess::start(self.ingest_options(slot)).unwrap()
    }

    pub(crate) fn ingest_options(&self, slot: &str) -> WorkerOptions {
        let program = program("clamor-worker");
        let options = WorkerOptions::ingest(program.to_str().unwrap(), slot, &self.servers, &self.simulator);
        options.env("PIPELINE", self.on_bus())
    }

    /// Tells the operator that a pod runs in a slot of the pipeline `main`, as the kubelet of its node would.
    pub(crate) async fn runs(&self, slot: &str) {
        self.pod(slot, &json!({"ready": true, "state": {"running": {}}})).await;
    }

    /// Tells the operator how the container of a slot's pod stands, as the kubelet of its node would.
    pub(crate) async fn pod(&self, slot: &str, container: &Value) {
        let pod = format!(
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {slot}\n  labels: {{{}: {}, {PIPELINE_LABEL}: main, {SLOT_LABEL}: {slot}}}\n\
             spec: {{automountServiceAccountToken: false, containers: [{{name: ingest, image: 'localhost/clamor:test'}}]}}\n",
            MANAGED_BY.0, MANAGED_BY.1
        );
        self.apply(&pod).await;
        let mut status = json!({"name": "ingest", "image": "i", "imageID": "i", "restartCount": 0});
        status.as_object_mut().unwrap().extend(container.as_object().unwrap().clone());
        let status = json!({"status": {"phase": "Running", "containerStatuses": [status]}}).to_string();
        self.kubectl(&["patch", "pod", slot, "--subresource=status", "--type=merge", "-p", &status]).await;
    }

    /// An aggregator of the pipeline `main`.
    pub(crate) fn aggregate_options(&self) -> WorkerOptions {
        let program = program("clamor-worker");
        WorkerOptions::aggregate(program.to_str().unwrap(), "0", &self.servers).env("PIPELINE", self.on_bus())
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

impl World {
    /// Awaits so many more turns of the operator, which come every ten seconds when nothing happens.
    async fn turns(&self, more: f64) {
        let turns = async || self.operator.metrics().await.map_err(|error| format!("{error:#}"));
        let count = |scrape: clamor_testkit::Scrape| scrape.count("controller_runtime_reconcile_total", &[]);
        let before = eventually("it shows its turns", LIMIT, turns).await;
        let wanted = count(before) + more;
        eventually("some turns", LIMIT, async || {
            let now = count(turns().await?);
            if now >= wanted { Ok(()) } else { Err(format!("{now} of {wanted}")) }
        })
        .await;
    }

    /// Nothing is written any more but the Lease, for several looks at everything.
    pub(crate) async fn is_at_rest(&self) {
        // What it has to find out first is behind then.
        self.turns(2.0).await;
        let mark = self.cluster.audit_mark().await.unwrap();
        self.turns(3.0).await;
        let entries = self.cluster.audit_since(mark, &account(&self.cluster).username()).await.unwrap();
        let writes: Vec<_> = entries.iter().filter(|entry| entry.is_write() && entry.resource != "leases").collect();
        assert!(writes.is_empty(), "{writes:#?}");
        assert!(entries.iter().any(AuditEntry::is_write), "the Lease is renewed");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let entries = self.cluster.audit_so_far(self.began, &account(&self.cluster).username()).unwrap();
            assert!(!entries.is_empty(), "the operator asks as the service account");
            let refused: Vec<_> = entries.iter().filter(|entry| entry.code == 403).collect();
            assert!(refused.is_empty(), "{refused:#?}");
        }
    }
}

/// What the pipeline `main` is called on the bus.
fn on_bus(cluster: &Cluster) -> String {
    format!("test_{}_main", cluster.namespace())
}

/// Who the operator is.
fn account(cluster: &Cluster) -> Identity {
    Identity::service_account(cluster.namespace(), "clamor-operator")
}

/// The operator's service account and what it may do, as the chart has it for a namespace.
fn rights(namespace: &str) -> String {
    let watched = format!("watchNamespaces={{{namespace}}}");
    let shown = |file: &str| format!("templates/operator/{file}.yaml");
    let (account, rights) = (shown("service-account"), shown("rbac"));
    template(namespace, &["--set", &watched, "--show-only", &account, "--show-only", &rights]).unwrap()
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

/// One more operator for the namespace of the test.
pub(crate) async fn operator(cluster: &Cluster, servers: &Servers, name: &str) -> WorkerProcess {
    let kubeconfig = cluster.kubeconfig_of(&account(cluster)).await.unwrap();
    start_with(cluster, servers, name, &kubeconfig)
}

/// What the chart runs before an uninstall.
pub(crate) async fn retire(cluster: &Cluster, servers: &Servers) -> WorkerOptions {
    let kubeconfig = cluster.kubeconfig_of(&account(cluster)).await.unwrap();
    options(cluster, servers, "retire", &kubeconfig).env("RETIRE", "true")
}

fn start_with(cluster: &Cluster, servers: &Servers, name: &str, kubeconfig: &Path) -> WorkerProcess {
    WorkerProcess::start(options(cluster, servers, name, kubeconfig)).unwrap()
}

fn options(cluster: &Cluster, servers: &Servers, name: &str, kubeconfig: &Path) -> WorkerOptions {
    let config = servers.folder().join("operator.yaml");
    let password = servers.folder().join(OPERATOR_PASSWORD);
    let login = if password.exists() {
        format!(", user: operator, passwordFile: '{}'", password.display())
    } else {
        String::new()
    };
    let text = format!(
        "clusterName: test\nworkers: {{image: 'localhost/clamor:test'}}\nbuses: {{default: {{url: '{}'{login}}}}}\n",
        servers.nats_url()
    );
    std::fs::write(&config, text).unwrap();
    WorkerOptions::new(env!("CARGO_BIN_EXE_clamor-operator"), name, &[], servers)
        .env("CONFIG", config.to_str().unwrap())
        .env("KUBECONFIG", kubeconfig.to_str().unwrap())
        .env("WATCH_NAMESPACES", cluster.namespace())
        .env("POD_NAMESPACE", cluster.namespace())
        .env("POD_NAME", name)
        .env("LOG", "info,clamor_operator=debug,clamor_planner=debug")
}

/// A program of the workspace, beside the operator's.
fn program(name: &str) -> PathBuf {
    clamor_testkit::program_beside_tests(name).unwrap()
}
