//! A histogram of latencies, printed for people.

use std::fmt::Write;

use hdrhistogram::Histogram;

const BAR_WIDTH: u64 = 50;
const PERCENTILES: [f64; 6] = [50.0, 90.0, 99.0, 99.9, 99.99, 100.0];
/// Upper ends of the bars, in milliseconds.
const BARS_MS: [u64; 12] = [25, 50, 75, 100, 150, 200, 250, 350, 500, 1_000, 5_000, u64::MAX];

/// An empty histogram for milliseconds, up to an hour, to three digits.
///
/// # Panics
/// Never: the bounds are constants that the histogram accepts.
#[must_use]
pub fn milliseconds() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 3_600_000, 3).expect("bounds that a histogram accepts")
}

/// Percentiles and bars of a histogram of milliseconds.
#[must_use]
pub fn describe(title: &str, histogram: &Histogram<u64>) -> String {
    let mut text = format!("{title}: {} samples, mean {:.1} ms\n", histogram.len(), histogram.mean());
    for percentile in PERCENTILES {
        let value = histogram.value_at_percentile(percentile);
        // Writing to a string does not fail.
        let _ = writeln!(text, "  p{percentile:<6} {value:>7} ms");
    }
    let total = histogram.len().max(1);
    let mut from = 0;
    for to in BARS_MS {
        let count = histogram.count_between(from, to.saturating_sub(1));
        let bar = "#".repeat(usize::try_from((count * BAR_WIDTH).div_ceil(total)).unwrap_or_default());
        let until = if to == u64::MAX { "more".to_owned() } else { format!("< {to} ms") };
        if count > 0 {
            let _ = writeln!(text, "  {until:>10} {count:>9} {bar}");
        }
        from = to;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_is_in_one_bar() {
        let mut histogram = milliseconds();
        for value in [1, 24, 25, 349, 350, 4_999, 5_000] {
            histogram.record(value).unwrap();
        }
        let text = describe("commit", &histogram);
        assert!(text.starts_with("commit: 7 samples"));
        let in_bars: u64 = text.lines().filter(|line| line.contains('#')).map(count_of).sum();
        assert_eq!(in_bars, 7, "{text}");
    }

    fn count_of(line: &str) -> u64 {
        let words: Vec<&str> = line.split_whitespace().collect();
        words[words.len() - 2].parse().unwrap_or_default()
    }
}
