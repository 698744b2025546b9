//! Following keys of a bucket for as long as anybody listens: through lost connections and re-created buckets.
//!
//! A client that has lost its consumer asks for what comes after the last sequence that it saw. In a bucket that was made
//! anew those are other entries, or none for a long time; so it is looked now and then whether the bucket is the same.

use crate::{Bus, BusError};
use async_nats::jetstream::kv::{Operation, Store, Watch};
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use std::time::Duration;
use time::OffsetDateTime;
use tokio::time::Instant;

/// How long to wait before a bucket that cannot be watched is tried again.
const RETRY: Duration = Duration::from_millis(500);
/// How often it is looked whether the bucket is still the same.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// A key and its value; `None`: it was removed.
pub(crate) type Change = (String, Option<Bytes>);

/// What is followed.
struct Keys {
    bus: Bus,
    bucket: String,
    /// A NATS wildcard.
    keys: String,
}

/// A watch of one bucket.
struct Open {
    watch: Watch,
    /// When the bucket was made: another time is another bucket.
    created: OffsetDateTime,
    look_at: Instant,
}

/// All present values of `keys` (a NATS wildcard), then every change. After trouble it begins again with the present
/// values: consumers must take each item as the state, not as a step.
pub(crate) fn watch(bus: Bus, bucket: String, keys: String) -> impl Stream<Item = Change> + Send {
    let keys = Keys { bus, bucket, keys };
    stream::unfold((keys, None), |(keys, mut open)| async move {
        loop {
            let mut opened = match open.take() {
                Some(opened) => opened,
                None => keys.open().await,
            };
            let next = tokio::select! {
                next = opened.watch.next() => next,
                () = tokio::time::sleep_until(opened.look_at) => {
                    opened.look_at = Instant::now() + LOOK_AGAIN;
                    if !keys.was_made_anew(opened.created).await {
                        open = Some(opened);
                    }
                    continue;
                }
            };
            match next {
                Some(Ok(entry)) => {
                    let value = (entry.operation == Operation::Put).then_some(entry.value);
                    return Some(((entry.key, value), (keys, Some(opened))));
                }
                Some(Err(error)) => tracing::debug!(bucket = keys.bucket, %error, "watching again"),
                None => tracing::debug!(bucket = keys.bucket, "the watch ended; watching again"),
            }
            tokio::time::sleep(RETRY).await;
        }
    })
}

impl Keys {
    async fn open(&self) -> Open {
        loop {
            match self.try_open().await {
                Ok(open) => return open,
                Err(error) => tracing::debug!(bucket = self.bucket, %error, "cannot watch yet"),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn try_open(&self) -> Result<Open, BusError> {
        let store = self.bus.bucket(&self.bucket).await?;
        let watch = store.watch_with_history(&self.keys).await;
        let watch = watch.map_err(|error| BusError::request(format!("watch bucket {}", self.bucket), error))?;
        Ok(Open { watch, created: created(&store), look_at: Instant::now() + LOOK_AGAIN })
    }

    /// While nobody answers it is the same.
    async fn was_made_anew(&self, since: OffsetDateTime) -> bool {
        self.bus.bucket(&self.bucket).await.is_ok_and(|store| created(&store) != since)
    }
}

fn created(store: &Store) -> OffsetDateTime {
    store.stream.cached_info().created
}
