//! Whether the stream is the one that was counted: the broker is not trusted to remember.
//!
//! The store knows when the stream was created and the `Nats-Msg-Id` at its own sequence; both are compared at a
//! take-over and whenever a reader has to begin anew. Another history is a recorded gap and an alarm, never silence.

use super::delta::{Group, Millis, Position, Restored, SLICES};
use super::metrics::Alarm;
use clamor_bus::{Bus, BusError, Found, Start, StreamState};

/// What is known of the stream from before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// When it was created; empty: never seen.
    pub created: String,
    /// The last sequence that was applied; 0: none.
    pub seq: u64,
    /// The `Nats-Msg-Id` there; empty: it had none.
    pub msg_id: String,
    /// The stream time there.
    pub stream_time_ms: Millis,
}

impl Known {
    /// What the store knows.
    #[must_use]
    pub fn of(restored: &Restored) -> Self {
        let Position { seq, stream_time_ms, msg_id, numbers: _, plan: _ } =
            restored.positions.get(&Group::Fast.number()).cloned().unwrap_or_default();
        Self { created: restored.stream_created.clone(), seq, msg_id, stream_time_ms }
    }
}

/// Compares; none: it is the same stream, or one that was never seen.
#[must_use]
pub fn compare(known: &Known, state: &StreamState, found: Option<&Found>) -> Option<Alarm> {
    if known.created.is_empty() {
        None
    } else if known.created != state.created {
        Some(Alarm::StreamRecreated)
    } else if state.last_seq < known.seq || found.is_some_and(|found| found.msg_id != known.msg_id) {
        Some(Alarm::StreamTruncated)
    } else {
        None
    }
}

/// Looks at the stream and compares.
///
/// # Errors
/// The bus does not answer.
pub async fn look(bus: &Bus, shard: u16, known: &Known) -> Result<(StreamState, Option<Alarm>), BusError> {
    let state = bus.stream_state(shard).await?;
    let found = if known.seq > 0 && state.first_seq <= known.seq && known.seq <= state.last_seq {
        bus.message_id_at(shard, known.seq).await?
    } else {
        None
    };
    let alarm = compare(known, &state, found.as_ref());
    Ok((state, alarm))
}

/// Where a stream of another history is read on: after the last sequence that may be counted already. A new stream
/// from its beginning; a shortened one after the last message that is as old as what was counted.
///
/// # Errors
/// The bus does not answer.
pub async fn read_on_after(bus: &Bus, known: &Known, state: &StreamState, shard: u16) -> Result<u64, BusError> {
    if known.created != state.created || state.last_seq == 0 {
        return Ok(0);
    }
    let newest = bus.message_id_at(shard, state.last_seq).await?;
    if newest.is_none_or(|newest| newest.stream_time_ms <= known.stream_time_ms) {
        return Ok(state.last_seq);
    }
    let mut reader = bus.read(shard, Start::Time(known.stream_time_ms + 1)).await?;
    Ok(reader.next().await?.seq - 1)
}

/// What the store will hold once no group stands beyond `seq` of the new history and all coverage is closed. Numbers and
/// plan go on; a group that stands before goes on from there, since what it has not counted is still in the stream.
#[must_use]
pub fn rebase(restored: &Restored, created: &str, seq: u64, msg_id: &str) -> Restored {
    let mut rebased = restored.clone();
    created.clone_into(&mut rebased.stream_created);
    rebased.open_coverage.clear();
    rebased.heard.clear();
    let fast = restored.positions.get(&Group::Fast.number()).cloned().unwrap_or_default();
    let moved = Position { seq, msg_id: msg_id.to_owned(), ..fast };
    for group in std::iter::once(Group::Fast).chain((0..SLICES).map(Group::Slow)) {
        let stands = restored.positions.get(&group.number()).map_or(0, |position| position.seq);
        if group == Group::Fast || stands > seq {
            rebased.positions.insert(group.number(), moved.clone());
        }
    }
    rebased
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(created: &str, first_seq: u64, last_seq: u64) -> StreamState {
        StreamState { created: created.to_owned(), first_seq, last_seq, bytes: 0, max_bytes: 0 }
    }

    fn known(created: &str) -> Known {
        Known { created: created.to_owned(), seq: 10, msg_id: "a.1".to_owned(), stream_time_ms: 5 }
    }

    fn found(msg_id: &str) -> Found {
        Found { msg_id: msg_id.to_owned(), stream_time_ms: 5 }
    }

    #[test]
    fn the_same_stream_is_read_on() {
        assert_eq!(compare(&known("t"), &state("t", 1, 20), Some(&found("a.1"))), None);
        assert_eq!(compare(&known("t"), &state("t", 15, 20), None), None, "purged behind us");
    }

    #[test]
    fn a_stream_that_was_never_seen_has_no_history() {
        assert_eq!(compare(&Known::default(), &state("t", 1, 20), None), None);
    }

    #[test]
    fn another_creation_time_is_another_stream() {
        assert_eq!(compare(&known("t"), &state("u", 1, 20), Some(&found("a.1"))), Some(Alarm::StreamRecreated));
    }

    #[test]
    fn a_lost_end_or_another_message_in_our_place_is_another_history() {
        assert_eq!(compare(&known("t"), &state("t", 1, 9), None), Some(Alarm::StreamTruncated));
        assert_eq!(compare(&known("t"), &state("t", 1, 20), Some(&found("b.9"))), Some(Alarm::StreamTruncated));
    }

    fn restored() -> Restored {
        let mut restored = Restored { stream_created: "t".to_owned(), ..Restored::default() };
        let fast = Position { seq: 10, plan: "plan-1".to_owned(), numbers: vec![(1, 4)], ..Position::default() };
        restored.positions.insert(Group::Fast.number(), fast);
        for slice in 0..SLICES {
            let position = Position { seq: 7 + 2 * u64::from(slice % 2), ..Position::default() };
            restored.positions.insert(Group::Slow(slice).number(), position);
        }
        restored.open_coverage.insert((5, 1, 1), 7);
        restored
    }

    #[test]
    fn in_a_new_stream_all_groups_begin_at_its_beginning() {
        let rebased = rebase(&restored(), "u", 0, "");
        assert!(rebased.open_coverage.is_empty());
        assert_eq!(rebased.positions.len(), 1 + usize::from(SLICES));
        assert!(rebased.positions.values().all(|position| position.seq == 0 && position.numbers == [(1, 4)]));
        assert_eq!(rebased.stream_created, "u");
    }

    #[test]
    fn in_a_shortened_stream_a_group_that_is_behind_goes_on_where_it_stands() {
        let rebased = rebase(&restored(), "t", 8, "b");
        let seq = |group: Group| rebased.positions[&group.number()].seq;
        assert_eq!([seq(Group::Fast), seq(Group::Slow(0)), seq(Group::Slow(1))], [8, 7, 8]);
    }
}
