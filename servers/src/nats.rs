//! nats-server with JetStream, in a folder of its own.
//!
//! ```text
//! <dir>/nats.conf      written at every start
//! <dir>/password       drawn once, readable by its owner
//! <dir>/jetstream/     the streams
//! <dir>/nats.log
//! <dir>/lock           held by the server while it runs
//! ```

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rand::RngExt;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;

use crate::child::{Child, ChildOptions, ExitStatus};
use crate::log_file::LogFile;
use crate::{Binaries, ServerError, folder, port, secret};

const SERVER: &str = "nats-server";
const USER: &str = "clamor";
/// JetStream reads its streams back before it listens: a laptop's day of chat takes seconds, a slow disk more.
const READY_LIMIT: Duration = Duration::from_secs(120);
/// How long an earlier server of the folder may take to end.
const LOCK_LIMIT: Duration = Duration::from_secs(20);
/// One answer to the probe.
const PROBE_LIMIT: Duration = Duration::from_secs(2);
/// JetStream's share of memory: streams are on disk, so this only bounds what a client might ask for.
const MAX_MEMORY_BYTES: u64 = 256 * 1024 * 1024;

/// Who may connect.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum NatsAuth {
    /// The user `clamor`, with a password kept in the folder.
    #[default]
    Generated,
    /// The given user and password.
    User(String, String),
    /// Everybody who reaches its address: for tests.
    Open,
    /// Whom this block of nats-server's configuration lets in.
    Block(String),
}

/// A certificate for the server, in PEM files.
#[derive(Debug, Clone)]
pub struct NatsTls {
    /// The certificate chain.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// How to start the server.
#[derive(Debug, Clone)]
pub struct NatsOptions {
    /// The server's folder; made if need be.
    pub dir: PathBuf,
    /// Where it listens, and what its URL says.
    pub address: Ipv4Addr,
    /// The port there; a free one when absent. Give the old one to start a killed server again.
    pub port: Option<u16>,
    /// Who may connect.
    pub auth: NatsAuth,
    /// TLS, where clients are to use it.
    pub tls: Option<NatsTls>,
    /// How long a published message may wait for the disk: what a power cut can take. The design's limit is one second.
    pub sync_interval: Duration,
    /// JetStream's limit on disk; absent: what nats-server chooses from the free space.
    pub max_file_bytes: Option<u64>,
}

impl NatsOptions {
    /// The settings of a laptop.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            address: Ipv4Addr::LOCALHOST,
            port: None,
            auth: NatsAuth::Generated,
            tls: None,
            sync_interval: Duration::from_secs(1),
            max_file_bytes: None,
        }
    }
}

/// A running nats-server. Dropping it asks it to stop and does not wait.
#[derive(Debug)]
pub struct Nats {
    address: Ipv4Addr,
    port: u16,
    login: Option<(String, String)>,
    tls: bool,
    child: Child,
    log: LogFile,
}

impl Nats {
    /// Starts the server and waits until it answers.
    ///
    /// # Errors
    /// See [`ServerError`]; where the server itself failed, with the last lines of its log.
    pub async fn start(binaries: &Binaries, options: &NatsOptions) -> Result<Self, ServerError> {
        folder::make_private(&options.dir)?;
        let dir = std::fs::canonicalize(&options.dir).map_err(ServerError::folder("find", &options.dir))?;
        let lock = folder::lock(SERVER, &dir.join("lock"), LOCK_LIMIT).await?;
        let port = port::choose(SERVER, options.address, options.port)?;
        let name = format!("clamor-{:016x}", rand::rng().random::<u64>());
        let login = login(&dir, &options.auth)?;
        let config = dir.join("nats.conf");
        secret::write_private(&config, &configuration(&dir, &name, port, login.as_ref(), options))?;
        let (log, log_file) = LogFile::open(&dir.join("nats.log"))?;
        let mut command = Command::new(&binaries.nats_server);
        command.arg("--config").arg(&config).current_dir(&dir);
        let child = Child::start(ChildOptions {
            command,
            user: None,
            input: lock,
            log: log_file,
            stop_signal: Signal::SIGTERM,
        })?;
        let nats = Self { address: options.address, port, login, tls: options.tls.is_some(), child, log };
        nats.ready(&name).await?;
        tracing::debug!(port, pid = nats.pid(), "nats-server is ready");
        Ok(nats)
    }

    /// The URL for clients, with user and password where they are needed.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.tls { "tls" } else { "nats" };
        // A certificate names the host, not the address.
        let host = if self.tls { "localhost".to_owned() } else { self.address.to_string() };
        match &self.login {
            Some((user, password)) => format!("{scheme}://{user}:{password}@{host}:{}", self.port),
            None => format!("{scheme}://{host}:{}", self.port),
        }
    }

    /// The port at its address.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The server's process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// The last lines of the server's log, for messages.
    #[must_use]
    pub fn log_tail(&self) -> String {
        self.log.tail()
    }

    /// Resolves when the server has ended.
    pub async fn ended(&self) -> ExitStatus {
        self.child.ended().await
    }

    /// Stops the server in order: it writes out what it holds.
    ///
    /// # Errors
    /// When it had to be killed.
    pub async fn stop(self, limit: Duration) -> Result<(), ServerError> {
        self.child.ask_to_stop();
        if tokio::time::timeout(limit, self.child.ended()).await.is_ok() {
            return Ok(());
        }
        self.child.signal(Signal::SIGKILL);
        self.child.ended().await;
        Err(ServerError::NotStopped { server: SERVER, limit })
    }

    /// Sends SIGKILL and waits for the end, on this thread.
    pub fn kill_blocking(&self) {
        self.child.signal(Signal::SIGKILL);
        self.child.wait_blocking(Duration::from_secs(10));
    }

    /// Sends any signal, for tests that stop and continue the server.
    pub fn signal(&self, signal: Signal) {
        self.child.signal(signal);
    }

    /// Waits for the server's greeting, with the name that this start drew: another program may have taken the port. The
    /// server listens only once JetStream has read its streams.
    async fn ready(&self, name: &str) -> Result<(), ServerError> {
        let deadline = Instant::now() + READY_LIMIT;
        let mut pause = Duration::from_millis(5);
        loop {
            let last = match tokio::time::timeout(PROBE_LIMIT, greeting(self.address, self.port)).await {
                Ok(Ok(line)) if line.starts_with("INFO ") && line.contains(name) => return Ok(()),
                Ok(Ok(_)) => "another program answered on its port".to_owned(),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "no answer".to_owned(),
            };
            if let Some(status) = self.child.status() {
                return Err(self.ended_early(status));
            }
            if Instant::now() >= deadline {
                return Err(ServerError::NotReady {
                    server: SERVER,
                    limit: READY_LIMIT,
                    last,
                    log_tail: self.log.tail(),
                });
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(100));
        }
    }

    fn ended_early(&self, status: ExitStatus) -> ServerError {
        let (reason, log_tail) = (self.log.reason(), self.log.tail());
        ServerError::Ended { server: SERVER, status: status.to_string(), reason, log_tail }
    }
}

fn login(dir: &Path, auth: &NatsAuth) -> Result<Option<(String, String)>, ServerError> {
    Ok(match auth {
        NatsAuth::Open | NatsAuth::Block(_) => None,
        NatsAuth::User(user, password) => Some((user.clone(), password.clone())),
        NatsAuth::Generated => Some((USER.to_owned(), secret::load_or_create(&dir.join("password"))?)),
    })
}

fn configuration(dir: &Path, name: &str, port: u16, login: Option<&(String, String)>, options: &NatsOptions) -> String {
    let mut lines = vec![
        "# Written by Clamor at every start: changes are lost.".to_owned(),
        format!("server_name: {name}"),
        format!("host: \"{}\"", options.address),
        format!("port: {port}"),
        "jetstream {".to_owned(),
        format!("  store_dir: {}", quoted(&dir.display().to_string())),
        format!("  sync_interval: \"{}ms\"", options.sync_interval.as_millis()),
        format!("  max_memory_store: {MAX_MEMORY_BYTES}"),
    ];
    lines.extend(options.max_file_bytes.map(|bytes| format!("  max_file_store: {bytes}")));
    lines.push("}".to_owned());
    if let Some((user, password)) = login {
        lines.push(format!("authorization {{ user: {}, password: {} }}", quoted(user), quoted(password)));
    }
    if let NatsAuth::Block(block) = &options.auth {
        lines.push(block.clone());
    }
    if let Some(NatsTls { certificate, key }) = &options.tls {
        let (certificate, key) = (certificate.display().to_string(), key.display().to_string());
        lines.push(format!("tls {{ cert_file: {}, key_file: {} }}", quoted(&certificate), quoted(&key)));
    }
    lines.push(String::new());
    lines.join("\n")
}

/// A string of nats-server's configuration language.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The first line that a nats-server sends.
async fn greeting(address: Ipv4Addr, port: u16) -> std::io::Result<String> {
    let stream = TcpStream::connect((address, port)).await?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).await?;
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_holds_what_was_asked_for() {
        let mut options = NatsOptions::new("/data/nats");
        options.max_file_bytes = Some(1_000_000);
        let login = ("clamor".to_owned(), "a\"b".to_owned());
        let text = configuration(Path::new("/data/nats"), "clamor-1", 17_001, Some(&login), &options);
        assert!(text.contains("port: 17001\n"));
        assert!(text.contains("  sync_interval: \"1000ms\"\n"));
        assert!(text.contains("  max_file_store: 1000000\n"));
        assert!(text.contains(r#"password: "a\"b""#));
    }
}
