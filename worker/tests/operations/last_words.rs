//! What a worker ends with where a Secret is mounted: Kubernetes shows the last line, and the operator finds the reason of a
//! condition in it.

use crate::pipeline::{LIMIT, WORKER};
use clamor_bus::{Bus, BusConfig, StreamLimits};
use clamor_testkit::{Needs, Servers, WorkerOptions, WorkerProcess};
use clamor_worker::store::{Store, StoreConfig};
use std::time::Duration;

/// Awaits the end of an aggregator of the pipeline `clamor` that is given the database's address as a Secret; gives its
/// last line.
pub(crate) async fn last_words(servers: &Servers, nats_url: String, database_url: &str) -> String {
    let secret = servers.folder().join("secret");
    std::fs::create_dir_all(&secret).unwrap();
    std::fs::write(secret.join("url"), database_url).unwrap();
    let options = WorkerOptions::new(WORKER, "refused", &["aggregate"], servers)
        .env("NATS_URL", nats_url)
        .env("DATABASE_SECRET_DIR", secret.to_str().unwrap());
    let worker = WorkerProcess::start(options).unwrap();
    assert_eq!(worker.wait(LIMIT).await.unwrap().code(), Some(1));
    worker.log().unwrap().lines().last().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_was_made_for_another_number_of_shards_is_named() {
    let servers = Servers::start().await.unwrap();
    let store = Store::connect(&StoreConfig::new(servers.database_url())).await.unwrap();
    store.migrate().await.unwrap();
    store.init_shards(2).await.unwrap();
    let bus = Bus::connect(&BusConfig::open(servers.nats_url(), "clamor", "test")).await.unwrap();
    let limits = StreamLimits { max_age: Duration::from_secs(86_400), max_bytes: 1 << 24 };
    bus.ensure(4, &limits).await.unwrap();
    let words = last_words(&servers, servers.nats_url(), &servers.database_url()).await;
    assert_eq!(
        words,
        "clamor-worker: ShardMismatch: the store has 2 shards, the pipeline is told 4: the number of shards never changes"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_none_is_named() {
    let servers = Servers::start_only(Needs::Nats).await.unwrap();
    let words = last_words(&servers, servers.nats_url(), "mysql://nobody@nowhere/x").await;
    assert!(words.starts_with("clamor-worker: SecretInvalid: DATABASE_URL"), "{words}");
}
