//! A pipeline without ingest: the test publishes batches and directives itself.

use anyhow::{Context, Result, ensure};
use clamor_bus::set::{PhraseSet, PhraseSpec, Plan, WantedChannel};
use clamor_bus::{Bus, BusConfig, StreamLimits};
use clamor_chat::wire::event::Kind;
use clamor_chat::wire::{self, Batch, Directive, Event, encode_batch};
use clamor_testkit::{Servers, eventually};
use clamor_worker::aggregate::trouble::StoreTrouble;
use clamor_worker::aggregate::{self, AggregateError, AggregateOptions};
use clamor_worker::health::Health;
use clamor_worker::store::{Retention, Store, StoreConfig};
use prometheus::{Registry, TextEncoder};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) const LIMIT: Duration = Duration::from_secs(30);

pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Servers, streams, a migrated store.
pub(crate) struct Pipeline {
    pub(crate) bus: Bus,
    pub(crate) store: Store,
    shards: u16,
    /// Dropped last.
    pub(crate) servers: Servers,
}

/// A running aggregator of this process.
pub(crate) struct Aggregator {
    task: JoinHandle<Result<(), AggregateError>>,
    stop: CancellationToken,
    registry: Registry,
    health: Health,
}

impl Pipeline {
    pub(crate) async fn start(shards: u16) -> Result<Self> {
        // Shown where a test fails.
        let _ = tracing_subscriber::fmt().with_test_writer().try_init();
        let servers = Servers::start().await?;
        let config = BusConfig::open(servers.nats_url(), "test", "test");
        let bus = Bus::connect(&config).await?;
        let store = Store::connect(&StoreConfig::new(servers.database_url())).await?;
        store.migrate().await?;
        let pipeline = Self { bus, store, shards, servers };
        pipeline.ensure().await?;
        Ok(pipeline)
    }

    pub(crate) async fn ensure(&self) -> Result<()> {
        let limits = StreamLimits { max_age: Duration::from_secs(86_400), max_bytes: 64 * 1024 * 1024 };
        Ok(self.bus.ensure(self.shards, &limits).await?)
    }

    /// Where the broker keeps its streams.
    pub(crate) fn nats_folder(&self) -> std::path::PathBuf {
        self.servers.folder().join("nats")
    }

    /// Starts a killed broker again and awaits that it answers.
    pub(crate) async fn restart_nats(&mut self) -> Result<()> {
        self.servers.restart_nats().await?;
        eventually("NATS answers again", LIMIT, async || self.bus.stream_state(0).await.map(drop)).await;
        Ok(())
    }

    /// Starts an aggregator; leases of those before it are taken at once where `force`.
    pub(crate) async fn aggregate(&self, force: bool) -> Result<Aggregator> {
        let (stop, registry, health) = (CancellationToken::new(), Registry::new(), Health::default());
        let options = AggregateOptions {
            bus: self.bus.clone(),
            // A pool of its own, as another process would have: a claim ends the previous owner's connections.
            store: Store::connect(&StoreConfig::new(self.servers.database_url())).await?,
            force_claim: force,
            retention: Retention::default(),
            lags: None,
            trouble: StoreTrouble::default(),
        };
        let (ours, theirs, token) = (registry.clone(), health.clone(), stop.clone());
        let task = tokio::spawn(async move { aggregate::run(options, &ours, theirs, token).await });
        Ok(Aggregator { task, stop, registry, health })
    }

    pub(crate) async fn publish(&self, instance: u64, number: u64, events: Vec<Event>) -> Result<u64> {
        let batch = Batch { slot: "a".to_owned(), instance, number, events };
        let id = format!("{instance:x}.{number}");
        Ok(self.bus.publish_batch(0, &id, encode_batch(&batch).into()).await?.sequence)
    }

    /// Publishes a plan for the channels, with phrases that match their own names.
    pub(crate) async fn direct(&self, channels: &[u64], phrases: &[&str]) -> Result<()> {
        let set = PhraseSet {
            phrases: phrases
                .iter()
                .map(|name| PhraseSpec {
                    name: (*name).to_owned(),
                    pattern: (*name).to_owned(),
                    case_sensitive: false,
                    log_messages: true,
                    channels: clamor_bus::set::ChannelScope::default(),
                })
                .collect(),
        };
        let wanted = |id: &u64| WantedChannel {
            channel_id: *id,
            login: format!("channel{id}"),
            labels: std::collections::BTreeMap::new(),
            since_ms: now_ms() - 60_000,
        };
        let plan = Plan {
            wanted: channels.iter().map(wanted).collect(),
            phrases: Some(self.bus.put_set("phrases", &set).await?),
        };
        self.direct_to(self.bus.put_set("plan", &plan).await?).await
    }

    /// Publishes a directive that names this object.
    pub(crate) async fn direct_to(&self, plan: String) -> Result<()> {
        let (last, _) = self.bus.last_directive(0).await?;
        let directive = Directive { plan, revision: 1, planner: 1 };
        self.bus.publish_directive(0, &directive, last).await?;
        Ok(())
    }

    /// One number from the store.
    pub(crate) async fn number(&self, sql: &'static str) -> Result<i64> {
        let found: Option<i64> =
            sqlx::query_scalar(sql).fetch_one(self.store.pool()).await.with_context(|| sql.to_owned())?;
        Ok(found.unwrap_or(0))
    }

    /// Awaits that a query gives this number.
    pub(crate) async fn eventually(&self, sql: &'static str, expected: i64) {
        eventually(sql, LIMIT, async || {
            let found = self.number(sql).await?;
            ensure!(found == expected, "{found} instead of {expected}");
            Ok(())
        })
        .await;
    }
}

impl Aggregator {
    /// Ends it in order.
    pub(crate) async fn stop(self) -> Result<()> {
        self.stop.cancel();
        Ok(tokio::time::timeout(LIMIT, self.task).await???)
    }

    /// Ends it as kill -9 would: nothing is flushed, nothing released.
    pub(crate) async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    pub(crate) async fn ready(&self) {
        eventually("the aggregator is ready", LIMIT, async || {
            let waits = self.health.waits();
            if waits.is_empty() { Ok(()) } else { Err(waits.join(", ")) }
        })
        .await;
    }

    /// The alarms that there were, each with how often.
    pub(crate) fn alarms(&self) -> Vec<String> {
        let text = self.metrics();
        let alarms = text.lines().filter_map(|line| line.strip_prefix("clamor_aggregate_alarms_total{reason=\""));
        alarms.map(|alarm| alarm.replace("\"}", "")).filter(|alarm| !alarm.ends_with(" 0")).collect()
    }

    /// The sum of a metric over its labels.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = self.metrics();
        text.lines()
            .filter(|line| line.split(['{', ' ']).next() == Some(name))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    fn metrics(&self) -> String {
        TextEncoder::new().encode_to_string(&self.registry.gather()).expect("metrics can be written")
    }
}

pub(crate) fn message(key: u128, channel_id: u64, chatter_id: u64, text: &str) -> Event {
    let chatter = wire::Chatter { id: chatter_id, login: format!("user{chatter_id}"), ..wire::Chatter::default() };
    let emotes = vec![wire::Emote { id: "25".to_owned(), name: "Kappa".to_owned(), count: 1 }];
    let message = wire::Message { chatter: Some(chatter), text: text.to_owned(), emotes, ..wire::Message::default() };
    event(key, channel_id, Kind::Message(message))
}

pub(crate) fn event(key: u128, channel_id: u64, kind: Kind) -> Event {
    let now = now_ms();
    let mut event =
        Event { channel_id, sent_at_ms: now, received_at_ms: now, connection: 1, kind: Some(kind), ..Event::default() };
    event.set_key(key);
    event
}
