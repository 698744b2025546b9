//! How a TrackedChannel stands.

use super::{Verdict, coarse};
use crate::plan::{Channel, Standing};
use clamor_bus::report::{ChannelReport, ChannelState};
use clamor_crds::condition::{JOINED, LIVE, Reason};
use clamor_crds::tracked_channel::{ChannelSlot, TrackedChannelStatus};
use clamor_planner::control::View;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::collections::BTreeMap;
use std::time::Duration;

/// A channel that is not heard keeps its `Ready` for so long: workers are replaced within that.
const UNHEARD: Duration = Duration::from_secs(60);

/// What instances say of the channels, by login; made once for all channels of a turn.
#[derive(Debug, Default)]
pub struct Heard<'a> {
    channels: BTreeMap<&'a str, Said<'a>>,
}

#[derive(Debug, Default)]
struct Said<'a> {
    /// By slot: the best that an instance of it says.
    slots: BTreeMap<&'a str, ChannelState>,
    channel_id: Option<u64>,
    messages_per_minute: f64,
}

impl<'a> Heard<'a> {
    /// From what the planner sees.
    #[must_use]
    pub fn of(view: &'a View) -> Self {
        let mut channels: BTreeMap<&str, Said<'_>> = BTreeMap::new();
        for seen in view.seen.iter().filter(|seen| seen.fresh) {
            for ChannelReport { login, channel_id, state, messages_per_minute } in &seen.report.channels {
                let said = channels.entry(login).or_default();
                let slot = said.slots.entry(&seen.report.slot).or_insert(*state);
                if *state == ChannelState::Joined {
                    *slot = *state;
                }
                said.channel_id = channel_id.filter(|id| *id != 0).or(said.channel_id);
                said.messages_per_minute = said.messages_per_minute.max(f64::from(*messages_per_minute));
            }
        }
        Self { channels }
    }

    /// The logins that an instance hears.
    pub fn joined(&self) -> impl Iterator<Item = &'a str> {
        self.channels.iter().filter(|(_, said)| said.is_joined()).map(|(login, _)| *login)
    }

    /// How many of these Twitch refuses, or does not know.
    #[must_use]
    pub fn refused(&self, logins: &[&str]) -> usize {
        let is_refused = |login: &&&str| {
            self.channels.get(**login).is_some_and(|said| !said.is_joined() && said.refusal().is_some())
        };
        logins.iter().filter(is_refused).count()
    }

    /// Messages per minute over all channels.
    #[must_use]
    pub fn messages_per_minute(&self) -> f64 {
        self.channels.values().map(|said| said.messages_per_minute).sum()
    }
}

impl Said<'_> {
    fn is_joined(&self) -> bool {
        self.slots.values().any(|state| *state == ChannelState::Joined)
    }

    /// What Twitch says against it; none: nothing so far.
    fn refusal(&self) -> Option<ChannelState> {
        self.slots.values().copied().find(|state| state.is_classified() && *state != ChannelState::Joined)
    }
}

/// Its status now. `view` is absent while the planner has no word from the bus; `unheard` is for how long no instance has
/// heard the channel, and the bus could tell. None: what it says stays.
#[must_use]
pub fn channel(
    channel: &Channel,
    view: Option<(&View, &Heard<'_>)>,
    unheard: Duration,
    now: &Time,
) -> Option<TrackedChannelStatus> {
    let before = channel.object.status.clone().unwrap_or_default();
    let login = channel.object.spec.channel.as_str();
    let mut status = TrackedChannelStatus {
        observed_generation: channel.object.metadata.generation,
        conditions: Vec::new(),
        channel_id: before.channel_id,
        slots: Vec::new(),
        slot_names: None,
        broadcast: before.broadcast.clone(),
        messages_per_minute: None,
    };
    let verdict = match &channel.standing {
        Standing::Suspended => Verdict::new(Reason::Suspended, "spec.suspend is true"),
        Standing::Refused(reason, message) => Verdict::new(*reason, message),
        Standing::Wanted => {
            let (view, heard) = view?;
            let nothing = Said::default();
            let said = heard.channels.get(login).unwrap_or(&nothing);
            status.channel_id = said.channel_id.and_then(|id| i64::try_from(id).ok()).or(before.channel_id);
            status.messages_per_minute = Some(coarse(said.messages_per_minute));
            status.slots = slots(view.placed.get(login), said);
            status.slot_names = (!status.slots.is_empty())
                .then(|| status.slots.iter().map(|slot| slot.name.as_str()).collect::<Vec<_>>().join(","));
            let was_ready = super::ready_reason(&before.conditions);
            read(said, was_ready, unheard, channel)
        }
    };
    let joined = match (verdict.reason, verdict.ready()) {
        (Reason::Suspended, _) | (_, "False") => "False",
        (_, ready) => ready,
    };
    let live = "the operator is not told of broadcasts";
    let more = [
        (JOINED, joined, verdict.reason, verdict.message.as_str()),
        (LIVE, "Unknown", Reason::NoTwitchCredentials, live),
    ];
    status.conditions = verdict.conditions(&before.conditions, channel.object.metadata.generation, now, &more);
    Some(status)
}

/// Of a channel that is to be read.
fn read(said: &Said<'_>, was_ready: &str, unheard: Duration, channel: &Channel) -> Verdict {
    if said.is_joined() {
        return heard(channel);
    }
    if let Some(state) = said.refusal() {
        let reason = match state {
            ChannelState::TwitchSuspended => Reason::TwitchSuspended,
            ChannelState::Banned => Reason::Banned,
            ChannelState::Renamed => Reason::Renamed,
            ChannelState::NotFound => Reason::NotFound,
            ChannelState::LimitReached => Reason::LimitReached,
            ChannelState::Unanswered | ChannelState::Pending | ChannelState::Joining | ChannelState::Joined => {
                Reason::Unanswered
            }
        };
        return Verdict::new(reason, reason.meaning().means);
    }
    let was = |reason: Reason| was_ready == reason.name();
    let was_heard = was(Reason::Joined) || was(Reason::TooFewSlots);
    if was_heard && unheard < UNHEARD {
        return heard(channel);
    }
    if was_heard || was(Reason::Unheard) {
        return Verdict::new(Reason::Unheard, "no worker has heard the channel for 60 s");
    }
    Verdict::new(Reason::Joining, "a slot is chosen, or the JOIN is on its way")
}

/// Of a channel that is heard.
fn heard(channel: &Channel) -> Verdict {
    let (copies, asked) = (channel.copies, usize::from(channel.object.spec.redundancy));
    if copies >= asked {
        return Verdict::new(Reason::Joined, "the chat is heard");
    }
    let message = format!(
        "the chat is heard; it has {copies} of the {asked} slots that spec.redundancy asks for: the ChatPipeline has no \
         more, or no room in them (spec.ingest.workers, spec.ingest.capacity.channels)"
    );
    Verdict::new(Reason::TooFewSlots, message)
}

fn slots(placed: Option<&Vec<String>>, said: &Said<'_>) -> Vec<ChannelSlot> {
    let slot = |name: &String| ChannelSlot {
        name: name.clone(),
        state: said.slots.get(name.as_str()).copied().unwrap_or(ChannelState::Pending).name().to_owned(),
    };
    placed.into_iter().flatten().map(slot).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    /// What becomes of a channel of redundancy 2.
    fn read(said: &Said<'_>, was_ready: &str, unheard: Duration) -> Verdict {
        read_by(2, said, was_ready, unheard)
    }

    fn read_by(copies: usize, said: &Said<'_>, was_ready: &str, unheard: Duration) -> Verdict {
        let mut object = clamor_crds::TrackedChannel::new("one", clamor_crds::TrackedChannelSpec::of("one"));
        object.spec.redundancy = 2;
        let channel = Channel { object: Arc::new(object), standing: Standing::Wanted, copies };
        super::read(said, was_ready, unheard, &channel)
    }

    fn said(states: &[(&'static str, ChannelState)]) -> Said<'static> {
        Said { slots: states.iter().copied().collect(), ..Said::default() }
    }

    #[test]
    fn one_slot_that_hears_is_enough() {
        let verdict = read(&said(&[("a", ChannelState::Banned), ("b", ChannelState::Joined)]), "", Duration::ZERO);
        assert_eq!((verdict.ready(), verdict.reason), ("True", Reason::Joined));
    }

    #[test]
    fn a_refusal_by_twitch_is_not_ready_and_not_stalled() {
        for (state, reason) in [
            (ChannelState::Banned, Reason::Banned),
            (ChannelState::TwitchSuspended, Reason::TwitchSuspended),
            (ChannelState::NotFound, Reason::NotFound),
            (ChannelState::Unanswered, Reason::Unanswered),
        ] {
            let verdict = read(&said(&[("a", state)]), "Joined", Duration::ZERO);
            assert_eq!(
                (verdict.ready(), verdict.reason, verdict.reason.meaning().course),
                ("False", reason, clamor_crds::condition::Course::Settled)
            );
        }
    }

    #[test]
    fn ready_falls_only_after_a_minute_unheard() {
        let said = said(&[("a", ChannelState::Joining)]);
        assert_eq!(read(&said, "Joining", Duration::from_secs(90)).reason, Reason::Joining);
        assert_eq!(read(&said, "Joined", Duration::from_secs(59)).ready(), "True");
        assert_eq!(read(&said, "Joined", Duration::from_secs(60)).reason, Reason::Unheard);
        assert_eq!(read(&said, "Unheard", Duration::from_secs(90)).reason, Reason::Unheard);
    }

    #[test]
    fn a_channel_that_fewer_slots_hear_than_it_asks_for_is_ready_and_says_so() {
        let joined = said(&[("a", ChannelState::Joined)]);
        let verdict = read_by(1, &joined, "Joining", Duration::ZERO);
        assert_eq!((verdict.ready(), verdict.reason), ("True", Reason::TooFewSlots));
        assert!(verdict.message.contains("1 of the 2 slots"), "{}", verdict.message);
        let joining = said(&[("a", ChannelState::Joining)]);
        let silent = |s| read_by(1, &joining, "TooFewSlots", Duration::from_secs(s)).reason;
        assert_eq!([silent(59), silent(60)], [Reason::TooFewSlots, Reason::Unheard]);
        assert_eq!(read_by(2, &joined, "TooFewSlots", Duration::ZERO).reason, Reason::Joined);
    }
}
