//! ChatPipeline: one to a namespace; the bus, the store, and how many workers read and count.
//!
//! No image, service account or pod template field: who may write a pipeline may not choose what runs.

mod status;
mod workers;

pub use status::{ChannelCounts, ChatPipelineStatus, Decision, ScalingStatus, WorkerCounts};
pub use workers::{Aggregate, Amounts, Capacity, Ingest, Resources, Scaling, ScalingMode};

use crate::period::{Days, Retention};
use crate::quantity::Quantity;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// The bus, the store, and how many workers read and count.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "clamor.dev",
    version = "v1alpha1",
    kind = "ChatPipeline",
    plural = "chatpipelines",
    singular = "chatpipeline",
    shortname = "cpl",
    category = "clamor",
    namespaced,
    status = "ChatPipelineStatus",
    derive = "PartialEq",
    doc = "The workers that read and count the channels of its namespace, with their bus and store. One to a namespace: of two the older works. Deleting it removes its workers and never data.",
    scale(
        spec_replicas_path = ".spec.ingest.workers",
        status_replicas_path = ".status.ingest.workers",
        label_selector_path = ".status.ingest.selector"
    ),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Channels", type_ = "integer", json_path = ".status.channels.tracked"),
    printcolumn(name = "Joined", type_ = "integer", json_path = ".status.channels.joined"),
    printcolumn(name = "Messages/min", type_ = "integer", json_path = ".status.messagesPerMinute"),
    printcolumn(name = "Ingest", type_ = "integer", json_path = ".status.ingest.ready"),
    printcolumn(name = "Aggregate", type_ = "integer", json_path = ".status.aggregate.ready"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 40 && self.metadata.name.matches('^[a-z][a-z0-9-]*$')")
        .message("metadata.name must begin with a letter and have at most 40 of a-z, 0-9 and -, such as main: Deployments, streams and schemas are named after it")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.aggregate.workers) || self.aggregate.workers <= self.shards")
        .message("aggregate.workers may not exceed shards: an aggregator without a shard has nothing to do").field_path(".aggregate.workers")
)]
pub struct ChatPipelineSpec {
    /// The bus that its workers use.
    #[serde(default)]
    pub bus: Bus,
    /// The database in which counts are stored.
    pub store: Store,
    /// Credentials for Twitch. Absent: chats are read anonymously.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub twitch: Option<Twitch>,
    /// Into how many shards channels are divided: 1, 2, 4, 8, 16, 32, 64, 128 or 256. There is at most one aggregator to
    /// a shard. It cannot be changed.
    #[serde(default = "default_shards")]
    #[schemars(schema_with = "shards_schema")]
    #[x_kube(validation = Rule::new("self == oldSelf")
        .message("cannot be changed, as what is stored is divided by it: create a ChatPipeline in another namespace with the number that you want"))]
    pub shards: u16,
    /// The workers that read chats.
    #[serde(default)]
    pub ingest: Ingest,
    /// The workers that count and write to the store.
    #[serde(default)]
    pub aggregate: Aggregate,
    /// Who decides how many workers there are where workers is absent. No effect yet.
    #[serde(default)]
    pub scaling: Scaling,
    /// How long counts are kept. Absent: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<PipelineRetention>,
    /// Stops reading every channel and removes the workers, once what was read is counted. Data stays.
    #[serde(default)]
    pub suspend: bool,
}

/// The bus that a pipeline's workers use.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bus {
    /// The name of a bus in the operator's configuration.
    #[serde(default = "default_bus_name")]
    #[schemars(length(max = 63))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([a-z0-9-]*[a-z0-9])?$')")
        .message("write the name of a bus in the operator's configuration, such as default"))]
    pub name: String,
    /// The Secret with the workers' NATS credentials: nats.creds, or user and password, or neither, and ca.crt where the
    /// server's certificate needs it. Absent: the bus asks for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
    /// How long the bus keeps what was read, so that it can be counted after an outage: at least 24h.
    #[serde(default = "default_bus_retention")]
    #[x_kube(validation = Rule::new("!self.matches('^([0-9]|1[0-9]|2[0-3])h$')").message("write at least 24h, or a number of days such as 2d"))]
    pub retention: Retention,
    /// How much disk each shard may take on the bus, such as 2Gi. When that is full, workers hold and spill what they
    /// read.
    #[serde(default = "default_bytes_per_shard")]
    pub bytes_per_shard: Quantity,
}

/// The database in which counts are stored.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Store {
    /// The Secret with the database's url, and password and ca.crt where the url does not say them.
    pub secret_ref: SecretRef,
}

/// Credentials for Twitch.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Twitch {
    /// The Secret with an account that reads (login and token), an application (client-id and client-secret), or both. The
    /// application has no effect yet.
    pub secret_ref: SecretRef,
}

/// A Secret in the pipeline's namespace.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// The Secret's name.
    #[schemars(length(max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$')")
        .message("write the name of a Secret in the pipeline's namespace"))]
    pub name: String,
}

/// How long counts are kept, by the width of their windows. What is absent is kept for ever.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.minutes) || !has(self.hours) || int(self.minutes.replace('d', '')) <= int(self.hours.replace('d', ''))")
        .message("minutes may not be kept longer than hours").field_path(".minutes"),
    validation = Rule::new("!has(self.hours) || !has(self.days) || int(self.hours.replace('d', '')) <= int(self.days.replace('d', ''))")
        .message("hours may not be kept longer than days").field_path(".hours"),
    validation = Rule::new("has(self.matches) == has(self.events)")
        .message("write matches and events, or neither: the longer of them counts for both").field_path(".events")
)]
pub struct PipelineRetention {
    /// Counts by the minute, such as 90d.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minutes: Option<Days>,
    /// Counts by the hour, such as 400d.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hours: Option<Days>,
    /// Counts by the day. Totals are kept in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub days: Option<Days>,
    /// Messages that matched a phrase with logMessages. It goes with events: the longer of them counts for both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matches: Option<Days>,
    /// Subs, raids, moderation and other events of chats. It goes with matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<Days>,
}

fn default_shards() -> u16 {
    8
}

fn default_bus_name() -> String {
    "default".to_owned()
}

fn default_bus_retention() -> Retention {
    Retention("24h".to_owned())
}

fn default_bytes_per_shard() -> Quantity {
    Quantity::Text("1Gi".to_owned())
}

impl Default for Bus {
    fn default() -> Self {
        Self {
            name: default_bus_name(),
            secret_ref: None,
            retention: default_bus_retention(),
            bytes_per_shard: default_bytes_per_shard(),
        }
    }
}

// A list of the powers of two rather than a rule: the refusal then names what may be written.
fn shards_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "integer", "enum": [1, 2, 4, 8, 16, 32, 64, 128, 256] })
}
