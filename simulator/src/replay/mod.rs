//! A recorded file, said again: its own lines, ids, times and rooms, as fast as its readers read.
//!
//! The file is read twice, once to learn its channels and once to say it, so its size does not matter. A reader that is
//! slow is waited for. It is said once: a second time would be the same events.

mod recorded;

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::config::{ReplayConfig, ReplayStart};
use crate::town::{Origin, Spoken, Town, id_of_login};
use recorded::Recorded;

/// A longer line is no chat.
const LONGEST_LINE: u64 = 64 * 1024;
/// Lines are handed on in parcels of this many.
const PARCEL: usize = 256;
/// How many bytes may wait for a reader before the next parcel.
const QUEUE_BYTES: usize = 1024 * 1024;

/// How far a replay is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayProgress {
    /// Whether it has begun.
    pub started: bool,
    /// Whether everything is said and every reader has it.
    pub finished: bool,
    /// Lines said so far.
    pub said: u64,
    /// Lines of the file that name no channel, or are over-long: not said.
    pub skipped: u64,
}

/// Why a file cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// It cannot be read.
    #[error("failed to read {file}: {source}")]
    Read {
        /// Which.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no channel in it.
    #[error("{0} has no line that names a channel")]
    NoChat(PathBuf),
}

pub(crate) struct Replay {
    town: Arc<Town>,
    file: PathBuf,
    /// By login.
    rooms: FxHashMap<String, (usize, u64)>,
    begin: watch::Sender<bool>,
    end: watch::Sender<bool>,
    started: AtomicBool,
    said: AtomicU64,
    skipped: AtomicU64,
}

impl Replay {
    /// Learns the file's channels and builds them.
    pub(crate) fn open(config: &ReplayConfig, town: Arc<Town>) -> Result<Self, ReplayError> {
        let channels =
            channels(&config.file).map_err(|source| ReplayError::Read { file: config.file.clone(), source })?;
        if channels.is_empty() {
            return Err(ReplayError::NoChat(config.file.clone()));
        }
        let mut rooms = FxHashMap::default();
        for (login, id) in channels {
            let id = id.unwrap_or_else(|| id_of_login(&login));
            let room = town.build_room(&login, id, Origin::Recorded);
            rooms.insert(login, (room, id));
        }
        Ok(Self {
            town,
            file: config.file.clone(),
            rooms,
            begin: watch::Sender::new(false),
            end: watch::Sender::new(false),
            started: AtomicBool::new(false),
            said: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
        })
    }

    /// Lets it begin; false: it had already.
    pub(crate) fn begin(&self) -> bool {
        !self.begin.send_replace(true)
    }

    pub(crate) async fn finished(&self) {
        // The sender lives as long as `self`.
        let _ = self.end.subscribe().wait_for(|ended| *ended).await;
    }

    pub(crate) fn progress(&self) -> ReplayProgress {
        ReplayProgress {
            started: self.started.load(Ordering::Relaxed),
            finished: *self.end.borrow(),
            said: self.said.load(Ordering::Relaxed),
            skipped: self.skipped.load(Ordering::Relaxed),
        }
    }

    /// Waits for its moment, then says the file; at most once.
    pub(crate) async fn run(self: Arc<Self>, start: ReplayStart, stop: CancellationToken) {
        tokio::select! {
            () = self.wait(start) => {}
            () = stop.cancelled() => return,
        }
        let _ = self.begin.send_replace(true);
        self.started.store(true, Ordering::Relaxed);
        tokio::select! {
            () = self.say() => {}
            () = stop.cancelled() => return,
        }
        self.end.send_replace(true);
        tracing::info!(file = %self.file.display(), lines = self.said.load(Ordering::Relaxed), "replayed");
    }

    async fn wait(&self, start: ReplayStart) {
        let mut begun = self.begin.subscribe();
        let asked = begun.wait_for(|begun| *begun);
        match start {
            ReplayStart::OnRequest => {
                let _ = asked.await;
            }
            ReplayStart::OnJoin => {
                let rooms: Vec<usize> = self.rooms.values().map(|(room, _)| *room).collect();
                tokio::select! {
                    _ = asked => {}
                    () = self.town.all_joined(&rooms) => {}
                }
            }
        }
    }

    async fn say(self: &Arc<Self>) {
        let (sender, mut parcels) = mpsc::channel(4);
        let reader = Arc::clone(self);
        let reading = tokio::task::spawn_blocking(move || reader.read(&sender));
        while let Some(mut parcel) = parcels.recv().await {
            self.readers_have_all_but(QUEUE_BYTES).await;
            let lines: &mut Vec<Spoken> = &mut parcel;
            let count = lines.len() as u64;
            self.town.say(lines);
            self.said.fetch_add(count, Ordering::Relaxed);
        }
        match reading.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(file = %self.file.display(), %error, "failed to read the file to its end");
            }
            Err(error) => tracing::error!(%error, "the file's reader ended unexpectedly"),
        }
        self.readers_have_all_but(0).await;
    }

    async fn readers_have_all_but(&self, bytes: usize) {
        for (_, outbox) in self.town.outboxes() {
            outbox.room(bytes).await;
        }
    }

    fn read(&self, sender: &mpsc::Sender<Vec<Spoken>>) -> io::Result<()> {
        let mut parcel = Vec::with_capacity(PARCEL);
        for_each_line(&self.file, |line| {
            match line.and_then(Recorded::parse) {
                Some(recorded) => parcel.extend(self.spoken(&recorded)),
                None => {
                    self.skipped.fetch_add(1, Ordering::Relaxed);
                }
            }
            if parcel.len() < PARCEL {
                return true;
            }
            // A closed channel: the simulator stops.
            sender.blocking_send(std::mem::replace(&mut parcel, Vec::with_capacity(PARCEL))).is_ok()
        })?;
        let _ = sender.blocking_send(parcel);
        Ok(())
    }

    fn spoken(&self, recorded: &Recorded<'_>) -> Option<Spoken> {
        let &(room, channel_id) = self.rooms.get(recorded.login)?;
        let record = recorded.record(channel_id);
        Some(Spoken { room, line: recorded.line(), record, change: None })
    }
}

/// The channels of a file, in order of appearance, with their ids where a line says them.
fn channels(file: &Path) -> io::Result<Vec<(String, Option<u64>)>> {
    let mut channels: Vec<(String, Option<u64>)> = Vec::new();
    let mut places: FxHashMap<String, usize> = FxHashMap::default();
    for_each_line(file, |line| {
        if let Some(recorded) = line.and_then(Recorded::parse) {
            let id = recorded.room_id();
            match places.get(recorded.login) {
                Some(&at) => channels[at].1 = channels[at].1.or(id),
                None => {
                    places.insert(recorded.login.to_owned(), channels.len());
                    channels.push((recorded.login.to_owned(), id));
                }
            }
        }
        true
    })?;
    Ok(channels)
}

/// Calls for each line (`None`: over-long) until told to stop.
fn for_each_line(file: &Path, mut each: impl FnMut(Option<&[u8]>) -> bool) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(256 * 1024, File::open(file)?);
    let mut line = Vec::new();
    loop {
        line.clear();
        if reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let whole = line.ends_with(b"\n") || (line.len() as u64) < LONGEST_LINE;
        if !whole {
            reader.skip_until(b'\n')?;
        }
        while line.last().is_some_and(|byte| matches!(byte, b'\r' | b'\n')) {
            line.pop();
        }
        if line.is_empty() && whole {
            continue;
        }
        if !each(whole.then_some(&line)) {
            return Ok(());
        }
    }
}
