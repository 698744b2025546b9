//! Who asks an API server, and the kubeconfig that lets them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::certificate::Authority;

const TOKEN_SECONDS: i64 = 24 * 3600;
/// A request that a paused API server never answers fails the test with its own words.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// A person or a program with a client certificate.
    User {
        /// The name that roles are bound to.
        name: String,
        /// A group; `system:masters` may do everything.
        group: Option<String>,
    },
    /// A service account, which must be there, with a token as a pod has one.
    ServiceAccount {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

impl Identity {
    /// Who may do everything.
    #[must_use]
    pub fn admin() -> Self {
        Self::User { name: "admin".to_owned(), group: Some("system:masters".to_owned()) }
    }

    /// A user of no group, who may do what roles say.
    #[must_use]
    pub fn user(name: &str) -> Self {
        Self::User { name: name.to_owned(), group: None }
    }

    /// A service account.
    #[must_use]
    pub fn service_account(namespace: &str, name: &str) -> Self {
        Self::ServiceAccount { namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// The name that role bindings and the audit log know them by.
    #[must_use]
    pub fn username(&self) -> String {
        match self {
            Self::User { name, .. } => name.clone(),
            Self::ServiceAccount { namespace, name } => format!("system:serviceaccount:{namespace}:{name}"),
        }
    }

    fn file_name(&self) -> String {
        self.username().replace(|c: char| !c.is_ascii_alphanumeric(), "-")
    }
}

/// Where an API server is, and the folder that holds its authority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// The control plane's folder.
    pub dir: PathBuf,
    /// The API server's port on 127.0.0.1.
    pub port: u16,
}

impl Access {
    /// Where clients find it.
    #[must_use]
    pub fn server_url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// The folder of certificates.
    pub(super) fn pki(&self) -> PathBuf {
        self.dir.join("pki")
    }

    /// Writes a kubeconfig for a client certificate, with its certificate beside it.
    pub(super) fn certify(&self, dir: &Path, file: &str, user: &str, group: Option<&str>) -> Result<PathBuf> {
        Authority::open(&self.pki())?.sign_client(dir, file, user, group)?;
        let path = |kind: &str| dir.join(format!("{file}.{kind}"));
        let user = json!({ "client-certificate": path("crt"), "client-key": path("key") });
        write_kubeconfig(&path("kubeconfig"), &self.kubeconfig(&self.server_url(), "default", &user))
    }

    /// Writes a kubeconfig for this identity into the folder; `server` is the API server's address or that of what stands
    /// before it.
    pub(super) async fn kubeconfig_of(
        &self,
        identity: &Identity,
        admin: &Client,
        dir: &Path,
        (server, namespace): (&str, &str),
    ) -> Result<PathBuf> {
        let file = identity.file_name();
        let user = match identity {
            Identity::User { name, group } => {
                Authority::open(&self.pki())?.sign_client(dir, &file, name, group.as_deref())?;
                let path = |kind: &str| dir.join(format!("{file}.{kind}"));
                json!({ "client-certificate": path("crt"), "client-key": path("key") })
            }
            Identity::ServiceAccount { namespace, name } => {
                json!({ "token": token(admin, namespace, name).await? })
            }
        };
        let port = server.rsplit_once(':').map_or("", |(_, port)| port);
        let path = dir.join(format!("{file}-{port}.kubeconfig"));
        write_kubeconfig(&path, &self.kubeconfig(server, namespace, &user))
    }

    fn kubeconfig(&self, server: &str, namespace: &str, user: &Value) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{
                "name": "test",
                "cluster": { "server": server, "certificate-authority": self.pki().join("ca.crt") },
            }],
            "users": [{ "name": "test", "user": user }],
            "contexts": [{
                "name": "test",
                "context": { "cluster": "test", "user": "test", "namespace": namespace },
            }],
        })
    }
}

/// A client that asks as a kubeconfig says.
///
/// # Errors
/// When there is no such file, or it is none.
pub async fn client_from(kubeconfig: &Path) -> Result<Client> {
    let read = Kubeconfig::read_from(kubeconfig).context("failed to read a kubeconfig")?;
    let mut config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default())
        .await
        .context("failed to understand a kubeconfig")?;
    config.connect_timeout = Some(ANSWER_LIMIT);
    Client::try_from(config).context("failed to make a client of the API server")
}

async fn token(admin: &Client, namespace: &str, name: &str) -> Result<String> {
    let accounts: Api<ServiceAccount> = Api::namespaced(admin.clone(), namespace);
    let spec = TokenRequestSpec { expiration_seconds: Some(TOKEN_SECONDS), ..TokenRequestSpec::default() };
    let request = TokenRequest { spec, ..TokenRequest::default() };
    let answer = accounts.create_token_request(name, &PostParams::default(), &request).await;
    let answer = answer.with_context(|| format!("failed to get a token of service account {namespace}/{name}"))?;
    Ok(answer.status.context("a token request was answered without a token")?.token)
}

fn write_kubeconfig(path: &Path, content: &Value) -> Result<PathBuf> {
    // JSON is YAML.
    std::fs::write(path, format!("{content:#}\n")).with_context(|| format!("failed to write {}", path.display()))?;
    Ok(path.to_path_buf())
}
