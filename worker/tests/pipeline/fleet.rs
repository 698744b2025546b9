//! A fleet under test.

use clamor_bus::report::ChannelState;
use clamor_bus::set::{PhraseSet, PhraseSpec};
use clamor_bus::{Bus, BusConfig, StreamLimits};
use clamor_planner::control::{self, ControlOptions, View};
use clamor_planner::desired::{Desired, DesiredChannel};
use clamor_simulator::Ledger;
use clamor_testkit::equality::{EVERYTHING, PHRASES};
use clamor_testkit::{Proxy, Servers, SimulatorOptions, SimulatorProcess, WorkerOptions, WorkerProcess, eventually};
use clamor_worker::health::Health;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, PgPool, Row};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) const WORKER: &str = env!("CARGO_BIN_EXE_clamor-worker");
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
const SLOTS: [&str; 2] = ["a", "b"];
pub(crate) const SHARDS: u16 = 4;
/// The subject names of its bus.
const PIPELINE: &str = "clamor";

/// What a fleet is to be.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) channels: usize,
    pub(crate) chatters: usize,
    /// How many slots hear each channel; as many ingest workers are started.
    pub(crate) redundancy: usize,
    pub(crate) aggregators: usize,
    /// Whether workers reach NATS and Postgres by way of proxies.
    pub(crate) proxies: bool,
    /// Whether batches that memory has no room for go to disk.
    pub(crate) spill: bool,
    /// Whether each message that was counted is to be known.
    pub(crate) log_everything: bool,
    /// More variables of the ingest workers.
    pub(crate) ingest_env: Vec<(&'static str, String)>,
}

impl Setup {
    /// As users run it: the most chat, and nothing between the parts.
    pub(crate) fn undisturbed() -> Self {
        Self {
            channels: 200,
            chatters: 20_000,
            redundancy: 2,
            aggregators: 1,
            proxies: false,
            spill: false,
            log_everything: false,
            ingest_env: Vec::new(),
        }
    }

    /// Small, so that much can happen to it, and with everything between the parts that can happen.
    pub(crate) fn small() -> Self {
        Self { channels: 40, chatters: 2_000, aggregators: 2, proxies: true, spill: true, ..Self::undisturbed() }
    }
}

/// All processes of a pipeline.
pub(crate) struct Fleet {
    pub(crate) setup: Setup,
    pub(crate) ingest: Vec<WorkerProcess>,
    pub(crate) aggregators: Vec<WorkerProcess>,
    pub(crate) simulator: SimulatorProcess,
    pub(crate) store: PgPool,
    pub(crate) bus: Bus,
    pub(crate) nats_proxy: Proxy,
    pub(crate) postgres_proxy: Proxy,
    pub(crate) wishes: watch::Sender<Arc<Desired>>,
    view: watch::Receiver<Arc<View>>,
    _planner: DropGuard,
    pub(crate) servers: Servers,
}

impl Fleet {
    /// Everything started, every channel joined by every slot.
    pub(crate) async fn start(setup: Setup) -> Self {
        // With fsync: latency is measured, and it is the commit's that counts.
        let sync = |_: &mut _, postgres: &mut clamor_servers::PostgresOptions| {
            postgres.settings.retain(|(name, _)| name != "fsync");
        };
        let servers = Servers::start_with(clamor_testkit::Needs::Both, sync).await.unwrap();
        Self::start_on(servers, setup).await
    }

    /// The same on servers that are there.
    pub(crate) async fn start_on(servers: Servers, setup: Setup) -> Self {
        let options = SimulatorOptions::new(servers.folder());
        let options = options.flag("--channels", &setup.channels).flag("--chatters", &setup.chatters);
        let simulator = SimulatorProcess::start(options).await.unwrap();
        let bus = Bus::connect(&BusConfig::open(servers.nats_url(), PIPELINE, "planner")).await.unwrap();
        let (wishes, view, planner) = plan(&bus, &simulator, &setup).await;
        let nats_proxy = Proxy::start(servers.nats().port()).await.unwrap();
        let postgres_proxy = Proxy::start(servers.postgres().port()).await.unwrap();
        let options = PgConnectOptions::from_str(&servers.database_url()).unwrap();
        let options = options.options([("search_path", "clamor"), ("timezone", "UTC")]);
        let mut fleet = Self {
            setup,
            ingest: Vec::new(),
            aggregators: Vec::new(),
            simulator,
            store: PgPoolOptions::new().max_connections(2).connect_with(options).await.unwrap(),
            bus,
            nats_proxy,
            postgres_proxy,
            wishes,
            view,
            _planner: planner,
            servers,
        };
        fleet.start_workers();
        for aggregator in &fleet.aggregators {
            aggregator.ready(LIMIT).await;
        }
        fleet.all_joined().await;
        fleet.planned().await;
        fleet
    }

    fn start_workers(&mut self) {
        let start = |options| WorkerProcess::start(options).unwrap();
        for slot in &SLOTS[..self.setup.redundancy] {
            let mut options = WorkerOptions::ingest(WORKER, slot, &self.servers, &self.simulator);
            if self.setup.spill {
                let spill = self.servers.folder().join(format!("spill-{slot}"));
                options = options.env("SPILL_DIR", spill.to_str().unwrap());
            }
            for (name, value) in &self.setup.ingest_env {
                options = options.env(name, value);
            }
            self.ingest.push(start(self.by_proxy(options)));
        }
        for name in &["one", "two"][..self.setup.aggregators] {
            let options = WorkerOptions::aggregate(WORKER, name, &self.servers);
            self.aggregators.push(start(self.by_proxy(options)));
        }
    }

    fn by_proxy(&self, options: WorkerOptions) -> WorkerOptions {
        if !self.setup.proxies {
            return options;
        }
        options
            .env("NATS_URL", self.nats_proxy.url(&self.servers.nats_url()))
            .env("DATABASE_URL", self.postgres_proxy.url(&self.servers.database_url()))
    }

    /// Every slot hears every channel.
    pub(crate) async fn all_joined(&self) {
        for slot in 0..self.ingest.len() {
            self.joined(slot).await;
        }
    }

    /// The present instance of a slot hears every channel, and the store knows it: what a connection heard in its last
    /// two seconds is in doubt, so before that a kill of the other one would leave a gap, rightly.
    pub(crate) async fn joined(&self, slot: usize) -> i64 {
        self.joined_after(slot, None).await
    }

    /// The same for an instance other than the one before.
    pub(crate) async fn joined_after(&self, slot: usize, before: Option<i64>) -> i64 {
        self.ingest[slot].ready(LIMIT).await;
        let instance = self.joined_instance(slot, before).await;
        let covered = format!(
            "SELECT count(DISTINCT channel_id) FROM coverage c JOIN heard h USING (shard, instance, connection)
             WHERE c.until IS NULL AND h.until > c.since AND instance = {instance}"
        );
        self.reaches("channels covered", &covered, self.setup.channels as i64).await;
        instance
    }

    /// The instance of a slot that has joined every channel, as the store has its id.
    async fn joined_instance(&self, slot: usize, before: Option<i64>) -> i64 {
        eventually("every channel is joined", LIMIT, async || {
            let view = self.view.borrow().clone();
            let of_slot = view.seen.iter().filter(|seen| seen.fresh && seen.report.slot == SLOTS[slot]);
            let newest = of_slot.max_by_key(|seen| seen.report.started_at_ms).ok_or("no report")?;
            let instance = u64::from_str_radix(&newest.report.instance, 16).unwrap().cast_signed();
            let states = newest.report.channels.iter().map(|channel| channel.state);
            match states.filter(|state| *state == ChannelState::Joined).count() {
                _ if before == Some(instance) => Err("no report of the new instance"),
                joined if joined == self.setup.channels => Ok(instance),
                _ => Err("channels are missing"),
            }
        })
        .await
    }

    /// Every channel is wanted, as the store knows it: phrases count from here on.
    async fn planned(&self) {
        let wanted = "SELECT count(*) FROM wanted WHERE until IS NULL";
        self.reaches("channels wanted", wanted, self.setup.channels as i64).await;
    }

    /// Every shard has an owner whose lease holds.
    pub(crate) async fn owned(&self) {
        let owned = "SELECT count(*) FROM shard WHERE owner IS NOT NULL AND lease_until > clock_timestamp()";
        self.reaches("shards owned", owned, i64::from(SHARDS)).await;
    }

    /// Awaits that a number of the store is this.
    pub(crate) async fn reaches(&self, what: &str, query: &str, expected: i64) {
        eventually(&format!("{expected} {what}"), LIMIT, async || match self.number(query).await {
            Ok(found) if found == expected => Ok(()),
            other => Err(format!("{other:?}")),
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
            assert!(worker.terminate_and_wait(LIMIT).await.unwrap().success(), "{}", worker.log_tail());
        }
        for aggregator in &self.aggregators {
            assert!(aggregator.terminate_and_wait(LIMIT).await.unwrap().success(), "{}", aggregator.log_tail());
        }
        ledger
    }
}

/// What the fleet's people want: all channels of the simulator, and the phrases.
fn desired(ledger: &Ledger, setup: &Setup) -> Desired {
    let channel = |login: &str| DesiredChannel {
        name: login.to_owned(),
        redundancy: setup.redundancy,
        ..DesiredChannel::default()
    };
    let mut phrases: Vec<PhraseSpec> =
        PHRASES.iter().map(|(name, pattern, exact)| phrase(name, pattern, *exact)).collect();
    if setup.log_everything {
        phrases.push(PhraseSpec { log_messages: true, ..phrase(EVERYTHING, "(?s)^.", false) });
    }
    phrases.sort_by(|one, other| one.name.cmp(&other.name));
    Desired {
        channels: ledger.channels.iter().map(|row| (row.login.clone(), channel(&row.login))).collect(),
        phrases: PhraseSet { phrases },
        ..Desired::default()
    }
}

/// A phrase for all channels; messages of exact ones are logged.
pub(crate) fn phrase(name: &str, pattern: &str, exact: bool) -> PhraseSpec {
    PhraseSpec {
        name: name.replace(' ', "-"),
        pattern: pattern.to_owned(),
        case_sensitive: exact,
        log_messages: exact,
        channels: clamor_bus::set::ChannelScope::default(),
    }
}

type Planner = (watch::Sender<Arc<Desired>>, watch::Receiver<Arc<View>>, DropGuard);

/// Plans for the slots until the guard is dropped.
async fn plan(bus: &Bus, simulator: &SimulatorProcess, setup: &Setup) -> Planner {
    let limits = StreamLimits { max_age: Duration::from_secs(86_400), max_bytes: 1 << 30 };
    bus.ensure(SHARDS, &limits).await.unwrap();
    let ledger: Ledger = simulator.ledger().await.unwrap();
    let desired = desired(&ledger, setup);
    assert_eq!(desired.channels.len(), setup.channels);
    let (wishes, desired) = watch::channel(Arc::new(desired));
    let slots = SLOTS[..setup.redundancy].iter().map(|&slot| slot.to_owned()).collect();
    let (options, view) = ControlOptions::fixed(bus.clone(), SHARDS, limits, slots, true, desired);
    let shutdown = CancellationToken::new();
    tokio::spawn(control::run(options, Health::default(), shutdown.clone()));
    (wishes, view, shutdown.drop_guard())
}
