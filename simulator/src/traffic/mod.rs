//! Generated traffic: what is said ([`speaker`]) and when (here).
//!
//! Utterances are spread evenly over time: each has its due moment, and a tick says all that is due. A rate that the
//! machine cannot hold is made up for, by at most a second: what is said is always what the ledger has.

mod notices;
mod people;
mod speaker;
mod vocabulary;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) use speaker::Speaker;
pub use vocabulary::PhraseError;

use crate::town::{Town, now_ms};

/// The finest that the timer can do.
const TICK: Duration = Duration::from_millis(1);
/// Said under one lock: at most this many, so that a JOIN never waits long.
const MOST_AT_ONCE: u64 = 256;
/// With `wait_for_readers`: how many bytes may wait for a reader before the next tick.
const QUEUE_BYTES: usize = 1024 * 1024;
/// While there is no channel to talk in.
const IDLE: Duration = Duration::from_millis(10);

/// What to say, how fast and how long.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// Utterances per second. Shared chat and gifts make some of them several lines.
    pub rate: f64,
    /// For so long: exactly `rate × seconds` utterances. Absent: until told to stop.
    #[serde(default)]
    pub seconds: Option<f64>,
    /// Wait for slow readers instead of cutting them off; with a high rate: as fast as they read.
    #[serde(default)]
    pub wait_for_readers: bool,
}

/// What traffic does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Whether more is to come.
    pub running: bool,
    /// Utterances since the start of the simulator.
    pub said: u64,
}

/// Why an order is refused.
#[derive(Debug, thiserror::Error)]
#[error("rate must be a number above 0 and seconds not negative")]
pub struct OrderError;

impl Order {
    fn check(&self) -> Result<(), OrderError> {
        let rate = self.rate.is_finite() && self.rate > 0.0;
        let seconds = self.seconds.is_none_or(|seconds| seconds.is_finite() && seconds >= 0.0);
        if rate && seconds { Ok(()) } else { Err(OrderError) }
    }

    /// Utterances that are due after this time.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturating, and neither is negative")]
    fn due(&self, elapsed: Duration) -> u64 {
        (elapsed.as_secs_f64() * self.rate) as u64
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturating, and neither is negative")]
    fn total(&self) -> u64 {
        self.seconds.map_or(u64::MAX, |seconds| (self.rate * seconds).round() as u64)
    }
}

/// The one source of generated traffic; a new order replaces the one before.
pub(crate) struct Traffic {
    town: Arc<Town>,
    speaker: Arc<Mutex<Speaker>>,
    running: Mutex<Option<Running>>,
    said: Arc<AtomicU64>,
    stop: CancellationToken,
}

struct Running {
    cancel: CancellationToken,
    tasks: TaskTracker,
}

impl Traffic {
    pub(crate) fn new(town: Arc<Town>, speaker: Speaker, stop: CancellationToken) -> Self {
        Self { town, speaker: Arc::new(Mutex::new(speaker)), running: Mutex::new(None), said: Arc::default(), stop }
    }

    pub(crate) async fn start(&self, order: Order) -> Result<(), OrderError> {
        order.check()?;
        let mut running = self.running.lock().await;
        halt(running.take()).await;
        let cancel = self.stop.child_token();
        let tasks = TaskTracker::new();
        let (town, speaker, said) = (Arc::clone(&self.town), Arc::clone(&self.speaker), Arc::clone(&self.said));
        let cancelled = cancel.clone();
        tasks.spawn(async move {
            let mut speaker = speaker.lock().await;
            tokio::select! {
                () = talk(&town, &mut speaker, &order, &said) => {}
                () = cancelled.cancelled() => {}
            }
            town.say_late();
        });
        tasks.close();
        *running = Some(Running { cancel, tasks });
        Ok(())
    }

    /// Returns when nothing more is said.
    pub(crate) async fn stop(&self) {
        halt(self.running.lock().await.take()).await;
    }

    /// Returns when the order is done, or was stopped.
    pub(crate) async fn finished(&self) {
        let tasks = self.running.lock().await.as_ref().map(|running| running.tasks.clone());
        if let Some(tasks) = tasks {
            tasks.wait().await;
        }
    }

    pub(crate) async fn progress(&self) -> Progress {
        let running = self.running.lock().await.as_ref().is_some_and(|running| !running.tasks.is_empty());
        Progress { running, said: self.said.load(Ordering::Relaxed) }
    }
}

async fn halt(running: Option<Running>) {
    if let Some(running) = running {
        running.cancel.cancel();
        running.tasks.wait().await;
    }
}

/// Says what is due, until all is said. Cancelled only between ticks: it awaits nowhere else.
async fn talk(town: &Town, speaker: &mut Speaker, order: &Order, said: &AtomicU64) {
    let total = order.total();
    let mut start = Instant::now();
    let mut done = 0;
    let mut lines = Vec::new();
    while done < total {
        if !speaker.look_around(town) {
            sleep(IDLE).await;
            start = Instant::now();
            continue;
        }
        let due = order.due(start.elapsed()).min(total).saturating_sub(done);
        if due == 0 {
            sleep(until_next(order, done, start, town.next_late())).await;
            town.say(&mut lines);
            continue;
        }
        if order.wait_for_readers {
            for (_, outbox) in town.outboxes() {
                outbox.room(QUEUE_BYTES).await;
            }
        }
        let now = now_ms();
        let count = due.min(MOST_AT_ONCE);
        for _ in 0..count {
            speaker.skew_ms = town.skew_ms();
            speaker.utter(now, &mut lines);
        }
        town.say(&mut lines);
        done += count;
        said.fetch_add(count, Ordering::Relaxed);
        start = forgive(order, done, start);
        tokio::task::yield_now().await;
    }
}

fn until_next(order: &Order, done: u64, start: Instant, late: Option<std::time::Instant>) -> Duration {
    #[expect(clippy::cast_precision_loss, reason = "2^52 utterances are not reached")]
    let due_after = (done + 1) as f64 / order.rate;
    let due_after = Duration::try_from_secs_f64(due_after).unwrap_or(Duration::from_secs(3_600));
    let due = start + due_after.min(Duration::from_secs(86_400 * 365));
    let due = late.map_or(due, |late| due.min(late.into()));
    due.saturating_duration_since(Instant::now()).max(TICK)
}

/// Behind by more than a second, without an end: what is behind is forgotten.
fn forgive(order: &Order, done: u64, start: Instant) -> Instant {
    let behind = order.due(start.elapsed()).saturating_sub(done);
    if order.seconds.is_none() && behind > order.due(Duration::from_secs(1)) {
        return start + Duration::from_secs(1);
    }
    start
}
