//! The simulator as a process of its own, told what to do over its control interface.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::eventually;
use crate::process::{Process, ProcessSpec, program_beside_tests};

const READY_LIMIT: Duration = Duration::from_secs(30);
/// A ledger of a minute at full speed is some tens of megabytes, and who waits for chat to end waits for minutes.
const HTTP_LIMIT: Duration = Duration::from_secs(180);

/// How to start a simulator.
#[derive(Debug, Clone)]
pub struct SimulatorOptions {
    dir: PathBuf,
    program: Option<PathBuf>,
    args: Vec<String>,
}

impl SimulatorOptions {
    /// A simulator with its own defaults, whose log lies in this folder.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_path_buf(), program: None, args: Vec::new() }
    }

    /// A binary other than the one beside the test.
    #[must_use]
    pub fn program(mut self, program: impl Into<PathBuf>) -> Self {
        self.program = Some(program.into());
        self
    }

    /// A flag with its value, such as `("--channels", &200)`.
    #[must_use]
    pub fn flag(mut self, name: &str, value: &(impl ToString + ?Sized)) -> Self {
        self.args.extend([name.to_owned(), value.to_string()]);
        self
    }

    /// A flag without a value.
    #[must_use]
    pub fn switch(mut self, name: &str) -> Self {
        self.args.push(name.to_owned());
        self
    }
}

/// A simulator that runs somewhere, by its control interface.
#[derive(Debug)]
pub struct Simulator {
    http_url: String,
    client: reqwest::Client,
}

/// A simulator of the test's own; what any simulator can be told, it can be told too.
#[derive(Debug)]
pub struct SimulatorProcess {
    process: Process,
    irc: SocketAddr,
    control: Simulator,
}

impl SimulatorProcess {
    /// Starts the simulator on free ports and awaits its answer.
    ///
    /// # Errors
    /// When it is not built or cannot be run.
    ///
    /// # Panics
    /// When it does not answer in time.
    pub async fn start(options: SimulatorOptions) -> Result<Self> {
        let free = || clamor_servers::free_port().map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let (irc, http) = (free()?, free()?);
        let program = options.program.map_or_else(|| program_beside_tests("clamor-simulator"), Ok)?;
        let mut args = vec!["--listen".to_owned(), irc.to_string(), "--http-listen".to_owned(), http.to_string()];
        args.extend(options.args);
        let spec = ProcessSpec { name: "simulator".to_owned(), program, args, env: Vec::new(), dir: options.dir };
        let control = Simulator::at(format!("http://{http}"))?;
        let simulator = Self { process: Process::start(spec)?, irc, control };
        simulator.ready().await;
        Ok(simulator)
    }

    /// Host and port of its plain IRC.
    #[must_use]
    pub fn irc_address(&self) -> String {
        self.irc.to_string()
    }

    /// Its process.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    async fn ready(&self) {
        eventually("the simulator answers", READY_LIMIT, async || {
            let status = self.process.status();
            assert!(status.is_none(), "the simulator has ended: {status:?}");
            let answer = self.client.get(format!("{}/healthz", self.http_url)).send().await?;
            answer.error_for_status().map(drop)
        })
        .await;
    }
}

impl Simulator {
    /// The one whose control interface is there.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn at(http_url: impl Into<String>) -> Result<Self> {
        let client = reqwest::Client::builder().timeout(HTTP_LIMIT).build().context("failed to make an HTTP client")?;
        Ok(Self { http_url: http_url.into(), client })
    }

    /// Where its control interface is.
    #[must_use]
    pub fn http_url(&self) -> String {
        self.http_url.clone()
    }

    /// All that it said, as `clamor_simulator::Ledger` or any part of it.
    ///
    /// # Errors
    /// When it does not answer, or answers otherwise.
    pub async fn ledger<T: DeserializeOwned>(&self) -> Result<T> {
        self.get("/ledger").await
    }

    /// Its connections.
    ///
    /// # Errors
    /// When it does not answer, or answers otherwise.
    pub async fn connections<T: DeserializeOwned>(&self) -> Result<T> {
        self.get("/connections").await
    }

    /// Speaks at this rate from now on.
    ///
    /// # Errors
    /// When it refuses.
    pub async fn speak(&self, messages_per_second: f64) -> Result<Value> {
        self.post("/traffic", &json!({ "rate": messages_per_second })).await
    }

    /// Speaks at this rate for so long, and falls silent; answers when it has.
    ///
    /// # Errors
    /// When it refuses.
    pub async fn speak_for(&self, messages_per_second: f64, time: Duration) -> Result<Value> {
        self.post("/traffic", &json!({ "rate": messages_per_second, "seconds": time.as_secs_f64(), "wait": true }))
            .await
    }

    /// Falls silent.
    ///
    /// # Errors
    /// When it refuses.
    pub async fn stop_speaking(&self) -> Result<Value> {
        self.post("/traffic", &json!({ "stop": true })).await
    }

    /// Tells every connection to RECONNECT.
    ///
    /// # Errors
    /// When it refuses.
    pub async fn reconnect_all(&self) -> Result<Value> {
        self.post("/reconnect", &json!({ "all": true })).await
    }

    /// Tells this many connections to RECONNECT.
    ///
    /// # Errors
    /// When it refuses.
    pub async fn reconnect(&self, connections: usize) -> Result<Value> {
        self.post("/reconnect", &json!({ "connections": connections })).await
    }

    /// Any `GET` of its control interface.
    ///
    /// # Errors
    /// When it does not answer, or answers otherwise.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let response = self.client.get(format!("{}{path}", self.http_url())).send().await?.error_for_status()?;
        response.json().await.with_context(|| format!("the simulator's answer to GET {path} is not as expected"))
    }

    /// Any `POST` of its control interface; an empty answer is null.
    ///
    /// # Errors
    /// When it refuses; with its words.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let response = self.client.post(format!("{}{path}", self.http_url())).json(body).send().await?;
        let (status, text) = (response.status(), response.text().await?);
        anyhow::ensure!(status.is_success(), "the simulator refused POST {path} {body}: {status} {text}");
        Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
    }
}

impl Deref for SimulatorProcess {
    type Target = Simulator;

    fn deref(&self) -> &Simulator {
        &self.control
    }
}
