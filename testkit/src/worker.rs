//! The real `clamor-worker`, in any of its roles.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Deref;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::process::{Process, ProcessSpec};
use crate::{Scrape, Servers, SimulatorProcess, eventually};

const HTTP_LIMIT: Duration = Duration::from_secs(5);

/// How to start a worker.
#[derive(Debug, Clone)]
pub struct WorkerOptions {
    spec: ProcessSpec,
}

impl WorkerOptions {
    /// The binary, as the test knows it: `env!("CARGO_BIN_EXE_clamor-worker")`; a name for logs; the subcommand with its
    /// arguments. Its log lies in the servers' folder.
    #[must_use]
    pub fn new(program: &str, name: &str, args: &[&str], servers: &Servers) -> Self {
        Self {
            spec: ProcessSpec {
                name: name.to_owned(),
                program: PathBuf::from(program),
                args: args.iter().map(|&arg| arg.to_owned()).collect(),
                env: Vec::new(),
                dir: servers.folder().to_path_buf(),
            },
        }
    }

    /// An ingest worker of this slot: reads from the simulator without a limit on JOINs, publishes to the servers' NATS.
    #[must_use]
    pub fn ingest(program: &str, slot: &str, servers: &Servers, simulator: &SimulatorProcess) -> Self {
        Self::new(program, &format!("ingest-{slot}"), &["ingest", "--worker", slot], servers)
            .env("NATS_URL", servers.nats_url())
            .env("TWITCH_ADDRESS", simulator.irc_address())
            .env("TWITCH_TLS", "false")
            .env("JOIN_RATE", "0")
    }

    /// An aggregator between the servers.
    #[must_use]
    pub fn aggregate(program: &str, name: &str, servers: &Servers) -> Self {
        Self::new(program, &format!("aggregate-{name}"), &["aggregate"], servers)
            .env("NATS_URL", servers.nats_url())
            .env("DATABASE_URL", servers.database_url())
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.spec.args.push(arg.into());
        self
    }

    /// One more variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.spec.env.push((name.to_owned(), value.into()));
        self
    }
}

/// A running worker; what any process can be told, it can be told too.
#[derive(Debug)]
pub struct WorkerProcess {
    process: Process,
    http: SocketAddr,
    client: reqwest::Client,
}

impl WorkerProcess {
    /// Starts the worker with a free port for its HTTP surface, and does not wait for it.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn start(options: WorkerOptions) -> Result<Self> {
        let http = SocketAddr::from((Ipv4Addr::LOCALHOST, clamor_servers::free_port()?));
        let WorkerOptions { spec } = options.env("HTTP_LISTEN", http.to_string());
        let client = reqwest::Client::builder().timeout(HTTP_LIMIT).build().context("failed to make an HTTP client")?;
        Ok(Self { process: Process::start(spec)?, http, client })
    }

    /// Starts the worker once more, as a new instance on the same port, after it has ended or been killed.
    ///
    /// # Errors
    /// When it still runs, or cannot be run.
    pub fn restart(&mut self) -> Result<()> {
        self.process.restart()
    }

    /// Where its HTTP surface is.
    #[must_use]
    pub fn http_url(&self) -> String {
        format!("http://{}", self.http)
    }

    /// What a path of its HTTP surface answers: status and text.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn get(&self, path: &str) -> Result<(u16, String)> {
        let response = self.client.get(format!("{}{path}", self.http_url())).send().await?;
        let status = response.status().as_u16();
        Ok((status, response.text().await?))
    }

    /// What `/metrics` says now.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn metrics(&self) -> Result<Scrape> {
        let (_, text) = self.get("/metrics").await?;
        Ok(Scrape::parse(&text))
    }

    /// Awaits `/readyz`.
    ///
    /// # Panics
    /// When it is not ready within the limit, or has ended.
    pub async fn ready(&self, limit: Duration) {
        eventually(&format!("{} is ready", self.name()), limit, async || {
            assert!(self.status().is_none(), "{} has ended: {:?}", self.name(), self.status());
            match self.get("/readyz").await {
                Ok((200, _)) => Ok(()),
                Ok((status, text)) => Err(format!("{status}: {text}")),
                Err(error) => Err(format!("{error:#}")),
            }
        })
        .await;
    }
}

impl Deref for WorkerProcess {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}
