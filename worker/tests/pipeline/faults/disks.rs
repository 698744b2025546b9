//! Disks that are full: under NATS, under Postgres, under the spill. What cannot be written waits where there is room,
//! and where there is none, a gap says so.
//!
//! A small disk takes root to mount. Without it these tests say that they were not run.

use super::RATE;
use super::standing::{QUIET, QUIET_SOON};
use crate::fleet::{Fleet, LIMIT, Setup};
use clamor_servers::{NatsOptions, PostgresOptions};
use clamor_simulator::Ledger;
use clamor_testkit::equality::assert_equal;
use clamor_testkit::{Listener, Needs, Servers, SmallDisk, TestFolder, WorkerProcess, eventually};

/// A cluster with its log, and some minutes of a small fleet's counts.
const POSTGRES_MEBIBYTES: u32 = 256;
const NATS_MEBIBYTES: u32 = 64;
const SPILL_MEBIBYTES: u32 = 4;
/// What JetStream may reserve for the streams' limits, whatever the disk has.
const RESERVED: u64 = 1 << 40;

/// A disk and the folder that it is mounted in; none: not as root.
fn small_disk(mebibytes: u32) -> Option<(SmallDisk, TestFolder)> {
    let folder = TestFolder::new().unwrap();
    SmallDisk::mount_if_privileged(folder.path().join("small"), mebibytes).map(|disk| (disk, folder))
}

async fn started(change: impl FnOnce(&mut NatsOptions, &mut PostgresOptions)) -> Fleet {
    let servers = Servers::start_with(Needs::Both, change).await.unwrap();
    let fleet = Fleet::start_on(servers, Setup::small()).await;
    let base = fleet.standing().await;
    fleet.simulator.speak(RATE).await.unwrap();
    fleet.flows(&base).await;
    fleet
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_under_nats_loses_nothing_and_counts_nothing_twice() {
    let Some((disk, _folder)) = small_disk(NATS_MEBIBYTES) else { return };
    let mut fleet = started(|nats, _| {
        nats.dir = disk.path().join("nats");
        nats.max_file_bytes = Some(RESERVED);
    })
    .await;
    disk.fill().unwrap();
    counts(&fleet.ingest, "clamor_ingest_publish_failures_total", 8.0).await;
    disk.free().unwrap();
    // JetStream has turned itself off.
    fleet.servers.restart_nats().await.unwrap();
    ends_well(fleet).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_under_postgres_loses_nothing_and_counts_nothing_twice() {
    let Some((disk, _folder)) = small_disk(POSTGRES_MEBIBYTES) else { return };
    let mut fleet = started(|_, postgres| postgres.dir = disk.path().join("postgres")).await;
    disk.fill().unwrap();
    counts(&fleet.aggregators, "clamor_aggregate_commit_retries_total", 4.0).await;
    disk.free().unwrap();
    // Where its log has no room, it has given up.
    fleet.servers.restart_postgres().await.unwrap();
    ends_well(fleet).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_full_spill_drops_lies_in_a_gap() {
    let Some((disk, _folder)) = small_disk(SPILL_MEBIBYTES) else { return };
    let ingest_env =
        vec![("QUEUE_BYTES", (1 << 20).to_string()), ("SPILL_DIR", disk.path().join("spill").display().to_string())];
    let setup =
        Setup { aggregators: 1, proxies: false, spill: false, log_everything: true, ingest_env, ..Setup::small() };
    let mut fleet = Fleet::start(setup).await;
    let ledger: Ledger = fleet.simulator.ledger().await.unwrap();
    let logins: Vec<String> = ledger.channels.iter().map(|row| row.login.clone()).collect();
    let listener = Listener::start(&fleet.simulator.irc_address(), &logins).await.unwrap();
    let from_ms = fleet.now_ms().await;
    let base = fleet.standing().await;
    fleet.simulator.speak(5.0 * RATE).await.unwrap();
    fleet.flows(&base).await;
    disk.fill().unwrap();
    fleet.servers.kill_nats();
    counts(&fleet.ingest, "clamor_ingest_events_dropped_total", 1.0).await;
    fleet.servers.restart_nats().await.unwrap();
    disk.free().unwrap();
    fleet.all_joined().await;
    let base = fleet.standing().await;
    fleet.flows(&base).await;
    fleet.simulator.stop_speaking().await.unwrap();
    fleet.settled(QUIET_SOON).await;
    let said = listener.said().unwrap();
    fleet.drain().await;
    let found = fleet.compare(&said, from_ms).await;
    println!("{found:?}");
    assert!(found.lost > 0, "nothing was lost, so nothing was shown");
}

/// Each of them has counted so many.
async fn counts(workers: &[WorkerProcess], metric: &str, least: f64) {
    for worker in workers {
        eventually(&format!("{} counts {least} of {metric}", worker.name()), LIMIT, async || {
            let metrics = worker.metrics().await.map_err(|error| error.to_string())?;
            let counted = metrics.count(metric, &[]);
            if counted >= least { Ok(()) } else { Err(counted.to_string()) }
        })
        .await;
    }
}

async fn ends_well(mut fleet: Fleet) {
    fleet.all_joined().await;
    fleet.owned().await;
    fleet.simulator.stop_speaking().await.unwrap();
    let settled = fleet.settled(QUIET).await;
    println!("{settled:?}");
    assert_eq!((settled.lost, settled.double), (0, 0));
    let ledger = fleet.drain().await;
    assert_equal(&fleet.store, &ledger).await;
}
