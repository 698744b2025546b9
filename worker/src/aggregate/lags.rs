//! How late each channel's lines are committed, for whoever looks on in the same process.
//!
//! Metrics never carry a channel (closed label sets), so this is no metric. It is only kept where somebody listens:
//! standalone's table.
//!
//! Invariant: bounded by the channels of the last [`FORGET`] and by [`MAX_CHANNELS`], whatever the stream holds.

use super::delta::{ChannelId, Millis};
use rustc_hash::FxHashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Lines whose lags a channel keeps: the newest. 32 × 4 bytes, and enough for a median.
const LINES: usize = 32;
/// Channels at most: as many as one standalone is planned for.
const MAX_CHANNELS: usize = 10_000;
/// A channel that had no commit for so long has no lag.
const FORGET: Duration = Duration::from_secs(10);

/// The lags of each channel's newest lines; clones share them.
#[derive(Debug, Clone, Default)]
pub struct ChannelLags(Arc<Mutex<FxHashMap<ChannelId, Lately>>>);

#[derive(Debug)]
struct Lately {
    committed: Instant,
    lags_ms: [u32; LINES],
    /// How many there ever were; the ring's next place is this modulo its length.
    lines: usize,
}

impl Lately {
    fn add(&mut self, lag_ms: u32, now: Instant) {
        self.committed = now;
        self.lags_ms[self.lines % LINES] = lag_ms;
        self.lines += 1;
    }

    fn median(&self) -> Duration {
        let mut lags_ms = self.lags_ms;
        let lags_ms = &mut lags_ms[..self.lines.min(LINES)];
        lags_ms.sort_unstable();
        Duration::from_millis(lags_ms.get(lags_ms.len() / 2).copied().unwrap_or(0).into())
    }
}

impl ChannelLags {
    /// Lines that were sent then are committed now.
    pub fn committed(&self, sent: &[(ChannelId, Millis)], now: Instant, now_ms: Millis) {
        let mut channels = self.channels();
        for &(channel_id, sent_ms) in sent {
            if channels.len() >= MAX_CHANNELS && !channels.contains_key(&channel_id) {
                continue;
            }
            let lag_ms = u32::try_from(now_ms.saturating_sub(sent_ms)).unwrap_or(u32::MAX);
            let fresh = || Lately { committed: now, lags_ms: [0; LINES], lines: 0 };
            channels.entry(channel_id).or_insert_with(fresh).add(lag_ms, now);
        }
    }

    /// The median of each channel's newest lines, of channels that had a commit lately. Forgets the others.
    #[must_use]
    pub fn medians(&self, now: Instant) -> FxHashMap<ChannelId, Duration> {
        let mut channels = self.channels();
        channels.retain(|_, lately| now.saturating_duration_since(lately.committed) < FORGET);
        channels.iter().map(|(channel_id, lately)| (*channel_id, lately.median())).collect()
    }

    fn channels(&self) -> MutexGuard<'_, FxHashMap<ChannelId, Lately>> {
        // A panic while it is held leaves a map that is still whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_channel_has_the_median_of_its_own_newest_lines() {
        let (lags, now) = (ChannelLags::default(), Instant::now());
        lags.committed(&[(1, 900), (1, 800), (1, 100), (2, 0)], now, 1_000);
        let medians = lags.medians(now);
        assert_eq!(medians[&1], Duration::from_millis(200));
        assert_eq!(medians[&2], Duration::from_secs(1));
        lags.committed(&[(1, 1_990); LINES], now, 2_000);
        assert_eq!(lags.medians(now)[&1], Duration::from_millis(10));
    }

    #[test]
    fn a_silent_channel_has_no_lag() {
        let (lags, now) = (ChannelLags::default(), Instant::now());
        lags.committed(&[(1, 0)], now, 10);
        lags.committed(&[(2, 0)], now + FORGET / 2, 10);
        assert_eq!(lags.medians(now + FORGET).into_keys().collect::<Vec<_>>(), [2]);
        assert_eq!(lags.channels().len(), 1);
    }

    #[test]
    fn channels_without_number_take_no_memory_without_bound() {
        let (lags, now) = (ChannelLags::default(), Instant::now());
        let many: Vec<(ChannelId, Millis)> = (0..MAX_CHANNELS as u64 + 5).map(|id| (id, 0)).collect();
        lags.committed(&many, now, 10);
        assert_eq!(lags.medians(now).len(), MAX_CHANNELS);
    }
}
