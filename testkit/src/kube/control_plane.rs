//! The processes of one control plane, in a folder of its own.
//!
//! ```text
//! <dir>/pki/                      the authority and what it signed
//! <dir>/<user>.kubeconfig         admin, controller-manager, scheduler; for a node kubelet and kube-proxy
//! <dir>/audit.log
//! <dir>/etcd/                     all that is stored
//! <dir>/<program>.log
//! ```
//!
//! Nothing here is worth keeping, so nothing is stopped in order: what ends is killed, and etcd does not wait for the disk.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clamor_servers::{free_port, tools_dirs};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::{Api, Client};
use sha2::{Digest, Sha256};

use super::access::{Access, client_from};
use super::certificate::{self, Authority};
use super::{Cluster, audit, definitions};
use crate::process::{Process, ProcessSpec};

/// Where a node of this machine is: on a bridge that no packet leaves. Pods reach what runs on the machine here.
pub const NODE_ADDRESS: &str = "10.89.0.1";
/// Where Services are, and the first of them: the API server's own.
const SERVICE_NETWORK: &str = "10.96.0.0/16";
const SERVICE_ADDRESS: &str = "10.96.0.1";
/// 3 s on two idle cores.
const READY_LIMIT: Duration = Duration::from_secs(120);
/// A probe that hangs must not use up the limit.
const PROBE_LIMIT: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(50);
/// `tools/install.sh` builds the programs into a folder that is named after these sums.
const MODULE_SUMS: &[u8] = include_bytes!("../../../tools/kube/go.sum");

/// How to start a control plane.
#[derive(Debug, Clone)]
pub struct ControlPlaneOptions {
    /// Its folder; what it holds of an earlier control plane is removed.
    pub dir: PathBuf,
    /// The API server's port; a free one when absent.
    pub port: Option<u16>,
    /// Whether it serves a node of this machine: the API server then also listens where pods are, and a scheduler runs.
    pub has_node: bool,
    /// Whether Clamor's definitions are applied.
    pub has_definitions: bool,
    /// More arguments for the API server.
    pub api_server_args: Vec<String>,
}

impl ControlPlaneOptions {
    /// As tests want it: without a node, with the definitions.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), port: None, has_node: false, has_definitions: true, api_server_args: Vec::new() }
    }
}

/// A running control plane. Dropping it kills it.
pub struct ControlPlane {
    // Dropped in this order: an API server hangs without its etcd.
    scheduler: Option<Process>,
    controller_manager: Process,
    api_server: Process,
    etcd: Process,
    access: Access,
    admin: Client,
}

impl ControlPlane {
    /// Starts a control plane and waits until it is of use.
    ///
    /// # Errors
    /// When a program is missing or does not start; with the end of its log.
    pub async fn start(options: ControlPlaneOptions) -> Result<Self> {
        let programs = programs_dir()?;
        let (access, etcd_port) = prepare(&options)?;
        let start = |name: &str, args: Vec<String>| {
            let program = programs.join(name);
            let dir = access.dir.clone();
            Process::start(ProcessSpec { name: name.to_owned(), program, args, env: Vec::new(), dir })
        };
        let etcd = start("etcd", etcd_args(&access.dir, etcd_port)?)?;
        let api_server = start("kube-apiserver", api_server_args(&access, etcd_port, &options))?;
        let controller_manager = start("kube-controller-manager", controller_manager_args(&access.dir))?;
        let scheduler = options.has_node.then(|| start("kube-scheduler", scheduler_args(&access.dir))).transpose()?;
        let admin = client_from(&kubeconfig(&access.dir, "admin")).await?;
        let plane = Self { scheduler, controller_manager, api_server, etcd, access, admin };
        plane.ready().await?;
        tokio::try_join!(plane.controllers_work(), async {
            if options.has_definitions { definitions::install(&plane.admin).await } else { Ok(()) }
        })?;
        Ok(plane)
    }

    /// Where it is, for whoever gets its folder.
    #[must_use]
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// Who may do everything.
    #[must_use]
    pub fn admin(&self) -> Client {
        self.admin.clone()
    }

    /// The kubeconfig of who may do everything.
    #[must_use]
    pub fn admin_kubeconfig(&self) -> PathBuf {
        kubeconfig(&self.access.dir, "admin")
    }

    /// A namespace in it, as [`Cluster::shared`] gives one.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn cluster(&self) -> Result<Cluster> {
        Cluster::of(self.access.clone()).await
    }

    /// The API server, to be paused and killed.
    #[must_use]
    pub fn api_server(&self) -> &Process {
        &self.api_server
    }

    /// etcd, to be paused and killed.
    #[must_use]
    pub fn etcd(&self) -> &Process {
        &self.etcd
    }

    /// What makes ReplicaSets of Deployments and collects garbage, to be paused and killed.
    #[must_use]
    pub fn controller_manager(&self) -> &Process {
        &self.controller_manager
    }

    /// Starts a killed API server again, on its port, and waits until it answers.
    ///
    /// # Errors
    /// When it still runs, or does not become ready.
    pub async fn restart_api_server(&mut self) -> Result<()> {
        self.api_server.restart()?;
        self.ready().await
    }

    /// Resolves when one of its processes has ended; which, and what it said last.
    pub async fn ended(&self) -> String {
        loop {
            if let Some(process) = self.processes().find(|process| process.status().is_some()) {
                return process.log_tail();
            }
            tokio::time::sleep(PAUSE * 5).await;
        }
    }

    fn processes(&self) -> impl Iterator<Item = &Process> {
        [&self.etcd, &self.api_server, &self.controller_manager].into_iter().chain(&self.scheduler)
    }

    async fn ready(&self) -> Result<()> {
        self.until("the API server is not ready", async || is_ready(&self.admin).await).await
    }

    /// Its first sign of life in a new cluster.
    async fn controllers_work(&self) -> Result<()> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.admin.clone(), "default");
        let failure = "the controller manager made no default service account";
        self.until(failure, async || Ok(accounts.get("default").await.map(drop)?)).await
    }

    async fn until(&self, failure: &'static str, attempt: impl AsyncFn() -> Result<()>) -> Result<()> {
        let deadline = Instant::now() + READY_LIMIT;
        loop {
            let last = match tokio::time::timeout(PROBE_LIMIT, attempt()).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => error,
                Err(_) => anyhow::anyhow!("no answer within {PROBE_LIMIT:?}"),
            };
            if let Some(process) = self.processes().find(|process| process.status().is_some()) {
                bail!("{} has ended\n{}", process.name(), process.log_tail());
            }
            if Instant::now() >= deadline {
                return Err(last.context(format!("{failure} within {READY_LIMIT:?}\n{}", self.api_server.log_tail())));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Whether the API server says that it is ready.
pub(super) async fn is_ready(admin: &Client) -> Result<()> {
    let request = http::Request::get("/readyz").body(Vec::new()).context("failed to ask for readiness")?;
    admin.request_text(request).await.context("the API server is not ready")?;
    Ok(())
}

/// The folder of the programs that `tools/install.sh` built.
///
/// # Errors
/// When they are not there.
pub(super) fn programs_dir() -> Result<PathBuf> {
    let sum = Sha256::digest(MODULE_SUMS);
    let name: String = sum.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let places: Vec<PathBuf> = tools_dirs().iter().map(|tools| tools.join("kube").join(&name).join("bin")).collect();
    let found = places.iter().find(|place| place.join("kube-apiserver").is_file()).cloned();
    found.with_context(|| format!("Kubernetes was not found (looked in {places:?}); `make tools` builds it"))
}

/// The `kubectl` that `tools/install.sh` builds.
///
/// # Errors
/// When it is not there.
pub fn kubectl() -> Result<PathBuf> {
    Ok(programs_dir()?.join("kubectl"))
}

/// The `helm` that `tools/install.sh` builds.
///
/// # Errors
/// When it is not there.
pub fn helm() -> Result<PathBuf> {
    let places: Vec<PathBuf> = tools_dirs().iter().map(|tools| tools.join("bin").join("helm")).collect();
    let found = places.iter().find(|place| place.is_file()).cloned();
    found.with_context(|| format!("helm was not found (looked in {places:?}); `make tools` builds it"))
}

/// Makes the folder, with everything that is not said in arguments; and chooses the ports of the API server and of etcd.
fn prepare(options: &ControlPlaneOptions) -> Result<(Access, u16)> {
    let dir = &options.dir;
    if dir.exists() {
        std::fs::remove_dir_all(dir).with_context(|| format!("failed to remove {}", dir.display()))?;
    }
    private_dir(dir)?;
    let dir = std::fs::canonicalize(dir).with_context(|| format!("failed to find {}", dir.display()))?;
    let port = options.port.map_or_else(free_port, Ok)?;
    let access = Access { dir, port };
    let pki = access.pki();
    private_dir(&pki)?;
    let authority = Authority::create(&pki)?;
    let service_names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc"];
    let hosts = [&["localhost", "127.0.0.1", SERVICE_ADDRESS, NODE_ADDRESS], service_names.as_slice()].concat();
    authority.sign_server("apiserver", &hosts)?;
    authority.sign_client(&pki, "apiserver-kubelet", "apiserver-kubelet", Some("system:masters"))?;
    certificate::create_token_keys(&pki, "service-accounts")?;
    let controllers = "system:kube-controller-manager";
    access.certify(&access.dir, "admin", "admin", Some("system:masters"))?;
    access.certify(&access.dir, "controller-manager", controllers, None)?;
    if options.has_node {
        access.certify(&access.dir, "scheduler", "system:kube-scheduler", None)?;
        access.certify(&access.dir, "kubelet", "system:node:node", Some("system:nodes"))?;
        access.certify(&access.dir, "kube-proxy", "system:kube-proxy", None)?;
    }
    let policy = access.dir.join("audit-policy.yaml");
    std::fs::write(&policy, audit::policy().to_string()).context("failed to write the audit policy")?;
    let etcd_port = free_port()?;
    ensure!(etcd_port != port, "one port was drawn twice");
    Ok((access, etcd_port))
}

fn private_dir(dir: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.with_context(|| format!("failed to make {}", dir.display()))
}

fn kubeconfig(dir: &Path, user: &str) -> PathBuf {
    dir.join(format!("{user}.kubeconfig"))
}

fn etcd_args(dir: &Path, port: u16) -> Result<Vec<String>> {
    let (clients, peers) = (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{}", free_port()?));
    Ok(vec![
        format!("--data-dir={}", dir.join("etcd").display()),
        format!("--listen-client-urls={clients}"),
        format!("--advertise-client-urls={clients}"),
        format!("--listen-peer-urls={peers}"),
        format!("--initial-advertise-peer-urls={peers}"),
        format!("--initial-cluster=default={peers}"),
        "--unsafe-no-fsync".to_owned(),
        "--log-level=warn".to_owned(),
    ])
}

fn api_server_args(access: &Access, etcd_port: u16, options: &ControlPlaneOptions) -> Vec<String> {
    let (dir, pki) = (access.dir.display(), access.pki());
    let pki = pki.display();
    let listen = if options.has_node { "0.0.0.0" } else { "127.0.0.1" };
    let mut args = vec![
        format!("--etcd-servers=http://127.0.0.1:{etcd_port}"),
        format!("--bind-address={listen}"),
        format!("--secure-port={}", access.port),
        // The address behind the Service `kubernetes`, which may not be a loopback address; without a node nobody asks it.
        format!("--advertise-address={NODE_ADDRESS}"),
        format!("--service-cluster-ip-range={SERVICE_NETWORK}"),
        format!("--cert-dir={dir}/self-signed"),
        format!("--tls-cert-file={pki}/apiserver.crt"),
        format!("--tls-private-key-file={pki}/apiserver.key"),
        format!("--client-ca-file={pki}/ca.crt"),
        format!("--kubelet-client-certificate={pki}/apiserver-kubelet.crt"),
        format!("--kubelet-client-key={pki}/apiserver-kubelet.key"),
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--service-account-key-file={pki}/service-accounts.pub"),
        format!("--service-account-signing-key-file={pki}/service-accounts.key"),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--enable-admission-plugins=NodeRestriction,OwnerReferencesPermissionEnforcement".to_owned(),
        "--allow-privileged=true".to_owned(),
        "--profiling=false".to_owned(),
        format!("--audit-policy-file={dir}/audit-policy.yaml"),
        format!("--audit-log-path={dir}/audit.log"),
        // In mebibytes. Readers keep places in the file, so it is not moved aside.
        "--audit-log-maxsize=100000".to_owned(),
    ];
    args.extend(options.api_server_args.iter().cloned());
    args
}

fn controller_manager_args(dir: &Path) -> Vec<String> {
    let config = kubeconfig(dir, "controller-manager");
    let (config, dir) = (config.display(), dir.display());
    vec![
        format!("--kubeconfig={config}"),
        // It serves nothing: ports of its own would only meet those of another control plane.
        "--secure-port=0".to_owned(),
        "--leader-elect=false".to_owned(),
        "--use-service-account-credentials".to_owned(),
        format!("--service-account-private-key-file={dir}/pki/service-accounts.key"),
        format!("--root-ca-file={dir}/pki/ca.crt"),
        // Tests make and delete at once what people make over days: its 20 requests a second would be what they wait for.
        "--kube-api-qps=500".to_owned(),
        "--kube-api-burst=1000".to_owned(),
        // A node that is stopped is missed after seconds.
        "--node-monitor-period=1s".to_owned(),
        "--node-monitor-grace-period=10s".to_owned(),
        "--horizontal-pod-autoscaler-sync-period=2s".to_owned(),
    ]
}

fn scheduler_args(dir: &Path) -> Vec<String> {
    vec![
        format!("--kubeconfig={}", kubeconfig(dir, "scheduler").display()),
        "--secure-port=0".to_owned(),
        "--leader-elect=false".to_owned(),
    ]
}
