//! What the objects of a namespace ask for, each by itself and all together.
//!
//! Of two ChatPipelines the older works, of two TrackedChannels for one login the person's before the discovered, then the
//! older. Objects of one age are told apart by name.

use super::names;
use super::{Objects, Refused, age};
use crate::config::Config;
use clamor_bus::set::{PhraseSet, PhraseSpec};
use clamor_crds::condition::Reason;
use clamor_crds::tracked_channel::Isolation;
use clamor_crds::{ChatPipeline, Phrase, TrackedChannel};
use clamor_planner::desired::{Desired, DesiredChannel};
use clamor_planner::wish::{self, PhraseRefused};
use kube::{Resource as _, ResourceExt as _};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Everything that is asked for in a namespace.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// The pipeline that works; absent: there is none.
    pub pipeline: Option<Arc<ChatPipeline>>,
    /// Why it can't.
    pub refused: Option<Refused>,
    /// The other pipelines.
    pub idle: Vec<Arc<ChatPipeline>>,
    /// Every TrackedChannel, and how it stands by the objects alone.
    pub channels: Vec<Channel>,
    /// Every Phrase.
    pub phrases: Vec<PhraseWish>,
    /// What the pipeline's planner is told.
    pub desired: Arc<Desired>,
    /// The slots that share the channels.
    pub shared: BTreeSet<String>,
    /// All slots that should have a worker.
    pub slots: BTreeSet<String>,
}

/// A TrackedChannel and how it stands by the objects alone.
#[derive(Debug, Clone)]
pub struct Channel {
    /// It.
    pub object: Arc<TrackedChannel>,
    /// How it stands.
    pub standing: Standing,
    /// How many slots are to hear it: fewer than it asks for where there are no more, or no room in them.
    pub copies: usize,
}

/// How an object stands by the objects alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It is to be read or counted.
    Wanted,
    /// Its owner suspended it.
    Suspended,
    /// It can't be, and why.
    Refused(Reason, String),
}

/// A Phrase and how it stands.
#[derive(Debug, Clone)]
pub struct PhraseWish {
    /// It.
    pub object: Arc<Phrase>,
    /// How it stands.
    pub standing: Standing,
    /// What the aggregators are told of it; none: nothing.
    pub spec: Option<PhraseSpec>,
    /// In how many channels it would count.
    pub channels: i64,
}

/// What the objects ask for.
#[must_use]
pub fn wanted(objects: &Objects, config: &Config) -> Wanted {
    let mut pipelines = objects.pipelines.clone();
    pipelines.sort_by(|a, b| age(a.meta()).cmp(&age(b.meta())));
    let mut pipelines = pipelines.into_iter();
    let pipeline = pipelines.next();
    let refused = pipeline.as_deref().and_then(|pipeline| refused(pipeline, config));
    let without = without_pipeline(pipeline.as_deref());
    let name = pipeline.as_ref().map(|pipeline| pipeline.name_any()).unwrap_or_default();

    let (shared_count, room) = pipeline.as_deref().map_or((0, 0), capacity);
    let shared: BTreeSet<String> = (0..shared_count).map(|number| names::shared_slot(&name, number)).collect();
    let (mut channels, mut desired_channels) = channels(objects, without.as_ref(), &name);
    share(&name, shared.len(), room, &mut channels, &mut desired_channels);
    let own =
        desired_channels.values().filter(|channel| !channel.suspended).flat_map(|channel| channel.own_slots.clone());
    let slots = shared.iter().cloned().chain(own).collect();
    let (phrases, set) = phrases(objects, without.as_ref(), &desired_channels);
    // A pipeline that works for nobody reads nothing, whatever is asked for.
    let is_partial = !objects.unreadable.channels.is_empty() && without.is_none();
    let unreadable = objects.unreadable.phrases.iter().filter(|_| without.is_none());
    let kept_phrases = unreadable.filter_map(|meta| meta.name.clone()).collect();
    let desired = Desired { channels: desired_channels, is_partial, phrases: set, kept_phrases };
    let idle = pipelines.collect();
    Wanted { pipeline, refused, idle, channels, phrases, desired: Arc::new(desired), shared, slots }
}

/// How many slots share the channels, and how many copies of channels they have room for.
fn capacity(pipeline: &ChatPipeline) -> (i32, usize) {
    if pipeline.spec.suspend {
        return (0, 0);
    }
    let ingest = &pipeline.spec.ingest;
    let slots = ingest.workers.unwrap_or(ingest.min_workers).max(1);
    (slots, slots.unsigned_abs() as usize * ingest.capacity.channels as usize)
}

fn refused(pipeline: &ChatPipeline, config: &Config) -> Option<Refused> {
    let bus = &pipeline.spec.bus.name;
    (!config.buses.contains_key(bus)).then(|| {
        let known = config.buses.keys().cloned().collect::<Vec<_>>().join(", ");
        Refused {
            reason: Reason::UnknownBus,
            message: format!("spec.bus.name: the operator's configuration has no bus {bus}; it has {known}"),
        }
    })
}

/// What channels and phrases are that no pipeline takes.
fn without_pipeline(pipeline: Option<&ChatPipeline>) -> Option<(Reason, String)> {
    match pipeline {
        None => Some((Reason::NoPipeline, "the namespace has no ChatPipeline: create one".to_owned())),
        Some(pipeline) if pipeline.spec.suspend => Some((
            Reason::PipelineSuspended,
            format!("ChatPipeline {} is suspended: set its spec.suspend to false", pipeline.name_any()),
        )),
        Some(_) => None,
    }
}

fn channels(
    objects: &Objects,
    without: Option<&(Reason, String)>,
    pipeline: &str,
) -> (Vec<Channel>, BTreeMap<String, DesiredChannel>) {
    let mut sorted = objects.channels.clone();
    sorted.sort_by(|a, b| is_discovered(a).cmp(&is_discovered(b)).then_with(|| age(a.meta()).cmp(&age(b.meta()))));
    let mut desired: BTreeMap<String, DesiredChannel> = BTreeMap::new();
    let mut channels = Vec::with_capacity(sorted.len());
    for object in sorted {
        let login = &object.spec.channel;
        let standing = if let Some(first) = desired.get(login) {
            let message = format!("TrackedChannel {} works for {login} already: delete one of them", first.name);
            Standing::Refused(Reason::DuplicateChannel, message)
        } else {
            let mut channel = wish::channel(&object);
            if object.spec.isolation == Isolation::Dedicated {
                channel.own_slots =
                    (0..channel.redundancy).map(|copy| names::own_slot(pipeline, login, copy)).collect();
            }
            let standing = match without {
                _ if channel.suspended => Standing::Suspended,
                Some((reason, message)) => Standing::Refused(*reason, message.clone()),
                None => Standing::Wanted,
            };
            channel.suspended = standing != Standing::Wanted;
            desired.insert(login.clone(), channel);
            standing
        };
        let copies = usize::from(object.spec.redundancy);
        channels.push(Channel { object, standing, copies });
    }
    (channels, desired)
}

/// Gives the channels that share slots their copies, as far as there is room: the first copy of those that have one, then
/// whatever they have, then a first copy for those that have none, and at last what is asked for beyond that; each time the
/// older before the younger. So one that asks for more takes no other's place.
fn share(
    pipeline: &str,
    slots: usize,
    room: usize,
    channels: &mut [Channel],
    desired: &mut BTreeMap<String, DesiredChannel>,
) {
    let is_shared =
        |channel: &Channel| channel.standing == Standing::Wanted && channel.object.spec.isolation == Isolation::Shared;
    let mut shared: Vec<&mut Channel> = channels.iter_mut().filter(|channel| is_shared(channel)).collect();
    shared.iter_mut().for_each(|channel| channel.copies = 0);
    let mut left = room;
    let had: Vec<usize> = shared.iter().map(|channel| copies_now(&channel.object, pipeline)).collect();
    for at_most in [|had: usize| had.min(1), |had| had, |_| 1, |_| usize::MAX] {
        for (channel, had) in shared.iter_mut().zip(&had) {
            let asked = usize::from(channel.object.spec.redundancy).min(slots).min(at_most(*had));
            let more = asked.saturating_sub(channel.copies).min(left);
            channel.copies += more;
            left -= more;
        }
    }
    for channel in shared {
        let Some(wish) = desired.get_mut(&channel.object.spec.channel) else { continue };
        wish.redundancy = channel.copies.max(1);
        if channel.copies == 0 {
            channel.standing = Standing::Refused(Reason::NoCapacity, no_room(pipeline, room));
            wish.suspended = true;
        }
    }
}

/// In how many shared slots a channel has its place, as its status tells: what was given before is nowhere else.
fn copies_now(channel: &TrackedChannel, pipeline: &str) -> usize {
    let slots = channel.status.iter().flat_map(|status| &status.slots);
    slots.filter(|slot| names::is_shared_slot(pipeline, &slot.name)).count()
}

fn no_room(pipeline: &str, room: usize) -> String {
    format!(
        "the slots of ChatPipeline {pipeline} hold {room} channels, counted by their redundancy, and are full: raise its \
         spec.ingest.workers or spec.ingest.capacity.channels"
    )
}

fn phrases(
    objects: &Objects,
    without: Option<&(Reason, String)>,
    channels: &BTreeMap<String, DesiredChannel>,
) -> (Vec<PhraseWish>, PhraseSet) {
    let mut sorted = objects.phrases.clone();
    sorted.sort_by_key(|phrase| phrase.object.name_any());
    let mut set = PhraseSet::default();
    let mut phrases = Vec::with_capacity(sorted.len());
    for super::Judged { object, wish } in sorted {
        let (mut counted, mut spec) = (0, None);
        let standing = match (wish, without) {
            (Err(refused), _) => {
                let reason = match refused {
                    PhraseRefused::Pattern(_) => Reason::InvalidPattern,
                    PhraseRefused::ChannelFilter(_) => Reason::InvalidChannelFilter,
                };
                Standing::Refused(reason, refused.to_string())
            }
            (Ok(None), _) => Standing::Suspended,
            (Ok(Some(_)), Some((reason, message))) => Standing::Refused(*reason, message.clone()),
            (Ok(Some((phrase, selection))), None) => {
                let active = channels.iter().filter(|(_, channel)| !channel.suspended);
                counted = active.filter(|(login, channel)| selection.includes(login, &channel.labels)).count();
                set.phrases.push(phrase.clone());
                spec = Some(phrase);
                Standing::Wanted
            }
        };
        phrases.push(PhraseWish { object, standing, spec, channels: i64::try_from(counted).unwrap_or(i64::MAX) });
    }
    (phrases, set)
}

/// Made by a ChannelDiscovery.
fn is_discovered(channel: &TrackedChannel) -> bool {
    channel.owner_references().iter().any(|owner| owner.kind == "ChannelDiscovery")
}
