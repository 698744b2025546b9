//! Streams that lose what they had: what nobody had counted by then lies in a gap, and all else counts once.

use super::RATE;
use super::standing::QUIET_SOON;
use crate::fleet::{Fleet, LIMIT, SHARDS, Setup};
use clamor_simulator::Ledger;
use clamor_testkit::{Chance, Listener, eventually};
use std::path::Path;

async fn started() -> (Fleet, Listener, i64) {
    let setup = Setup { aggregators: 1, proxies: false, log_everything: true, ..Setup::small() };
    let fleet = Fleet::start(setup).await;
    let ledger: Ledger = fleet.simulator.ledger().await.unwrap();
    let logins: Vec<String> = ledger.channels.iter().map(|row| row.login.clone()).collect();
    let listener = Listener::start(&fleet.simulator.irc_address(), &logins).await.unwrap();
    let from_ms = fleet.now_ms().await;
    let base = fleet.standing().await;
    fleet.simulator.speak(RATE).await.unwrap();
    fleet.flows(&base).await;
    (fleet, listener, from_ms)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_stream_is_a_gap_and_an_alarm_and_what_comes_after_counts_once() {
    let mut chance = Chance::from_env();
    let (fleet, listener, from_ms) = started().await;
    let shard = chance.number(0..u64::from(SHARDS)) as u16;
    let stream = fleet.bus.names().stream(shard);
    let jetstream = async_nats::jetstream::new(fleet.bus.client().clone());
    jetstream.delete_stream(&stream).await.unwrap();
    alarm(&fleet, "stream_recreated").await;
    ends_well(fleet, &listener, from_ms).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_whose_newest_messages_are_gone_is_a_gap_and_an_alarm_and_what_comes_after_counts_once() {
    let (mut fleet, listener, from_ms) = started().await;
    let nats = fleet.servers.folder().join("nats");
    let old = fleet.servers.folder().join("nats-of-before");
    fleet.servers.kill_nats();
    copy(&nats, &old);
    fleet.servers.restart_nats().await.unwrap();
    let base = fleet.standing().await;
    fleet.flows(&base).await;
    // As an operator does who plays a backup back.
    fleet.servers.kill_nats();
    std::fs::remove_dir_all(&nats).unwrap();
    copy(&old, &nats);
    fleet.servers.restart_nats().await.unwrap();
    alarm(&fleet, "stream_truncated").await;
    ends_well(fleet, &listener, from_ms).await;
}

fn copy(from: &Path, to: &Path) {
    let done = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(done.success());
}

async fn alarm(fleet: &Fleet, reason: &str) {
    eventually(&format!("an alarm says {reason}"), LIMIT, async || {
        let metrics = fleet.aggregators[0].metrics().await.map_err(|error| error.to_string())?;
        let alarms = metrics.count("clamor_aggregate_alarms_total", &[("reason", reason)]);
        if alarms > 0.0 { Ok(()) } else { Err("none does".to_owned()) }
    })
    .await;
}

/// Chat flows again, every channel is heard, and message by message all is accounted for.
async fn ends_well(mut fleet: Fleet, listener: &Listener, from_ms: i64) {
    fleet.all_joined().await;
    let base = fleet.standing().await;
    fleet.flows(&base).await;
    fleet.simulator.stop_speaking().await.unwrap();
    let settled = fleet.settled(QUIET_SOON).await;
    assert_eq!(settled.double, 0);
    let said = listener.said().unwrap();
    fleet.drain().await;
    let found = fleet.compare(&said, from_ms).await;
    println!("{found:?}");
}
