//! The hub: follows the assignment, keeps a client for every ≤ 90 channels, and knows where each channel stands.
//!
//! It decides nothing itself: [`Channels`] and [`Allocation`] say what to do, the clients do it.

use super::allocation::{Allocation, ClientId};
use super::channels::{Arrival, Channels};
use super::dial::ATTEMPT_LIMIT;
use super::login::Login;
use super::news::{News, What};
use super::options::TwitchOptions;
use super::shared::{Context, Shared};
use super::transport::ChatTransport;
use super::wall_ms;
use clamor_bus::assignment::Assignment;
use clamor_bus::report::{ChannelReport, ChannelState};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use twitch_irc::{ClientConfig, TwitchIRCClient};

/// A client's handle; dropping it closes the connection.
struct Client {
    irc: TwitchIRCClient<ChatTransport, Login>,
    context: Arc<Context>,
}

/// The state of one ingest role.
pub(super) struct Hub {
    shared: Arc<Shared>,
    channels: Channels,
    allocation: Allocation,
    clients: HashMap<ClientId, Client>,
    /// Connections that were opened and have not ended, as far as news have come.
    connections: BTreeMap<u32, ClientId>,
    /// Connections are opened one after the other.
    opening: Arc<Semaphore>,
    connect_interval: Duration,
    /// Of the assignment that is followed; `None`: there was none yet.
    revision: Option<u64>,
    problem: String,
    changed: bool,
}

impl Hub {
    pub(super) fn new(shared: Arc<Shared>, options: &TwitchOptions) -> Self {
        Self {
            shared,
            channels: Channels::new(options.answer_limit),
            allocation: Allocation::default(),
            clients: HashMap::new(),
            connections: BTreeMap::new(),
            opening: Arc::new(Semaphore::new(1)),
            connect_interval: options.connect_interval,
            revision: None,
            problem: String::new(),
            changed: true,
        }
    }

    /// Joins what is new and parts what is missing.
    pub(super) fn follow(&mut self, assignment: &Assignment) {
        let difference = self.channels.follow(assignment);
        if self.revision != Some(assignment.revision) || difference != Default::default() {
            tracing::info!(
                revision = assignment.revision,
                channels = self.channels.len(),
                added = difference.added.len(),
                removed = difference.removed.len(),
                "following an assignment"
            );
        }
        self.revision = Some(assignment.revision);
        self.changed = true;
        for login in &difference.removed {
            self.shared.joins.set_urgency(login, None);
            for client in self.allocation.remove(login) {
                self.part(client, login);
            }
        }
        for login in self.channels.logins() {
            self.shared.joins.set_urgency(login, self.channels.urgency(login));
        }
        for login in difference.added {
            let client = self.allocation.place(&login);
            self.join(client, &login);
        }
        self.drop_needless();
    }

    /// Takes news of a connection.
    pub(super) fn hear(&mut self, News { connection, client, what }: News) {
        self.changed = true;
        let now = Instant::now();
        match what {
            What::Opened => {
                tracing::debug!(connection, client = client.0, "connected");
                self.connections.insert(connection, client);
            }
            What::JoinSent(login) => self.channels.join_sent(&login, now),
            What::Joined { login, channel_id, messages } => {
                match self.channels.joined(&login, connection, channel_id, messages, now) {
                    Arrival::Joined => self.allocation.settled(&login, client, wall_ms()),
                    Arrival::Renamed => {
                        tracing::warn!(channel = login, channel_id, "another room has this login now");
                        self.part(client, &login);
                        self.allocation.settled(&login, client, 0);
                    }
                    // Its PART is on the way.
                    Arrival::Unwanted => {}
                }
                self.update_urgency(&login);
            }
            What::Parted(login) => {
                self.channels.parted(&login, connection, now);
                self.update_urgency(&login);
            }
            What::Refused(login, state) => {
                tracing::info!(channel = login, state = state.name(), "Twitch refuses a channel");
                self.channels.refused(&login, connection, state, now);
                self.allocation.settled(&login, client, 0);
                self.update_urgency(&login);
            }
            What::ReconnectAsked => self.replace(client),
            What::Ended => self.ended(connection),
        }
    }

    /// What time brings: once a second.
    pub(super) fn tick(&mut self) {
        // News of an end can be lost where the hub could not follow.
        let lost: Vec<u32> =
            self.connections.keys().filter(|id| self.shared.connections.get(**id).is_none()).copied().collect();
        for connection in lost {
            self.ended(connection);
        }
        let (unanswered, again) = self.channels.tick(Instant::now());
        for login in unanswered {
            tracing::info!(channel = login, "no answer to its JOIN: the login probably does not exist");
            if let Some(client) = self.allocation.client_of(&login) {
                self.allocation.settled(&login, client, 0);
            }
            self.update_urgency(&login);
            self.changed = true;
        }
        for login in again {
            if let Some(client) = self.allocation.client_of(&login) {
                // Twitch may believe that we are in; then the JOIN alone would get no answer.
                self.part(client, &login);
                self.join(client, &login);
            }
        }
        self.drop_needless();
        let problem = self.shared.dialer.problem();
        self.changed |= problem != self.problem;
        self.problem = problem;
        self.show();
    }

    /// Whether something has changed since the last call.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// The revision followed, what does not work, and the channels, for a report.
    pub(super) fn report(&mut self) -> (Option<u64>, String, Vec<ChannelReport>) {
        self.channels.sample_rates(Instant::now());
        (self.revision, self.problem.clone(), self.channels.report())
    }

    /// The channels that are assigned.
    pub(super) fn logins(&self) -> BTreeSet<&str> {
        self.channels.logins().collect()
    }

    /// What readiness waits for; `None`: every channel is joined or classified.
    pub(super) fn waits(&self) -> Option<String> {
        let (waiting, all) = (self.channels.unclassified(), self.channels.len());
        match self.revision {
            None => Some("no assignment yet".to_owned()),
            Some(_) if waiting > 0 => Some(format!("{waiting} of {all} channels wait for Twitch's answer")),
            Some(_) => None,
        }
    }

    /// Drops every client: their connections end.
    pub(super) fn leave(&mut self) {
        for (_, client) in self.clients.drain() {
            client.context.go();
        }
    }

    fn join(&mut self, client: ClientId, login: &str) {
        let refused = self.client(client).irc.join(login.to_owned()).is_err();
        if refused {
            tracing::warn!(channel = login, "an assigned channel is no Twitch login");
            self.channels.impossible(login);
            self.allocation.settled(login, client, 0);
        }
    }

    fn part(&self, client: ClientId, login: &str) {
        if let Some(client) = self.clients.get(&client) {
            client.irc.part(login.to_owned());
        }
    }

    /// Twitch will close this client's connection: a new one joins all of its channels first.
    fn replace(&mut self, client: ClientId) {
        let Some((new, channels)) = self.allocation.replace(client) else {
            return;
        };
        tracing::info!(client = client.0, replacement = new.0, channels = channels.len(), "asked to reconnect");
        if let Some(old) = self.clients.get(&client) {
            old.context.leave();
        }
        for login in channels {
            self.join(new, &login);
        }
    }

    fn ended(&mut self, connection: u32) {
        let Some(client) = self.connections.remove(&connection) else {
            return;
        };
        let asked = self.allocation.channels_of(client).map(str::to_owned).collect::<Vec<_>>();
        let current = asked.iter().map(String::as_str).filter(|login| self.allocation.client_of(login) == Some(client));
        self.channels.connection_ended(connection, current);
        if self.allocation.is_replaced(client) {
            self.allocation.forget(client);
            self.drop_client(client);
        } else {
            tracing::info!(client = client.0, channels = asked.len(), "a connection ended; connecting again");
        }
    }

    fn drop_needless(&mut self) {
        let now_ms = wall_ms();
        let heard = |client| {
            let of_client = self.connections.iter().filter(|(_, owner)| **owner == client);
            let heard = of_client.filter_map(|(id, _)| self.shared.connections.get(*id)?.heard_until(now_ms));
            heard.max()
        };
        for client in self.allocation.take_needless(Instant::now(), heard) {
            self.drop_client(client);
        }
    }

    fn drop_client(&mut self, client: ClientId) {
        if let Some(dropped) = self.clients.remove(&client) {
            dropped.context.go();
        }
    }

    fn update_urgency(&self, login: &str) {
        self.shared.joins.set_urgency(login, self.channels.urgency(login));
    }

    fn client(&mut self, id: ClientId) -> &Client {
        let Self { clients, shared, opening, connect_interval, .. } = self;
        clients.entry(id).or_insert_with(|| {
            let context = Arc::new(Context::new(id, Arc::clone(shared)));
            let config = ClientConfig {
                // One connection to a client: the allocation is ours.
                max_channels_per_connection: usize::MAX,
                connection_rate_limiter: Arc::clone(opening),
                new_connection_every: *connect_interval,
                connect_timeout: ATTEMPT_LIMIT,
                ..ClientConfig::new_simple(Login { context: Arc::clone(&context) })
            };
            // Its messages were seen by the listener before.
            let (_, irc) = TwitchIRCClient::new(config);
            Client { irc, context }
        })
    }

    fn show(&self) {
        let metrics = &self.shared.metrics;
        let gauge = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        metrics.channels_wanted.set(gauge(self.channels.len()));
        for (state, count) in ChannelState::ALL.iter().zip(self.channels.counts()) {
            metrics.channels.with_label_values(&[state.name()]).set(gauge(count));
        }
        metrics.connections.set(gauge(self.shared.connections.len()));
        metrics.joins_waiting.set(gauge(self.shared.joins.len()));
    }
}
