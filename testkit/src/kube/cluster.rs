//! What one test has of a control plane: a namespace of its own, clients, and the audit log.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Namespace;
use kube::Client;
use kube::api::{Api, DeleteParams, ObjectMeta, PostParams};
use rand::RngExt;
use tokio::io::AsyncWriteExt;

use super::access::{Access, Identity, client_from};
use super::audit::{self, AuditEntry, AuditMark};
use crate::{TestFolder, eventually};

/// How long the end of a test may take for what it leaves to others.
const GOODBYE_LIMIT: Duration = Duration::from_secs(3);
const AUDIT_LIMIT: Duration = Duration::from_secs(30);

/// A test's place in a cluster. Dropping it deletes its namespace and does not wait for that.
pub struct Cluster {
    access: Access,
    admin: Client,
    namespace: String,
    /// Whether others go on using the control plane: then the namespace must go.
    is_shared: bool,
    folder: TestFolder,
    /// Tells the supervisor of a shared control plane that it is in use.
    using: Option<File>,
}

/// How `kubectl` ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubectlOutput {
    /// Whether it succeeded.
    pub success: bool,
    /// What it printed.
    pub stdout: String,
    /// What it said was wrong.
    pub stderr: String,
}

impl Cluster {
    /// A namespace in the control plane that the tests of this checkout share; whoever comes first starts it.
    ///
    /// # Errors
    /// When there is none and none starts.
    pub async fn shared() -> Result<Self> {
        super::shared::Place::of_this_checkout()?.join().await
    }

    /// A namespace in a control plane of the test's own.
    pub(super) async fn of(access: Access) -> Result<Self> {
        Self::join(access, None).await
    }

    pub(super) async fn join(access: Access, using: Option<File>) -> Result<Self> {
        let admin = client_from(&access.dir.join("admin.kubeconfig")).await?;
        let namespace = make_namespace(&admin).await?;
        let is_shared = using.is_some();
        Ok(Self { access, admin, namespace, is_shared, folder: TestFolder::new()?, using })
    }

    /// Who may do everything.
    #[must_use]
    pub fn admin(&self) -> Client {
        self.admin.clone()
    }

    /// The test's namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The API server's address.
    #[must_use]
    pub fn server_url(&self) -> String {
        self.access.server_url()
    }

    /// The API server's port on 127.0.0.1: for a [`Proxy`](crate::Proxy) before it.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.access.port
    }

    /// The certificate of the authority that the API server's was signed by.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.access.pki().join("ca.crt")
    }

    /// A folder that goes with the test.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A kubeconfig for this identity, in the test's folder; its namespace is the test's.
    ///
    /// # Errors
    /// When it is a service account that is not there.
    pub async fn kubeconfig_of(&self, identity: &Identity) -> Result<PathBuf> {
        self.kubeconfig_through(identity, &self.server_url()).await
    }

    /// The same through what stands before the API server, at this address. The API server's certificate is good for every
    /// port of 127.0.0.1.
    ///
    /// # Errors
    /// When it is a service account that is not there.
    pub async fn kubeconfig_through(&self, identity: &Identity, server_url: &str) -> Result<PathBuf> {
        let place = (server_url, self.namespace());
        self.access.kubeconfig_of(identity, &self.admin, self.folder(), place).await
    }

    /// A client that asks as this identity.
    ///
    /// # Errors
    /// When it is a service account that is not there.
    pub async fn client_of(&self, identity: &Identity) -> Result<Client> {
        client_from(&self.kubeconfig_of(identity).await?).await
    }

    /// Runs the real `kubectl` as who may do everything, in the test's namespace, with this text as its input.
    ///
    /// # Errors
    /// When it cannot be run; that it failed is no error.
    pub async fn kubectl(&self, args: &[&str], input: &str) -> Result<KubectlOutput> {
        let mut command = tokio::process::Command::new(super::kubectl()?);
        let config = self.access.dir.join("admin.kubeconfig");
        command.arg("--kubeconfig").arg(config).args(["--namespace", self.namespace()]).args(args);
        // What it has found out about the server, for its next run.
        command.env("KUBECACHEDIR", self.folder().join("kubectl"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().context("failed to run kubectl")?;
        let mut stdin = child.stdin.take().context("kubectl has no input")?;
        // It may have ended without reading: then its output says why.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        let output = child.wait_with_output().await.context("failed to await kubectl")?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(KubectlOutput {
            success: output.status.success(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        })
    }

    /// Applies these manifests with `kubectl apply`, in the test's namespace.
    ///
    /// # Errors
    /// When one is refused; with kubectl's words.
    pub async fn apply(&self, manifests: &str) -> Result<()> {
        let output = self.kubectl(&["apply", "-f", "-"], manifests).await?;
        ensure!(output.success, "kubectl apply: {}", output.stderr);
        Ok(())
    }

    /// This moment in the audit log.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn audit_mark(&self) -> Result<AuditMark> {
        self.audit_is_written().await?;
        audit::mark(&self.audit_log())
    }

    /// What a user was answered since then, in the order of the answers.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn audit_since(&self, mark: AuditMark, username: &str) -> Result<Vec<AuditEntry>> {
        self.audit_is_written().await?;
        audit::since(&self.audit_log(), mark, |entry| entry.username == username)
    }

    /// The same at once: what was answered last may be missing.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn audit_so_far(&self, mark: AuditMark, username: &str) -> Result<Vec<AuditEntry>> {
        audit::since(&self.audit_log(), mark, |entry| entry.username == username)
    }

    fn audit_log(&self) -> PathBuf {
        self.access.dir.join("audit.log")
    }

    /// An answer may arrive before it is in the log. So a request of ours is made, and awaited there.
    async fn audit_is_written(&self) -> Result<()> {
        let log = self.audit_log();
        let before = audit::mark(&log)?;
        let uri = format!("/version?audit={:016x}", rand::rng().random::<u64>());
        let request = http::Request::get(&uri).body(Vec::new()).context("failed to ask for the version")?;
        self.admin.request_text(request).await.context("failed to ask for the version")?;
        eventually("an answer is in the audit log", AUDIT_LIMIT, async || {
            let found = audit::since(&log, before, |entry| entry.uri == uri).map_err(|error| format!("{error:#}"))?;
            if found.is_empty() { Err("nothing".to_owned()) } else { Ok(()) }
        })
        .await;
        Ok(())
    }

    /// A second namespace, which goes with the test as well.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn another(&self) -> Result<Self> {
        let using = self.using.as_ref().map(File::try_clone).transpose().context("failed to share a lock")?;
        Self::join(self.access.clone(), using).await
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.is_shared {
            let (kubeconfig, name) = (self.access.dir.join("admin.kubeconfig"), self.namespace.clone());
            // A thread of its own: the test's runtime may be about to end.
            let deletion = std::thread::spawn(move || delete_namespace(&kubeconfig, &name));
            let _ = deletion.join();
        }
    }
}

async fn make_namespace(admin: &Client) -> Result<String> {
    let name = format!("test-{:016x}", rand::rng().random::<u64>());
    let metadata = ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() };
    let namespace = Namespace { metadata, ..Namespace::default() };
    let api: Api<Namespace> = Api::all(admin.clone());
    api.create(&PostParams::default(), &namespace).await.context("failed to make the test's namespace")?;
    Ok(name)
}

/// Asks for the deletion. Where that fails the namespace goes with its cluster, a little later.
fn delete_namespace(kubeconfig: &Path, name: &str) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    let deletion = async {
        let api: Api<Namespace> = Api::all(client_from(kubeconfig).await?);
        api.delete(name, &DeleteParams::background()).await?;
        anyhow::Ok(())
    };
    let _ = runtime.block_on(async { tokio::time::timeout(GOODBYE_LIMIT, deletion).await });
}
