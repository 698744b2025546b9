//! A smoothed message rate: an exponential average over about a minute.

use std::time::{Duration, Instant};

/// After so long, old news weigh e⁻¹.
const MEMORY: Duration = Duration::from_secs(60);

/// The rate of one counter that only grows.
#[derive(Debug, Default)]
pub(super) struct Rate {
    per_second: f64,
    counted: u64,
    sampled_at: Option<Instant>,
}

impl Rate {
    /// Another counter is sampled from now on, the rate so far holds.
    pub(super) fn restart(&mut self, counted: u64) {
        self.counted = counted;
    }

    /// The counter stands there now.
    pub(super) fn sample(&mut self, counted: u64, now: Instant) {
        let news = counted.saturating_sub(self.counted);
        self.counted = counted;
        let Some(sampled_at) = self.sampled_at.replace(now) else {
            return;
        };
        let elapsed = now.saturating_duration_since(sampled_at).as_secs_f64();
        if elapsed > 0.0 {
            #[expect(clippy::cast_precision_loss, reason = "a count of messages within seconds")]
            let present = news as f64 / elapsed;
            let weight = 1.0 - (-elapsed / MEMORY.as_secs_f64()).exp();
            self.per_second += (present - self.per_second) * weight;
        }
    }

    /// Messages per minute.
    pub(super) fn per_minute(&self) -> f32 {
        #[expect(clippy::cast_possible_truncation, reason = "for people and placement: seven digits are plenty")]
        let per_minute = (self.per_second * 60.0) as f32;
        per_minute
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_rate_is_approached_and_silence_forgets_it() {
        let start = Instant::now();
        let mut rate = Rate::default();
        for second in 0..600u32 {
            rate.sample(u64::from(second) * 10, start + Duration::from_secs(1) * second);
        }
        assert!((599.0..601.0).contains(&rate.per_minute()), "{}", rate.per_minute());
        rate.sample(5990, start + Duration::from_secs(1200));
        assert!(rate.per_minute() < 1.0);
    }

    #[test]
    fn another_counter_does_not_look_like_a_burst() {
        let start = Instant::now();
        let mut rate = Rate::default();
        rate.sample(0, start);
        rate.sample(100, start + Duration::from_secs(10));
        let before = rate.per_minute();
        rate.restart(1_000_000);
        rate.sample(1_000_100, start + Duration::from_secs(20));
        assert!(rate.per_minute() > before && rate.per_minute() < 600.0);
    }
}
