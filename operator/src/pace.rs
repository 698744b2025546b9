//! How fast statuses are written: one pace for all namespaces, for they share one API server.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::time::{Interval, MissedTickBehavior};

const WRITES_PER_SECOND: u32 = 400;
/// Statuses that only tell another rate, in a second.
const RATES_PER_SECOND: f64 = 5.0;
/// And how many of them may have been saved up.
const MAX_RATES: f64 = 25.0;

/// Paces writes; clones share it.
#[derive(Debug, Clone)]
pub struct Pace {
    writes: Arc<tokio::sync::Mutex<Interval>>,
    /// Rates that may be told now, and since when they are saved up.
    rates: Arc<Mutex<(f64, Instant)>>,
}

impl Default for Pace {
    /// Within a runtime.
    fn default() -> Self {
        let mut writes = tokio::time::interval(Duration::from_secs(1) / WRITES_PER_SECOND);
        writes.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            writes: Arc::new(tokio::sync::Mutex::new(writes)),
            rates: Arc::new(Mutex::new((MAX_RATES, Instant::now()))),
        }
    }
}

impl Pace {
    /// Waits until the next write's turn.
    pub async fn write(&self) {
        self.writes.lock().await.tick().await;
    }

    /// Whether a status may be written for its rate alone.
    #[must_use]
    pub fn may_tell_rate(&self, now: Instant) -> bool {
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        let (saved, since) = *rates;
        let more = now.saturating_duration_since(since).as_secs_f64() * RATES_PER_SECOND;
        let saved = (saved + more).min(MAX_RATES);
        let may = saved >= 1.0;
        *rates = (if may { saved - 1.0 } else { saved }, now.max(since));
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn rates_are_told_as_saved_up_and_then_so_many_a_second() {
        let pace = Pace::default();
        let now = Instant::now();
        let told = |at: Instant| (0..100).filter(|_| pace.may_tell_rate(at)).count();
        assert_eq!(told(now + Duration::from_secs(60)), 25);
        assert_eq!(told(now + Duration::from_secs(61)), 5);
        assert_eq!(told(now), 0, "a time that has passed saves nothing up");
    }

    #[tokio::test(start_paused = true)]
    async fn writes_of_all_clones_keep_one_pace() {
        let (pace, other) = (Pace::default(), Pace::default());
        let clone = pace.clone();
        let began = tokio::time::Instant::now();
        for _ in 0..200 {
            pace.write().await;
            clone.write().await;
        }
        assert!(began.elapsed() >= Duration::from_millis(990), "{:?}", began.elapsed());
        other.write().await;
    }
}
