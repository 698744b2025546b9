//! What each reason means and what to do about it: one table, which `conditions.md` beside this crate is generated from.

use super::Reason;
use crate::manifest::Kind;

/// What a reason means and what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meaning {
    /// The kinds that have it.
    pub kinds: &'static [Kind],
    /// The condition type that it is of, with its status: `Ready=True`.
    pub condition: &'static str,
    /// What stands beside it.
    pub course: Course,
    /// What it means.
    pub means: &'static str,
    /// What to do about it; empty: nothing.
    pub remedy: &'static str,
}

/// Whether something is still to happen, as kstatus has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Course {
    /// Nothing is under way: neither `Reconciling` nor `Stalled`.
    Settled,
    /// `Reconciling=True`: the operator or a worker is at it.
    Reconciling,
    /// `Stalled=True`: nothing happens until somebody changes something.
    Stalled,
}

impl Meaning {
    /// The status of `Ready` with it; none: it is of another condition.
    #[must_use]
    pub fn ready(&self) -> Option<&'static str> {
        self.condition.strip_prefix("Ready=")
    }
}

const CHANNEL: &[Kind] = &[Kind::TrackedChannel];
const PHRASE: &[Kind] = &[Kind::Phrase];
const PIPELINE: &[Kind] = &[Kind::ChatPipeline];
const CONTENT: &[Kind] = &[Kind::TrackedChannel, Kind::Phrase];
const PLANNED: &[Kind] = &[Kind::ChatPipeline, Kind::TrackedChannel, Kind::Phrase];

impl Reason {
    /// What it means and what to do.
    #[must_use]
    pub fn meaning(self) -> Meaning {
        match self {
            Self::Pending => row(
                &Kind::ALL,
                "Ready=Unknown",
                "The operator has not looked at the object yet.",
                "Where it lasts: is the operator running, and does it watch this namespace? A ChannelDiscovery stays so: \
                 this version does nothing with it.",
            ),
            Self::Suspended => {
                row(PLANNED, "Ready=True", "It is suspended by its owner.", "Set spec.suspend to false to go on.")
            }
            Self::NoPipeline => stalled(CONTENT, "The namespace has no ChatPipeline.", "Create one."),
            Self::PipelineSuspended => row(
                CONTENT,
                "Ready=False",
                "The ChatPipeline of the namespace is suspended.",
                "Set its spec.suspend to false.",
            ),
            Self::Joined => row(CHANNEL, "Ready=True", "The chat is being heard.", ""),
            Self::TooFewSlots => row(
                CHANNEL,
                "Ready=True",
                "The chat is being heard, by fewer slots than spec.redundancy asks for: there are no more, or they are full.",
                "Raise the ChatPipeline's ingest.workers or ingest.capacity, or lower spec.redundancy.",
            ),
            Self::Joining => reconciling(CHANNEL, "A slot is chosen for the channel, or its JOIN is on its way.", ""),
            Self::Unheard => reconciling(
                CHANNEL,
                "No worker has heard the channel for 60 s.",
                "See the ChatPipeline: are its ingest workers ready?",
            ),
            Self::Unanswered => row(
                CHANNEL,
                "Ready=False",
                "Twitch has not answered the JOIN for 60 s: the login probably does not exist.",
                "Compare spec.channel with the channel's address.",
            ),
            Self::TwitchSuspended => row(
                CHANNEL,
                "Ready=False",
                "Twitch has suspended the channel.",
                "Nothing, or delete the object: it is joined again when Twitch lifts it.",
            ),
            Self::Banned => row(
                CHANNEL,
                "Ready=False",
                "The account that reads is banned from the chat.",
                "Read anonymously, or ask the channel's moderators.",
            ),
            Self::Renamed => row(
                CHANNEL,
                "Ready=False",
                "The login belongs to another name now.",
                "Create a TrackedChannel for the new login.",
            ),
            Self::NotFound => row(
                CHANNEL,
                "Ready=False",
                "Twitch has no such user.",
                "Compare spec.channel with the channel's address.",
            ),
            Self::LimitReached => row(
                CHANNEL,
                "Ready=False",
                "Twitch refuses more channels on the account that reads.",
                "Read anonymously, or with an account of a higher limit.",
            ),
            Self::DuplicateChannel => stalled(
                CHANNEL,
                "Another TrackedChannel works for this login; the message names it.",
                "Delete one of them.",
            ),
            Self::NoCapacity => stalled(
                CHANNEL,
                "The slots can hold no more channels.",
                "Raise the ChatPipeline's ingest.workers or ingest.capacity.",
            ),
            Self::NoTwitchCredentials => {
                row(CHANNEL, "Live=Unknown", "Nothing asks Twitch for broadcasts: this version reads chats alone.", "")
            }
            Self::Counting => row(PHRASE, "Ready=True", "The phrase counts.", ""),
            Self::NoChannels => row(
                PHRASE,
                "Ready=True",
                "The phrase would count, but no tracked channel is selected.",
                "Compare channelSelector or channelFilter with the channels.",
            ),
            Self::Publishing => reconciling(PHRASE, "The phrase is on its way to the aggregators.", ""),
            Self::InvalidPattern => stalled(
                PHRASE,
                "The pattern does not compile, or compiles over the size limit; the message has the compiler's words.",
                "Change spec.pattern.",
            ),
            Self::InvalidChannelFilter => stalled(
                PHRASE,
                "The channel filter does not compile; the message has the compiler's words.",
                "Change spec.channelFilter.",
            ),
            Self::Running => row(PIPELINE, "Ready=True", "Bus, store and workers work.", ""),
            Self::Progressing => reconciling(PIPELINE, "Workers are being made or changed.", ""),
            Self::WorkersUnavailable => row(
                PIPELINE,
                "Ready=False",
                "Some workers are not ready, or the cluster refuses their Deployments or pods.",
                "See the message: it has the words of the worker, the pod or the API server.",
            ),
            Self::DuplicatePipeline => {
                stalled(PIPELINE, "An older ChatPipeline of the namespace works.", "Delete one of them.")
            }
            Self::UnknownBus => stalled(
                PIPELINE,
                "The operator's configuration has no bus of this name.",
                "Correct spec.bus.name, or have the bus configured.",
            ),
            Self::BusUnavailable => row(PIPELINE, "Ready=False", "The bus does not answer.", "See the NATS servers."),
            Self::BusRefused => row(
                PIPELINE,
                "Ready=False",
                "The bus refuses the credentials or permissions of the workers or of the operator.",
                "A worker, which the message names, logs in with the Secret of spec.bus.secretRef; the operator with that of \
                 buses.<name>.secretName in its chart. Correct that one.",
            ),
            Self::StoreUnavailable => row(
                PIPELINE,
                "Ready=False",
                "The database does not answer, or cannot do what the aggregators ask. What is read waits on the bus.",
                "See the Postgres server.",
            ),
            Self::StoreRefused => row(
                PIPELINE,
                "Ready=False",
                "The database refuses the aggregators, or is too old or of a newer version of Clamor.",
                "Correct the Secret of spec.store.secretRef, or what the message names.",
            ),
            Self::SecretMissing => row(
                PIPELINE,
                "Ready=False",
                "A Secret that the spec names is not there.",
                "Create it; workers go on by themselves.",
            ),
            Self::SecretInvalid => row(
                PIPELINE,
                "Ready=False",
                "A Secret lacks a key, or a value cannot be read.",
                "Correct it; the message names the key.",
            ),
            Self::ShardMismatch => stalled(
                PIPELINE,
                "The streams or the database were made for another number of shards. On such streams no worker is started; into such a \
                 database nothing is counted.",
                "Use the number in the message, or another bus and store.",
            ),
            Self::OwnerMismatch => stalled(
                PIPELINE,
                "The streams belong to another pipeline. No worker is started.",
                "Use another bus, or another name.",
            ),
        }
    }
}

const fn row(kinds: &'static [Kind], condition: &'static str, means: &'static str, remedy: &'static str) -> Meaning {
    Meaning { kinds, condition, course: Course::Settled, means, remedy }
}

const fn reconciling(kinds: &'static [Kind], means: &'static str, remedy: &'static str) -> Meaning {
    Meaning { kinds, condition: "Ready=False", course: Course::Reconciling, means, remedy }
}

const fn stalled(kinds: &'static [Kind], means: &'static str, remedy: &'static str) -> Meaning {
    Meaning { kinds, condition: "Ready=False", course: Course::Stalled, means, remedy }
}

/// The list as a page of Markdown.
#[must_use]
pub fn markdown() -> String {
    let mut page = String::from(
        "<!-- Generated from crds/src/condition by `UPDATE=1 cargo test -p clamor-crds`. Do not edit. -->\n\
         # Conditions and their reasons\n\n\
         `Ready` says whether an object does what its spec says; `Reconciling` and `Stalled` follow kstatus and are there \
         only while they are True. `Joined` and `Live` are a TrackedChannel's. What is not ready without \
         being `Stalled` becomes ready by itself once its cause, which the message names, is gone.\n\n\
         | reason | kinds | condition | Reconciling | Stalled | what it means | what to do |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for reason in Reason::ALL {
        let Meaning { kinds, condition, course, means, remedy } = reason.meaning();
        let kinds = kinds.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(", ");
        let (reconciling, stalled) = match course {
            Course::Settled => ("", ""),
            Course::Reconciling => ("True", ""),
            Course::Stalled => ("", "True"),
        };
        page.push_str(&format!(
            "| `{reason}` | {kinds} | {condition} | {reconciling} | {stalled} | {means} | {remedy} |\n"
        ));
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_stalled_is_told_what_to_do() {
        for reason in Reason::ALL {
            let meaning = reason.meaning();
            assert!(!meaning.kinds.is_empty() && !meaning.means.is_empty(), "{reason}");
            assert!(meaning.course != Course::Stalled || !meaning.remedy.is_empty(), "{reason}");
        }
    }
}
