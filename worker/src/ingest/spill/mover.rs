//! Decides when batches go from memory to disk, and has it done on a thread that may wait.
//!
//! A shard that has something on disk gets all that comes after it there, too, twice a second, and so do others whose
//! publish hangs meanwhile: a kill then costs no more than that. When its publisher has read everything, a shard goes on
//! from memory.

use super::Spill;
use crate::ingest::outlet::Outlet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// While something is spilled.
const PERIOD: Duration = Duration::from_millis(500);
/// Written, but only in the system's memory: a power cut costs no more than this.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// An instance that was stopped while this one started leaves its spill later.
const ADOPT_EVERY: Duration = Duration::from_secs(30);

/// When things were done last.
struct Turns {
    adopted_at: Option<Instant>,
    synced_at: Instant,
}

/// Never ends by itself, unless it panics.
pub(in crate::ingest) async fn run(outlet: Arc<Outlet>, spill: Arc<Spill>) {
    let mut turns = Turns { adopted_at: None, synced_at: Instant::now() };
    loop {
        let (outlet_there, spill_there) = (Arc::clone(&outlet), Arc::clone(&spill));
        let turned = tokio::task::spawn_blocking(move || {
            turns.turn(&outlet_there, &spill_there);
            turns
        });
        // Ended by a panic: so does the role.
        let Ok(returned) = turned.await else { return };
        turns = returned;
        let pause = if outlet.is_spilling() || spill.is_failing() { PERIOD } else { ADOPT_EVERY };
        tokio::select! {
            // A disk that takes nothing is not asked for every batch.
            () = outlet.spill_is_due(), if !spill.is_failing() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

impl Turns {
    fn turn(&mut self, outlet: &Outlet, spill: &Spill) {
        if self.adopted_at.is_none_or(|adopted| adopted.elapsed() >= ADOPT_EVERY) {
            self.adopted_at = Some(Instant::now());
            for shard in spill.adopt() {
                outlet.has_spilled(shard);
            }
        }
        while outlet.spill_some(spill) {
            hold_limit(outlet, spill);
        }
        hold_limit(outlet, spill);
        if self.synced_at.elapsed() >= SYNC_EVERY {
            self.synced_at = Instant::now();
            spill.sync();
        }
        spill.show();
    }
}

fn hold_limit(outlet: &Outlet, spill: &Spill) {
    for shard in spill.hold_limit() {
        outlet.lost_from_disk(shard);
    }
}
