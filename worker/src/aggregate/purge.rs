//! How far a full stream may be purged: what all groups have committed, and no take-over would read again.

use super::dedupe::{GENERATION_MS, horizon_start};
use super::delta::Millis;
use clamor_bus::Bus;
use std::collections::VecDeque;

/// Above this share of its limit the owner purges, so that a busy day never refuses live chat.
const FULL: f64 = 0.7;

/// Generations that are remembered: the horizon is two, a slow group may be one behind, and one to spare.
const REMEMBERED: usize = 4;

/// Where the last generations began in the stream.
#[derive(Debug, Default)]
pub struct Beginnings {
    /// (generation's start in stream time, sequence of its first message that was read).
    first: VecDeque<(Millis, u64)>,
}

impl Beginnings {
    /// A message was read.
    pub fn note(&mut self, seq: u64, stream_time_ms: Millis) {
        let start_ms = stream_time_ms / GENERATION_MS * GENERATION_MS;
        if self.first.back().is_none_or(|(last_ms, _)| start_ms > *last_ms) {
            self.first.push_back((start_ms, seq));
            if self.first.len() > REMEMBERED {
                self.first.pop_front();
            }
        }
    }

    /// The last sequence that nobody needs, where the lowest group is committed up to `lowest_ms` of stream time.
    #[must_use]
    pub fn behind(&self, lowest_ms: Millis) -> Option<u64> {
        let needed_ms = horizon_start(lowest_ms);
        let (_, seq) = self.first.iter().rev().find(|(start_ms, _)| *start_ms <= needed_ms)?;
        seq.checked_sub(1).filter(|seq| *seq > 0)
    }
}

/// Makes room in a stream that is nearly full.
pub async fn purge(bus: &Bus, shard: u16, up_to_seq: u64) {
    let full = match bus.stream_state(shard).await {
        Ok(state) => {
            state.max_bytes > 0 && state.bytes as f64 > FULL * state.max_bytes as f64 && up_to_seq >= state.first_seq
        }
        Err(_) => false,
    };
    if full {
        match bus.purge(shard, up_to_seq).await {
            Ok(purged) => {
                tracing::info!(shard, up_to_seq, purged, "purged what is committed from a stream that was nearly full");
            }
            Err(error) => tracing::warn!(shard, "{error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Millis = 1_699_999_800_000;

    #[test]
    fn what_a_take_over_reads_again_stays() {
        let mut beginnings = Beginnings::default();
        for generation in 0..6 {
            beginnings.note(100 * generation + 1, T0 + generation * GENERATION_MS + 7);
            beginnings.note(100 * generation + 50, T0 + generation * GENERATION_MS + 9);
        }
        assert_eq!(beginnings.behind(T0 + 5 * GENERATION_MS + 10), Some(400));
        assert_eq!(beginnings.behind(T0 + 4 * GENERATION_MS), Some(300));
    }

    #[test]
    fn where_a_generation_s_beginning_was_not_read_nothing_is_purged() {
        let mut beginnings = Beginnings::default();
        beginnings.note(77, T0 + 7);
        assert_eq!(beginnings.behind(T0 + 10), None);
        beginnings.note(99, T0 + GENERATION_MS);
        assert_eq!(beginnings.behind(T0 + GENERATION_MS), Some(76));
    }
}
