//! The shards' streams: making them, writing batches, asking how they stand.
//!
//! Invariant: the metadata of each stream, and of what lies under each bucket, says for how many shards and for whom it was
//! made; another count or owner is refused and starts nothing.

use crate::control::ensure_buckets;
use crate::{Bus, BusError};
use async_nats::jetstream::{
    context::{CreateStreamErrorKind, PublishError, PublishErrorKind},
    message::PublishMessage,
    stream::{Config, DiscardPolicy, RetentionPolicy, StorageType, Stream},
};
use bytes::Bytes;
use clamor_chat::wire::{SCHEMA, SCHEMA_HEADER};
use std::collections::HashMap;
use std::time::Duration;
use time::format_description::well_known::Rfc3339;

/// Metadata key of a stream: the pipeline's shard count.
const SHARDS_KEY: &str = "clamor.dev/shards";
/// Metadata key of a stream: whose it is.
const OWNER_KEY: &str = "clamor.dev/owner";
/// How long NATS remembers message ids. Our own batch numbers are what counts; this spares the stream most retries.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);
/// Dead letters are for people to look at: a week, or this many bytes.
const DEAD_MAX_AGE: Duration = Duration::from_secs(7 * 24 * 3600);
const DEAD_MAX_BYTES: i64 = 256 * 1024 * 1024;

/// Limits of each shard's stream.
#[derive(Debug, Clone, Copy)]
pub struct StreamLimits {
    /// How long chat is kept; at least 24 h.
    pub max_age: Duration,
    /// How many bytes; a full stream refuses new chat (the workers then spill).
    pub max_bytes: u64,
}

/// JetStream has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishAck {
    /// Where it stands in the stream.
    pub sequence: u64,
    /// It was there before: the acknowledgement of an earlier try was lost.
    pub duplicate: bool,
}

/// How a stream stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamState {
    /// When it was created (RFC 3339): another value is another stream.
    pub created: String,
    /// The oldest sequence that it holds.
    pub first_seq: u64,
    /// The newest sequence.
    pub last_seq: u64,
    /// Bytes held.
    pub bytes: u64,
    /// Bytes allowed; 0: no limit.
    pub max_bytes: u64,
}

/// A message found by its sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its `Nats-Msg-Id`; empty: none.
    pub msg_id: String,
    /// JetStream's timestamp, in ms since the epoch.
    pub stream_time_ms: u64,
}

impl Bus {
    /// Makes what is missing: a stream for each shard, the dead-letter stream, the buckets. Idempotent.
    ///
    /// # Errors
    /// [`BusError::ShardMismatch`] or [`BusError::OwnerMismatch`] where streams of another count or owner are there;
    /// otherwise a failed request.
    pub async fn ensure(&self, shards: u16, limits: &StreamLimits) -> Result<(), BusError> {
        for shard in 0..shards {
            self.ensure_stream(self.shard_config(shard, shards, limits), shards).await?;
        }
        self.ensure_stream(self.dead_config(shards), shards).await?;
        ensure_buckets(self).await?;
        for name in self.names().bucket_streams() {
            self.ensure_owned(&name, shards).await?;
        }
        Ok(())
    }

    /// Marks the stream that lies under a bucket, which is made without metadata.
    async fn ensure_owned(&self, name: &str, shards: u16) -> Result<(), BusError> {
        let found = self.jetstream().get_stream(name).await;
        let found = found.map_err(|error| BusError::request(format!("look up stream {name}"), error))?;
        let mut config = found.cached_info().config.clone();
        if self.is_unmarked(&config, shards)? {
            config.metadata.extend(self.marks(shards));
            self.update(config).await?;
        }
        Ok(())
    }

    /// Whether nobody has said whose the stream is.
    fn is_unmarked(&self, found: &Config, shards: u16) -> Result<bool, BusError> {
        let stream = found.name.clone();
        let owner = found.metadata.get(OWNER_KEY);
        if let Some(owner) = owner.filter(|owner| *owner != self.owner()) {
            let wanted = self.owner().to_owned();
            return Err(BusError::OwnerMismatch { stream, found: owner.clone(), wanted });
        }
        let count = found.metadata.get(SHARDS_KEY);
        if let Some(count) = count.filter(|count| **count != shards.to_string()) {
            return Err(BusError::ShardMismatch { stream, found: count.clone(), wanted: shards });
        }
        Ok(owner.is_none() || count.is_none())
    }

    fn marks(&self, shards: u16) -> HashMap<String, String> {
        [(SHARDS_KEY, shards.to_string()), (OWNER_KEY, self.owner().to_owned())]
            .map(|(key, value)| (key.to_owned(), value))
            .into()
    }

    async fn update(&self, config: Config) -> Result<(), BusError> {
        let action = format!("change stream {}", config.name);
        self.jetstream().update_stream(config).await.map(drop).map_err(|error| BusError::request(action, error))
    }

    async fn ensure_stream(&self, config: Config, shards: u16) -> Result<(), BusError> {
        let name = config.name.clone();
        let found = match self.jetstream().get_stream(&name).await {
            Ok(stream) => stream.cached_info().config.clone(),
            Err(_) => match self.jetstream().create_stream(config.clone()).await {
                Ok(stream) => stream.cached_info().config.clone(),
                Err(error) => return Err(create_error(&name, &error)),
            },
        };
        let is_unmarked = self.is_unmarked(&found, shards)?;
        if is_unmarked || found.max_age != config.max_age || found.max_bytes != config.max_bytes {
            self.update(config).await?;
        }
        Ok(())
    }

    fn shard_config(&self, shard: u16, shards: u16, limits: &StreamLimits) -> Config {
        Config {
            name: self.names().stream(shard),
            subjects: vec![self.names().subjects(shard)],
            description: Some("Clamor: chat and directives of one shard".to_owned()),
            max_age: limits.max_age,
            max_bytes: i64::try_from(limits.max_bytes).unwrap_or(i64::MAX),
            discard: DiscardPolicy::New,
            duplicate_window: DUPLICATE_WINDOW,
            ..self.base_config(shards)
        }
    }

    fn dead_config(&self, shards: u16) -> Config {
        Config {
            name: self.names().dead_stream(),
            subjects: vec![self.names().dead_subjects()],
            description: Some("Clamor: what could not be decoded or stored".to_owned()),
            max_age: DEAD_MAX_AGE,
            max_bytes: DEAD_MAX_BYTES,
            discard: DiscardPolicy::Old,
            ..self.base_config(shards)
        }
    }

    fn base_config(&self, shards: u16) -> Config {
        Config {
            retention: RetentionPolicy::Limits,
            storage: StorageType::File,
            num_replicas: 1,
            allow_direct: true,
            metadata: self.marks(shards),
            ..Config::default()
        }
    }

    /// The shard count that the streams were made for; `None`: there are none yet.
    ///
    /// # Errors
    /// A failed request.
    pub async fn shards(&self) -> Result<Option<u16>, BusError> {
        match self.jetstream().get_stream(self.names().stream(0)).await {
            Ok(stream) => Ok(stream.cached_info().config.metadata.get(SHARDS_KEY).and_then(|count| count.parse().ok())),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(BusError::request("look up the first shard's stream", error)),
        }
    }

    /// Publishes one batch and awaits its acknowledgement.
    ///
    /// # Errors
    /// A failed request (unknown outcome: publish again with the same id), or [`BusError::Full`].
    pub async fn publish_batch(&self, shard: u16, msg_id: &str, payload: Bytes) -> Result<PublishAck, BusError> {
        let message = PublishMessage::build().payload(payload).message_id(msg_id).header(SCHEMA_HEADER, SCHEMA);
        self.publish(self.names().batch(shard), message).await
    }

    pub(crate) async fn publish(&self, subject: String, message: PublishMessage) -> Result<PublishAck, BusError> {
        let failed = |error: PublishError| publish_error(&subject, &error);
        let ack =
            self.jetstream().send_publish(subject.clone(), message).await.map_err(failed)?.await.map_err(failed)?;
        Ok(PublishAck { sequence: ack.sequence, duplicate: ack.duplicate })
    }

    /// Puts what cannot be decoded or stored where people can look at it. `reason` is one of a closed list.
    ///
    /// # Errors
    /// A failed request.
    pub async fn dead_letter(&self, shard: u16, reason: &'static str, payload: Bytes) -> Result<(), BusError> {
        let message = PublishMessage::build().payload(payload).header("Clamor-Reason", reason);
        self.publish(self.names().dead(shard), message).await.map(drop)
    }

    /// How a shard's stream stands.
    ///
    /// # Errors
    /// A failed request, also where the stream is not there.
    pub async fn stream_state(&self, shard: u16) -> Result<StreamState, BusError> {
        let stream = self.stream(shard).await?;
        let info = stream.cached_info();
        let created = info.created.format(&Rfc3339).unwrap_or_else(|_| info.created.to_string());
        Ok(StreamState {
            created,
            first_seq: info.state.first_sequence,
            last_seq: info.state.last_sequence,
            bytes: info.state.bytes,
            max_bytes: u64::try_from(info.config.max_bytes).unwrap_or(0),
        })
    }

    /// The message at this sequence; `None`: it is not (or no longer) there.
    ///
    /// # Errors
    /// A failed request.
    pub async fn message_id_at(&self, shard: u16, seq: u64) -> Result<Option<Found>, BusError> {
        use async_nats::jetstream::stream::RawMessageErrorKind;
        let stream = self.stream(shard).await?;
        match stream.get_raw_message(seq).await {
            Ok(message) => Ok(Some(Found {
                msg_id: message
                    .headers
                    .get(async_nats::header::NATS_MESSAGE_ID)
                    .map(ToString::to_string)
                    .unwrap_or_default(),
                stream_time_ms: millis(message.time),
            })),
            Err(error) if matches!(error.kind(), RawMessageErrorKind::NoMessageFound) => Ok(None),
            Err(error) => Err(BusError::request(format!("read message {seq} of shard {shard}"), error)),
        }
    }

    /// Removes everything up to and including `up_to_seq`.
    ///
    /// # Errors
    /// A failed request.
    pub async fn purge(&self, shard: u16, up_to_seq: u64) -> Result<u64, BusError> {
        let stream = self.stream(shard).await?;
        let purged = stream.purge().sequence(up_to_seq + 1).await;
        purged.map(|done| done.purged).map_err(|error| BusError::request(format!("purge shard {shard}"), error))
    }

    pub(crate) async fn stream(&self, shard: u16) -> Result<Stream, BusError> {
        let name = self.names().stream(shard);
        let stream = self.jetstream().get_stream(&name).await;
        stream.map_err(|error| BusError::request(format!("look up stream {name}"), error))
    }
}

fn is_absent(error: &async_nats::jetstream::context::GetStreamError) -> bool {
    use async_nats::jetstream::{ErrorCode, context::GetStreamErrorKind};
    matches!(error.kind(), GetStreamErrorKind::JetStream(ref inner) if inner.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

fn create_error(name: &str, error: &async_nats::jetstream::context::CreateStreamError) -> BusError {
    use async_nats::jetstream::ErrorCode;
    match error.kind() {
        CreateStreamErrorKind::JetStream(ref inner) if inner.error_code() == ErrorCode::STORAGE_RESOURCES_EXCEEDED => {
            BusError::Full { stream: name.to_owned(), reason: error.to_string() }
        }
        _ => BusError::request(format!("create stream {name}"), error),
    }
}

fn publish_error(subject: &str, error: &PublishError) -> BusError {
    // JetStream answers a full stream with error 10077 (maximum bytes or messages exceeded), a full disk with 10047.
    let text = error.to_string();
    let source = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    let reason = if source.is_empty() || text.contains(&source) { text } else { format!("{text}: {source}") };
    match error.kind() {
        PublishErrorKind::WrongLastSequence => BusError::Conflict { what: subject.to_owned() },
        PublishErrorKind::Other if reason.contains("maximum") || reason.contains("resource") => {
            BusError::Full { stream: subject.to_owned(), reason }
        }
        _ => BusError::request(format!("publish on {subject}"), reason),
    }
}

pub(crate) fn millis(time: time::OffsetDateTime) -> u64 {
    u64::try_from(time.unix_timestamp_nanos() / 1_000_000).unwrap_or(0)
}
