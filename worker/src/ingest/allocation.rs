//! Which client reads which channel, and which client replaces which. Pure.
//!
//! A client is one connection. Twitch asks a connection to reconnect some time before it closes it; then a new client
//! takes over all channels, and the old one reads on until each is joined there or classified, and until what the old
//! one surely heard reaches the last of these joins: so coverage has no gap.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

/// twitch-irc's own default, below Twitch's habit of dropping connections with more than about 100.
const CHANNELS_PER_CLIENT: usize = 90;

/// A replaced client is not kept for longer: coverage that does not move any more would hold it for ever.
const OVERLAP_LIMIT: Duration = Duration::from_secs(30);

/// A client without channels stays so long: until when its last ones were heard is known by Twitch's answers to their PARTs.
const EMPTY_LINGER: Duration = Duration::from_secs(3);

/// Names a client within this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct ClientId(pub(super) u64);

/// All clients and their channels.
#[derive(Debug, Default)]
pub(super) struct Allocation {
    last_client: u64,
    clients: BTreeMap<ClientId, Client>,
    /// The client that shall read a channel; never a replaced one.
    current: HashMap<String, ClientId>,
}

#[derive(Debug, Default)]
struct Client {
    channels: BTreeSet<String>,
    replaced: Option<Replaced>,
    /// Since when it was seen without channels.
    empty_since: Option<Instant>,
}

#[derive(Debug)]
struct Replaced {
    /// Channels that the new client neither hears nor knows to be unhearable.
    waiting: BTreeSet<String>,
    /// When the new client joined the last of them, by the worker's clock.
    last_join_ms: u64,
    /// When the last of them stopped waiting.
    settled_at: Option<Instant>,
}

impl Allocation {
    /// Gives a channel to the fullest client that has room, or to a new one.
    pub(super) fn place(&mut self, login: &str) -> ClientId {
        let roomy = |client: &Client| client.replaced.is_none() && client.channels.len() < CHANNELS_PER_CLIENT;
        let fullest = self.clients.iter().filter(|(_, client)| roomy(client)).max_by_key(|(_, c)| c.channels.len());
        let id = fullest.map(|(id, _)| *id).unwrap_or_else(|| self.new_client());
        self.clients.entry(id).or_default().channels.insert(login.to_owned());
        self.current.insert(login.to_owned(), id);
        id
    }

    /// The client that shall read a channel.
    pub(super) fn client_of(&self, login: &str) -> Option<ClientId> {
        self.current.get(login).copied()
    }

    /// The channels that a client shall read, or still reads.
    pub(super) fn channels_of(&self, client: ClientId) -> impl Iterator<Item = &str> {
        self.clients.get(&client).into_iter().flat_map(|client| client.channels.iter().map(String::as_str))
    }

    /// Takes a channel away. Returns the clients that must part it.
    pub(super) fn remove(&mut self, login: &str) -> Vec<ClientId> {
        self.current.remove(login);
        let mut parting = Vec::new();
        for (id, client) in &mut self.clients {
            if client.channels.remove(login) {
                parting.push(*id);
            }
            if let Some(replaced) = &mut client.replaced {
                replaced.waiting.remove(login);
            }
        }
        parting
    }

    /// A new client takes over a client's channels. `None` where it is replaced already, or unknown.
    pub(super) fn replace(&mut self, client: ClientId) -> Option<(ClientId, Vec<String>)> {
        let old = self.clients.get_mut(&client).filter(|client| client.replaced.is_none())?;
        let channels = old.channels.clone();
        old.replaced = Some(Replaced { waiting: channels.clone(), last_join_ms: 0, settled_at: None });
        let new = self.new_client();
        for login in &channels {
            self.current.insert(login.clone(), new);
        }
        self.clients.entry(new).or_default().channels = channels.clone();
        Some((new, channels.into_iter().collect()))
    }

    /// A client has joined a channel at that time (or, at 0, knows that it cannot): whom it replaces need not wait.
    pub(super) fn settled(&mut self, login: &str, client: ClientId, joined_ms: u64) {
        if self.client_of(login) != Some(client) {
            return;
        }
        for replaced in self.clients.values_mut().filter_map(|client| client.replaced.as_mut()) {
            if replaced.waiting.remove(login) {
                replaced.last_join_ms = replaced.last_join_ms.max(joined_ms);
            }
        }
    }

    /// Whether a client has been replaced by another.
    pub(super) fn is_replaced(&self, client: ClientId) -> bool {
        self.clients.get(&client).is_none_or(|client| client.replaced.is_some())
    }

    /// Forgets the clients that nobody needs any more and returns them: the long empty, and the replaced once they have
    /// surely heard (`heard_until`, ms) what the new one could have missed.
    pub(super) fn take_needless(
        &mut self,
        now: Instant,
        heard_until: impl Fn(ClientId) -> Option<u64>,
    ) -> Vec<ClientId> {
        let needless = |(id, client): (&ClientId, &mut Client)| {
            let done = match &mut client.replaced {
                None if client.channels.is_empty() => now >= *client.empty_since.get_or_insert(now) + EMPTY_LINGER,
                None => {
                    client.empty_since = None;
                    false
                }
                Some(replaced) => replaced.is_done(now, || heard_until(*id)),
            };
            done.then_some(*id)
        };
        let gone: Vec<_> = self.clients.iter_mut().filter_map(needless).collect();
        for id in &gone {
            self.clients.remove(id);
        }
        gone
    }

    /// Forgets a replaced client whose connection has ended.
    pub(super) fn forget(&mut self, client: ClientId) {
        self.clients.remove(&client);
    }

    fn new_client(&mut self) -> ClientId {
        self.last_client += 1;
        ClientId(self.last_client)
    }
}

impl Replaced {
    fn is_done(&mut self, now: Instant, heard_until: impl Fn() -> Option<u64>) -> bool {
        if !self.waiting.is_empty() {
            return false;
        }
        let settled_at = *self.settled_at.get_or_insert(now);
        now >= settled_at + OVERLAP_LIMIT || heard_until().is_some_and(|heard| heard >= self.last_join_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logins(count: usize) -> Vec<String> {
        (0..count).map(|number| format!("channel_{number}")).collect()
    }

    fn placed(count: usize) -> (Allocation, Vec<ClientId>) {
        let mut allocation = Allocation::default();
        let clients = logins(count).iter().map(|login| allocation.place(login)).collect();
        (allocation, clients)
    }

    #[test]
    fn no_client_has_more_than_90_channels_and_no_more_clients_are_made_than_needed() {
        let (allocation, clients) = placed(200);
        assert_eq!(clients.iter().collect::<BTreeSet<_>>().len(), 3);
        assert!(allocation.clients.values().all(|client| client.channels.len() <= CHANNELS_PER_CLIENT));
    }

    #[test]
    fn room_that_was_left_is_used_and_an_empty_client_goes_when_its_parts_can_have_been_answered() {
        let (mut allocation, clients) = placed(91);
        assert_eq!(allocation.remove("channel_3"), [clients[3]]);
        assert_eq!(allocation.place("new"), clients[0]);
        assert_eq!(allocation.remove("channel_90"), [clients[90]]);
        let now = Instant::now();
        assert_eq!(allocation.take_needless(now, |_| None), []);
        assert_eq!(allocation.take_needless(now + EMPTY_LINGER, |_| None), [clients[90]]);
        assert!(allocation.client_of("channel_90").is_none());
    }

    #[test]
    fn a_replaced_client_stays_until_every_channel_has_settled_and_its_coverage_overlaps() {
        let (mut allocation, clients) = placed(2);
        let old = clients[0];
        let (new, moved) = allocation.replace(old).unwrap();
        assert_eq!(moved.len(), 2);
        assert!(allocation.replace(old).is_none(), "once is enough");
        let now = Instant::now();
        allocation.settled("channel_0", old, 1);
        allocation.settled("channel_0", new, 5000);
        assert_eq!(allocation.take_needless(now, |_| Some(9000)), []);
        allocation.settled("channel_1", new, 0);
        assert_eq!(allocation.take_needless(now, |_| Some(4999)), []);
        assert_eq!(allocation.take_needless(now, |_| Some(5000)), [old]);
        assert_eq!(allocation.client_of("channel_0"), Some(new));
    }

    #[test]
    fn a_replaced_client_whose_coverage_stands_still_goes_in_the_end() {
        let (mut allocation, clients) = placed(1);
        let (new, _) = allocation.replace(clients[0]).unwrap();
        allocation.settled("channel_0", new, 5000);
        let now = Instant::now();
        assert_eq!(allocation.take_needless(now, |_| Some(1)), []);
        assert_eq!(allocation.take_needless(now + OVERLAP_LIMIT, |_| Some(1)), [clients[0]]);
    }

    #[test]
    fn a_channel_taken_away_meanwhile_is_parted_from_both_and_waited_for_by_none() {
        let (mut allocation, clients) = placed(1);
        let (new, _) = allocation.replace(clients[0]).unwrap();
        assert_eq!(allocation.remove("channel_0"), [clients[0], new]);
        let now = Instant::now();
        assert_eq!(allocation.take_needless(now, |_| Some(0)), [clients[0]]);
        assert_eq!(allocation.take_needless(now + EMPTY_LINGER, |_| Some(0)), [new]);
    }

    #[test]
    fn a_replacement_that_is_replaced_leaves_the_first_waiting_for_the_last() {
        let (mut allocation, clients) = placed(1);
        let (second, _) = allocation.replace(clients[0]).unwrap();
        let (third, _) = allocation.replace(second).unwrap();
        allocation.settled("channel_0", second, 10);
        assert_eq!(allocation.take_needless(Instant::now(), |_| Some(100)), []);
        allocation.settled("channel_0", third, 20);
        assert_eq!(allocation.take_needless(Instant::now(), |_| Some(100)), [clients[0], second]);
        assert!(!allocation.is_replaced(third));
    }

    #[test]
    fn a_full_replaced_client_takes_no_new_channel() {
        let (mut allocation, clients) = placed(1);
        let (new, _) = allocation.replace(clients[0]).unwrap();
        assert_eq!(allocation.place("another"), new);
    }
}
