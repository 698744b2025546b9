//! A running ingest role, and what it published.

use clamor_bus::assignment::{AssignedChannel, Assignment};
use clamor_bus::report::{ChannelState, Report};
use clamor_bus::{Bus, BusConfig, Start, StreamLimits};
use clamor_chat::wire::{self, Batch, Event, event::Kind};
use clamor_testkit::{Needs, Scrape, Servers, eventually};
use clamor_worker::health::Health;
use clamor_worker::ingest::{self, IngestError, IngestOptions, TwitchOptions};
use prometheus::Registry;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) const SLOT: &str = "ingest-0";
pub(crate) const SHARDS: u16 = 4;
/// For everything that takes milliseconds on a machine that has nothing else to do.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// A bus of the test's own.
pub(crate) struct World {
    pub(crate) servers: Servers,
    pub(crate) bus: Bus,
}

impl World {
    pub(crate) async fn new() -> Self {
        let servers = Servers::start_only(Needs::Nats).await.unwrap();
        let config = BusConfig::open(servers.nats_url(), "test", "test");
        let bus = eventually("the bus", LIMIT, async || Bus::connect(&config).await).await;
        let limits = StreamLimits { max_age: Duration::from_secs(86_400), max_bytes: 256 << 20 };
        bus.ensure(SHARDS, &limits).await.unwrap();
        Self { servers, bus }
    }

    /// Assigns these channels, the first the heaviest.
    pub(crate) async fn assign<S: AsRef<str>>(&self, revision: u64, logins: &[S]) {
        let weights = (1..=u32::try_from(logins.len()).unwrap()).rev();
        let channel = |(login, weight): (&S, u32)| AssignedChannel { login: login.as_ref().to_owned(), weight };
        let mut channels: Vec<_> = logins.iter().zip(weights).map(channel).collect();
        channels.sort_by(|left, right| left.login.cmp(&right.login));
        self.bus.put_assignment(SLOT, &Assignment { revision, channels }).await.unwrap();
    }

    pub(crate) fn ingest(&self, twitch: TwitchOptions) -> Ingest {
        Ingest::start(IngestOptions::new(SLOT, self.bus.clone(), SHARDS, twitch))
    }

    /// Awaits a report of which the condition is true.
    pub(crate) async fn reported(&self, what: &str, condition: impl Fn(&Report) -> bool) -> Report {
        eventually(what, LIMIT, async || {
            let reports = self.bus.reports().await.map_err(|error| error.to_string())?;
            let found = reports.iter().find(|report| condition(report)).cloned();
            found.ok_or_else(|| format!("{reports:?}"))
        })
        .await
    }

    /// Awaits that all of these channels are in this state.
    pub(crate) async fn all_in<S: AsRef<str>>(&self, logins: &[S], state: ChannelState) -> Report {
        let wanted: BTreeSet<&str> = logins.iter().map(AsRef::as_ref).collect();
        let what = format!("{} channels {}", wanted.len(), state.name());
        self.reported(&what, |report| {
            let there = report.channels.iter().filter(|channel| channel.state == state);
            let there: BTreeSet<&str> = there.map(|channel| channel.login.as_str()).collect();
            wanted.is_subset(&there)
        })
        .await
    }

    /// Everything in the streams, in their order.
    pub(crate) async fn published(&self) -> Published {
        let mut batches = Vec::new();
        for shard in 0..SHARDS {
            let last = self.bus.stream_state(shard).await.unwrap().last_seq;
            if last == 0 {
                continue;
            }
            let mut reader = self.bus.read(shard, Start::Sequence(1)).await.unwrap();
            loop {
                let message = reader.next().await.unwrap();
                batches.push((shard, wire::decode_batch(&message.payload).unwrap()));
                if message.seq >= last {
                    break;
                }
            }
        }
        Published { batches }
    }

    /// Awaits that the streams hold something.
    pub(crate) async fn published_when(&self, what: &str, condition: impl Fn(&Published) -> bool) -> Published {
        eventually(what, LIMIT, async || {
            let published = self.published().await;
            if condition(&published) { Ok(published) } else { Err(published.summary()) }
        })
        .await
    }
}

/// A running ingest role.
pub(crate) struct Ingest {
    pub(crate) health: Health,
    registry: Registry,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), IngestError>>,
}

impl Ingest {
    pub(crate) fn start(options: IngestOptions) -> Self {
        let (health, registry, shutdown) = (Health::default(), Registry::new(), CancellationToken::new());
        let task = tokio::spawn(ingest::run(options, registry.clone(), health.clone(), shutdown.clone()));
        Self { health, registry, shutdown, task }
    }

    /// Tells it to stop, and does not wait.
    pub(crate) fn ask_to_stop(&self) {
        self.shutdown.cancel();
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.task.is_finished()
    }

    /// Tells it to stop and waits until it has.
    pub(crate) async fn drain(self) -> Scrape {
        self.shutdown.cancel();
        let ended = tokio::time::timeout(LIMIT, self.task).await.expect("it ends within the limit");
        ended.unwrap().unwrap();
        scrape(&self.registry)
    }

    pub(crate) fn scrape(&self) -> Scrape {
        scrape(&self.registry)
    }
}

fn scrape(registry: &Registry) -> Scrape {
    Scrape::parse(&String::from_utf8(clamor_worker::metrics::text(registry)).unwrap())
}

/// What is in the streams.
pub(crate) struct Published {
    pub(crate) batches: Vec<(u16, Batch)>,
}

impl Published {
    pub(crate) fn events(&self) -> impl Iterator<Item = &Event> {
        self.batches.iter().flat_map(|(_, batch)| &batch.events)
    }

    /// Events of which the key was not seen before; coverage has none.
    pub(crate) fn distinct(&self) -> impl Iterator<Item = &Event> {
        let mut seen = HashSet::new();
        self.events().filter(|event| event.key() != 0).filter(move |event| seen.insert(event.key()))
    }

    /// The texts of all messages of a channel.
    pub(crate) fn texts(&self, channel_id: u64) -> Vec<&str> {
        let of_channel = self.events().filter(|event| event.channel_id == channel_id);
        of_channel
            .filter_map(|event| match &event.kind {
                Some(Kind::Message(message)) => Some(message.text.as_str()),
                _ => None,
            })
            .collect()
    }

    /// The numbers that [`crate::wire::Peer::chat_many`] put in front of a channel's messages.
    pub(crate) fn text_numbers(&self, channel_id: u64) -> Vec<usize> {
        let number = |text: &str| text.split(' ').next().and_then(|number| number.parse().ok());
        self.texts(channel_id).into_iter().filter_map(number).collect()
    }

    /// For who waits in vain.
    fn summary(&self) -> String {
        let kinds = self.kinds();
        format!("{} events, the last of them {:?}", kinds.len(), &kinds[kinds.len().saturating_sub(20)..])
    }

    /// The kinds of all events that say something about coverage, but for marks.
    pub(crate) fn kinds(&self) -> Vec<(u32, u64, &'static str)> {
        let named = self.events().map(|event| (event.connection, event.channel_id, name(event)));
        named.filter(|(_, _, name)| *name != "marks").collect()
    }

    /// Until when each connection was said to be heard.
    pub(crate) fn heard_until(&self) -> BTreeMap<u32, u64> {
        let mut heard = BTreeMap::new();
        for event in self.events() {
            let Some(Kind::Marks(marks)) = &event.kind else {
                continue;
            };
            for mark in &marks.marks {
                let until: &mut u64 = heard.entry(mark.connection).or_default();
                *until = (*until).max(mark.heard_until_ms);
            }
        }
        heard
    }

    /// Until when a connection was said to be heard; 0: nobody has said so.
    pub(crate) fn heard_until_of(&self, connection: u32) -> u64 {
        self.heard_until().get(&connection).copied().unwrap_or_default()
    }

    /// Until when an instance said that it heard everything.
    pub(crate) fn heard_until_by(&self, instance: u64) -> u64 {
        let batches = self.batches.iter().filter(|(_, batch)| batch.instance == instance).cloned().collect();
        Published { batches }.heard_until().into_values().max().unwrap_or_default()
    }

    /// When each connection joined a channel.
    pub(crate) fn joins(&self, channel_id: u64) -> Vec<(u32, u64)> {
        let joined = |event: &&Event| event.channel_id == channel_id && matches!(event.kind, Some(Kind::Joined(_)));
        self.events().filter(joined).map(|event| (event.connection, event.sent_at_ms)).collect()
    }

    /// Batches of each (instance, shard) have the numbers from 1 without holes.
    pub(crate) fn assert_numbered(&self) {
        let mut numbers: BTreeMap<(u64, u16), u64> = BTreeMap::new();
        for (shard, batch) in &self.batches {
            let last = numbers.entry((batch.instance, *shard)).or_default();
            assert_eq!(batch.number, *last + 1, "shard {shard}");
            assert_eq!(batch.slot, SLOT);
            *last = batch.number;
        }
    }
}

fn name(event: &Event) -> &'static str {
    match &event.kind {
        None => "nothing",
        Some(Kind::Message(_)) => "message",
        Some(Kind::UserNotice(_)) => "user_notice",
        Some(Kind::ClearChat(_)) => "clear_chat",
        Some(Kind::ClearMessage(_)) => "clear_message",
        Some(Kind::RoomState(_)) => "room_state",
        Some(Kind::Joined(_)) => "joined",
        Some(Kind::Parted(_)) => "parted",
        Some(Kind::Snapshot(_)) => "snapshot",
        Some(Kind::Marks(_)) => "marks",
        Some(Kind::ConnectionEnded(_)) => "connection_ended",
    }
}
