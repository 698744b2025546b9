//! Where messages stand: said, heard, acknowledged, counted.

use crate::fleet::{Fleet, LIMIT};
use clamor_simulator::Ledger;
use clamor_testkit::eventually;
use sqlx::Row;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const COUNTED: &str = "SELECT coalesce(sum(messages + mirrored), 0)::bigint FROM channel_minute";
const COUNTED_BY_CHANNEL: &str = "SELECT channel_id, sum(messages)::bigint FROM channel_minute GROUP BY channel_id";
/// What is not counted by then is lost: a lease of a killed owner runs out after 15 s, then its shard is warmed up.
pub(super) const QUIET: Duration = Duration::from_secs(40);
/// The same where no shard waits for a new owner.
pub(super) const QUIET_SOON: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(100);

/// Messages on their way, while chat flows.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    /// By the present instance of each slot.
    pub(super) heard: Vec<u64>,
    /// Events in acknowledged batches, of all slots.
    pub(super) acknowledged: u64,
    /// In the store.
    pub(super) counted: u64,
}

impl Standing {
    /// Heard since `base` by the slot that heard most, and not in the store yet.
    pub(super) fn in_flight(&self, base: &Self) -> u64 {
        let heard = self.heard.iter().zip(&base.heard).map(|(now, before)| now.saturating_sub(*before));
        heard.max().unwrap_or(0).saturating_sub(self.counted - base.counted)
    }
}

/// What became of all that was said, once nothing moves any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Settled {
    pub(super) said: u64,
    pub(super) counted: u64,
    /// Over all channels.
    pub(super) lost: u64,
    pub(super) double: u64,
}

impl Fleet {
    /// Asks the workers first and the store last: what is in flight is rather said too low.
    pub(super) async fn standing(&self) -> Standing {
        let (mut heard, mut acknowledged) = (Vec::new(), 0);
        for worker in &self.ingest {
            let metrics = eventually("a worker's metrics", LIMIT, async || worker.metrics().await).await;
            heard.push(metrics.count("clamor_ingest_messages_total", &[("kind", "message")]) as u64);
            acknowledged += metrics.count("clamor_ingest_events_published_total", &[]) as u64;
        }
        Standing { heard, acknowledged, counted: self.counted().await }
    }

    async fn counted(&self) -> u64 {
        eventually("the store answers", LIMIT, async || self.number(COUNTED).await).await.cast_unsigned()
    }

    /// Commits go on: what happens next hits messages on their way.
    pub(super) async fn flows(&self, base: &Standing) {
        eventually("more is counted", LIMIT, async || match self.counted().await {
            now if now > base.counted + 100 => Ok(()),
            now => Err(format!("{} before, {now} now", base.counted)),
        })
        .await;
    }

    /// Nobody speaks: waits until all that was said is counted, or nothing has moved for so long.
    pub(super) async fn settled(&self, quiet: Duration) -> Settled {
        let ledger: Ledger = self.simulator.ledger().await.unwrap();
        assert!(!ledger.speaking);
        let said: BTreeMap<i64, u64> =
            ledger.channel_totals().iter().map(|(id, counts)| (id.cast_signed(), counts.messages)).collect();
        let (mut last, mut moved) = (None, Instant::now());
        loop {
            let settled = compared(&said, &self.counted_by_channel().await);
            if settled.lost == 0 || moved.elapsed() > quiet {
                return settled;
            }
            if last.replace(settled) != Some(settled) {
                moved = Instant::now();
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn counted_by_channel(&self) -> BTreeMap<i64, u64> {
        let query = async || sqlx::query(COUNTED_BY_CHANNEL).fetch_all(&self.store).await;
        let rows = eventually("the store answers", LIMIT, query).await;
        rows.iter().map(|row| (row.get(0), row.get::<i64, _>(1).cast_unsigned())).collect()
    }
}

fn compared(said: &BTreeMap<i64, u64>, counted: &BTreeMap<i64, u64>) -> Settled {
    let mut settled = Settled { said: said.values().sum(), counted: counted.values().sum(), lost: 0, double: 0 };
    for channel in said.keys().chain(counted.keys().filter(|channel| !said.contains_key(channel))) {
        let of = |sums: &BTreeMap<i64, u64>| sums.get(channel).copied().unwrap_or(0);
        settled.lost += of(said).saturating_sub(of(counted));
        settled.double += of(counted).saturating_sub(of(said));
    }
    settled
}
