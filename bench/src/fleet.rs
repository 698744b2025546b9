//! A whole pipeline of real processes, as users run it: fsync on, four shards.

use crate::crowd::precise;
use anyhow::{Context, Result};
use clamor_bus::set::{ChannelScope, PhraseSet, PhraseSpec};
use clamor_bus::{Bus, BusConfig, StreamLimits};
use clamor_planner::control::{self, ControlOptions};
use clamor_planner::desired::{Desired, DesiredChannel};
use clamor_simulator::{DEFAULT_PHRASES, Ledger};
use clamor_testkit::{Needs, Servers, SimulatorOptions, SimulatorProcess, WorkerOptions, WorkerProcess, eventually};
use clamor_worker::health::Health;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, PgPool, Row};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Streams of a pipeline, and as many aggregated shards.
pub const SHARDS: u16 = 4;
/// How long anything may take to start, to join or to drain.
pub const LIMIT: Duration = Duration::from_secs(180);
const SLOTS: [&str; 2] = ["a", "b"];

/// What a fleet is to be.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// How many channels the simulator has.
    pub channels: u64,
    /// How many slots hear each of them: 1 or 2.
    pub redundancy: usize,
}

/// The processes of a pipeline.
#[derive(Debug)]
pub struct Fleet {
    /// One for each slot.
    pub ingest: Vec<WorkerProcess>,
    /// Counts all shards.
    pub aggregate: WorkerProcess,
    /// Speaks.
    pub simulator: SimulatorProcess,
    /// Where the counts are.
    pub store: PgPool,
    /// What they all run on.
    pub servers: Servers,
    _planner: DropGuard,
}

impl Fleet {
    /// Everything started; every channel joined, and wanted as the store knows it.
    ///
    /// # Errors
    /// When a program is missing or does not start.
    pub async fn start(shape: Shape) -> Result<Self> {
        let servers = servers(Needs::Both).await?;
        let options = SimulatorOptions::new(servers.folder()).program(program("clamor-simulator")?);
        let options = options.flag("--channels", &shape.channels).flag("--chatters", &20_000);
        let simulator = SimulatorProcess::start(options).await?;
        let planner = plan(&servers, &simulator, shape).await?;
        let ingest = SLOTS[..shape.redundancy].iter().map(|slot| ingest(slot, &servers, &simulator));
        let fleet = Self {
            ingest: ingest.collect::<Result<_>>()?,
            aggregate: aggregate(&servers)?,
            simulator,
            store: store(&servers).await?,
            servers,
            _planner: planner,
        };
        fleet.aggregate.ready(LIMIT).await;
        for ingest in &fleet.ingest {
            ingest.ready(LIMIT).await;
        }
        let channels = precise(shape.channels);
        fleet.awaits("SELECT count(*) FROM wanted WHERE until IS NULL", channels).await;
        Ok(fleet)
    }

    /// Awaits that a number in the store reaches this.
    pub async fn awaits(&self, query: &str, least: f64) {
        eventually(query, LIMIT, async || match number(&self.store, query).await {
            Ok(found) if found >= least => Ok(()),
            other => Err(format!("{other:?}, not yet {least}")),
        })
        .await;
    }

    /// Ends every worker in order: what was read is committed.
    ///
    /// # Errors
    /// When one does not end.
    pub async fn drain(&self) -> Result<()> {
        for worker in self.ingest.iter().chain([&self.aggregate]) {
            let status = worker.terminate_and_wait(LIMIT).await?;
            anyhow::ensure!(status.success(), "a worker failed: {status:?}\n{}", worker.log_tail());
        }
        Ok(())
    }
}

/// Servers with the settings that users have: fsync on.
///
/// # Errors
/// When one is missing or does not start.
pub async fn servers(needs: Needs) -> Result<Servers> {
    Servers::start_with(needs, |_, postgres| postgres.settings.retain(|(name, _)| name != "fsync")).await
}

/// As the pods of operator and ingest have it.
pub const ONE_HEAP: (&str, &str) = ("MALLOC_ARENA_MAX", "1");

/// The worker of one slot.
///
/// # Errors
/// When it cannot be run.
pub fn ingest(slot: &str, servers: &Servers, simulator: &SimulatorProcess) -> Result<WorkerProcess> {
    let spill = servers.folder().join(format!("spill-{slot}"));
    let options = WorkerOptions::ingest(&worker()?, slot, servers, simulator);
    WorkerProcess::start(options.env("SPILL_DIR", spill.to_string_lossy()).env(ONE_HEAP.0, ONE_HEAP.1))
}

/// An aggregator of all shards.
///
/// # Errors
/// When it cannot be run.
pub fn aggregate(servers: &Servers) -> Result<WorkerProcess> {
    WorkerProcess::start(WorkerOptions::aggregate(&worker()?, "one", servers))
}

/// A connection to the counts.
///
/// # Errors
/// When the server refuses.
pub async fn store(servers: &Servers) -> Result<PgPool> {
    let options = PgConnectOptions::from_str(&servers.database_url())?;
    let options = options.options([("search_path", "clamor"), ("timezone", "UTC")]);
    PgPoolOptions::new().max_connections(2).connect_with(options).await.context("failed to connect to the store")
}

/// A number from the store.
///
/// # Errors
/// When the query fails.
pub async fn number(store: &PgPool, query: &str) -> Result<f64> {
    let row = sqlx::query(AssertSqlSafe(format!("SELECT ({query})::double precision"))).fetch_one(store).await?;
    Ok(row.try_get(0)?)
}

/// The bus of a nats-server, with its streams made.
///
/// # Errors
/// When NATS refuses.
pub async fn bus(url: String) -> Result<(Bus, StreamLimits)> {
    let config = BusConfig::open(url, "clamor", "bench");
    let bus = Bus::connect(&config).await?;
    let limits = StreamLimits { max_age: Duration::from_secs(86_400), max_bytes: 1 << 30 };
    bus.ensure(SHARDS, &limits).await?;
    Ok((bus, limits))
}

/// A program of this workspace, beside this one.
///
/// # Errors
/// When it is not built.
pub fn program(name: &str) -> Result<String> {
    let path = std::env::current_exe()?.with_file_name(name);
    anyhow::ensure!(path.is_file(), "{} is not built: make build", path.display());
    Ok(path.display().to_string())
}

fn worker() -> Result<String> {
    program("clamor-worker")
}

/// Plans for the slots until the guard is dropped.
async fn plan(servers: &Servers, simulator: &SimulatorProcess, shape: Shape) -> Result<DropGuard> {
    let (bus, limits) = bus(servers.nats_url()).await?;
    let ledger: Ledger = simulator.ledger().await?;
    let wish = |login: &str| {
        let channel =
            DesiredChannel { name: login.to_owned(), redundancy: shape.redundancy, ..DesiredChannel::default() };
        (login.to_owned(), channel)
    };
    let phrase = |text: &str| PhraseSpec {
        name: text.to_owned(),
        pattern: format!(r"\b{text}\b"),
        case_sensitive: false,
        log_messages: false,
        channels: ChannelScope::default(),
    };
    let desired = Desired {
        channels: ledger.channels.iter().map(|row| wish(&row.login)).collect(),
        phrases: PhraseSet { phrases: DEFAULT_PHRASES.iter().map(|text| phrase(text)).collect() },
        ..Desired::default()
    };
    let (wishes, desired) = watch::channel(Arc::new(desired));
    let slots = SLOTS[..shape.redundancy].iter().map(|&slot| slot.to_owned()).collect();
    let (options, _) = ControlOptions::fixed(bus, SHARDS, limits, slots, true, desired);
    let shutdown = CancellationToken::new();
    tokio::spawn({
        let shutdown = shutdown.clone();
        async move {
            let _wishes = wishes;
            control::run(options, Health::default(), shutdown).await;
        }
    });
    Ok(shutdown.drop_guard())
}
