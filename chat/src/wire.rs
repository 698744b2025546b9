//! What travels in a shard's stream: the types of `proto/clamor/v1/stream.proto` and their codec.
//!
//! The types are generated and checked in; a test holds them to the schema. Decoding never panics and refuses what no
//! writer of ours would send before it allocates for it.

use prost::Message as _;
use prost::encoding::{DecodeContext, WireType, decode_key, skip_field};
use thiserror::Error;

#[allow(missing_docs, clippy::all, rustdoc::all, unreachable_pub, reason = "generated from stream.proto")]
mod generated {
    include!("generated/clamor.v1.rs");
}
pub use generated::*;

/// The header that names the schema of a message on the bus.
pub const SCHEMA_HEADER: &str = "Clamor-Schema";
/// Its value: the schema that this build writes and reads.
pub const SCHEMA: &str = "1";

/// Most events that a writer puts into a batch.
pub const MAX_EVENTS: usize = 100;
/// Most bytes of a batch that a writer sends.
pub const MAX_BYTES: usize = 64 * 1024;

/// A reader takes four times what a writer may send: limits can be raised without a new schema.
const MAX_DECODED_EVENTS: usize = 4 * MAX_EVENTS;
const MAX_DECODED_BYTES: usize = 4 * MAX_BYTES;
/// Field number of `Batch.events`.
const EVENTS_FIELD: u32 = 4;

/// Why a message from the bus was not understood. It goes to the dead letters under [`WireError::reason`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WireError {
    /// Another schema, or none.
    #[error("schema {found:?} where {SCHEMA:?} is understood")]
    Schema {
        /// What the header said; absent: there was none.
        found: Option<String>,
    },
    /// More bytes than any writer sends.
    #[error("{bytes} bytes are more than {MAX_DECODED_BYTES}")]
    TooLarge {
        /// Its length.
        bytes: usize,
    },
    /// More events than any writer sends.
    #[error("more than {MAX_DECODED_EVENTS} events")]
    TooManyEvents,
    /// Not the protobuf message that it should be.
    #[error("failed to decode")]
    Undecodable(#[from] prost::DecodeError),
}

impl WireError {
    /// All reasons: the closed label set of the dead letter counter.
    pub const REASONS: [&'static str; 4] = ["schema", "too_large", "too_many_events", "undecodable"];

    /// The constant that metric label, dead letter and log share.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Schema { .. } => "schema",
            Self::TooLarge { .. } => "too_large",
            Self::TooManyEvents => "too_many_events",
            Self::Undecodable(_) => "undecodable",
        }
    }
}

/// Whether a message with this [`SCHEMA_HEADER`] can be read.
///
/// # Errors
/// [`WireError::Schema`] where it names another schema or none.
pub fn check_schema(header: Option<&str>) -> Result<(), WireError> {
    if header == Some(SCHEMA) { Ok(()) } else { Err(WireError::Schema { found: header.map(str::to_owned) }) }
}

/// Encodes a batch. The caller packs: at most [`MAX_EVENTS`] and [`MAX_BYTES`], by [`Event::packed_len`].
#[must_use]
pub fn encode_batch(batch: &Batch) -> Vec<u8> {
    batch.encode_to_vec()
}

/// Decodes a batch.
///
/// # Errors
/// Too large, too many events, or not a batch.
pub fn decode_batch(bytes: &[u8]) -> Result<Batch, WireError> {
    if bytes.len() > MAX_DECODED_BYTES {
        return Err(WireError::TooLarge { bytes: bytes.len() });
    }
    if count_events(bytes)? > MAX_DECODED_EVENTS {
        return Err(WireError::TooManyEvents);
    }
    Ok(Batch::decode(bytes)?)
}

/// Encodes a directive.
#[must_use]
pub fn encode_directive(directive: &Directive) -> Vec<u8> {
    directive.encode_to_vec()
}

/// Decodes a directive.
///
/// # Errors
/// Too large, or not a directive.
pub fn decode_directive(bytes: &[u8]) -> Result<Directive, WireError> {
    if bytes.len() > MAX_DECODED_BYTES {
        return Err(WireError::TooLarge { bytes: bytes.len() });
    }
    Ok(Directive::decode(bytes)?)
}

/// Counts a batch's events without building them: an empty event takes 2 bytes here and hundreds in memory.
fn count_events(mut bytes: &[u8]) -> Result<usize, prost::DecodeError> {
    let mut events = 0;
    while !bytes.is_empty() {
        let (field, wire_type) = decode_key(&mut bytes)?;
        events += usize::from(field == EVENTS_FIELD && wire_type == WireType::LengthDelimited);
        skip_field(wire_type, field, &mut bytes, DecodeContext::default())?;
    }
    Ok(events)
}

impl Event {
    /// The event key; 0 where duplicates do not matter.
    #[must_use]
    pub fn key(&self) -> u128 {
        u128::from(self.key_high) << 64 | u128::from(self.key_low)
    }

    /// Sets the event key.
    pub fn set_key(&mut self, key: u128) {
        let [high, low] = [key >> 64, key & u128::from(u64::MAX)].map(u64::try_from);
        (self.key_high, self.key_low) = (high.unwrap_or_default(), low.unwrap_or_default());
    }

    /// How many bytes this event adds to an encoded batch.
    #[must_use]
    pub fn packed_len(&self) -> usize {
        let len = self.encoded_len();
        1 + prost::length_delimiter_len(len) + len
    }

    /// Whether this is the copy of an event of another room (shared chat): it enters only `mirrored`.
    #[must_use]
    pub fn is_mirrored(&self) -> bool {
        let source = match &self.kind {
            Some(event::Kind::Message(message)) => message.source_channel_id,
            Some(event::Kind::UserNotice(notice)) => notice.source_channel_id,
            _ => 0,
        };
        source != 0 && source != self.channel_id
    }
}

impl Batch {
    /// How many bytes the batch takes without its events, at most.
    #[must_use]
    pub fn header_len(slot: &str) -> usize {
        // Keys of one byte each; the slot with its length, a fixed64, a varint of up to 10 bytes.
        1 + prost::length_delimiter_len(slot.len()) + slot.len() + 9 + 11
    }
}
