//! Who wrote in a channel's newest minutes, for minutes whose chatters the store keeps no list of.
//!
//! The store merges the lists of minutes that it still has. Of older ones retention has dropped them; there the number of
//! a minute's chatters can only be written once and for all, from a set that holds all of them.
//!
//! Invariant: of each channel the minute of its newest line and the one before it, no more.

use crate::aggregate::delta::{ChannelId, ChatterId, Millis};
use clamor_chat::window::MINUTE_MS;
use rustc_hash::{FxHashMap, FxHashSet};

/// The sets of one channel: newest minute first.
#[derive(Debug, Clone, Default)]
struct Minutes {
    newest_ms: Millis,
    newest: FxHashSet<ChatterId>,
    before: FxHashSet<ChatterId>,
}

/// Chatters of the newest minutes.
#[derive(Debug, Clone, Default)]
pub struct Recent(FxHashMap<ChannelId, Minutes>);

impl Recent {
    /// Chatters wrote in that minute.
    pub fn add(&mut self, channel_id: ChannelId, minute_ms: Millis, chatters: impl IntoIterator<Item = ChatterId>) {
        let minutes = self.0.entry(channel_id).or_default();
        if minute_ms > minutes.newest_ms {
            let next = minute_ms == minutes.newest_ms + MINUTE_MS;
            let last = std::mem::take(&mut minutes.newest);
            minutes.before = if next { last } else { FxHashSet::default() };
            minutes.newest_ms = minute_ms;
        }
        if minute_ms == minutes.newest_ms {
            minutes.newest.extend(chatters);
        } else if minute_ms + MINUTE_MS == minutes.newest_ms {
            minutes.before.extend(chatters);
        }
    }

    /// How many have written in that minute with these; none: it is too old to say.
    #[must_use]
    pub fn count_with(&self, channel_id: ChannelId, minute_ms: Millis, chatters: &[ChatterId]) -> Option<usize> {
        let Some(minutes) = self.0.get(&channel_id) else {
            return Some(chatters.len());
        };
        let known = if minute_ms > minutes.newest_ms {
            return Some(chatters.len());
        } else if minute_ms == minutes.newest_ms {
            &minutes.newest
        } else if minute_ms + MINUTE_MS == minutes.newest_ms {
            &minutes.before
        } else {
            return None;
        };
        Some(known.len() + chatters.iter().filter(|chatter| !known.contains(chatter)).count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Millis = 1_700_000_040_000;

    #[test]
    fn a_minute_s_chatters_are_counted_over_several_looks() {
        let mut recent = Recent::default();
        assert_eq!(recent.count_with(1, T0, &[5, 6]), Some(2));
        recent.add(1, T0, [5, 6]);
        assert_eq!(recent.count_with(1, T0, &[6, 7]), Some(3));
        assert_eq!(recent.count_with(1, T0 + MINUTE_MS, &[6]), Some(1));
        recent.add(1, T0 + MINUTE_MS, [6]);
        assert_eq!(recent.count_with(1, T0, &[9]), Some(3), "the minute before is still known");
    }

    #[test]
    fn an_older_minute_cannot_be_told() {
        let mut recent = Recent::default();
        recent.add(1, T0, [5]);
        recent.add(1, T0 + 2 * MINUTE_MS, [5]);
        assert_eq!(recent.count_with(1, T0, &[6]), None);
        assert_eq!(recent.count_with(1, T0 + MINUTE_MS, &[6]), Some(1), "nobody wrote in it so far");
    }
}
