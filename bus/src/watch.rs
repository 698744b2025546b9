//! Following keys of a bucket for as long as anybody listens: through lost connections and re-created buckets.

use crate::Bus;
use async_nats::jetstream::kv::{Operation, Watch};
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use std::time::Duration;

/// How long to wait before a bucket that cannot be watched is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// A key and its value; `None`: it was removed.
pub(crate) type Change = (String, Option<Bytes>);

/// All present values of `keys` (a NATS wildcard), then every change. After trouble it begins again with the present
/// values: consumers must take each item as the state, not as a step.
pub(crate) fn watch(bus: Bus, bucket: String, keys: String) -> impl Stream<Item = Change> + Send {
    stream::unfold((bus, bucket, keys, None), |(bus, bucket, keys, mut open)| async move {
        loop {
            let mut watch = match open.take() {
                Some(watch) => watch,
                None => begin(&bus, &bucket, &keys).await,
            };
            match watch.next().await {
                Some(Ok(entry)) => {
                    let value = (entry.operation == Operation::Put).then_some(entry.value);
                    return Some(((entry.key, value), (bus, bucket, keys, Some(watch))));
                }
                Some(Err(error)) => tracing::debug!(bucket, %error, "watching again"),
                None => tracing::debug!(bucket, "the watch ended; watching again"),
            }
            tokio::time::sleep(RETRY).await;
        }
    })
}

async fn begin(bus: &Bus, bucket: &str, keys: &str) -> Watch {
    loop {
        let opened = match bus.jetstream().get_key_value(bucket).await {
            Ok(store) => store.watch_with_history(keys).await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match opened {
            Ok(watch) => return watch,
            Err(error) => tracing::debug!(bucket, error, "cannot watch yet"),
        }
        tokio::time::sleep(RETRY).await;
    }
}
