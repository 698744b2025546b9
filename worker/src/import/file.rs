//! The import of one file: what it is, where its lanes stand, and how it ended.

use super::beginning::Reader;
use super::covered::Span;
use super::error::{FileError, ImportError};
use super::lane::{Done, FileImport, Lane};
use super::patience::patiently;
use super::phrases::Phrases;
use super::progress::ProgressReport;
use super::read::{Ended, From, Stop};
use super::summary::Summary;
use crate::aggregate::delta::{ChannelId, Millis};
use crate::store::{self, KeptFrom, LANES, Progress, Store, StoreError};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
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
    lanes: [Progress; LANES],
    now_ms: Millis,
    /// What was said from here on is too young.
    young_ms: Millis,
    kept: KeptFrom,
}

impl Importer {
    /// Imports one file, or says what that would do; none: told to stop before it began.
    ///
    /// # Errors
    /// What is wrong with the file; what the store cannot do, and would not be able to later.
    pub(super) async fn import(self: &Arc<Self>, path: &Path) -> Result<Option<Summary>, ImportError> {
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
        let Stand { lanes, now_ms, young_ms, kept } = stand;
        let bytes = lanes.iter().map(|lane| lane.bytes).min().unwrap_or_default();
        if bytes > 0 {
            tracing::info!(file = %path.display(), bytes, "imported before: going on from there");
        }
        let file = Arc::new(FileImport {
            importer: self.clone(),
            path: path.to_owned(),
            identity,
            kept,
            report: Mutex::new(ProgressReport::new(path, reader.size, reader.read.clone())),
            warned: AtomicBool::new(false),
            stop: self.shutdown.child_token(),
        });
        let from = From { lanes, young_ms, known_ms: kept.heard_ms, now_ms, whole };
        let (senders, chunks): (Vec<_>, Vec<_>) = lanes.map(|_| mpsc::channel(1)).into_iter().unzip();
        let reading = tokio::task::spawn_blocking(move || reader.run(from, &senders));
        let lanes = chunks.into_iter().zip(lanes).enumerate();
        let adding =
            lanes.map(|(number, (chunks, progress))| Box::pin(Lane::new(file.clone(), number, progress).add(chunks)));
        let added = futures::future::join_all(adding).await;
        file.report.lock().unwrap_or_else(PoisonError::into_inner).end();
        let lanes = added.into_iter().collect::<Result<Vec<_>, _>>()?;
        let ended = joined(reading.await);
        let (Done { judged, logins, span, tally }, stop) = finish(lanes, &file, ended, young_ms).await?;
        let (file, dry_run, seconds) = (path.to_owned(), self.dry_run, began.elapsed().as_secs_f64());
        Ok(Some(Summary { file, dry_run, kind, tally, judged, logins, span, stop, seconds }))
    }

    /// Notes that the import begins, and asks from where it goes on.
    async fn stand(&self, identity: u64, path: &Path) -> Result<Stand, StoreError> {
        let lanes = self.store.import_progress(identity).await?;
        if !self.dry_run {
            self.store.begin_import(identity, &path.display().to_string(), self.whole).await?;
        }
        let now_ms = self.store.now_ms().await?;
        let young_ms = self.store.import_horizon(now_ms).await?;
        let kept = self.store.kept_from().await?;
        Ok(Stand { lanes, now_ms, young_ms, kept })
    }
}

/// Says how it ended, and covers what the file was said to be whole for.
async fn finish(
    lanes: Vec<Lane>,
    file: &FileImport,
    ended: Ended,
    young_ms: Millis,
) -> Result<(Done, Stop), ImportError> {
    let Ended { stop, tally, spans } = ended;
    let (path, imported) = (|| file.path.clone(), || lanes.iter().map(Lane::stands_at).max().unwrap_or_default());
    match &stop {
        Stop::End => cover_whole(&lanes, file, &spans, young_ms).await?,
        Stop::Changed => return Err(FileError::Changed { file: path(), bytes: imported() }.into()),
        Stop::Shorter { bytes } => {
            return Err(FileError::Shorter { file: path(), bytes: *bytes, imported: imported() }.into());
        }
        Stop::TooYoung { .. } | Stop::Unfinished { .. } | Stop::Broken { .. } | Stop::Cancelled => {}
    }
    let refused: usize = lanes.iter().map(Lane::refused_rows).sum();
    if refused > 0 {
        tracing::error!(rows = refused, "rows could not be stored");
    }
    let mut done = lanes.into_iter().map(|lane| lane.done).reduce(|mut all, lane| {
        all.add(lane);
        all
    });
    let mut done = done.take().unwrap_or_default();
    // Where it was told to stop, more was read than was counted.
    if !matches!(stop, Stop::Cancelled) {
        done.tally = tally;
    }
    Ok((done, stop))
}

/// Covers what lies before and behind the lines of the channels, up to where live counting is past.
async fn cover_whole(
    lanes: &[Lane],
    file: &FileImport,
    spans: &[(ChannelId, Span)],
    young_ms: Millis,
) -> Result<(), ImportError> {
    let Some((from, until)) = file.importer.whole else { return Ok(()) };
    if file.importer.dry_run {
        return Ok(());
    }
    for (number, lane) in lanes.iter().enumerate() {
        let spans: Vec<_> = spans.iter().copied().filter(|span| store::lane(span.0) == number).collect();
        if !spans.is_empty() {
            lane.cover_whole(&spans, (from, until.min(young_ms))).await?;
        }
    }
    Ok(())
}

/// On a thread of its own.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
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
