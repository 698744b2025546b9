//! Packs the events of one shard into numbered batches.
//!
//! Invariants: numbers run from 1 without holes; a batch has at most 100 events and 64 KiB. Events come encoded, so that
//! a batch is put together by copying: a protobuf message is the concatenation of its fields.

use bytes::Bytes;
use clamor_chat::wire::{Batch, Event, MAX_BYTES, MAX_EVENTS};
use prost::Message as _;
use std::sync::Arc;

/// Key of `Batch.events`: field 4, length-delimited.
const EVENTS_KEY: u8 = 4 << 3 | 2;

/// Who packs.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) slot: String,
    pub(super) instance: u64,
}

/// A batch that has its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sealed {
    /// Who numbered it: this instance, or one whose spill it has taken over.
    pub(super) instance: u64,
    pub(super) number: u64,
    pub(super) events: usize,
    /// It begins with a snapshot of what is heard, so that it can be understood without those before it.
    pub(super) snapshot_first: bool,
    pub(super) payload: Bytes,
}

/// The open batch of one shard.
#[derive(Debug)]
pub(super) struct Packer {
    identity: Arc<Identity>,
    next_number: u64,
    body: Vec<u8>,
    events: usize,
    /// Room for the events of a batch.
    capacity: usize,
    snapshot_first: bool,
}

/// Appends an event as a batch holds it.
pub(super) fn encode(event: &Event, to: &mut Vec<u8>) {
    to.push(EVENTS_KEY);
    event.encode_length_delimited(to).expect("a Vec grows as needed");
}

impl Packer {
    pub(super) fn new(identity: Arc<Identity>) -> Self {
        let capacity = MAX_BYTES - Batch::header_len(&identity.slot);
        Self { identity, next_number: 1, body: Vec::new(), events: 0, capacity, snapshot_first: false }
    }

    /// Whose batches these are.
    pub(super) fn instance(&self) -> u64 {
        self.identity.instance
    }

    /// What comes now, into an open batch that is empty, is a snapshot.
    pub(super) fn begin_with_snapshot(&mut self) {
        self.snapshot_first = self.is_empty();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.events == 0
    }

    /// Adds one event as [`encode`] makes it. Returns the batch that this filled.
    pub(super) fn push(&mut self, encoded: &[u8]) -> Option<Sealed> {
        let filled = if self.body.len() + encoded.len() > self.capacity { self.seal() } else { None };
        self.body.extend_from_slice(encoded);
        self.events += 1;
        // A batch of one event is never full, so at most one is filled at a time.
        filled.or_else(|| if self.events >= MAX_EVENTS { self.seal() } else { None })
    }

    /// Closes the open batch, if it has any event.
    pub(super) fn seal(&mut self) -> Option<Sealed> {
        if self.is_empty() {
            return None;
        }
        let number = self.next_number;
        self.next_number += 1;
        let instance = self.identity.instance;
        let header = Batch { slot: self.identity.slot.clone(), instance, number, events: Vec::new() };
        header.encode(&mut self.body).expect("a Vec grows as needed");
        let events = std::mem::take(&mut self.events);
        let snapshot_first = std::mem::take(&mut self.snapshot_first);
        let payload = Bytes::from(std::mem::take(&mut self.body));
        Some(Sealed { instance, number, events, snapshot_first, payload })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clamor_chat::wire::{self, ClearMessage, Joined, event::Kind};

    fn packer() -> Packer {
        Packer::new(Arc::new(Identity { slot: "ingest-0".to_owned(), instance: 7 }))
    }

    fn event(channel_id: u64, text: usize) -> Event {
        let kind = if text == 0 {
            Kind::Joined(Joined {})
        } else {
            Kind::ClearMessage(ClearMessage { target_message_id: "x".repeat(text), login: "someone".to_owned() })
        };
        Event { channel_id, sent_at_ms: 5, connection: 3, kind: Some(kind), ..Event::default() }
    }

    fn encoded(event: &Event) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(event, &mut bytes);
        bytes
    }

    #[test]
    fn a_batch_decodes_to_what_was_packed() {
        let mut packer = packer();
        let events = [event(1, 0), event(2, 10), event(3, 300)];
        for event in &events {
            assert!(packer.push(&encoded(event)).is_none());
        }
        let sealed = packer.seal().unwrap();
        let batch = wire::decode_batch(&sealed.payload).unwrap();
        assert_eq!((batch.slot.as_str(), batch.instance, batch.number), ("ingest-0", 7, 1));
        assert_eq!(batch.events, events);
        assert_eq!(sealed.events, 3);
    }

    #[test]
    fn an_empty_batch_takes_no_number() {
        let mut packer = packer();
        assert!(packer.seal().is_none());
        packer.push(&encoded(&event(1, 0)));
        assert_eq!(packer.seal().unwrap().number, 1);
        assert!(packer.seal().is_none());
        packer.push(&encoded(&event(1, 0)));
        assert_eq!(packer.seal().unwrap().number, 2);
    }

    #[test]
    fn a_hundred_events_are_a_batch() {
        let mut packer = packer();
        let sealed: Vec<_> = (0..250).filter_map(|_| packer.push(&encoded(&event(1, 1)))).collect();
        assert_eq!(sealed.iter().map(|batch| (batch.number, batch.events)).collect::<Vec<_>>(), [(1, 100), (2, 100)]);
        assert_eq!(packer.seal().unwrap().events, 50);
    }

    #[test]
    fn no_batch_is_larger_than_the_limit_and_no_event_is_lost() {
        let mut packer = packer();
        let mut sealed: Vec<_> = (0..200).filter_map(|_| packer.push(&encoded(&event(1, 4000)))).collect();
        sealed.extend(packer.seal());
        assert!(sealed.iter().all(|batch| batch.payload.len() <= MAX_BYTES));
        assert_eq!(sealed.iter().map(|batch| batch.events).sum::<usize>(), 200);
        assert!(sealed.iter().enumerate().all(|(index, batch)| batch.number == index as u64 + 1));
    }
}
