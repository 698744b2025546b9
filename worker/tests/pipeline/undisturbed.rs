//! A minute of chat, with nothing in its way.

use crate::fleet::{Fleet, Setup};
use clamor_testkit::Scrape;
use clamor_testkit::equality::assert_equal;
use std::time::Duration;

const MESSAGES_PER_SECOND: f64 = 2_000.0;
const MINUTE: Duration = Duration::from_secs(60);
/// The budget from a chat line to its committed row.
const P99_BAR_S: f64 = 0.350;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_in_a_minute_is_counted_once_and_soon() {
    let mut fleet = Fleet::start(Setup::undisturbed()).await;
    fleet.simulator.speak_for(MESSAGES_PER_SECOND, MINUTE).await.unwrap();
    let metrics = fleet.aggregators[0].metrics().await.unwrap();
    let ledger = fleet.drain().await;
    let said = ledger.totals();
    assert!(said.messages > 100_000 && said.mirrored > 0, "{said:?}");
    assert_equal(&fleet.store, &ledger).await;

    let (text, p99_s) = histogram(&metrics, "clamor_aggregate_commit_lag_seconds");
    println!("{text}");
    assert!(metrics.count("clamor_aggregate_duplicates_total", &[]) > 100_000.0, "each message was heard twice");
    assert!(p99_s <= P99_BAR_S, "p99 from line to commit is {p99_s} s, and the bar is {P99_BAR_S} s");
}

/// The buckets of a histogram as bars, and the upper end of the bucket that its 99th percentile lies in.
fn histogram(metrics: &Scrape, name: &str) -> (String, f64) {
    let mut buckets = metrics.buckets(name);
    buckets.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    let total = buckets.last().map_or(0.0, |(_, count)| *count);
    assert!(total > 0.0, "{name} has no samples");
    let p99 = buckets.iter().find(|(_, count)| *count >= 0.99 * total).map_or(f64::INFINITY, |(end, _)| *end);
    let mut below = 0.0;
    let mut text = format!("from line to commit, {total} messages, p99 ≤ {p99} s\n");
    for (end, count) in buckets {
        let share = (count - below) / total;
        below = count;
        if share > 0.0 {
            let bar = "█".repeat((share * 60.0).ceil() as usize);
            text += &format!("  ≤ {end:>7.3} s {:>6.2} % {bar}\n", share * 100.0);
        }
    }
    (text, p99)
}
