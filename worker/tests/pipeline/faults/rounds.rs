//! Rounds: chat flows, a fault strikes at a random moment, chat flows on, and then every message is in the store once.

use super::fault::Fault;
use super::standing::QUIET;
use super::{Length, RATE};
use crate::fleet::{Fleet, Setup};
use clamor_testkit::Chance;
use clamor_testkit::equality::{assert_equal, assert_no_gap, judged};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The variable that chooses faults by name.
const FAULTS: &str = "FAULTS";
/// A fault that hits nothing in flight is no round: it strikes again, but not for ever.
const TRIES: u32 = 5;
/// How long before a fault at most, from when commits go on.
const LATEST: Duration = Duration::from_millis(1_500);
/// How often each part is killed in a cycle of a soak.
const KILLS: usize = 4;
/// Longer than any event key is remembered.
const BEYOND_DEDUPE: Duration = Duration::from_secs(11 * 60);

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_killed_paused_or_cut_nothing_is_lost_and_nothing_counts_twice() {
    let mut chance = Chance::from_env();
    let length = Length::share(0.7);
    let mut fleet = Fleet::start(Setup::small()).await;
    let began = Instant::now();
    let mut rounds: BTreeMap<&str, u32> = BTreeMap::new();
    loop {
        let mut faults = chosen(length);
        chance.shuffle(&mut faults);
        for fault in faults {
            print!("{:>4} s ", began.elapsed().as_secs());
            round(&mut fleet, &mut chance, fault).await;
            *rounds.entry(fault.name()).or_default() += 1;
        }
        if !length.goes_on() {
            break;
        }
    }
    println!("SEED={}: {rounds:?} in {:?}", chance.seed(), began.elapsed());
    let judged_ms = judged(&fleet.store).await;
    let ledger = fleet.drain().await;
    assert_equal(&fleet.store, &ledger).await;
    assert_no_gap(&fleet.store, &ledger, judged_ms).await;
}

/// All faults once; in a soak kills come more often, and servers are away for a minute. `FAULTS` chooses among them.
fn chosen(length: Length) -> Vec<Fault> {
    let away = Duration::from_secs(if length.is_soak() { 60 } else { 3 });
    let kills = [Fault::KillIngest, Fault::KillAggregator, Fault::KillNats, Fault::KillPostgres, Fault::KillBackend];
    let mut faults = kills.repeat(if length.is_soak() { KILLS } else { 1 });
    faults.extend([
        Fault::HandOver,
        Fault::PauseAggregator,
        Fault::HangNats,
        Fault::NatsAway(away),
        Fault::PostgresAway(away),
        Fault::CutNats,
        Fault::CutPostgres,
        Fault::Delay,
    ]);
    if length.is_at_least(2 * BEYOND_DEDUPE) {
        faults.push(Fault::NatsAway(BEYOND_DEDUPE));
    }
    let names = std::env::var(FAULTS).unwrap_or_default();
    if !names.is_empty() {
        faults.retain(|fault| names.split(',').any(|name| name == fault.name()));
        assert!(!faults.is_empty(), "{FAULTS} names no fault: {names}");
    }
    faults
}

async fn round(fleet: &mut Fleet, chance: &mut Chance, fault: Fault) {
    for _ in 0..TRIES {
        let base = fleet.standing().await;
        fleet.simulator.speak(RATE).await.unwrap();
        fleet.flows(&base).await;
        tokio::time::sleep(chance.time(Duration::ZERO..LATEST)).await;
        let hit = fleet.standing().await;
        let note = fault.strike(fleet, chance).await;
        fleet.all_joined().await;
        fleet.owned().await;
        fleet.simulator.stop_speaking().await.unwrap();
        let settled = fleet.settled(QUIET).await;
        let (in_flight, heard) = (hit.in_flight(&base), &hit.heard);
        println!(
            "{} ({note}): heard {heard:?}, acknowledged {} events, in flight when hit {in_flight}; said {}, counted {}, double {}, lost {}",
            fault.name(),
            hit.acknowledged,
            settled.said,
            settled.counted,
            settled.double,
            settled.lost
        );
        assert!(
            settled.lost == 0 && settled.double == 0,
            "{}: {} lost and {} double of {} messages",
            fault.name(),
            settled.lost,
            settled.double,
            settled.said
        );
        if in_flight > 0 {
            return;
        }
    }
    panic!("{} hit nothing in flight {TRIES} times", fault.name());
}
