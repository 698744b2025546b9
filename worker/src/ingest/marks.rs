//! Once a second, until when each connection was surely heard; once a minute, and after a drop, what it hears.

use super::connection::Connections;
use super::metrics::IngestMetrics;
use super::outlet::Outlet;
use super::wall_ms;
use crate::health::Health;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::MissedTickBehavior;

/// The loop's name for `/livez`.
pub(super) const LOOP: &str = "ingest_marks";
/// Between two marks.
const PERIOD: Duration = Duration::from_secs(1);
/// Snapshots every so many marks. The shards take turns, so that they do not all speak in one second.
const SNAPSHOT_TICKS: u64 = 60;

/// Never ends by itself.
pub(super) async fn run(
    connections: Arc<Connections>,
    outlet: Arc<Outlet>,
    metrics: Arc<IngestMetrics>,
    health: Health,
) {
    let mut ticks = tokio::time::interval(PERIOD);
    // After a pause of the machine one mark says everything.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut tick = 0;
    loop {
        ticks.tick().await;
        health.beat(LOOP);
        tick += 1;
        mark(&connections, &outlet, tick);
        let (batches, bytes) = outlet.depth();
        metrics.queue_batches.set(i64::try_from(batches).unwrap_or(i64::MAX));
        metrics.queue_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}

fn mark(connections: &Connections, outlet: &Outlet, tick: u64) {
    let now_ms = wall_ms();
    // Before any shard is locked: see `Outlet::mark`.
    let heard_until: BTreeMap<u32, u64> = connections.heard_until(now_ms);
    for shard in 0..outlet.shards() {
        let snapshot = (tick + u64::from(shard)).is_multiple_of(SNAPSHOT_TICKS);
        outlet.mark(shard, &heard_until, snapshot, now_ms);
    }
}
