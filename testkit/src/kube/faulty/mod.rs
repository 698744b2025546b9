//! A faulty way to the API server: a proxy that does to requests and watches what networks and busy servers do, by chance
//! and from a seed.
//!
//! Whoever comes this way asks as the identity that the proxy was started for. Nothing is broken before [`FaultyWay::set`],
//! and [`FaultyWay::counts`] says how often each fault hit: one that hit nothing was not tested.
//!
//! What a watch loses it is told, as an API server does that has forgotten: the error 410 follows within
//! [`LOSS_IS_TOLD_AFTER`]. No API server loses an event and goes on.

mod requests;
mod watches;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use http::{Method, StatusCode};
use kube::Client;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio_util::task::AbortOnDropHandle;

use super::{Cluster, Identity};

/// How long a watch that has lost an event goes on without knowing.
const LOSS_IS_TOLD_AFTER: Duration = Duration::from_millis(500);

/// What can happen to a request, or to an event of a watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// A write is refused with 409 and not done.
    Conflict,
    /// A list or the beginning of a watch is refused with 410.
    Gone,
    /// 429, to be tried again in a second.
    TooManyRequests,
    /// 500, 503 or 504.
    ServerError,
    /// No answer at all.
    Hung,
    /// The connection closes before anything is done.
    Dropped,
    /// It is done, and the connection closes before that is said.
    Unheard,
    /// A watch's connection closes.
    WatchDropped,
    /// A watch ends with the error 410.
    WatchGone,
    /// An event does not arrive; see the module.
    EventLost,
    /// An event arrives twice.
    EventRepeated,
    /// After an event an earlier one of the same watch arrives again.
    EventStale,
}

impl Fault {
    /// All there are.
    pub const ALL: [Self; 12] = [
        Self::Conflict,
        Self::Gone,
        Self::TooManyRequests,
        Self::ServerError,
        Self::Hung,
        Self::Dropped,
        Self::Unheard,
        Self::WatchDropped,
        Self::WatchGone,
        Self::EventLost,
        Self::EventRepeated,
        Self::EventStale,
    ];
}

/// A proxy before the API server. Dropping it closes all connections.
#[derive(Debug)]
pub struct FaultyWay {
    shared: Arc<Shared>,
    kubeconfig: PathBuf,
    _accepting: AbortOnDropHandle<()>,
}

/// A write on its way, which has not reached the API server. Dropping it passes it on.
#[derive(Debug)]
pub struct HeldWrite {
    passed: oneshot::Sender<()>,
    answered: oneshot::Receiver<StatusCode>,
}

impl HeldWrite {
    /// Passes it on, whether or not somebody still waits for it. Gives how the API server answered.
    ///
    /// # Errors
    /// When it did not answer.
    pub async fn release(self) -> Result<StatusCode> {
        let Self { passed, answered } = self;
        drop(passed);
        answered.await.context("a write that was held up was not answered")
    }
}

/// The next write of this method to a path that ends so is held up.
#[derive(Debug)]
struct Hold {
    method: Method,
    path: String,
    held: oneshot::Sender<HeldWrite>,
}

struct Shared {
    server: Client,
    state: Mutex<State>,
    /// True: nothing is answered any more, nor passed on.
    stopped: watch::Sender<bool>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("state", &self.state).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct State {
    random: StdRng,
    /// Of a thousand requests or events.
    rates: BTreeMap<Fault, u32>,
    counts: BTreeMap<Fault, u64>,
    writes: u64,
    stop_at: Option<u64>,
    hold: Option<Hold>,
}

impl FaultyWay {
    /// Stands before the API server of this cluster, for this identity.
    ///
    /// # Errors
    /// When there is no free port, or no such service account.
    pub async fn start(cluster: &Cluster, identity: &Identity, seed: u64) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("failed to listen")?;
        let address = listener.local_addr().context("failed to find the own address")?;
        let kubeconfig = cluster.kubeconfig_through(identity, &format!("http://{address}")).await?;
        let state = State {
            random: StdRng::seed_from_u64(seed),
            rates: BTreeMap::new(),
            counts: BTreeMap::new(),
            writes: 0,
            stop_at: None,
            hold: None,
        };
        let (stopped, _) = watch::channel(false);
        let server = cluster.client_of(identity).await?;
        let shared = Arc::new(Shared { server, state: Mutex::new(state), stopped });
        let accepting = tokio::spawn(requests::accept(listener, Arc::clone(&shared)));
        Ok(Self { shared, kubeconfig, _accepting: AbortOnDropHandle::new(accepting) })
    }

    /// The kubeconfig of whoever is to come this way.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// From now on each of these hits so many of a thousand requests or events that it can hit, and the others none.
    pub fn set(&self, rates: &[(Fault, u32)]) {
        self.shared.state().rates = rates.iter().copied().collect();
    }

    /// How often each fault has hit.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<Fault, u64> {
        self.shared.state().counts.clone()
    }

    /// How many writes the API server has done, Leases apart.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.shared.state().writes
    }

    /// Holds everything up once so many more writes are done: the last one's answer is not passed on.
    pub fn stop_after_writes(&self, more: u64) {
        let mut state = self.shared.state();
        state.stop_at = Some(state.writes + more);
    }

    /// Waits until it holds everything up.
    pub async fn stopped(&self) {
        // The sender lives as long as this.
        let _ = self.shared.stopped.subscribe().wait_for(|stopped| *stopped).await;
    }

    /// Holds up the next write of this method to a path that ends so. Gives it once it has come.
    #[must_use]
    pub fn hold(&self, method: Method, path: &str) -> oneshot::Receiver<HeldWrite> {
        let (held, coming) = oneshot::channel();
        self.shared.state().hold = Some(Hold { method, path: path.to_owned(), held });
        coming
    }

    /// Passes on again, for whoever comes now.
    pub fn go_on(&self) {
        self.shared.state().stop_at = None;
        self.shared.stopped.send_replace(false);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which of these faults strikes, if one does; it is counted.
    fn draw(&self, candidates: &[Fault]) -> Option<Fault> {
        let mut state = self.state();
        let mut drawn = state.random.random_range(0..1_000);
        let hit = candidates.iter().copied().find(|fault| {
            let rate = state.rates.get(fault).copied().unwrap_or(0);
            let hits = drawn < rate;
            drawn = drawn.saturating_sub(rate);
            hits
        });
        if let Some(fault) = hit {
            *state.counts.entry(fault).or_default() += 1;
        }
        hit
    }

    /// Any number below this one.
    fn below(&self, end: usize) -> usize {
        self.state().random.random_range(0..end)
    }

    /// A write is done.
    fn written(&self) {
        let mut state = self.state();
        state.writes += 1;
        if state.stop_at.is_some_and(|at| state.writes >= at) {
            self.stopped.send_replace(true);
        }
    }

    /// Holds a write up, where it is the one that is to be. Takes how the API server answers it.
    async fn hold(&self, method: &Method, path: &str) -> Option<oneshot::Sender<StatusCode>> {
        let held = self.state().hold.take_if(|hold| hold.method == method && path.ends_with(&hold.path))?.held;
        let (passed, waits) = oneshot::channel();
        let (answer, answered) = oneshot::channel();
        // A test that has ended waits for nothing.
        held.send(HeldWrite { passed, answered }).ok()?;
        let _ = waits.await;
        Some(answer)
    }

    /// For ever, while everything is held up: who waits is killed.
    async fn pass(&self) {
        if *self.stopped.borrow() {
            std::future::pending::<()>().await;
        }
    }
}

/// The API server's own form of an error.
fn status(code: u16, reason: &str) -> Value {
    json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": "a fault of the way to the API server",
        "reason": reason,
        "code": code,
    })
}
