//! Wiring: listeners, traffic, replay and control of one simulator, that end together.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{Config, ReplayConfig};
use crate::faults::{FaultError, Faults};
use crate::http;
use crate::irc::connection::House;
use crate::irc::listener::accept;
use crate::irc::outbox::{End, Outbox};
use crate::ledger::Ledger;
use crate::replay::{Replay, ReplayError, ReplayProgress};
use crate::tls::{self, TlsError};
use crate::town::{ConnectionInfo, Door, Origin, Town};
use crate::traffic::{Order, OrderError, PhraseError, Progress, Speaker, Traffic};

/// Room-ids of the channels that exist from the start begin here.
const FIRST_ROOM_ID: u64 = 1_000_000;

/// Why a simulator cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address is taken or not ours.
    #[error("failed to listen on {address}: {source}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// See [`TlsError`].
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// See [`PhraseError`].
    #[error(transparent)]
    Phrase(#[from] PhraseError),
    /// See [`ReplayError`].
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// See [`OrderError`].
    #[error(transparent)]
    Order(#[from] OrderError),
    /// See [`FaultError`].
    #[error(transparent)]
    Fault(#[from] FaultError),
}

/// A running simulator. Dropping it stops it.
pub struct Simulator {
    /// Where plain IRC is served.
    pub irc_addr: SocketAddr,
    /// Where IRC over TLS is served.
    pub tls_addr: Option<SocketAddr>,
    /// Where the control interface is served.
    pub http_addr: Option<SocketAddr>,
    handle: Arc<Handle>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Simulator {
    /// Starts one; it serves when this returns.
    ///
    /// # Errors
    /// Addresses, the phrases, the replay's file or the order cannot be used.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        config.faults.check()?;
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let town = Arc::new(Town::new(&config));
        for number in 0..config.channels {
            town.build_room(&format!("sim_{number}"), FIRST_ROOM_ID + number as u64, Origin::Made);
        }
        let speaker = Speaker::new(&config)?;
        let replay = match &config.replay {
            Some(replay) => Some(open_replay(replay, &town).await?),
            None => None,
        };
        let house = House {
            town: Arc::clone(&town),
            queue_limit_bytes: config.queue_limit_bytes,
            ping_every: config.ping_every,
            pong_within: config.pong_within,
            stop: stop.clone(),
        };

        let (listener, irc_addr) = listen(config.listen).await?;
        tasks.spawn(accept(house.clone(), listener, None, tasks.clone()));
        let mut tls_addr = None;
        if let Some(tls) = &config.tls {
            let acceptor = tls::acceptor(&tls.ca_file)?;
            let (listener, addr) = listen(tls.listen).await?;
            tasks.spawn(accept(house, listener, Some(acceptor), tasks.clone()));
            tls_addr = Some(addr);
        }
        if let (Some(replay), Some(config)) = (&replay, &config.replay) {
            tasks.spawn(Arc::clone(replay).run(config.start, stop.clone()));
        }
        let traffic = Traffic::new(Arc::clone(&town), speaker, stop.clone());
        let handle = Arc::new(Handle {
            town,
            traffic,
            replay,
            reconnect_grace: config.reconnect_grace,
            tasks: tasks.clone(),
            stop: stop.clone(),
        });
        let storming = Arc::downgrade(&handle);
        tasks.spawn(storm(storming, handle.town.faults(), stop.clone()));
        let mut simulator = Self { irc_addr, tls_addr, http_addr: None, handle, tasks, stop };
        if let Some(address) = config.http_listen {
            simulator.serve_http(address).await?;
        }
        if let Some(rate) = config.rate {
            simulator.handle.start_traffic(Order { rate, seconds: None, wait_for_readers: false }).await?;
        }
        Ok(simulator)
    }

    async fn serve_http(&mut self, address: SocketAddr) -> Result<(), StartError> {
        let (listener, addr) = listen(address).await?;
        self.http_addr = Some(addr);
        let router = http::router(Arc::clone(&self.handle));
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            let served = tokio::select! {
                served = axum::serve(listener, router) => served,
                () = stop.cancelled() => return,
            };
            if let Err(error) = served {
                tracing::error!(%error, "the control interface ended");
            }
        });
        Ok(())
    }

    /// What can be asked and told while it runs.
    #[must_use]
    pub fn handle(&self) -> Arc<Handle> {
        Arc::clone(&self.handle)
    }

    /// All that was said so far.
    pub async fn ledger(&self) -> Ledger {
        self.handle.ledger().await
    }

    /// Stops everything and waits for it.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// What can be asked and told while it runs; HTTP is a coat over this.
pub struct Handle {
    town: Arc<Town>,
    traffic: Traffic,
    replay: Option<Arc<Replay>>,
    reconnect_grace: Duration,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Handle {
    /// All that was said so far.
    pub async fn ledger(&self) -> Ledger {
        // Before the ledger is read: "silent" must not be claimed of a ledger that is still written.
        let replaying = self.replay.as_ref().map(|replay| replay.progress());
        let replaying = replaying.is_some_and(|progress| progress.started && !progress.finished);
        let speaking = self.traffic.progress().await.running || replaying;
        self.town.ledger(speaking)
    }

    /// Says what is ordered, in place of what was ordered before.
    ///
    /// # Errors
    /// The order makes no sense.
    pub async fn start_traffic(&self, order: Order) -> Result<(), OrderError> {
        self.traffic.start(order).await
    }

    /// Returns when nothing more is said: the ledger is final.
    pub async fn stop_traffic(&self) {
        self.traffic.stop().await;
    }

    /// Returns when the order is done or was stopped.
    pub async fn traffic_finished(&self) {
        self.traffic.finished().await;
    }

    /// What traffic does now.
    pub async fn progress(&self) -> Progress {
        self.traffic.progress().await
    }

    /// Begins the replay; false: it had begun; absent: there is none.
    pub fn start_replay(&self) -> Option<bool> {
        self.replay.as_ref().map(|replay| replay.begin())
    }

    /// Returns when the replay, if there is one, is said and read.
    pub async fn replay_finished(&self) {
        if let Some(replay) = &self.replay {
            replay.finished().await;
        }
    }

    /// How far the replay is.
    #[must_use]
    pub fn replay_progress(&self) -> Option<ReplayProgress> {
        self.replay.as_ref().map(|replay| replay.progress())
    }

    /// The open connections, oldest first.
    #[must_use]
    pub fn connections(&self) -> Vec<ConnectionInfo> {
        self.town.connections()
    }

    /// The faults that are set.
    #[must_use]
    pub fn faults(&self) -> Faults {
        *self.town.faults().borrow()
    }

    /// Sets all faults.
    ///
    /// # Errors
    /// One of them cannot be.
    pub fn set_faults(&self, faults: Faults) -> Result<(), FaultError> {
        faults.check()?;
        self.town.set_faults(faults);
        Ok(())
    }

    /// Opens or shuts a channel's door.
    ///
    /// # Errors
    /// There is no such channel.
    pub fn set_door(&self, login: &str, door: Door) -> Result<(), FaultError> {
        self.town.set_door(login, door)
    }

    /// Gives a channel another login; its room-id stays. Who is in it parts.
    ///
    /// # Errors
    /// There is no such channel, or the login is taken or none.
    pub fn rename(&self, login: &str, to: &str) -> Result<(), FaultError> {
        self.town.rename(login, to)
    }

    /// Cuts the oldest `most` connections off: what is queued for them is lost. Their ids.
    pub fn cut(&self, most: usize) -> Vec<u64> {
        self.each(most, |outbox| outbox.close(End::Cut))
    }

    /// Leaves the oldest `most` connections half open: they stay, but nothing is read from them and nothing written.
    /// Their ids.
    pub fn freeze(&self, most: usize) -> Vec<u64> {
        self.each(most, |outbox| outbox.freeze(true))
    }

    /// Ends what [`Self::freeze`] did, for the oldest `most` connections. Their ids.
    pub fn thaw(&self, most: usize) -> Vec<u64> {
        self.each(most, |outbox| outbox.freeze(false))
    }

    fn each(&self, most: usize, act: impl Fn(&Outbox)) -> Vec<u64> {
        let outboxes = self.town.outboxes().into_iter().take(most);
        outboxes.map(|(id, outbox)| (act(&outbox), id).1).collect()
    }

    /// Tells the oldest `most` connections to reconnect and closes them after the grace (absent: the configured one).
    /// Their ids.
    pub fn reconnect(&self, most: usize, grace: Option<Duration>) -> Vec<u64> {
        let mut told = self.town.outboxes();
        told.truncate(most);
        let ids = told.iter().map(|(id, _)| *id).collect();
        for (_, outbox) in &told {
            outbox.push_text(":tmi.twitch.tv RECONNECT");
        }
        let (grace, stop) = (grace.unwrap_or(self.reconnect_grace), self.stop.clone());
        self.tasks.spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(grace) => {}
                () = stop.cancelled() => return,
            }
            for (_, outbox) in told {
                outbox.close(End::Reconnected);
            }
        });
        ids
    }
}

/// Tells all connections to reconnect, again and again, while that fault is set.
async fn storm(handle: Weak<Handle>, mut faults: watch::Receiver<Faults>, stop: CancellationToken) {
    loop {
        let every_ms = faults.borrow_and_update().reconnect_every_ms;
        tokio::select! {
            changed = faults.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(Duration::from_millis(every_ms)), if every_ms > 0 => {
                let Some(handle) = handle.upgrade() else { return };
                handle.reconnect(usize::MAX, None);
            }
            () = stop.cancelled() => return,
        }
    }
}

async fn open_replay(config: &ReplayConfig, town: &Arc<Town>) -> Result<Arc<Replay>, ReplayError> {
    let (config, town) = (config.clone(), Arc::clone(town));
    let file = config.file.clone();
    let opened = tokio::task::spawn_blocking(move || Replay::open(&config, town)).await;
    opened.map_err(|error| ReplayError::Read { file, source: io::Error::other(error) })?.map(Arc::new)
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |source| StartError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let addr = listener.local_addr().map_err(failed)?;
    Ok((listener, addr))
}
