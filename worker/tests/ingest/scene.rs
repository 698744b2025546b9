//! The simulator and a worker that reads it, with what was said and what was heard.

use crate::harness::{Ingest, LIMIT, Published, SHARDS, SLOT, World};
use clamor_bus::report::{ChannelState, Report};
use clamor_simulator::{Config, Detail, Faults, Handle, Ledger, Order, Simulator};
use clamor_testkit::{Scrape, eventually};
use clamor_worker::ingest::{IngestOptions, TwitchOptions};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub(crate) fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

fn logins(channels: usize) -> Vec<String> {
    (0..channels).map(|number| format!("sim_{number}")).collect()
}

/// A simulator that writes every message down, a worker that reads all of its channels, and nothing said yet.
pub(crate) struct Scene {
    pub(crate) world: World,
    pub(crate) simulator: Simulator,
    pub(crate) handle: Arc<Handle>,
    ingest: Ingest,
    logins: Vec<String>,
}

impl Scene {
    /// Nothing is joined yet.
    pub(crate) async fn begin(channels: usize, faults: Faults, answer_limit: Duration) -> Self {
        Self::begin_with(channels, faults, answer_limit, |_, options| options).await
    }

    /// The same, by a worker with other options.
    pub(crate) async fn begin_with(
        channels: usize,
        faults: Faults,
        answer_limit: Duration,
        change: impl FnOnce(&World, IngestOptions) -> IngestOptions,
    ) -> Self {
        let world = World::new().await;
        let config = Config { channels, faults, http_listen: None, detail: Detail::Messages, ..Config::default() };
        let simulator = Simulator::start(config).await.unwrap();
        let logins = logins(channels);
        world.assign(1, &logins).await;
        let twitch = TwitchOptions { answer_limit, ..TwitchOptions::simulator(simulator.irc_addr.to_string()) };
        let options = IngestOptions::new(SLOT, world.bus.clone(), SHARDS, twitch);
        let ingest = Ingest::start(change(&world, options));
        Self { world, handle: simulator.handle(), simulator, ingest, logins }
    }

    /// Everything is joined.
    pub(crate) async fn joined(channels: usize) -> Self {
        let scene = Self::begin(channels, Faults::default(), TwitchOptions::ANSWER_LIMIT).await;
        scene.all_joined().await;
        scene
    }

    pub(crate) async fn all_joined(&self) -> Report {
        self.world.all_in(&self.logins, ChannelState::Joined).await
    }

    pub(crate) async fn in_state(&self, login: &str, state: ChannelState) -> Report {
        self.world.all_in(&[login], state).await
    }

    pub(crate) async fn speak(&self, rate: f64) {
        self.handle.start_traffic(Order { rate, seconds: None, wait_for_readers: false }).await.unwrap();
    }

    pub(crate) fn set(&self, faults: Faults) {
        self.handle.set_faults(faults).unwrap();
    }

    pub(crate) fn count(&self, metric: &str, labels: &[(&str, &str)]) -> f64 {
        self.ingest.scrape().count(&format!("clamor_ingest_{metric}"), labels)
    }

    pub(crate) async fn counted(&self, metric: &str, labels: &[(&str, &str)], least: f64) {
        eventually(&format!("{metric} of {least}"), LIMIT, async || {
            let count = self.count(metric, labels);
            if count >= least { Ok(()) } else { Err(count) }
        })
        .await;
    }

    /// Awaits that so many more messages were read.
    pub(crate) async fn reads_on(&self, messages: f64) {
        let before = self.count("messages_total", &[("kind", "message")]);
        self.counted("messages_total", &[("kind", "message")], before + messages).await;
    }

    pub(crate) async fn channel_id(&self, login: &str) -> u64 {
        self.simulator.ledger().await.channel(login).unwrap().channel_id
    }

    /// Says no more, awaits that this is covered, and ends the worker; no batch is missing.
    pub(crate) async fn end(self) -> (Published, Ledger, Scrape) {
        let (published, ledger, metrics) = self.end_with_holes().await;
        published.assert_numbered();
        (published, ledger, metrics)
    }

    /// The same, where batches may be missing.
    pub(crate) async fn end_with_holes(self) -> (Published, Ledger, Scrape) {
        self.handle.stop_traffic().await;
        let ledger = self.simulator.ledger().await;
        let silent_ms = now_ms();
        self.world
            .published_when("coverage up to the end of chat", |published| {
                published.heard_until().values().max().is_some_and(|until| *until > silent_ms)
            })
            .await;
        let metrics = self.ingest.drain().await;
        (self.world.published().await, ledger, metrics)
    }
}
