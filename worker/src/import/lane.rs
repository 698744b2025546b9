//! One lane of a file: asks what others have heard of its channels, counts, commits; chunk after chunk.
//!
//! Lanes share nothing that decides what counts: coverage, unique chatters and the shards' rows are those of channels.

use super::chunk::{Chunk, NAMED, Tally};
use super::count::{Counted, Counting, Judged, question};
use super::covered::{Covered, Span};
use super::error::ImportError;
use super::file::{Importer, blocking};
use super::patience::patiently;
use super::progress::ProgressReport;
use super::summary::{moment, older_than_retention};
use crate::aggregate::delta::{ChannelId, Millis};
use crate::store::{ImportDelta, ImportOutcome, ImportStep, KeptFrom, Progress, RefusedRow, StoreError};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// What the lanes of a file share.
#[derive(Debug)]
pub(super) struct FileImport {
    pub(super) importer: Arc<Importer>,
    pub(super) path: PathBuf,
    pub(super) identity: u64,
    pub(super) kept: KeptFrom,
    pub(super) report: Mutex<ProgressReport>,
    /// It was said that the file is older than what is kept.
    pub(super) warned: AtomicBool,
    /// The process is told to stop, or another lane has failed.
    pub(super) stop: CancellationToken,
}

/// A lane on its way.
#[derive(Debug)]
pub(super) struct Lane {
    file: Arc<FileImport>,
    lane: usize,
    /// Where it stands.
    bytes: u64,
    hash: u128,
    counting: Counting,
    refused: usize,
    /// What it has done.
    pub(super) done: Done,
}

/// What became of a lane's lines in this run.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub(super) judged: Judged,
    pub(super) logins: BTreeMap<ChannelId, String>,
    pub(super) span: Option<(Millis, Millis)>,
    /// What was read up to its last chunk.
    pub(super) tally: Tally,
}

impl Done {
    /// Adds what another lane has done.
    pub(super) fn add(&mut self, other: Self) {
        self.judged.add(&other.judged);
        self.logins.extend(other.logins);
        self.widen(other.span);
        if other.tally.lines < self.tally.lines {
            self.tally = other.tally;
        }
    }

    fn widen(&mut self, other: Option<(Millis, Millis)>) {
        self.span = match (self.span, other) {
            (Some(one), Some(other)) => Some((one.0.min(other.0), one.1.max(other.1))),
            (one, other) => one.or(other),
        };
    }
}

impl Lane {
    pub(super) fn new(file: Arc<FileImport>, lane: usize, Progress { bytes, hash, .. }: Progress) -> Self {
        let counting = Counting::new(file.importer.phrases.clone());
        Self { file, lane, bytes, hash, counting, refused: 0, done: Done::default() }
    }

    /// Adds chunk after chunk, until there are no more or it is told to stop.
    ///
    /// # Errors
    /// What does not pass by itself; the other lanes are told to stop, too.
    pub(super) async fn add(mut self, mut chunks: mpsc::Receiver<Chunk>) -> Result<Self, ImportError> {
        // Whatever comes of this, a panic too.
        let others = self.file.stop.clone().drop_guard();
        loop {
            let chunk = tokio::select! {
                biased;
                () = self.file.stop.cancelled() => break,
                chunk = chunks.recv() => chunk,
            };
            let Some(chunk) = chunk else { break };
            self.note(&chunk);
            let chunk = Arc::new(chunk);
            if !self.chunk(&chunk).await? {
                break;
            }
            let &Tally { lines, earlier, .. } = &chunk.tally;
            self.file.report.lock().unwrap_or_else(PoisonError::into_inner).lines(self.lane, lines, earlier);
            self.done.tally = chunk.tally.clone();
        }
        others.disarm();
        Ok(self)
    }

    /// What is said before the first chunk is counted, and what the summary says.
    fn note(&mut self, chunk: &Chunk) {
        if !chunk.events.is_empty() {
            if let Some(older) = older_than_retention(self.file.kept, chunk.span.0)
                && !self.file.warned.swap(true, Ordering::Relaxed)
            {
                tracing::warn!(file = %self.file.path.display(), "{older}");
            }
            self.done.widen(Some(chunk.span));
        }
        self.done.logins.extend(chunk.logins.iter().map(|(&channel, (login, _))| (channel, login.clone())));
    }

    /// Counts a chunk and commits it; false: told to stop before it was.
    async fn chunk(&mut self, chunk: &Arc<Chunk>) -> Result<bool, ImportError> {
        let (channels, span) = question(chunk);
        let Some(covered) = self.covered(&channels, span).await? else { return Ok(false) };
        let mut covered = Arc::new(covered);
        loop {
            let mut counted = self.count(chunk.clone(), covered.clone()).await;
            let step = ImportStep {
                file: self.file.identity,
                lane: self.lane,
                from_bytes: self.bytes,
                to_bytes: chunk.bytes,
                hash: chunk.hash,
                lines: chunk.tally.lines,
                counted: counted.judged.total(),
                shards: self.file.importer.shards,
                channels: &channels,
                span,
                covered: &covered,
            };
            if !self.file.importer.dry_run {
                match self.commit(&step, &mut counted.delta).await? {
                    None => return Ok(false),
                    Some(ImportOutcome::Committed(committed)) => self.refused(&committed.refused),
                    Some(ImportOutcome::Covered(now)) => {
                        covered = Arc::new(now);
                        continue;
                    }
                    Some(ImportOutcome::Elsewhere) => {
                        return Err(ImportError::Elsewhere { file: self.file.path.clone() });
                    }
                }
            }
            (self.bytes, self.hash) = (chunk.bytes, chunk.hash);
            self.done.judged.add(&counted.judged);
            self.counting.keep(counted);
            return Ok(true);
        }
    }

    /// On a thread of its own: another lane may be waiting for the store meanwhile.
    async fn count(&mut self, chunk: Arc<Chunk>, covered: Arc<Covered>) -> Counted {
        let mut counting = std::mem::take(&mut self.counting);
        let (counting, counted) = blocking(move || {
            let counted = counting.count(&chunk, &covered);
            (counting, counted)
        })
        .await;
        self.counting = counting;
        counted
    }

    /// What others have heard; none: told to stop.
    async fn covered(&self, channels: &[ChannelId], span: Span) -> Result<Option<Covered>, StoreError> {
        if channels.is_empty() {
            return Ok(Some(Covered::default()));
        }
        let store = &self.file.importer.store;
        patiently(&self.file.stop, async || store.covered(self.file.identity, channels, span).await).await
    }

    /// Commits, for as long as it takes; none: told to stop.
    async fn commit(
        &self,
        step: &ImportStep<'_>,
        delta: &mut ImportDelta,
    ) -> Result<Option<ImportOutcome>, StoreError> {
        let store = &self.file.importer.store;
        patiently(&self.file.stop, async || store.commit_import(step, delta).await).await
    }

    fn refused(&mut self, rows: &[RefusedRow]) {
        for row in rows {
            self.refused += 1;
            if self.refused <= NAMED {
                tracing::error!(table = row.table, row = %row.row, "a row cannot be stored, all others are: {}", row.reason);
            }
        }
    }

    /// Covers what lies before and behind the lines of the lane's channels within what the file is whole for.
    pub(super) async fn cover_whole(
        &self,
        spans: &[(ChannelId, Span)],
        (from, until): Span,
    ) -> Result<(), ImportError> {
        let channels: Vec<ChannelId> = spans.iter().map(|span| span.0).collect();
        let rows =
            spans.iter().flat_map(|&(channel, (first, newest))| [(channel, (from, first)), (channel, (newest, until))]);
        let mut delta = ImportDelta { coverage: rows.collect(), ..ImportDelta::default() };
        let covered = Covered::default();
        let step = ImportStep {
            file: self.file.identity,
            lane: self.lane,
            from_bytes: self.bytes,
            to_bytes: self.bytes,
            hash: self.hash,
            lines: self.done.tally.lines,
            counted: 0,
            shards: self.file.importer.shards,
            channels: &channels,
            // Nothing is counted, so nothing that others heard matters.
            span: (0, 0),
            covered: &covered,
        };
        tracing::info!(channels = channels.len(), "covering from {} to {}", moment(from), moment(until));
        self.commit(&step, &mut delta).await?;
        Ok(())
    }

    /// How many rows could not be stored.
    pub(super) fn refused_rows(&self) -> usize {
        self.refused
    }

    /// Up to where the file is imported.
    pub(super) fn stands_at(&self) -> u64 {
        self.bytes
    }
}
