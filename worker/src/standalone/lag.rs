//! The lag of the last seconds, from the aggregator's own histogram.

use prometheus::Registry;
use prometheus::proto::MetricFamily;
use std::collections::VecDeque;
use std::time::Duration;

/// From Twitch's timestamp of a line to its commit.
const METRIC: &str = "clamor_aggregate_commit_lag_seconds";
/// Looks that a quantile spans: enough lines for a 99th percentile of quiet channels.
const LOOKS: usize = 10;

/// Cumulative counts by upper bound, in seconds.
type Buckets = Vec<(f64, u64)>;

/// The last looks at the histogram.
#[derive(Debug, Default)]
pub struct Lag(VecDeque<Buckets>);

impl Lag {
    /// Looks. Gives the median and the 99th percentile of what was committed lately; `None`: nothing was.
    pub fn look(&mut self, registry: &Registry) -> Option<(Duration, Duration)> {
        self.take(buckets(&registry.gather())?)
    }

    fn take(&mut self, now: Buckets) -> Option<(Duration, Duration)> {
        let before = self.0.front().cloned().unwrap_or_else(|| now.clone());
        let lately: Buckets = now
            .iter()
            .enumerate()
            .map(|(at, (bound, count))| (*bound, count - before.get(at).map_or(0, |(_, count)| (*count).min(*count))))
            .collect();
        self.0.push_back(now);
        if self.0.len() > LOOKS {
            self.0.pop_front();
        }
        Some((quantile(&lately, 0.5)?, quantile(&lately, 0.99)?))
    }
}

fn buckets(families: &[MetricFamily]) -> Option<Buckets> {
    let family = families.iter().find(|family| family.name() == METRIC)?;
    let histogram = family.get_metric().first()?.get_histogram();
    Some(histogram.get_bucket().iter().map(|bucket| (bucket.upper_bound(), bucket.cumulative_count())).collect())
}

/// By linear interpolation within the bucket, as Prometheus does.
fn quantile(buckets: &Buckets, q: f64) -> Option<Duration> {
    let total = buckets.last().map(|(_, count)| *count).filter(|count| *count > 0)?;
    let rank = total as f64 * q;
    let mut lower = (0.0, 0);
    for &(bound, count) in buckets {
        if count as f64 >= rank {
            let share = (rank - lower.1 as f64) / ((count - lower.1) as f64).max(1.0);
            return Duration::try_from_secs_f64(lower.0 + (bound - lower.0) * share).ok();
        }
        lower = (bound, count);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_what_was_committed_since_the_first_look() {
        let mut lag = Lag::default();
        assert_eq!(lag.take(vec![(0.1, 1_000), (0.2, 1_000), (10.0, 1_000)]), None);
        let (p50, p99) = lag.take(vec![(0.1, 1_000), (0.2, 1_098), (10.0, 1_100)]).unwrap();
        assert!(p50 > Duration::from_millis(140) && p50 < Duration::from_millis(160), "{p50:?}");
        assert!(p99 > Duration::from_secs(4), "{p99:?}");
    }

    #[test]
    fn silence_has_no_lag() {
        let mut lag = Lag::default();
        for _ in 0..3 {
            assert_eq!(lag.take(vec![(0.1, 5)]), None);
        }
    }
}
