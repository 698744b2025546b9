//! Where each channel is heard once, chat is lost when its worker dies. Every lost message lies in a gap then, and no
//! gap is longer than the outage and five seconds.

use super::standing::QUIET_SOON;
use super::{Length, RATE};
use crate::fleet::{Fleet, LIMIT, Setup};
use clamor_simulator::Ledger;
use clamor_testkit::{Chance, Listener, eventually};
use std::time::Duration;

/// What a gap may be longer than its outage.
const ALLOWANCE_MS: i64 = 5_000;
const LATEST: Duration = Duration::from_millis(1_500);
/// The least there can be: what comes after it is dropped while NATS is away.
const SMALL_QUEUE_BYTES: u64 = 1 << 20;
/// Fills it soon.
const FLOOD: f64 = 3_000.0;

fn heard_once() -> Setup {
    Setup { redundancy: 1, aggregators: 1, proxies: false, spill: false, log_everything: true, ..Setup::small() }
}

async fn listener(fleet: &Fleet) -> Listener {
    let ledger: Ledger = fleet.simulator.ledger().await.unwrap();
    let logins: Vec<String> = ledger.channels.iter().map(|row| row.login.clone()).collect();
    Listener::start(&fleet.simulator.irc_address(), &logins).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_worker_did_not_hear_lies_in_a_gap_no_longer_than_it_was_away() {
    let mut chance = Chance::from_env();
    let length = Length::share(0.1);
    let mut fleet = Fleet::start(heard_once()).await;
    let listener = listener(&fleet).await;
    let from_ms = fleet.now_ms().await;
    let mut longest_ms = 0;
    loop {
        let base = fleet.standing().await;
        fleet.simulator.speak(RATE).await.unwrap();
        fleet.flows(&base).await;
        tokio::time::sleep(chance.time(Duration::ZERO..LATEST)).await;
        let before = fleet.joined(0).await;
        let killed_ms = fleet.now_ms().await;
        fleet.ingest[0].kill9().await;
        fleet.ingest[0].restart().unwrap();
        fleet.joined_after(0, Some(before)).await;
        let ledger: Ledger = fleet.simulator.ledger().await.unwrap();
        let rejoined = ledger.channels.iter().filter_map(|row| row.last_join_ms).max().unwrap();
        longest_ms = longest_ms.max(rejoined.cast_signed() - killed_ms);
        fleet.simulator.stop_speaking().await.unwrap();
        if !length.goes_on() {
            break;
        }
    }
    compare(fleet, &listener, from_ms, longest_ms).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_worker_dropped_lies_in_a_gap_no_longer_than_nats_was_away() {
    let queue = vec![("QUEUE_BYTES", SMALL_QUEUE_BYTES.to_string())];
    let mut fleet = Fleet::start(Setup { ingest_env: queue, ..heard_once() }).await;
    let listener = listener(&fleet).await;
    let from_ms = fleet.now_ms().await;
    let base = fleet.standing().await;
    fleet.simulator.speak(FLOOD).await.unwrap();
    fleet.flows(&base).await;
    let away_ms = fleet.now_ms().await;
    fleet.servers.kill_nats();
    eventually("chat is dropped", LIMIT, async || {
        let metrics = fleet.ingest[0].metrics().await.map_err(|error| error.to_string())?;
        let dropped = metrics.count("clamor_ingest_events_dropped_total", &[]);
        if dropped >= FLOOD { Ok(()) } else { Err(format!("{dropped} events")) }
    })
    .await;
    fleet.servers.restart_nats().await.unwrap();
    fleet.joined(0).await;
    let outage_ms = fleet.now_ms().await - away_ms;
    let base = fleet.standing().await;
    fleet.flows(&base).await;
    fleet.simulator.stop_speaking().await.unwrap();
    compare(fleet, &listener, from_ms, outage_ms).await;
}

async fn compare(mut fleet: Fleet, listener: &Listener, from_ms: i64, outage_ms: i64) {
    fleet.settled(QUIET_SOON).await;
    let said = listener.said().unwrap();
    fleet.drain().await;
    let found = fleet.compare(&said, from_ms).await;
    println!("outages up to {outage_ms} ms: {found:?}");
    assert!(found.lost > 0, "nothing was lost, so nothing was shown");
    assert!(found.longest_gap_ms <= outage_ms + ALLOWANCE_MS, "{found:?} with outages up to {outage_ms} ms");
}
