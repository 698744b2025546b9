//! What does not fit into memory while the bus is away: batches on disk, in the order of their numbers.
//!
//! ```text
//!   outlet: ring ──► chain of a shard: [left by an ended instance] [ours] [ours, appended to] ──► publisher
//! ```
//!
//! Invariants:
//! - no lock that a socket takes is held here, and nothing here runs on a thread of the runtime's workers;
//! - a shard's batches leave in the order in which they came, under the instance and number of who wrote them;
//! - a segment is removed when all of it is published; beyond the limit the oldest one is dropped, and counted;
//! - an error of the disk costs what could not be written, never more, and is logged once until it is over.
//!
//! Parts: [`record`] (bytes, pure), [`segment`] (one file), [`chain`] (a shard's files), [`folder`] (whose they are),
//! [`mover`] (when).

mod chain;
mod folder;
pub(super) mod mover;
mod record;
mod segment;
#[cfg(test)]
mod tests;

use super::locked;
use super::metrics::IngestMetrics;
use super::options::SpillOptions;
use super::packer::Sealed;
use chain::{Chain, Lost};
use folder::Folder;
use record::Header;
use segment::Segment;
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use thiserror::Error;

/// A segment is this long, unless the limit is small: long enough to be few, short enough to be dropped singly.
const SEGMENT_BYTES: u64 = 8 << 20;
/// Of the limit, one segment is at most this part.
const SEGMENTS_AT_LIMIT: u64 = 8;
/// And no shorter than this: a batch is up to 64 KiB.
const LEAST_SEGMENT_BYTES: u64 = 128 << 10;

/// The folder cannot be used.
#[derive(Debug, Error)]
#[error("failed to use --spill-dir {}", dir.display())]
pub struct SpillError {
    /// The folder.
    dir: PathBuf,
    /// Why.
    source: io::Error,
}

/// The spill of one instance.
pub(super) struct Spill {
    dir: PathBuf,
    pipeline: PathBuf,
    limit_bytes: u64,
    segment_bytes: u64,
    shards: u16,
    chains: Vec<Mutex<Chain>>,
    /// The last try to write failed.
    failing: AtomicBool,
    metrics: Arc<IngestMetrics>,
}

impl Spill {
    /// Makes this instance's folder. `Ok(None)`: the disk is full at the moment, and there is no spill.
    pub(super) fn open(
        options: &SpillOptions,
        pipeline: &str,
        (instance, shards): (u64, u16),
        metrics: &Arc<IngestMetrics>,
    ) -> Result<Option<Self>, SpillError> {
        let pipeline = options.dir.join(pipeline);
        let folder = match Folder::create(&pipeline, instance) {
            Ok(folder) => folder,
            Err(error) if is_full(&error) => {
                tracing::error!(%error, "no room below {} (SPILL_DIR): going on without a spill", options.dir.display());
                return Ok(None);
            }
            Err(source) => return Err(SpillError { dir: options.dir.clone(), source }),
        };
        let segment_bytes = (options.limit_bytes / SEGMENTS_AT_LIMIT).clamp(LEAST_SEGMENT_BYTES, SEGMENT_BYTES);
        let numbers = Arc::default();
        let chain = |shard| {
            let header = Header { instance, number: 0, shards, shard };
            Mutex::new(Chain::new(&folder, header, &numbers, segment_bytes))
        };
        Ok(Some(Self {
            dir: options.dir.clone(),
            pipeline,
            limit_bytes: options.limit_bytes,
            segment_bytes,
            shards,
            chains: (0..shards).map(chain).collect(),
            failing: AtomicBool::new(false),
            metrics: Arc::clone(metrics),
        }))
    }

    /// After so many bytes of a shard a snapshot helps whoever loses what comes before.
    pub(super) fn snapshot_every(&self) -> u64 {
        self.segment_bytes / 2
    }

    /// A shard's files. Held while batches go from memory to disk or back, so that nobody sees them in neither.
    pub(super) fn chain(&self, shard: u16) -> MutexGuard<'_, Chain> {
        locked(&self.chains[usize::from(shard)])
    }

    /// Appends the first of these batches and takes them out. False: the disk does not take them.
    pub(super) fn append(&self, chain: &mut Chain, batches: &mut VecDeque<Sealed>) -> bool {
        match chain.append(batches) {
            Ok((count, bytes)) => {
                batches.drain(..count);
                self.metrics.spilled_batches.inc_by(count as u64);
                self.metrics.spilled_bytes.inc_by(bytes);
                if self.failing.swap(false, Ordering::Relaxed) {
                    tracing::info!("chat is spilled again below {} (SPILL_DIR)", self.dir.display());
                }
                true
            }
            Err(error) => {
                self.failed("write", &error);
                false
            }
        }
    }

    /// The next batches of a shard; none: it has nothing on disk.
    pub(super) fn read(&self, chain: &mut Chain) -> Vec<Sealed> {
        loop {
            let Some(found) = chain.read() else { return Vec::new() };
            let found = found.unwrap_or_else(|error| {
                self.failed("read", &error);
                segment::Found { batches: Vec::new(), damaged: true }
            });
            if found.damaged {
                tracing::warn!("a spill segment is damaged: what it holds from there on is lost, and shows as a gap");
                self.lost("spill_damaged", Lost { batches: 1, events: 0 });
            }
            if !found.batches.is_empty() {
                return found.batches;
            }
        }
    }

    /// Drops the oldest segments until the rest is within the limit; the shards that lost something of ours.
    pub(super) fn hold_limit(&self) -> Vec<u16> {
        let mut shards = Vec::new();
        while self.bytes() > self.limit_bytes {
            let oldest = (0..self.shards).filter_map(|shard| Some((self.chain(shard).oldest()?, shard))).min();
            let Some((_, shard)) = oldest else { break };
            let lost = self.chain(shard).drop_oldest();
            if self.metrics.batches_dropped.with_label_values(&["spill_limit"]).get() == 0 {
                tracing::error!(
                    "the spill below {} has reached SPILL_LIMIT_BYTES ({}): the oldest chat is lost, and shows as a gap",
                    self.dir.display(),
                    self.limit_bytes
                );
            }
            self.lost("spill_limit", lost);
            shards.push(shard);
        }
        shards
    }

    /// Takes over what ended instances left behind; the shards that have something of it.
    pub(super) fn adopt(&self) -> Vec<u16> {
        let folders = Folder::orphans(&self.pipeline).unwrap_or_else(|error| {
            self.failed("list", &error);
            Vec::new()
        });
        let mut shards = Vec::new();
        for folder in folders {
            let paths = folder.segments().unwrap_or_else(|error| {
                self.failed("list", &error);
                Vec::new()
            });
            let adopted: Vec<Segment> = paths.iter().filter_map(|path| self.adopt_segment(&folder, path)).collect();
            if !adopted.is_empty() {
                let bytes = adopted.iter().map(Segment::bytes).sum::<u64>();
                tracing::info!(segments = adopted.len(), bytes, folder = %folder.path().display(), "an ended instance left chat behind: publishing it");
            }
            for segment in adopted {
                let shard = segment.header().shard;
                if let Err(error) = self.chain(shard).adopt(segment) {
                    self.failed("sync", &error);
                }
                shards.push(shard);
            }
        }
        shards
    }

    fn adopt_segment(&self, folder: &Arc<Folder>, path: &Path) -> Option<Segment> {
        match Segment::adopt(folder, path) {
            Ok(Some(segment)) if segment.header().shards == self.shards && segment.header().shard < self.shards => {
                return Some(segment);
            }
            Ok(Some(segment)) => {
                let shards = segment.header().shards;
                tracing::error!(path = %path.display(), "a spill segment is of a pipeline with {shards} shards: lost");
            }
            Ok(None) => tracing::warn!(path = %path.display(), "a spill segment has no whole header: lost"),
            Err(error) => {
                self.failed("read", &error);
                return None;
            }
        }
        self.lost("spill_damaged", Lost { batches: 1, events: 0 });
        if let Err(error) = std::fs::remove_file(path) {
            self.failed("remove", &error);
        }
        None
    }

    /// Writes what is only in the system's memory.
    pub(super) fn sync(&self) {
        for chain in &self.chains {
            if let Err(error) = locked(chain).sync() {
                self.failed("sync", &error);
            }
        }
    }

    /// Bytes on disk.
    pub(super) fn bytes(&self) -> u64 {
        self.chains.iter().map(|chain| locked(chain).bytes()).sum()
    }

    /// Whether the disk did not take what it was given last.
    pub(super) fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    /// Shows how much there is.
    pub(super) fn show(&self) {
        let segments: usize = self.chains.iter().map(|chain| locked(chain).len()).sum();
        self.metrics.spill_segments.set(i64::try_from(segments).unwrap_or(i64::MAX));
        self.metrics.spill_bytes.set(i64::try_from(self.bytes()).unwrap_or(i64::MAX));
    }

    fn lost(&self, reason: &'static str, Lost { batches, events }: Lost) {
        self.metrics.batches_dropped.with_label_values(&[reason]).inc_by(batches);
        self.metrics.events_dropped.with_label_values(&[reason]).inc_by(events);
    }

    fn failed(&self, action: &'static str, error: &io::Error) {
        self.metrics.spill_failures.with_label_values(&[action]).inc();
        // Once until it works again: the metric counts the rest.
        if !self.failing.swap(true, Ordering::Relaxed) {
            tracing::error!(
                %error,
                "failed to {action} below {} (SPILL_DIR): what waits stays in memory up to QUEUE_BYTES, and beyond it the \
                 oldest is lost",
                self.dir.display()
            );
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
