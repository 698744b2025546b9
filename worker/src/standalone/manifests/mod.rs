//! The folder of manifests: what it asks for now, and every change of it within a second.
//!
//! ```text
//! folder (what changed) ─► index (checked objects, last good ones) ─► wish ─► Desired
//! ```

pub mod folder;
pub mod index;
pub mod unheeded;

use super::StandaloneError;
use crate::health::Health;
use clamor_planner::desired::{Desired, DesiredChannel};
use folder::Folder;
use index::{Index, Resolved};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const LOOP: &str = "manifests";
const LOOP_LIMIT: Duration = Duration::from_secs(60);
/// How often the folder is looked at: with the second look and the planner's turn, a change takes effect well within
/// a second.
const LOOK_EVERY: Duration = Duration::from_millis(150);
/// And how soon again when something is changing.
const LOOK_AGAIN: Duration = Duration::from_millis(60);
/// Beyond so many names a change is only counted in the log.
const NAMED: usize = 10;

/// A folder of manifests.
#[derive(Debug)]
pub struct Manifests {
    path: PathBuf,
    state: State,
    said: Said,
    always: Always,
}

/// Channels that are read whatever the manifests say: those of a recorded file.
#[derive(Debug, Default)]
struct Always(BTreeSet<String>);

/// Where what the manifests say goes.
#[derive(Debug)]
pub struct Outputs {
    /// What they ask for.
    pub desired: watch::Sender<Arc<Desired>>,
    /// What is wrong with them.
    pub problems: watch::Sender<Arc<BTreeSet<String>>>,
}

/// What looking needs; moves to a thread that may block, and back.
#[derive(Debug)]
struct State {
    folder: Folder,
    index: Index,
}

/// What has been logged, so that it is not logged again.
#[derive(Debug, Default)]
struct Said {
    problems: Arc<BTreeSet<String>>,
    notes: BTreeSet<String>,
    unreadable: String,
}

/// What a folder asks for now, without following it. What is wrong with objects in it is logged.
///
/// # Errors
/// When it can't be listed.
pub fn read_once(path: &Path) -> io::Result<Desired> {
    let (_, resolved) = State { folder: Folder::new(path), index: Index::default() }.look()?;
    Ok(Said::default().say(resolved.unwrap_or_default()).0)
}

impl Manifests {
    /// Reads the whole folder once. The channels in `always` are read whatever it says.
    ///
    /// # Errors
    /// When it can't be listed. What is wrong with objects in it is logged.
    pub fn open(path: &Path, always: BTreeSet<String>) -> Result<(Self, Outputs), StandaloneError> {
        let mut state = State { folder: Folder::new(path), index: Index::default() };
        let look = state.look();
        let (_, resolved) = look.map_err(|source| StandaloneError::Manifests { path: path.to_owned(), source })?;
        let (mut said, always) = (Said::default(), Always(always));
        let (desired, problems) = said.say(resolved.unwrap_or_default());
        let desired = always.add_to(desired);
        let (channels, phrases) = (desired.channels.len(), desired.phrases.phrases.len());
        tracing::info!(channels, phrases, folder = %path.display(), "read the manifests");
        let outputs =
            Outputs { desired: watch::Sender::new(Arc::new(desired)), problems: watch::Sender::new(problems) };
        let path = path.to_owned();
        Ok((Self { path, state, said, always }, outputs))
    }

    /// Follows the folder until shutdown.
    pub async fn run(self, outputs: Outputs, health: Health, shutdown: CancellationToken) {
        let Self { path, mut state, mut said, always } = self;
        health.register_loop(LOOP, LOOP_LIMIT);
        let mut pause = LOOK_AGAIN;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = tokio::time::sleep(pause) => {}
            }
            health.beat(LOOP);
            let looked = tokio::task::spawn_blocking(move || {
                let look = state.look();
                (state, look)
            });
            let Ok((back, look)) = looked.await else { break };
            state = back;
            pause = LOOK_EVERY;
            match look {
                Ok((unsettled, resolved)) => {
                    pause = if unsettled { LOOK_AGAIN } else { LOOK_EVERY };
                    said.readable(&path);
                    if let Some(resolved) = resolved {
                        let (desired, problems) = said.say(resolved);
                        outputs.problems.send_replace(problems);
                        publish(always.add_to(desired), &outputs.desired);
                    }
                }
                Err(error) => said.unreadable(&path, &error),
            }
        }
        health.end_loop(LOOP);
    }
}

impl Always {
    fn add_to(&self, mut desired: Desired) -> Desired {
        for login in &self.0 {
            let channel = desired.channels.entry(login.clone()).or_insert_with(|| DesiredChannel {
                name: login.clone(),
                redundancy: 1,
                ..DesiredChannel::default()
            });
            channel.suspended = false;
        }
        desired
    }
}

impl State {
    /// Looks. Gives whether to look again soon, and what is asked for if that may have changed.
    fn look(&mut self) -> io::Result<(bool, Option<Resolved>)> {
        let look = self.folder.look()?;
        if look.changes.is_empty() {
            return Ok((look.unsettled, None));
        }
        self.index.take(look.changes);
        Ok((look.unsettled, Some(self.index.resolve())))
    }
}

impl Said {
    /// Logs each problem and note once, for as long as it is there.
    fn say(&mut self, resolved: Resolved) -> (Desired, Arc<BTreeSet<String>>) {
        let Resolved { desired, problems, notes } = resolved;
        for problem in problems.difference(&self.problems) {
            tracing::warn!("manifest refused: {problem}");
        }
        for note in notes.difference(&self.notes) {
            tracing::info!("{note}");
        }
        if problems.is_empty() && !self.problems.is_empty() {
            tracing::info!("all manifests are good now");
        }
        (self.problems, self.notes) = (Arc::new(problems), notes);
        (desired, Arc::clone(&self.problems))
    }

    fn unreadable(&mut self, path: &Path, error: &io::Error) {
        let error = error.to_string();
        if self.unreadable != error {
            tracing::warn!(%error, "failed to read the folder {} (MANIFESTS): going on with what it had", path.display());
            self.unreadable = error;
        }
    }

    fn readable(&mut self, path: &Path) {
        if !std::mem::take(&mut self.unreadable).is_empty() {
            tracing::info!("the folder {} can be read again", path.display());
        }
    }
}

fn publish(now: Desired, desired: &watch::Sender<Arc<Desired>>) {
    desired.send_if_modified(|before| {
        if **before == now {
            return false;
        }
        log_change("channels", &before.active().map(name).collect(), &now.active().map(name).collect());
        log_change("phrases", &index::phrase_names(&before.phrases), &index::phrase_names(&now.phrases));
        *before = Arc::new(now);
        true
    });
}

fn name<T>((name, _): (&String, T)) -> &str {
    name
}

fn log_change(what: &str, before: &BTreeSet<&str>, now: &BTreeSet<&str>) {
    for (change, names) in [("added", now - before), ("removed", before - now)] {
        if names.len() > NAMED {
            tracing::info!("{what} {change}: {}", names.len());
        } else if !names.is_empty() {
            tracing::info!("{what} {change}: {}", names.into_iter().collect::<Vec<_>>().join(", "));
        }
    }
}
