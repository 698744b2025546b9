//! How long a line takes from Twitch's timestamp to its committed row: a histogram over a minute, and what the
//! aggregator did in the second in which the slowest line was committed.

use crate::budget::{Bar, Figure};
use crate::crowd;
use crate::fleet::{Fleet, Shape};
use crate::pipeline::megabytes;
use anyhow::Result;
use clamor_testkit::{Scrape, SimulatorProcess, WorkerProcess};
use std::fmt::Write as _;
use std::time::Duration;

const RATE: f64 = 2_000.0;
const MINUTE: Duration = Duration::from_secs(60);
const LAG: &str = "clamor_aggregate_commit_lag_seconds";
const COMMIT: &str = "clamor_aggregate_commit_seconds";

/// A minute at 2,000 messages/s heard by two slots: latency, memory.
///
/// # Errors
/// When a process fails.
pub async fn latency() -> Result<Vec<Figure>> {
    let fleet = Fleet::start(Shape { channels: crowd::CHANNELS, redundancy: 2 }).await?;
    let seconds = watch(&fleet.simulator, &fleet.aggregate).await?;
    let metrics = fleet.aggregate.metrics().await?;
    let memory = fleet.aggregate.memory_bytes()?;
    fleet.drain().await?;
    let lags = Lags::of(&metrics);
    println!("{}{}", lags.histogram(), slowest(&seconds));
    Ok(vec![
        Figure {
            name: "line to committed row at 2,000/s, p99",
            bar: Bar::AtMost(350.0),
            measured: lags.quantile(0.99) * 1e3,
            unit: "ms",
            flink: "65 s at worst",
        },
        Figure {
            name: "aggregator after a minute at 2,000/s",
            bar: Bar::AtMost(64.0),
            measured: megabytes(memory),
            unit: "MB",
            flink: "1.8 GB",
        },
    ])
}

/// The aggregator's metrics at the end of every second of the minute.
async fn watch(simulator: &SimulatorProcess, aggregate: &WorkerProcess) -> Result<Vec<Scrape>> {
    let speaking = simulator.speak_for(RATE, MINUTE);
    tokio::pin!(speaking);
    let mut second = tokio::time::interval(Duration::from_secs(1));
    let mut seconds = Vec::new();
    loop {
        tokio::select! {
            spoke = &mut speaking => {
                spoke?;
                return Ok(seconds);
            }
            _ = second.tick() => seconds.push(aggregate.metrics().await?),
        }
    }
}

/// The second in which the slowest line was committed, and the commits that ended in it.
fn slowest(seconds: &[Scrape]) -> String {
    let worst = (1..seconds.len()).max_by(|a, b| {
        let worst = |second: usize| Lags::between(&seconds[second - 1], &seconds[second]).quantile(1.0);
        worst(*a).total_cmp(&worst(*b))
    });
    let Some(second) = worst else { return String::new() };
    let (before, after) = (&seconds[second - 1], &seconds[second]);
    let lags = Lags::between(before, after);
    let mut text = format!("the slowest line was committed in second {second}; its lines:\n{}", lags.histogram());
    for group in ["fast", "slow", "roll_up"] {
        let more = |what: &str| {
            let name = format!("{COMMIT}_{what}");
            after.count(&name, &[("group", group)]) - before.count(&name, &[("group", group)])
        };
        let (commits, took) = (more("count"), more("sum"));
        if commits > 0.0 {
            let _ = writeln!(
                text,
                "  {commits} {group} commits ended in it after {:.0} ms on average",
                took / commits * 1e3
            );
        }
    }
    text
}

/// How many lines had at most which lag, in seconds; ascending, and not cumulated.
struct Lags(Vec<(f64, f64)>);

impl Lags {
    fn of(metrics: &Scrape) -> Self {
        Self::between(&Scrape::default(), metrics)
    }

    fn between(before: &Scrape, after: &Scrape) -> Self {
        let earlier = before.buckets(LAG);
        let mut buckets = after.buckets(LAG);
        buckets.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        let mut below = 0.0;
        for (end, count) in &mut buckets {
            let known = earlier.iter().find(|(known, _)| known == end).map_or(0.0, |(_, count)| *count);
            let up_to_here = *count - known;
            *count = up_to_here - below;
            below = up_to_here;
        }
        Self(buckets)
    }

    fn total(&self) -> f64 {
        self.0.iter().map(|(_, count)| count).sum()
    }

    /// The upper end of the bucket in which a quantile lies, in seconds.
    fn quantile(&self, share: f64) -> f64 {
        let (total, mut below) = (self.total(), 0.0);
        let reached = self.0.iter().find(|(_, count)| {
            below += count;
            total > 0.0 && below >= share * total
        });
        reached.map_or(f64::NAN, |(end, _)| *end)
    }

    /// The buckets as bars.
    fn histogram(&self) -> String {
        let total = self.total();
        let mut text = format!("{total} messages, from line to commit p99 ≤ {} s\n", self.quantile(0.99));
        for (end, count) in self.0.iter().filter(|(_, count)| *count > 0.0) {
            let share = count / total;
            let _ = writeln!(text, "  ≤ {end:>7.3} s {count:>8} {:>7.3} % {}", share * 100.0, bar(share));
        }
        text
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share is between 0 and 1")]
fn bar(share: f64) -> String {
    "█".repeat((share * 60.0).ceil() as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scrape(counts: [u64; 3]) -> Scrape {
        let [quarter, half, all] = counts;
        Scrape::parse(&format!(
            "{LAG}_bucket{{le=\"0.5\"}} {half}\n{LAG}_bucket{{le=\"0.25\"}} {quarter}\n{LAG}_bucket{{le=\"+Inf\"}} {all}\n"
        ))
    }

    #[test]
    fn a_quantile_is_its_bucket_s_end() {
        let lags = Lags::of(&scrape([90, 99, 100]));
        assert_eq!([0.9, 0.91, 0.99, 1.0].map(|share| lags.quantile(share)), [0.25, 0.5, 0.5, f64::INFINITY]);
        assert!(Lags::of(&Scrape::default()).quantile(0.99).is_nan(), "nothing was measured");
    }

    #[test]
    fn a_second_has_only_its_own_lines() {
        let lags = Lags::between(&scrape([90, 99, 100]), &scrape([95, 104, 105]));
        assert_eq!((lags.total(), lags.quantile(1.0)), (5.0, 0.25));
    }

    #[test]
    fn the_second_with_the_slowest_line_is_shown() {
        let text = slowest(&[scrape([0, 0, 0]), scrape([5, 5, 5]), scrape([5, 7, 7]), scrape([9, 11, 11])]);
        assert!(text.contains("in second 2"), "{text}");
    }
}
