//! Publishes the batches of one shard, one at a time, in the order of their numbers.
//!
//! A publish is repeated under its `Nats-Msg-Id` for as long as it takes, whatever is wrong (no connection, no answer, a
//! full stream, no stream): the stream takes it once, and nothing after it is published before. What waits meanwhile
//! waits in the outlet. Longer after the first try than JetStream remembers ids, the stream may take it twice: its number
//! tells the reader.

use super::metrics::IngestMetrics;
use super::outlet::Outlet;
use super::packer::Sealed;
use crate::protection::Protection;
use async_nats::HeaderMap;
use clamor_bus::Bus;
use clamor_chat::wire::{SCHEMA, SCHEMA_HEADER};
use rand::RngExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Back-off after a failed publish: from, to.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// The publisher of one shard.
pub(super) struct Publisher {
    pub(super) bus: Bus,
    pub(super) outlet: Arc<Outlet>,
    pub(super) metrics: Arc<IngestMetrics>,
    pub(super) shard: u16,
}

impl Publisher {
    /// Ends when the outlet is closed and this shard is empty.
    pub(super) async fn run(self) {
        while let Some(batch) = self.outlet.next(self.shard).await {
            let started = Instant::now();
            let id = message_id(batch.instance, self.shard, batch.number);
            if Protection::Acknowledgement.is_on() {
                self.publish(&id, &batch).await;
            } else {
                self.publish_and_forget(&id, &batch).await;
            }
            self.outlet.published(self.shard);
            self.metrics.publish_seconds.observe(started.elapsed().as_secs_f64());
            self.metrics.batches_published.inc();
            self.metrics.events_published.inc_by(batch.events as u64);
        }
    }

    /// Tries until the stream has it.
    async fn publish(&self, id: &str, batch: &Sealed) {
        let mut failures = 0;
        loop {
            self.connected().await;
            match self.bus.publish_batch(self.shard, id, batch.payload.clone()).await {
                Ok(_) => break,
                Err(error) => {
                    self.metrics.publish_failures.inc();
                    // Once per outage and shard: the metric counts the rest.
                    if failures == 0 {
                        tracing::warn!(shard = self.shard, %error, "failed to publish a batch; trying until it is taken");
                    }
                    tokio::time::sleep(back_off(failures)).await;
                    failures += 1;
                }
            }
        }
        if failures > 0 {
            tracing::info!(shard = self.shard, failures, "batches are taken again");
        }
    }

    /// What the fault suite must notice: whatever becomes of it, it counts as published.
    async fn publish_and_forget(&self, id: &str, batch: &Sealed) {
        self.connected().await;
        let mut headers = HeaderMap::new();
        headers.insert(async_nats::header::NATS_MESSAGE_ID, id);
        headers.insert(SCHEMA_HEADER, SCHEMA);
        let subject = self.bus.names().batch(self.shard);
        let _forgotten = self.bus.client().publish_with_headers(subject, headers, batch.payload.clone()).await;
    }

    /// Waits for a connection: a client that has none keeps what it is given, and every attempt would be kept again.
    async fn connected(&self) {
        while !self.bus.is_connected() {
            tokio::time::sleep(BACK_OFF.0).await;
        }
    }
}

/// The `Nats-Msg-Id` of a batch.
fn message_id(instance: u64, shard: u16, number: u64) -> String {
    format!("{instance:016x}-{shard}-{number}")
}

/// Doubles with each failure, with half of it left to chance: many shards fail at the same time.
fn back_off(failures: u32) -> Duration {
    let (first, last) = BACK_OFF;
    let longest = first.saturating_mul(1 << failures.min(10)).min(last);
    longest.mul_f64(rand::rng().random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_id_names_instance_shard_and_number() {
        assert_eq!(message_id(0xab, 3, 12), "00000000000000ab-3-12");
    }

    #[test]
    fn the_back_off_grows_to_its_bound() {
        assert!(back_off(0) <= BACK_OFF.0);
        assert!((BACK_OFF.1 / 2..=BACK_OFF.1).contains(&back_off(u32::MAX)));
    }
}
