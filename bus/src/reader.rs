//! Reading a shard's stream in order, from where we stand.
//!
//! A plain pull consumer without acknowledgements: JetStream's memory of us is never trusted. Anything that may mean a
//! lost message (a hole in the consumer's numbering, a missed heartbeat, a deleted consumer) ends the reader with an
//! error; the caller looks at the stream and reads on from its own sequence.

use crate::streams::millis;
use crate::{Bus, BusError};
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use bytes::Bytes;
use clamor_chat::subject::Kind;
use clamor_chat::wire::SCHEMA_HEADER;
use futures::StreamExt;
use std::time::Duration;
use time::OffsetDateTime;

/// Bytes that one pull asks for: a few hundred full batches, so that a reader at full speed never waits for a round
/// trip, and little enough to hold for every shard.
const PULL_BYTES: usize = 4 * 1024 * 1024;
/// How long a pull waits before it is renewed; at rest this is all that a reader sends.
const PULL_EXPIRES: Duration = Duration::from_secs(30);
/// The server shows that it lives this often while there is nothing to send; two missed ones end the reader.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// The server forgets a consumer that nobody pulls from for so long.
const INACTIVE_THRESHOLD: Duration = Duration::from_secs(60);

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With this sequence, or the first that is there after it.
    Sequence(u64),
    /// With the first message stored at or after this time, in ms since the epoch.
    Time(u64),
}

/// One message of a shard's stream.
#[derive(Debug, Clone)]
pub struct StreamMessage {
    /// Its place in the stream.
    pub seq: u64,
    /// JetStream's timestamp, in ms since the epoch.
    pub stream_time_ms: u64,
    /// What it is.
    pub kind: Kind,
    /// Its `Nats-Msg-Id`.
    pub msg_id: Option<String>,
    /// Its schema header, for [`clamor_chat::wire::check_schema`].
    pub schema: Option<String>,
    /// The encoded batch or directive.
    pub payload: Bytes,
    /// How many messages the stream holds after it, when it was sent: 0 means caught up.
    pub pending: u64,
}

/// Reads one stream, whole and in order.
pub struct ShardReader {
    messages: pull::Stream,
    shard: u16,
    delivered: u64,
}

impl std::fmt::Debug for ShardReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ShardReader").field("shard", &self.shard).finish_non_exhaustive()
    }
}

impl Bus {
    /// Begins to read a shard.
    ///
    /// # Errors
    /// A failed request, also where the stream is not there.
    pub async fn read(&self, shard: u16, start: Start) -> Result<ShardReader, BusError> {
        let action = || format!("read shard {shard}");
        let config = pull::Config {
            deliver_policy: deliver_policy(start),
            ack_policy: AckPolicy::None,
            inactive_threshold: INACTIVE_THRESHOLD,
            memory_storage: true,
            num_replicas: 1,
            ..pull::Config::default()
        };
        let stream = self.stream(shard).await?;
        let consumer = stream.create_consumer(config).await.map_err(|error| BusError::request(action(), error))?;
        let pulls = consumer.stream().max_bytes_per_batch(PULL_BYTES).expires(PULL_EXPIRES).heartbeat(HEARTBEAT);
        let messages = pulls.messages().await.map_err(|error| BusError::request(action(), error))?;
        Ok(ShardReader { messages, shard, delivered: 0 })
    }
}

impl ShardReader {
    /// The next message. Waits for as long as there is none. Cancel-safe.
    ///
    /// # Errors
    /// The reader is of no more use: read on with a new one.
    pub async fn next(&mut self) -> Result<StreamMessage, BusError> {
        let failed = |reason: String| BusError::request(format!("read shard {}", self.shard), reason);
        let message = match self.messages.next().await {
            Some(Ok(message)) => message,
            Some(Err(error)) => return Err(failed(error.to_string())),
            None => return Err(failed("the consumer ended".to_owned())),
        };
        let info = message.info().map_err(|error| failed(error.to_string()))?;
        self.delivered += 1;
        if info.consumer_sequence != self.delivered {
            return Err(failed(format!("delivery {} came where {} was due", info.consumer_sequence, self.delivered)));
        }
        let header = |name: &str| message.headers.as_ref()?.get(name).map(ToString::to_string);
        Ok(StreamMessage {
            seq: info.stream_sequence,
            stream_time_ms: millis(info.published),
            kind: Kind::of(&message.subject),
            msg_id: header(async_nats::header::NATS_MESSAGE_ID.as_ref()),
            schema: header(SCHEMA_HEADER),
            pending: info.pending,
            payload: message.payload.clone(),
        })
    }
}

fn deliver_policy(start: Start) -> DeliverPolicy {
    match start {
        Start::Sequence(0 | 1) => DeliverPolicy::All,
        Start::Sequence(start_sequence) => DeliverPolicy::ByStartSequence { start_sequence },
        Start::Time(ms) => match OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000) {
            Ok(start_time) => DeliverPolicy::ByStartTime { start_time },
            Err(_) => DeliverPolicy::All,
        },
    }
}
