//! The bus goes away and comes back, with all that it had or with nothing.

use crate::outcome::{difference, outcome};
use crate::world::{LIMIT, World, channel};
use clamor_bus::{Bus, BusConfig};
use clamor_testkit::eventually;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio_util::task::AbortOnDropHandle;

const SLOT: &str = "main-ingest-0";

/// Reads the slot's assignment again and again, for as long as it lives: none that it finds may lack one of these.
struct Watcher {
    lacking: Arc<AtomicBool>,
    found: Arc<AtomicU64>,
    _reading: AbortOnDropHandle<()>,
}

impl Watcher {
    fn start(config: BusConfig, logins: BTreeSet<String>) -> Self {
        let (lacking, found) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (lacks, finds) = (Arc::clone(&lacking), Arc::clone(&found));
        let reading = tokio::spawn(async move {
            loop {
                // While it is away there is nothing to be read.
                let Ok(bus) = Bus::connect(&config).await else { continue };
                while let Ok(kept) = bus.assignment(SLOT).await {
                    let Some(assignment) = kept.assignment else { continue };
                    let told: BTreeSet<String> = assignment.channels.into_iter().map(|channel| channel.login).collect();
                    finds.fetch_add(1, Ordering::Relaxed);
                    if !logins.is_subset(&told) {
                        eprintln!("{SLOT} was told to read only {told:?}");
                        lacks.store(true, Ordering::Relaxed);
                    }
                    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                }
            }
        });
        Self { lacking, found, _reading: AbortOnDropHandle::new(reading) }
    }
}

async fn nats_goes_away_and_comes_back(is_empty: bool) {
    let mut world = World::with_pipeline().await;
    let _worker = world.ingest(SLOT);
    let logins: Vec<String> = (0..12).map(|number| format!("sim_{number}")).collect();
    let channels: Vec<String> = logins.iter().map(|login| channel(&login.replace('_', "-"), login, "")).collect();
    world.apply(&channels.concat()).await;
    let mut sorted: Vec<&str> = logins.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    world.are_joined(&sorted).await;
    world.ready("tc/sim-11", "True", "Joined").await;
    let before = outcome(&world).await.unwrap();
    let config = BusConfig::open(world.servers.nats_url(), &world.on_bus(), "test");
    let watcher = Watcher::start(config, logins.iter().cloned().collect());

    world.servers.kill_nats();
    world.warned("cpl/main", "BusUnavailable").await;
    // What is asked for meanwhile is done afterwards.
    world.apply(&channel("late", "sim_30", "")).await;
    if is_empty {
        let store: PathBuf = world.servers.folder().join("nats/jetstream");
        assert!(std::fs::read_dir(&store).unwrap().next().is_some(), "streams were kept here");
        std::fs::remove_dir_all(&store).unwrap();
    }
    let read = watcher.found.load(Ordering::Relaxed);
    world.servers.restart_nats().await.unwrap();
    world.wait("tc/late", "Ready").await;
    world.kubectl(&["delete", "tc/late"]).await;
    eventually("it comes to what it was", 2 * LIMIT, async || match difference(&outcome(&world).await?, &before) {
        None => Ok(()),
        Some(difference) => Err(format!("{difference}\n{}", world.operator.log_tail())),
    })
    .await;
    world.is_at_rest().await;
    assert!(watcher.found.load(Ordering::Relaxed) > read, "the assignment was read again");
    assert!(!watcher.lacking.load(Ordering::Relaxed), "an assignment lacked channels that are read");
    let ledger: serde_json::Value = world.simulator.ledger().await.unwrap();
    let left = ledger["channels"].as_array().unwrap().iter().filter(|channel| channel["leaves"].as_u64() > Some(0));
    let left: Vec<&str> = left.map(|channel| channel["login"].as_str().unwrap()).collect();
    assert_eq!(left, ["sim_30"], "only the channel that was deleted was left");
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_goes_away_and_comes_back_and_no_channel_is_parted() {
    nats_goes_away_and_comes_back(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_comes_back_without_anything_and_no_channel_is_parted() {
    nats_goes_away_and_comes_back(true).await;
}
