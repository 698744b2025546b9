//! A nats-server and a PostgreSQL for one test.
//!
//! `CLAMOR_TEST_POSTGRES` names the major version to test on; the suite runs once on the oldest and once on the newest
//! that is supported. Clusters are copied from a prepared one, so a start takes a fraction of a second.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use clamor_servers::{Binaries, Nats, NatsAuth, NatsOptions, Postgres, PostgresOptions};
use sqlx::{Connection, Executor, PgConnection};

use crate::TestFolder;
use crate::folder::{kept_between_tests, remove_servers_folder};

/// The variable that names PostgreSQL's major version.
const POSTGRES_VERSION: &str = "CLAMOR_TEST_POSTGRES";
/// What the streams of a test may reserve on disk.
const RESERVED_BYTES: u64 = 1 << 40;

/// Which servers a test needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// nats-server alone.
    Nats,
    /// PostgreSQL alone.
    Postgres,
    /// Both.
    Both,
}

/// The servers of one test, with a folder that is removed with them.
#[derive(Debug)]
pub struct Servers {
    // Dropped in this order: the servers before the folder that they write into.
    nats: Option<Nats>,
    postgres: Option<Postgres>,
    nats_options: NatsOptions,
    postgres_options: PostgresOptions,
    binaries: Binaries,
    databases: u32,
    folder: TestFolder,
}

impl Servers {
    /// Starts both servers with the settings of tests.
    ///
    /// # Errors
    /// When a server is missing or does not start.
    pub async fn start() -> Result<Self> {
        Self::start_only(Needs::Both).await
    }

    /// Starts what the test needs.
    ///
    /// # Errors
    /// When a server is missing or does not start.
    pub async fn start_only(needs: Needs) -> Result<Self> {
        Self::start_with(needs, |_, _| {}).await
    }

    /// Starts what the test needs, with settings changed by the test.
    ///
    /// # Errors
    /// When a server is missing or does not start.
    pub async fn start_with(needs: Needs, change: impl FnOnce(&mut NatsOptions, &mut PostgresOptions)) -> Result<Self> {
        let folder = TestFolder::new()?;
        let binaries = Binaries::find()?;
        let mut nats_options = NatsOptions::new(folder.path().join("nats"));
        nats_options.auth = NatsAuth::Open;
        // Streams reserve far more than tests write: how full the machine's disk is does not matter.
        nats_options.max_file_bytes = Some(RESERVED_BYTES);
        let mut postgres_options = PostgresOptions::new(folder.path().join("postgres"));
        postgres_options.major = asked_version()?;
        postgres_options.templates = Some(kept_between_tests()?);
        // What a killed process has written is safe without it; only a power cut is not tested here. A test that measures
        // latency turns it on again.
        postgres_options.settings.push(("fsync".to_owned(), "off".to_owned()));
        change(&mut nats_options, &mut postgres_options);
        let mut servers =
            Self { nats: None, postgres: None, nats_options, postgres_options, binaries, databases: 0, folder };
        let (nats, postgres) = tokio::try_join!(
            async { if needs == Needs::Postgres { Ok(None) } else { servers.launch_nats().await.map(Some) } },
            async { if needs == Needs::Nats { Ok(None) } else { servers.launch_postgres().await.map(Some) } },
        )?;
        // A restart takes the port that clients know.
        servers.nats_options.port = nats.as_ref().map(Nats::port);
        servers.postgres_options.port = postgres.as_ref().map(Postgres::port);
        (servers.nats, servers.postgres) = (nats, postgres);
        Ok(servers)
    }

    /// The test's folder, for files of its own.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The running nats-server.
    ///
    /// # Panics
    /// When the test did not ask for it, or has killed it.
    #[must_use]
    pub fn nats(&self) -> &Nats {
        self.nats.as_ref().expect("the test asked for a nats-server and has not killed it")
    }

    /// The running PostgreSQL.
    ///
    /// # Panics
    /// When the test did not ask for it, or has killed it.
    #[must_use]
    pub fn postgres(&self) -> &Postgres {
        self.postgres.as_ref().expect("the test asked for a PostgreSQL and has not killed it")
    }

    /// Where clients find NATS.
    #[must_use]
    pub fn nats_url(&self) -> String {
        self.nats().url()
    }

    /// Where clients find the test's first database.
    #[must_use]
    pub fn database_url(&self) -> String {
        self.postgres().url()
    }

    /// Makes one more, empty, database; its URL.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn create_database(&mut self) -> Result<String> {
        self.databases += 1;
        let name = format!("test_{}", self.databases);
        let mut connection = PgConnection::connect(&self.database_url()).await.context("failed to connect")?;
        let statement = format!("CREATE DATABASE {name}");
        connection.execute(sqlx::AssertSqlSafe(statement)).await.context("failed to make a database")?;
        connection.close().await.context("failed to disconnect")?;
        Ok(self.postgres().url_of(&name))
    }

    /// Kills nats-server with SIGKILL and waits for its end.
    pub fn kill_nats(&mut self) {
        if let Some(nats) = self.nats.take() {
            nats.kill_blocking();
        }
    }

    /// Starts a killed nats-server again, in its folder and on its port.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn restart_nats(&mut self) -> Result<()> {
        self.kill_nats();
        self.nats = Some(self.launch_nats().await?);
        Ok(())
    }

    /// Kills PostgreSQL's postmaster with SIGKILL and waits for its end; its sessions notice and leave.
    pub fn kill_postgres(&mut self) {
        if let Some(postgres) = self.postgres.take() {
            postgres.kill_blocking();
        }
    }

    /// Starts a killed PostgreSQL again, in its folder and on its port.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn restart_postgres(&mut self) -> Result<()> {
        self.kill_postgres();
        self.postgres = Some(self.launch_postgres().await?);
        Ok(())
    }

    /// Kills one of PostgreSQL's backends with SIGKILL. The postmaster then ends all others and recovers, as after any
    /// crash of one.
    pub fn kill_backend(&self, pid: i32) {
        // It may have ended by itself.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
    }

    /// Stops PostgreSQL in order.
    ///
    /// # Errors
    /// When it had to be killed.
    pub async fn stop_postgres(&mut self) -> Result<()> {
        if let Some(postgres) = self.postgres.take() {
            postgres.stop(Duration::from_secs(30)).await?;
        }
        Ok(())
    }

    async fn launch_nats(&self) -> Result<Nats> {
        Nats::start(&self.binaries, &self.nats_options).await.context("failed to start the test's nats-server")
    }

    async fn launch_postgres(&self) -> Result<Postgres> {
        Postgres::start(&self.binaries, &self.postgres_options).await.context("failed to start the test's PostgreSQL")
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let logs = [self.nats.as_ref().map(Nats::log_tail), self.postgres.as_ref().map(Postgres::log_tail)];
            logs.iter().flatten().for_each(|log| eprintln!("{log}"));
        }
        self.kill_nats();
        if let Some(postgres) = self.postgres.take() {
            postgres.abandon_blocking();
        }
        remove_servers_folder(self.folder.path());
    }
}

fn asked_version() -> Result<Option<u16>> {
    match std::env::var(POSTGRES_VERSION) {
        Ok(text) if !text.is_empty() => {
            text.parse().map(Some).with_context(|| format!("{POSTGRES_VERSION} is not a major version: {text}"))
        }
        _ => Ok(None),
    }
}
