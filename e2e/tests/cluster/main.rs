//! A real Kubernetes node: the chart installed by Helm, workers as pods, 2,000 messages a second over 300 channels. What
//! the simulator said is compared with what Postgres has.
//!
//! One test, since one node fits on a machine and most of the time goes into bringing things about.
#![allow(clippy::unwrap_used, reason = "a test")]

mod fleet;
mod kills;
mod moves;
mod phrase;
mod secrets;
mod uninstall;

use clamor_simulator::Ledger;
use clamor_testkit::equality::{assert_equal, assert_no_gap, judged};
use fleet::Fleet;

const MESSAGES_PER_SECOND: f64 = 2_000.0;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_counted_twice_whatever_is_done_to_the_pods_of_a_real_node() {
    if clamor_e2e::is_left_out() {
        return;
    }
    let fleet = Fleet::start().await;
    fleet.simulator().speak(MESSAGES_PER_SECOND).await.unwrap();

    moves::to_more_slots_and_to_fewer(&fleet).await;
    let counted = phrase::is_edited(&fleet).await;
    moves::to_a_slot_of_its_own_and_back(&fleet).await;
    moves::to_a_new_image(&fleet).await;
    kills::of_the_operator(&fleet).await;
    secrets::that_are_missing_or_wrong(&fleet).await;
    kills::of_workers_at_redundancy_two(&fleet).await;
    // Of two copies of each channel one is left.
    moves::to_one_slot(&fleet).await;

    fleet.simulator().stop_speaking().await.unwrap();
    let judged_ms = judged(&fleet.store).await;
    uninstall::leaves_what_is_kept(&fleet).await;
    let ledger: Ledger = fleet.simulator().ledger().await.unwrap();
    fleet.step("comparing");
    assert_equal(&fleet.store, &ledger).await;
    assert_no_gap(&fleet.store, &ledger, judged_ms).await;
    counted.assert_exactly_from_its_directive_on(&fleet).await;

    fleet.step("giving the machine back");
    fleet.node.down().unwrap();
}
