//! A fleet under test.

use clamor_bus::report::ChannelState;
use clamor_bus::set::{PhraseSet, PhraseSpec};
use clamor_bus::{Bus, BusConfig, StreamLimits};
use clamor_simulator::Ledger;
use clamor_testkit::{Servers, SimulatorOptions, SimulatorProcess, WorkerOptions, WorkerProcess, eventually};
use clamor_worker::health::Health;
use clamor_worker::standalone::control::{self, ControlOptions};
use clamor_worker::standalone::desired::{Desired, DesiredChannel};
use clamor_worker::standalone::planner::Seen;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, PgPool, Row};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) const WORKER: &str = env!("CARGO_BIN_EXE_clamor-worker");
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
pub(crate) const SLOTS: [&str; 2] = ["a", "b"];
pub(crate) const CHANNELS: usize = 200;
/// What the simulator inserts, with the pattern that must find it. The first is matched in its very case only.
pub(crate) const PHRASES: [(&str, &str, bool); 3] =
    [("clamor", r"\bclamor\b", true), ("gg", r"\bgg\b", false), ("first try", r"\bfirst\s+try\b", false)];
const SHARDS: u16 = 4;

/// All processes of a pipeline, with every channel at redundancy 2.
pub(crate) struct Fleet {
    pub(crate) ingest: Vec<WorkerProcess>,
    pub(crate) aggregate: WorkerProcess,
    pub(crate) simulator: SimulatorProcess,
    pub(crate) store: PgPool,
    seen: watch::Receiver<Arc<Vec<Seen>>>,
    _planner: DropGuard,
    _servers: Servers,
}

impl Fleet {
    /// Everything started, every channel joined by both slots.
    pub(crate) async fn start() -> Self {
        // With fsync: latency is measured, and it is the commit's that counts.
        let sync = |_: &mut _, postgres: &mut clamor_servers::PostgresOptions| {
            postgres.settings.retain(|(name, _)| name != "fsync");
        };
        let servers = Servers::start_with(clamor_testkit::Needs::Both, sync).await.unwrap();
        let options = SimulatorOptions::new(servers.folder()).flag("--channels", &CHANNELS).flag("--chatters", &20_000);
        let simulator = SimulatorProcess::start(options).await.unwrap();
        let (seen, planner) = plan(&servers, &simulator).await;
        let start = |options| WorkerProcess::start(options).unwrap();
        let ingest = SLOTS.map(|slot| start(WorkerOptions::ingest(WORKER, slot, &servers, &simulator)));
        let aggregate = start(WorkerOptions::aggregate(WORKER, "one", &servers));
        let options = PgConnectOptions::from_str(&servers.database_url()).unwrap();
        let options = options.options([("search_path", "clamor"), ("timezone", "UTC")]);
        let fleet = Self {
            ingest: ingest.into(),
            aggregate,
            simulator,
            store: PgPoolOptions::new().max_connections(2).connect_with(options).await.unwrap(),
            seen,
            _planner: planner,
            _servers: servers,
        };
        fleet.aggregate.ready(LIMIT).await;
        for slot in 0..SLOTS.len() {
            fleet.joined(slot).await;
        }
        fleet.planned().await;
        fleet
    }

    /// The present instance of a slot hears every channel, and the store knows it: what a connection heard in its last
    /// two seconds is in doubt, so before that a kill of the other one would leave a gap, rightly.
    pub(crate) async fn joined(&self, slot: usize) {
        self.ingest[slot].ready(LIMIT).await;
        let instance = self.joined_instance(slot).await;
        let covered = format!(
            "SELECT count(DISTINCT channel_id) FROM coverage c JOIN heard h USING (shard, instance, connection)
             WHERE c.until IS NULL AND h.until > c.since AND instance = {instance}"
        );
        eventually("every channel is covered", LIMIT, async || match self.number(&covered).await {
            Ok(covered) if covered == CHANNELS as i64 => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    }

    /// The instance of a slot that has joined every channel, as the store has its id.
    async fn joined_instance(&self, slot: usize) -> i64 {
        eventually("every channel is joined", LIMIT, async || {
            let seen = self.seen.borrow().clone();
            let of_slot = seen.iter().filter(|seen| seen.fresh && seen.report.slot == SLOTS[slot]);
            let newest = of_slot.max_by_key(|seen| seen.report.started_at_ms).ok_or("no report")?;
            let states = newest.report.channels.iter().map(|channel| channel.state);
            match states.filter(|state| *state == ChannelState::Joined).count() {
                CHANNELS => Ok(u64::from_str_radix(&newest.report.instance, 16).unwrap().cast_signed()),
                _ => Err("channels are missing"),
            }
        })
        .await
    }

    /// Every channel is wanted, as the store knows it: phrases count from here on.
    async fn planned(&self) {
        eventually("every channel is wanted", LIMIT, async || {
            match self.number("SELECT count(*) FROM wanted WHERE until IS NULL").await {
                Ok(wanted) if wanted == CHANNELS as i64 => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }

    /// A single number from the store.
    pub(crate) async fn number(&self, query: &str) -> Result<i64, sqlx::Error> {
        sqlx::query(AssertSqlSafe(query)).fetch_one(&self.store).await?.try_get(0)
    }

    /// Stops reading, then counting; every process ends by itself and in order. Gives what was said.
    pub(crate) async fn drain(&mut self) -> Ledger {
        self.simulator.stop_speaking().await.unwrap();
        let ledger: Ledger = self.simulator.ledger().await.unwrap();
        assert!(!ledger.speaking);
        for worker in &self.ingest {
            assert!(worker.terminate_and_wait(LIMIT).await.unwrap().success());
        }
        assert!(self.aggregate.terminate_and_wait(LIMIT).await.unwrap().success());
        ledger
    }
}

/// Plans for both slots until the guard is dropped.
async fn plan(servers: &Servers, simulator: &SimulatorProcess) -> (watch::Receiver<Arc<Vec<Seen>>>, DropGuard) {
    let config = BusConfig::open(servers.nats_url(), "clamor", "planner");
    let bus = Bus::connect(&config).await.unwrap();
    let limits = StreamLimits { max_age: Duration::from_secs(86_400), max_bytes: 1 << 30 };
    bus.ensure(SHARDS, &limits).await.unwrap();
    let ledger: Ledger = simulator.ledger().await.unwrap();
    let channel = |login: &str| DesiredChannel { name: login.to_owned(), redundancy: 2, ..DesiredChannel::default() };
    let phrase = |(name, pattern, case_sensitive): (&str, &str, bool)| PhraseSpec {
        name: name.replace(' ', "-"),
        pattern: pattern.to_owned(),
        case_sensitive,
        log_messages: case_sensitive,
        channels: clamor_bus::set::ChannelScope::default(),
    };
    let desired = Desired {
        channels: ledger.channels.iter().map(|row| (row.login.clone(), channel(&row.login))).collect(),
        phrases: PhraseSet { phrases: PHRASES.map(phrase).into() },
    };
    assert_eq!(desired.channels.len(), CHANNELS);
    let (wishes, desired) = watch::channel(Arc::new(desired));
    let (seen, seen_reports) = watch::channel(Arc::new(Vec::new()));
    let slots = SLOTS.map(str::to_owned).into();
    let options = ControlOptions { bus, shards: SHARDS, limits, slots, elsewhere: true, desired, seen };
    let shutdown = CancellationToken::new();
    tokio::spawn({
        let shutdown = shutdown.clone();
        async move {
            let _wishes = wishes;
            control::run(options, Health::default(), shutdown).await;
        }
    });
    (seen_reports, shutdown.drop_guard())
}
