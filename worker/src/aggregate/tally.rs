//! What happened to a shard's messages since the metrics were told last.

use clamor_chat::wire::Event;
use clamor_chat::wire::event::Kind;

/// Kinds of counted events: the closed label set of the metric.
pub const KINDS: [&str; 6] = ["message", "mirrored", "user_notice", "clear_chat", "clear_message", "room_state"];

/// Plain counters, drained into the metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Counted events by [`KINDS`].
    pub counted: [u64; KINDS.len()],
    /// Events that another worker, or the same one, had brought already.
    pub duplicates: u64,
    /// Late events that others had brought.
    pub late_covered: u64,
    /// Batches whose number was not above the instance's last one.
    pub repeated_batches: u64,
    /// Holes in an instance's numbers.
    pub number_jumps: u64,
    /// Holes in the stream's sequences.
    pub stream_holes: u64,
    /// Stream messages at or below the last applied sequence.
    pub redelivered: u64,
    /// Events with an impossible time or no channel.
    pub refused_events: u64,
    /// Events of a kind that this build does not know.
    pub unknown_events: u64,
}

impl Tally {
    /// An event was counted.
    pub fn count(&mut self, event: &Event) {
        let kind = match &event.kind {
            _ if event.is_mirrored() => 1,
            Some(Kind::Message(_)) => 0,
            Some(Kind::UserNotice(_)) => 2,
            Some(Kind::ClearChat(_)) => 3,
            Some(Kind::ClearMessage(_)) => 4,
            Some(Kind::RoomState(_)) => 5,
            _ => return,
        };
        self.counted[kind] += 1;
    }
}
