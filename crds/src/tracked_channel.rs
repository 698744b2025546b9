//! TrackedChannel: a Twitch channel whose chat is read and counted.

use crate::{condition, period::Retention};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which channel is read, and how.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "clamor.dev",
    version = "v1alpha1",
    kind = "TrackedChannel",
    plural = "trackedchannels",
    singular = "trackedchannel",
    shortname = "tc",
    category = "clamor",
    namespaced,
    status = "TrackedChannelStatus",
    derive = "PartialEq",
    doc = "A Twitch channel whose chat is read and counted.",
    selectable = ".spec.channel",
    printcolumn(name = "Channel", type_ = "string", json_path = ".spec.channel"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Live", type_ = "string", json_path = ".status.conditions[?(@.type==\"Live\")].status"),
    printcolumn(name = "Messages/min", type_ = "integer", json_path = ".status.messagesPerMinute"),
    printcolumn(name = "Slots", type_ = "string", json_path = ".status.slotNames"),
    printcolumn(name = "Viewers", type_ = "integer", json_path = ".status.broadcast.viewers", priority = 1),
    printcolumn(name = "Game", type_ = "string", json_path = ".status.broadcast.game", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct TrackedChannelSpec {
    /// The channel's login: what follows twitch.tv/ in its address, in lower case. It cannot be changed: for another
    /// channel create another TrackedChannel.
    #[schemars(length(max = 25))]
    #[x_kube(
        validation = Rule::new("self.matches('^[a-z0-9_]{1,25}$')")
            .message("write the login as in the channel's address twitch.tv/<login>, in lower case and without # or @: 1 to 25 of a-z, 0-9 and _"),
        validation = Rule::new("self == oldSelf")
            .message("cannot be changed: create another TrackedChannel for the other channel, and delete this one")
    )]
    pub channel: String,
    /// Stops reading the channel, and keeps the resource and all that was counted.
    #[serde(default)]
    pub suspend: bool,
    /// Shared: a worker reads the channel along with others. Dedicated: the channel has a worker of its own.
    #[serde(default = "default_isolation")]
    pub isolation: Isolation,
    /// How many workers hear the channel at once. What several hear is counted once, so with 2 or 3 nothing is lost
    /// when a worker dies. Where isolation is Shared, the ChatPipeline needs as many ingest.workers.
    #[serde(default = "default_redundancy")]
    #[schemars(range(min = 1, max = 3))]
    pub redundancy: u8,
    /// Which emotes are counted beside Twitch's own.
    #[serde(default)]
    pub emotes: Emotes,
    /// Keeps the channel's raw messages. Absent: they are counted and not kept. No effect yet: none are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<Archive>,
}

/// Whether a channel shares its worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Isolation {
    /// A worker reads the channel along with others.
    Shared,
    /// The channel has a worker of its own.
    Dedicated,
}

/// Which emotes are counted beside Twitch's own.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Emotes {
    /// The providers whose global and channel emotes are counted: BTTV, FFZ and 7TV. An empty list: only Twitch's own. No
    /// effect yet: only Twitch's own are counted.
    #[serde(default = "default_providers")]
    #[schemars(length(max = 3))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub providers: Vec<EmoteProvider>,
}

/// A provider of emotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum EmoteProvider {
    /// BetterTTV.
    #[serde(rename = "BTTV")]
    Bttv,
    /// FrankerFaceZ.
    #[serde(rename = "FFZ")]
    Ffz,
    /// 7TV.
    #[serde(rename = "7TV")]
    SevenTv,
}

/// Keeps raw messages.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Archive {
    /// How long raw messages are kept: whole hours or days, such as 36h or 90d.
    pub retention: Retention,
}

/// Where the channel stands.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrackedChannelStatus {
    /// The generation of the spec that this status is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Joined, Live, Reconciling and Stalled, each with its reason. Live is always Unknown yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "condition::list_schema")]
    pub conditions: Vec<Condition>,
    /// Twitch's number of the channel (its room-id), which stays when the login changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub channel_id: Option<i64>,
    /// The slots that hear the channel or are about to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub slots: Vec<ChannelSlot>,
    /// The slots' names, separated by commas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot_names: Option<String>,
    /// The broadcast that is on now. Absent where the channel is offline or Twitch's API is not configured. Not told yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broadcast: Option<Broadcast>,
    /// Messages a minute, coarsely: the power of two below the smoothed rate, and 0 for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages_per_minute: Option<i64>,
}

/// One slot of a channel.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChannelSlot {
    /// The slot's name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Where the channel stands there: Pending, Joining, Joined, Unanswered, TwitchSuspended, Banned, Renamed, NotFound
    /// or LimitReached.
    #[schemars(length(max = 63))]
    pub state: String,
}

/// A channel being live on Twitch.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Broadcast {
    /// Its title.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The game or category.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub game: Option<String>,
    /// Viewers, coarsely: the power of two below their number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub viewers: Option<i64>,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
}

pub(crate) fn default_isolation() -> Isolation {
    Isolation::Shared
}

pub(crate) fn default_redundancy() -> u8 {
    1
}

fn default_providers() -> Vec<EmoteProvider> {
    vec![EmoteProvider::Bttv, EmoteProvider::Ffz, EmoteProvider::SevenTv]
}

impl Default for Emotes {
    fn default() -> Self {
        Self { providers: default_providers() }
    }
}

impl TrackedChannelSpec {
    /// The spec of a manifest that names only its channel.
    #[must_use]
    pub fn of(channel: impl Into<String>) -> Self {
        Self {
            channel: channel.into(),
            suspend: false,
            isolation: default_isolation(),
            redundancy: default_redundancy(),
            emotes: Emotes::default(),
            archive: None,
        }
    }
}
