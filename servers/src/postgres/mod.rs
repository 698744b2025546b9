//! PostgreSQL, in a folder of its own.
//!
//! ```text
//! <dir>/data/          the cluster; <dir>/data/clamor.conf is written at every start
//! <dir>/password       drawn once, readable by its owner
//! <dir>/postgres.log
//! <dir>/lock           held by the server's processes while they run
//! ```
//! As root the folder belongs to the server's user, and may lie elsewhere: see [`folder::elsewhere`].

mod cluster;
mod probe;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::User;

use crate::child::{Child, ChildOptions, ExitStatus};
use crate::folder::Placement;
use crate::log_file::LogFile;
use crate::{Binaries, PostgresBinaries, ServerError, folder, port};
use cluster::Cluster;
use probe::Answer;

const SERVER: &str = "PostgreSQL";
/// The superuser of a cluster of ours, and its database.
const USER: &str = "clamor";
/// After a crash the server first replays its log: it answers meanwhile, and is given time.
const READY_LIMIT: Duration = Duration::from_secs(300);
/// How long the processes of an earlier server of the folder may take to end.
const LOCK_LIMIT: Duration = Duration::from_secs(30);

/// How to start the server.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// The server's folder; made if need be.
    pub dir: PathBuf,
    /// Where it listens, and what its URL says. Where that is not this machine's own, whoever is in its network may come,
    /// with the password.
    pub address: Ipv4Addr,
    /// The port there; a free one when absent. Give the old one to start a killed server again.
    pub port: Option<u16>,
    /// The major version; absent: the one that wrote the folder, or the preferred one for a new folder.
    pub major: Option<u16>,
    /// Lines of `postgresql.conf` on top of ours. `ALTER SYSTEM` still wins over them.
    pub settings: Vec<(String, String)>,
    /// A folder in which clusters are prepared once and copied from: for tests, which start many.
    pub templates: Option<PathBuf>,
}

impl PostgresOptions {
    /// The settings of a laptop.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            address: Ipv4Addr::LOCALHOST,
            port: None,
            major: None,
            settings: Vec::new(),
            templates: None,
        }
    }
}

/// A running PostgreSQL. Dropping it asks it to stop and does not wait.
#[derive(Debug)]
pub struct Postgres {
    address: Ipv4Addr,
    port: u16,
    major: u16,
    dir: PathBuf,
    password: String,
    child: Child,
    log: LogFile,
}

impl Postgres {
    /// Makes the cluster if there is none, starts the server and waits until it takes connections.
    ///
    /// # Errors
    /// See [`ServerError`]; where the server itself failed, with the last lines of its log.
    pub async fn start(binaries: &Binaries, options: &PostgresOptions) -> Result<Self, ServerError> {
        let Placement { dir, user } = Placement::of_postgres(&options.dir)?;
        let lock = folder::lock(SERVER, &dir.join("lock"), LOCK_LIMIT).await?;
        let programs = choose(binaries, &dir, options.major)?;
        let cluster = Cluster { programs, dir: &dir, user: user.as_ref() };
        let password = cluster.prepare(options.templates.as_deref()).await?;
        cluster.configure(options.address, &options.settings)?;
        let port = port::choose(SERVER, options.address, options.port)?;
        let (log, log_file) = LogFile::open(&dir.join("postgres.log"))?;
        let child = Child::start(ChildOptions {
            command: serve(programs, &dir, options.address, port),
            user,
            input: lock,
            log: log_file,
            // "Fast": ends sessions, writes a checkpoint, leaves.
            stop_signal: Signal::SIGINT,
        })?;
        let postgres = Self { address: options.address, port, major: programs.major, dir, password, child, log };
        postgres.ready().await?;
        tracing::debug!(port, pid = postgres.pid(), major = postgres.major, "PostgreSQL is ready");
        Ok(postgres)
    }

    /// The URL for clients, with user and password, of the database `clamor`.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_of(USER)
    }

    /// The URL of another database of this server.
    #[must_use]
    pub fn url_of(&self, database: &str) -> String {
        format!("postgres://{USER}:{}@{}:{}/{database}", self.password, self.address, self.port)
    }

    /// The port at its address.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The major version.
    #[must_use]
    pub fn major(&self) -> u16 {
        self.major
    }

    /// Where the files really are.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The postmaster's process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// The last lines of the server's log, for messages.
    #[must_use]
    pub fn log_tail(&self) -> String {
        self.log.tail()
    }

    /// Resolves when the postmaster has ended.
    pub async fn ended(&self) -> ExitStatus {
        self.child.ended().await
    }

    /// Stops the server in order: sessions are ended and a checkpoint is written.
    ///
    /// # Errors
    /// When it had to be ended without a checkpoint, which costs the next start a recovery and loses nothing.
    pub async fn stop(self, limit: Duration) -> Result<(), ServerError> {
        self.child.ask_to_stop();
        if tokio::time::timeout(limit, self.child.ended()).await.is_ok() {
            return Ok(());
        }
        // "Immediate": unlike SIGKILL it takes the sessions along.
        self.child.signal(Signal::SIGQUIT);
        if tokio::time::timeout(Duration::from_secs(5), self.child.ended()).await.is_err() {
            self.child.signal(Signal::SIGKILL);
            self.child.ended().await;
        }
        Err(ServerError::NotStopped { server: SERVER, limit })
    }

    /// Sends SIGKILL to the postmaster and waits for its end, on this thread. Its sessions notice and leave; a new start
    /// in the same folder waits for them.
    pub fn kill_blocking(&self) {
        self.child.signal(Signal::SIGKILL);
        self.child.wait_blocking(Duration::from_secs(10));
    }

    /// Ends the server at once with all its sessions and without a checkpoint, on this thread: for a store that is thrown
    /// away.
    pub fn abandon_blocking(&self) {
        self.child.signal(Signal::SIGQUIT);
        if !self.child.wait_blocking(Duration::from_secs(10)) {
            self.kill_blocking();
        }
    }

    /// Sends any signal to the postmaster, for tests.
    pub fn signal(&self, signal: Signal) {
        self.child.signal(signal);
    }

    async fn ready(&self) -> Result<(), ServerError> {
        let deadline = Instant::now() + READY_LIMIT;
        let mut pause = Duration::from_millis(5);
        loop {
            let last = match probe::ask(self.address, self.port, USER).await {
                Answer::Ready if self.child.status().is_none() => return Ok(()),
                Answer::Ready => "another program answered on its port".to_owned(),
                Answer::NotYet(why) => why,
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

/// The programs for a folder: the version that wrote it, else the one asked for, else the preferred.
fn choose<'a>(binaries: &'a Binaries, dir: &Path, asked: Option<u16>) -> Result<&'a PostgresBinaries, ServerError> {
    let written_by = cluster::version_of(dir)?;
    match (written_by, asked) {
        (Some(folder), Some(asked)) if folder != asked => {
            Err(ServerError::FolderOfOtherVersion { dir: dir.to_path_buf(), folder, installed: asked.to_string() })
        }
        (Some(folder), _) => binaries.postgres_of(folder).map_err(|_| ServerError::FolderOfOtherVersion {
            dir: dir.to_path_buf(),
            folder,
            installed: binaries.versions(),
        }),
        (None, Some(asked)) => binaries.postgres_of(asked),
        (None, None) => Ok(binaries.any_postgres()),
    }
}

/// The server's command line. What must not be changed from inside the database is said here.
fn serve(programs: &PostgresBinaries, dir: &Path, address: Ipv4Addr, port: u16) -> Command {
    let mut command = Command::new(programs.dir.join("postgres"));
    command.arg("-D").arg(dir.join("data")).current_dir(dir);
    for setting in [
        format!("listen_addresses={address}"),
        format!("port={port}"),
        // A socket file would need a folder that both users can enter, with a short path.
        "unix_socket_directories=".to_owned(),
        "logging_collector=off".to_owned(),
        "log_destination=stderr".to_owned(),
    ] {
        command.arg("-c").arg(setting);
    }
    command.env_remove("PGDATA").env_remove("PGPORT");
    command
}

/// Runs a program as the server's user and waits for it.
async fn run_to_end(
    what: &'static str,
    command: Command,
    user: Option<&User>,
    input: std::fs::File,
    log_path: &Path,
) -> Result<(), ServerError> {
    let (log, log_file) = LogFile::open(log_path)?;
    let child = Child::start(ChildOptions {
        command,
        user: user.cloned(),
        input,
        log: log_file,
        stop_signal: Signal::SIGKILL,
    })?;
    let status = child.ended().await;
    if status.success() {
        return Ok(());
    }
    Err(ServerError::Ended { server: what, status: status.to_string(), reason: log.reason(), log_tail: log.tail() })
}
