//! Made-up chat for measurements without sockets: the same from each seed.
//!
//! 200 channels and 20,000 chatters, both by Zipf's law with exponent 1, as the simulator has them; an emote in every
//! third message, a hundred phrases and three that match often.

use clamor_bus::set::{ChannelScope, PhraseSet, PhraseSpec, Plan, WantedChannel};
use clamor_chat::wire::event::Kind;
use clamor_chat::wire::{Chatter, Emote, Event, Message};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rand_distr::{Distribution as _, Zipf};
use std::collections::BTreeMap;

/// Channels, with the ids 1 to this.
pub const CHANNELS: u64 = 200;
const CHATTERS: u64 = 20_000;
const EMOTES: u64 = 50;
const TEXTS: [&str; 8] = [
    "LUL",
    "what a play, he really did that again",
    "Kappa Kappa Kappa",
    "gg",
    "is this the finals or still the group stage? I just came here",
    "первый раз на стриме, привет всем",
    "@somebody you are right about the draft, but the late game was lost long before that fight",
    "!drops",
];

/// People who write.
#[derive(Debug)]
pub struct Crowd {
    random: StdRng,
    channels: Zipf<f64>,
    chatters: Zipf<f64>,
    emotes: Zipf<f64>,
}

impl Crowd {
    /// The crowd of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let zipf = |count: u64| Zipf::new(precise(count), 1.0).expect("a valid distribution");
        Self {
            random: StdRng::seed_from_u64(seed),
            channels: zipf(CHANNELS),
            chatters: zipf(CHATTERS),
            emotes: zipf(EMOTES),
        }
    }

    /// The channel that is written in next.
    pub fn channel(&mut self) -> u64 {
        whole(self.channels.sample(&mut self.random))
    }

    /// A message in a channel, with a key that no other has.
    pub fn message(&mut self, channel_id: u64, sent_at_ms: u64) -> Event {
        let id = whole(self.chatters.sample(&mut self.random));
        let emotes = if self.random.random_range(0..3) == 0 {
            let id = whole(self.emotes.sample(&mut self.random)).to_string();
            vec![Emote { id, name: "Kappa".to_owned(), count: 1 }]
        } else {
            Vec::new()
        };
        let chatter = Chatter { id, login: format!("chatter_{id}"), ..Chatter::default() };
        let text = TEXTS[self.random.random_range(0..TEXTS.len())].to_owned();
        let message = Message { chatter: Some(chatter), text, emotes, ..Message::default() };
        let kind = Some(Kind::Message(message));
        let mut event =
            Event { channel_id, sent_at_ms, received_at_ms: sent_at_ms, connection: 1, kind, ..Event::default() };
        event.set_key(self.random.random::<u128>() | 1);
        event
    }
}

/// A plan that wants all channels, and its phrases.
#[must_use]
pub fn plan(since_ms: u64) -> (Plan, PhraseSet) {
    let wanted = (1..=CHANNELS).map(|channel_id| WantedChannel {
        channel_id,
        login: format!("channel_{channel_id}"),
        labels: BTreeMap::new(),
        since_ms,
    });
    let words = (0..100).map(|index| format!(r"\bphrase{index}\b"));
    let patterns = words.chain(["(?:gg|wp)".to_owned(), "kappa".to_owned(), "draft|late game".to_owned()]);
    let phrases = patterns.map(|pattern| PhraseSpec {
        name: pattern.clone(),
        pattern,
        case_sensitive: false,
        log_messages: false,
        channels: ChannelScope::default(),
    });
    (Plan { wanted: wanted.collect(), phrases: None }, PhraseSet { phrases: phrases.collect() })
}

/// A count as a float: they are all far below 2^53.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "counts below 2^53")]
pub fn precise(count: u64) -> f64 {
    count as f64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank of a distribution, from 1")]
fn whole(rank: f64) -> u64 {
    rank as u64
}
