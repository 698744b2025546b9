//! The pipeline under test, and what can be seen of it.

use clamor_bus::{Bus, BusConfig};
use clamor_e2e::Node;
use clamor_simulator::Ledger;
use clamor_testkit::equality::{EVERYTHING, PHRASES};
use clamor_testkit::{Simulator, eventually};
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, PgPool, Row};
use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::{Duration, Instant};

/// Others build and test on the machine, too.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);
pub(crate) const CHANNELS: i64 = 300;
pub(crate) const SHARDS: u16 = 4;
const SIMULATOR: &str = "--channels 300 --chatters 20000";
/// Matches no message.
pub(crate) const NOTHING: &str = "nobody ever says this";

pub(crate) struct Fleet {
    pub(crate) node: Node,
    pub(crate) store: PgPool,
    pub(crate) bus: Bus,
    began: Instant,
}

impl Fleet {
    /// A pipeline of one slot that has joined every channel, with its phrases; nothing is said yet.
    pub(crate) async fn start() -> Self {
        let began = Instant::now();
        let node = Node::start(SIMULATOR).unwrap();
        println!("{:6.1} s  node, services and operator are up", began.elapsed().as_secs_f64());
        let ledger: Ledger = node.simulator.ledger().await.unwrap();
        let logins: Vec<&str> = ledger.channels.iter().map(|channel| channel.login.as_str()).collect();
        assert_eq!(logins.len(), usize::try_from(CHANNELS).unwrap());
        node.kubectl(&["create", "namespace", "chat"]).unwrap();
        let url = node.address("DATABASE_URL").unwrap();
        node.kubectl(&["create", "secret", "generic", "clamor-store", &format!("--from-literal=url={url}")]).unwrap();
        node.apply(&objects(&logins)).unwrap();
        // One after the other: three hundred take kubectl half a minute.
        node.kubectl(&["wait", "--for=condition=Ready", "--timeout=180s", "cpl,ph", "--all"]).unwrap();
        node.kubectl(&["wait", "--for=condition=Ready", "--timeout=180s", "tc/sim-0"]).unwrap();
        let pipeline = node.get(&["cpl", "main"]).unwrap();
        let schema = pipeline["status"]["schema"].as_str().unwrap();
        let options = PgConnectOptions::from_str(url).unwrap();
        let options = options.options([("search_path", schema), ("timezone", "UTC")]);
        let store = PgPoolOptions::new().max_connections(2).connect_with(options).await.unwrap();
        let name = node.kubectl(&["get", "deployment", "main-aggregate", "-o", PIPELINE]).unwrap();
        let bus = BusConfig::open(node.address("NATS_URL").unwrap(), &name, "test");
        let fleet = Self { node, store, bus: Bus::connect(&bus).await.unwrap(), began };
        fleet.shared_by(&["main-ingest-0"], 1).await;
        fleet.step("every channel is joined");
        fleet.reaches("channels wanted", "SELECT count(*) FROM wanted WHERE until IS NULL", CHANNELS).await;
        fleet.heard_by(1).await;
        fleet
    }

    pub(crate) fn simulator(&self) -> &Simulator {
        &self.node.simulator
    }

    /// Says what comes next, and when.
    pub(crate) fn step(&self, what: &str) {
        println!("{:6.1} s  {what}", self.began.elapsed().as_secs_f64());
    }

    /// Every channel is heard by so many instances after this moment, and the store knows it.
    pub(crate) async fn heard_by(&self, instances: i64) {
        let now_ms = self.number("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint").await.unwrap();
        let heard = format!(
            "SELECT count(*) FROM (SELECT channel_id FROM coverage c JOIN heard h USING (shard, instance, connection)
             WHERE c.until IS NULL AND h.until > c.since AND h.until > to_timestamp({now_ms} / 1000.0)
             GROUP BY channel_id HAVING count(DISTINCT instance) >= {instances}) heard"
        );
        self.reaches(&format!("channels heard by {instances} instances"), &heard, CHANNELS).await;
    }

    /// So many messages more are counted than now: whatever happens next hits messages on their way.
    pub(crate) async fn counts_on(&self) {
        let counted = "SELECT coalesce(sum(messages), 0)::bigint FROM channel_minute";
        let before = self.number(counted).await.unwrap();
        eventually("more is counted", LIMIT, async || match self.number(counted).await {
            Ok(now) if now > before + 2_000 => Ok(()),
            other => Err(format!("{before} before, then {other:?}")),
        })
        .await;
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

    /// Awaits that kubectl's answer is this.
    pub(crate) async fn shows(&self, args: &[&str], expected: &str) {
        self.shows_that(args, expected, |found| found.trim() == expected).await;
    }

    /// Awaits that kubectl's answer is as `is_so` says.
    pub(crate) async fn shows_that(&self, args: &[&str], what: &str, is_so: impl Fn(&str) -> bool) {
        eventually(&format!("kubectl {} shows {what}", args.join(" ")), LIMIT, async || {
            match self.node.kubectl(args) {
                Ok(found) if is_so(&found) => Ok(()),
                Ok(found) => Err(found),
                Err(error) => Err(format!("{error:#}")),
            }
        })
        .await;
    }

    /// How many channels each slot has joined, by the statuses of the TrackedChannels.
    pub(crate) fn channels_of_slots(&self) -> BTreeMap<String, usize> {
        let channels = self.node.get(&["tc"]).unwrap();
        let slots = channels["items"].as_array().unwrap().iter().flat_map(joined_slots);
        let mut counts = BTreeMap::new();
        for slot in slots {
            *counts.entry(slot).or_default() += 1;
        }
        counts
    }

    /// Awaits that these slots, and no others, share the channels, each with its part.
    pub(crate) async fn shared_by(&self, slots: &[&str], redundancy: usize) {
        let all = usize::try_from(CHANNELS).unwrap() * redundancy;
        let part = all / slots.len();
        eventually(&format!("{slots:?} share the channels"), LIMIT, async || {
            let found = self.channels_of_slots();
            let fair = found.values().all(|channels| *channels >= part / 2);
            let names: Vec<&str> = found.keys().map(String::as_str).collect();
            if names == slots && fair && found.values().sum::<usize>() == all {
                Ok(())
            } else {
                Err(format!("{found:?}"))
            }
        })
        .await;
    }

    /// The pods, with what tells whether one was made anew or restarted.
    pub(crate) fn pods(&self) -> Vec<String> {
        let restarts = "jsonpath={range .items[*]}{.metadata.name} {.metadata.uid} {.status.containerStatuses[*].restartCount}{\"\\n\"}{end}";
        let pods = self.node.kubectl(&["get", "pods", "-o", restarts]).unwrap();
        pods.lines().map(str::to_owned).collect()
    }
}

/// What names the pipeline on the bus.
const PIPELINE: &str = "jsonpath={.spec.template.spec.containers[0].env[?(@.name=='PIPELINE')].value}";

fn joined_slots(channel: &Value) -> Vec<String> {
    let slots = channel["status"]["slots"].as_array().cloned().unwrap_or_default();
    let joined = slots.iter().filter(|slot| slot["state"] == "Joined");
    joined.filter_map(|slot| slot["name"].as_str().map(str::to_owned)).collect()
}

fn objects(logins: &[&str]) -> String {
    let mut objects = vec![json!({
        "apiVersion": "clamor.dev/v1alpha1", "kind": "ChatPipeline", "metadata": { "name": "main" },
        "spec": { "shards": SHARDS, "store": { "secretRef": { "name": "clamor-store" } } },
    })];
    objects.extend(PHRASES.iter().map(|(name, pattern, exact)| phrase(&name.replace(' ', "-"), pattern, *exact)));
    objects.push(phrase(EVERYTHING, NOTHING, true));
    objects.extend(logins.iter().map(|login| channel(login, &json!({}))));
    list(&objects)
}

/// A TrackedChannel with these fields more.
pub(crate) fn channel(login: &str, more: &Value) -> Value {
    let mut spec = json!({ "channel": login });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let name = login.replace('_', "-");
    json!({ "apiVersion": "clamor.dev/v1alpha1", "kind": "TrackedChannel", "metadata": { "name": name }, "spec": spec })
}

/// A Phrase; messages of exact ones are logged.
pub(crate) fn phrase(name: &str, pattern: &str, exact: bool) -> Value {
    json!({
        "apiVersion": "clamor.dev/v1alpha1", "kind": "Phrase", "metadata": { "name": name },
        "spec": { "pattern": pattern, "caseSensitive": exact, "logMessages": exact },
    })
}

/// Many objects in one manifest.
pub(crate) fn list(objects: &[Value]) -> String {
    json!({ "apiVersion": "v1", "kind": "List", "items": objects }).to_string()
}
