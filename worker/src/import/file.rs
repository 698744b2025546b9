//! The import of one file: reads ahead by a chunk, asks what others have heard, counts, commits.

use super::beginning::Reader;
use super::chunk::{Chunk, NAMED, Tally};
use super::count::{Counting, Judged, question};
use super::covered::{Covered, Span};
use super::error::{FileError, ImportError};
use super::patience::patiently;
use super::phrases::Phrases;
use super::progress::ProgressReport;
use super::read::{Ended, From, Stop};
use super::summary::{Summary, moment, older_than_retention};
use crate::aggregate::delta::{ChannelId, Millis};
use crate::store::{ImportDelta, ImportOutcome, ImportStep, KeptFrom, Progress, RefusedRow, Store, StoreError};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// What the imports of all files share.
#[derive(Debug)]
pub(super) struct Importer {
    pub(super) store: Store,
    pub(super) shards: u16,
    pub(super) whole: Option<Span>,
    pub(super) phrases: Phrases,
    pub(super) dry_run: bool,
    pub(super) shutdown: CancellationToken,
}

/// Where the import of a file stands, and what is to be counted of it.
struct Stand {
    progress: Progress,
    now_ms: Millis,
    /// What was said from here on is too young.
    young_ms: Millis,
    kept: KeptFrom,
}

/// One file on its way.
struct FileImport<'a> {
    importer: &'a Importer,
    path: &'a Path,
    identity: u64,
    kept: KeptFrom,
    /// Where its import stands.
    bytes: u64,
    hash: u128,
    counting: Counting,
    judged: Judged,
    logins: BTreeMap<ChannelId, String>,
    span: Option<(Millis, Millis)>,
    tally: Tally,
    refused: usize,
}

impl Importer {
    /// Imports one file, or says what that would do; none: told to stop before it began.
    ///
    /// # Errors
    /// What is wrong with the file; what the store cannot do, and would not be able to later.
    pub(super) async fn import(&self, path: &Path) -> Result<Option<Summary>, ImportError> {
        let began = Instant::now();
        if path.as_os_str() == "-" {
            return Err(FileError::StandardInput.into());
        }
        let (file, whole) = (path.to_owned(), self.whole);
        let reader = blocking(move || Reader::begin(&file, whole)).await?;
        let kind = format!("{}, {}", reader.format.name(), reader.packing.name());
        let identity = reader.identity;
        let Some(stand) = patiently(&self.shutdown, async || self.stand(identity, path).await).await? else {
            return Ok(None);
        };
        let Stand { progress: Progress { bytes, hash, .. }, now_ms, young_ms, kept } = stand;
        if bytes > 0 {
            tracing::info!(file = %path.display(), bytes, "imported before: going on from there");
        }
        let mut import = FileImport {
            importer: self,
            path,
            identity,
            kept,
            bytes,
            hash,
            counting: Counting::new(self.phrases.clone()),
            judged: Judged::default(),
            logins: BTreeMap::new(),
            span: None,
            tally: Tally::default(),
            refused: 0,
        };
        let mut report = ProgressReport::new(path, reader.size, reader.read.clone());
        let from = From { bytes, hash, young_ms, known_ms: kept.heard_ms, now_ms, whole };
        let (sender, chunks) = mpsc::channel(1);
        let reading = tokio::task::spawn_blocking(move || reader.run(from, &sender));
        let added = Box::pin(import.add(chunks, &mut report)).await;
        report.end();
        added?;
        let ended = joined(reading.await);
        import.finish(ended, young_ms, kind, began).await.map(Some)
    }

    /// Notes that the import begins, and asks from where it goes on.
    async fn stand(&self, identity: u64, path: &Path) -> Result<Stand, StoreError> {
        let progress = self.store.import_progress(identity).await?.unwrap_or_default();
        if !self.dry_run {
            self.store.begin_import(identity, &path.display().to_string(), self.whole).await?;
        }
        let now_ms = self.store.now_ms().await?;
        let young_ms = self.store.import_horizon(now_ms).await?;
        let kept = self.store.kept_from().await?;
        Ok(Stand { progress, now_ms, young_ms, kept })
    }
}

impl FileImport<'_> {
    /// Adds chunk after chunk, until there are no more or the process is told to stop.
    async fn add(&mut self, mut chunks: mpsc::Receiver<Chunk>, report: &mut ProgressReport) -> Result<(), ImportError> {
        loop {
            let chunk = tokio::select! {
                biased;
                () = self.importer.shutdown.cancelled() => return Ok(()),
                chunk = chunks.recv() => chunk,
            };
            let Some(chunk) = chunk else { return Ok(()) };
            self.note(&chunk);
            if !self.chunk(&chunk).await? {
                return Ok(());
            }
            report.lines(chunk.tally.lines, chunk.tally.earlier);
            self.tally = chunk.tally;
        }
    }

    /// What is said before the first chunk is counted, and what the summary says.
    fn note(&mut self, chunk: &Chunk) {
        if !chunk.events.is_empty() {
            let (from, until) = chunk.span;
            if self.span.is_none()
                && let Some(older) = older_than_retention(self.kept, from)
            {
                tracing::warn!(file = %self.path.display(), "{older}");
            }
            let (first, last) = self.span.unwrap_or((from, until));
            self.span = Some((first.min(from), last.max(until)));
        }
        self.logins.extend(chunk.logins.iter().map(|(&channel, (login, _))| (channel, login.clone())));
    }

    /// Counts a chunk and commits it; false: told to stop before it was.
    async fn chunk(&mut self, chunk: &Chunk) -> Result<bool, ImportError> {
        let (channels, span) = question(chunk);
        let Some(mut covered) = self.covered(&channels, span).await? else { return Ok(false) };
        loop {
            let mut counted = tokio::task::block_in_place(|| self.counting.count(chunk, &covered));
            let step = ImportStep {
                file: self.identity,
                from_bytes: self.bytes,
                to_bytes: chunk.bytes,
                hash: chunk.hash,
                lines: chunk.tally.lines,
                counted: counted.judged.total(),
                shards: self.importer.shards,
                channels: &channels,
                span,
                covered: &covered,
            };
            if !self.importer.dry_run {
                match self.commit(&step, &mut counted.delta).await? {
                    None => return Ok(false),
                    Some(ImportOutcome::Committed(committed)) => self.refused(&committed.refused),
                    Some(ImportOutcome::Covered(now)) => {
                        covered = now;
                        continue;
                    }
                    Some(ImportOutcome::Elsewhere) => {
                        return Err(ImportError::Elsewhere { file: self.path.to_owned() });
                    }
                }
            }
            (self.bytes, self.hash) = (chunk.bytes, chunk.hash);
            self.judged.add(&counted.judged);
            self.counting.keep(counted);
            return Ok(true);
        }
    }

    /// What others have heard; none: told to stop.
    async fn covered(&self, channels: &[ChannelId], span: Span) -> Result<Option<Covered>, StoreError> {
        if channels.is_empty() {
            return Ok(Some(Covered::default()));
        }
        let Importer { store, shutdown, .. } = self.importer;
        patiently(shutdown, async || store.covered(self.identity, channels, span).await).await
    }

    /// Commits, for as long as it takes; none: told to stop.
    async fn commit(
        &self,
        step: &ImportStep<'_>,
        delta: &mut ImportDelta,
    ) -> Result<Option<ImportOutcome>, StoreError> {
        let Importer { store, shutdown, .. } = self.importer;
        patiently(shutdown, async || store.commit_import(step, delta).await).await
    }

    fn refused(&mut self, rows: &[RefusedRow]) {
        for row in rows {
            self.refused += 1;
            if self.refused <= NAMED {
                tracing::error!(table = row.table, row = %row.row, "a row cannot be stored, all others are: {}", row.reason);
            }
        }
    }

    /// Says how it ended, and what the file was said to be whole for.
    async fn finish(
        mut self,
        ended: Ended,
        young_ms: Millis,
        kind: String,
        began: Instant,
    ) -> Result<Summary, ImportError> {
        let Ended { stop, tally, spans } = ended;
        let file = self.path.to_owned();
        match &stop {
            Stop::End => self.cover_whole(&spans, young_ms).await?,
            Stop::Changed => return Err(FileError::Changed { file, bytes: self.bytes }.into()),
            Stop::Shorter { bytes } => {
                return Err(FileError::Shorter { file, bytes: *bytes, imported: self.bytes }.into());
            }
            Stop::TooYoung { .. } | Stop::Unfinished { .. } | Stop::Broken { .. } | Stop::Cancelled => {}
        }
        if self.refused > 0 {
            tracing::error!(rows = self.refused, "rows could not be stored");
        }
        // Where it was told to stop, more was read than was counted.
        let tally = if matches!(stop, Stop::Cancelled) { self.tally } else { tally };
        Ok(Summary {
            file,
            dry_run: self.importer.dry_run,
            kind,
            tally,
            judged: self.judged,
            logins: self.logins,
            span: self.span,
            stop,
            seconds: began.elapsed().as_secs_f64(),
        })
    }

    /// Covers what lies before and behind the lines of the channels, up to where live counting is past.
    async fn cover_whole(&mut self, spans: &[(ChannelId, Span)], young_ms: Millis) -> Result<(), ImportError> {
        let Some((from, until)) = self.importer.whole else { return Ok(()) };
        let until = until.min(young_ms);
        if self.importer.dry_run || spans.is_empty() {
            return Ok(());
        }
        let channels: Vec<ChannelId> = spans.iter().map(|span| span.0).collect();
        let rows =
            spans.iter().flat_map(|&(channel, (first, newest))| [(channel, (from, first)), (channel, (newest, until))]);
        let mut delta = ImportDelta { coverage: rows.collect(), ..ImportDelta::default() };
        let (covered, lines) = (Covered::default(), self.tally.lines);
        let step = ImportStep {
            file: self.identity,
            from_bytes: self.bytes,
            to_bytes: self.bytes,
            hash: self.hash,
            lines,
            counted: 0,
            shards: self.importer.shards,
            channels: &channels,
            // Nothing is counted, so nothing that others heard matters.
            span: (0, 0),
            covered: &covered,
        };
        tracing::info!(channels = channels.len(), "covering from {} to {}", moment(from), moment(until));
        self.commit(&step, &mut delta).await?;
        Ok(())
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    joined(tokio::task::spawn_blocking(work).await)
}

/// What a thread of ours came to.
fn joined<T>(joined: Result<T, tokio::task::JoinError>) -> T {
    match joined {
        Ok(done) => done,
        // It is never cancelled, so it has panicked: so do we.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
