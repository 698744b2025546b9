//! The outlet's side of the spill: called on threads that may wait, never by a socket.
//!
//! A shard's chain is locked before its state, and for as long as batches are in neither.

use super::Outlet;
use crate::ingest::spill::Spill;

/// Taken out of memory at once; the rest can still be dropped, or published, meanwhile.
const MOVE_BYTES: u64 = 1 << 20;

impl Outlet {
    /// Ready when more waits than shall stay in memory.
    pub(in crate::ingest) async fn spill_is_due(&self) {
        self.spill_due.notified().await;
    }

    /// Whether a shard has something on disk.
    pub(in crate::ingest) fn is_spilling(&self) -> bool {
        self.shards.iter().any(|shard| shard.with(|state| state.spilled))
    }

    /// Something was put on this shard's disk that an ended instance had left.
    pub(in crate::ingest) fn has_spilled(&self, shard: u16) {
        let shard = &self.shards[usize::from(shard)];
        shard.with(|state| state.spilled = true);
        shard.wake.notify_one();
    }

    /// Something of this shard was dropped from the disk.
    pub(in crate::ingest) fn lost_from_disk(&self, shard: u16) {
        self.shards[usize::from(shard)].with(|state| state.snapshot_due = true);
    }

    /// Half of what may stay in memory: the disk has time until the other half is full.
    pub(super) fn spill_beyond(&self) -> u64 {
        self.limit_bytes / 2
    }

    /// Brings a piece of what is due to disk. False: nothing is due, or the disk does not take it.
    pub(in crate::ingest) fn spill_some(&self, spill: &Spill) -> bool {
        let spilling = self.is_spilling();
        let due = |shard: &u16| {
            self.shards[usize::from(*shard)].with(|state| {
                let begun = state.spilled && state.has_unspilled();
                // The others wait for the same bus, and would lose by a kill what they have in memory.
                begun || (spilling && state.is_stalled() && state.is_only_in_memory())
            })
        };
        if let Some(shard) = (0..self.count).find(due) {
            return self.spill_shard(spill, shard);
        }
        self.waiting_bytes() > self.spill_beyond() && self.spill_shard(spill, self.fullest())
    }

    /// Brings all that is left in memory to disk, at the end. False: the disk did not take it all.
    pub(in crate::ingest) fn spill_all(&self, spill: &Spill) -> bool {
        (0..self.count).all(|shard| {
            let due = || self.shards[usize::from(shard)].with(|state| state.is_only_in_memory());
            while due() {
                if !self.spill_shard(spill, shard) {
                    return false;
                }
            }
            true
        })
    }

    /// Moves some of one shard to disk.
    fn spill_shard(&self, spill: &Spill, number: u16) -> bool {
        let shard = &self.shards[usize::from(number)];
        let mut chain = spill.chain(number);
        let mut moving = shard.with(|state| state.begin_spill(MOVE_BYTES));
        while !moving.is_empty() {
            if !spill.append(&mut chain, &mut moving) {
                let spilled = !chain.is_empty();
                shard.with(|state| state.return_unspilled(moving, spilled));
                shard.wake.notify_one();
                return false;
            }
        }
        true
    }

    /// Reads a shard's next batches from disk; where there is nothing any more, it goes on from memory.
    pub(super) fn read_back(&self, number: u16) {
        let Some(spill) = &self.spill else { return };
        let mut chain = spill.chain(number);
        let batches = spill.read(&mut chain);
        self.shards[usize::from(number)].with(|state| state.read_back(batches));
    }
}
