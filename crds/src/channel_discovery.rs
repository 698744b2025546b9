//! ChannelDiscovery: tracks the most watched channels, as a CronJob makes Jobs.

use crate::{
    condition,
    tracked_channel::{Archive, Emotes, Isolation, TrackedChannelSpec, default_isolation, default_redundancy},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Which channels are tracked.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "clamor.dev",
    version = "v1alpha1",
    kind = "ChannelDiscovery",
    plural = "channeldiscoveries",
    singular = "channeldiscovery",
    shortname = "cd",
    category = "clamor",
    namespaced,
    status = "ChannelDiscoveryStatus",
    derive = "PartialEq",
    doc = "Tracks the most watched channels of Twitch: it creates a TrackedChannel for each, and deletes it when the channel has left the ranking. It needs Twitch API credentials on the ChatPipeline. No effect yet: nobody watches it, and it stays Pending.",
    printcolumn(name = "Top", type_ = "integer", json_path = ".spec.top"),
    printcolumn(name = "Tracked", type_ = "integer", json_path = ".status.tracked"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 200")
        .message("metadata.name may have at most 200 characters: the TrackedChannels that it creates are named after it")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.enterRank) || self.enterRank <= self.top")
        .message("enterRank must be at most top: write the rank that a channel must reach to be tracked").field_path(".enterRank"),
    validation = Rule::new("!has(self.leaveRank) || self.leaveRank >= self.top")
        .message("leaveRank must be at least top: write the rank below which a tracked channel is dropped").field_path(".leaveRank")
)]
pub struct ChannelDiscoverySpec {
    /// How many channels are tracked: the most watched ones that the filters below let through.
    #[schemars(range(min = 1, max = 10000))]
    pub top: u32,
    /// Only broadcasts in these languages: two-letter ISO 639-1 codes, or other. In YAML quote 'no' (Norwegian).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "languages_schema")]
    pub languages: Vec<String>,
    /// Only broadcasts of these games or categories, by their names on Twitch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), inner(length(min = 1, max = 140)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub games: Vec<String>,
    /// Only broadcasts with at least so many viewers.
    #[serde(default)]
    #[schemars(range(min = 0, max = 100000000))]
    pub min_viewers: u32,
    /// A channel is tracked once it ranks here or higher. At most top; absent: top.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub enter_rank: Option<u32>,
    /// A tracked channel is dropped once it ranks below this. At least top; absent: a quarter above top. Keep it above
    /// enterRank, so that channels near the edge do not come and go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 20000))]
    pub leave_rank: Option<u32>,
    /// Stops creating and deleting TrackedChannels. Those that exist go on.
    #[serde(default)]
    pub suspend: bool,
    /// The TrackedChannels that it creates.
    #[serde(default)]
    pub template: ChannelTemplate,
}

/// The TrackedChannels that a ChannelDiscovery creates.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChannelTemplate {
    /// Their labels and annotations. Their names are made of the discovery's name and the login.
    #[serde(default)]
    pub metadata: TemplateMetadata,
    /// Their spec, without the channel.
    #[serde(default)]
    pub spec: ChannelTemplateSpec,
}

/// Labels and annotations of created objects; those of the ChannelDiscovery itself are not passed on.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TemplateMetadata {
    /// Labels, for example to select these channels in a Phrase.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "labels_schema")]
    #[x_kube(validation = Rule::new("!self.exists(key, key.startsWith('clamor.dev/'))")
        .message("labels that begin with clamor.dev/ are the operator's: choose another prefix"))]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "annotations_schema")]
    pub annotations: BTreeMap<String, String>,
}

/// A TrackedChannel's spec without the channel.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChannelTemplateSpec {
    /// Shared: a worker reads the channel along with others. Dedicated: the channel has a worker of its own.
    #[serde(default = "default_isolation")]
    pub isolation: Isolation,
    /// How many workers hear each channel at once.
    #[serde(default = "default_redundancy")]
    #[schemars(range(min = 1, max = 3))]
    pub redundancy: u8,
    /// Which emotes are counted beside Twitch's own.
    #[serde(default)]
    pub emotes: Emotes,
    /// Keeps the channels' raw messages. Absent: they are counted and not kept. No effect yet: none are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<Archive>,
}

/// Where the discovery stands.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChannelDiscoveryStatus {
    /// The generation of the spec that this status is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Reconciling and Stalled, each with its reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "condition::list_schema")]
    pub conditions: Vec<Condition>,
    /// How many TrackedChannels it owns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracked: Option<i64>,
    /// When Twitch's ranking was last read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ranked_at: Option<Time>,
}

impl Default for ChannelTemplateSpec {
    fn default() -> Self {
        Self {
            isolation: default_isolation(),
            redundancy: default_redundancy(),
            emotes: Emotes::default(),
            archive: None,
        }
    }
}

impl ChannelTemplateSpec {
    /// The spec of the TrackedChannel for a login.
    #[must_use]
    pub fn for_channel(&self, login: &str) -> TrackedChannelSpec {
        let Self { isolation, redundancy, emotes, archive } = self.clone();
        TrackedChannelSpec { channel: login.to_owned(), suspend: false, isolation, redundancy, emotes, archive }
    }
}

impl ChannelDiscoverySpec {
    /// The rank that a channel must reach.
    #[must_use]
    pub fn entry(&self) -> u32 {
        self.enter_rank.unwrap_or(self.top)
    }

    /// The rank below which a tracked channel is dropped.
    #[must_use]
    pub fn exit(&self) -> u32 {
        self.leave_rank.unwrap_or_else(|| self.top + self.top.div_ceil(4))
    }
}

fn languages_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "array",
        "maxItems": 50,
        "x-kubernetes-list-type": "set",
        "items": {
            "type": "string",
            "maxLength": 5,
            "x-kubernetes-validations": [{
                "rule": "self.matches('^([a-z][a-z]|other)$')",
                "message": "write a two-letter ISO 639-1 code in lower case, such as en or de, or other"
            }]
        }
    })
}

fn labels_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "maxProperties": 20,
        "additionalProperties": {
            "type": "string",
            "maxLength": 63,
            "pattern": "^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$"
        }
    })
}

fn annotations_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "maxProperties": 20,
        "additionalProperties": { "type": "string", "maxLength": 4096 }
    })
}
