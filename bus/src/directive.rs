//! Directives: what the planner puts into a shard's stream, by compare-and-swap on the subject's last sequence.

use crate::{Bus, BusError};
use async_nats::jetstream::{message::PublishMessage, stream::LastRawMessageErrorKind};
use clamor_chat::wire::{Directive, SCHEMA, SCHEMA_HEADER, decode_directive, encode_directive};

impl Bus {
    /// A shard's last directive and its sequence; sequence 0 and `None`: there is none in the stream. One that does not
    /// decode is as good as none, but its sequence is needed to replace it.
    ///
    /// # Errors
    /// A failed request.
    pub async fn last_directive(&self, shard: u16) -> Result<(u64, Option<Directive>), BusError> {
        let stream = self.stream(shard).await?;
        match stream.get_last_raw_message_by_subject(&self.names().directive(shard)).await {
            Ok(message) => Ok((message.sequence, decode_directive(&message.payload).ok())),
            Err(error) if matches!(error.kind(), LastRawMessageErrorKind::NoMessageFound) => Ok((0, None)),
            Err(error) => Err(BusError::request(format!("read the last directive of shard {shard}"), error)),
        }
    }

    /// Publishes a directive if the subject's last sequence is still `expected` (0: none). Gives its sequence.
    ///
    /// # Errors
    /// [`BusError::Conflict`] where another planner wrote in between; otherwise a failed request.
    pub async fn publish_directive(&self, shard: u16, directive: &Directive, expected: u64) -> Result<u64, BusError> {
        let message = PublishMessage::build()
            .payload(encode_directive(directive).into())
            .header(SCHEMA_HEADER, SCHEMA)
            .expected_last_subject_sequence(expected);
        self.publish(self.names().directive(shard), message).await.map(|ack| ack.sequence)
    }
}
